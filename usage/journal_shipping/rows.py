"""Writes finished calls into the tables, a batch in one transaction: rows, bodies, sums, failures, stored objects.

Each call is counted exactly once: a row's primary key is its request id, and sums are added only from rows that this
transaction really inserted. A more complete row of a call (`RANK`) replaces a less complete one, whose numbers are
subtracted from the sums. It also ends the calls' budget reservations (`usage.money.spent_and_reserved`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import orjson
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.backends.utils import CursorWrapper

from usage.answers.estimate_rules import estimate_interrupted
from usage.call_record import COUNTS, CallRecord, SummedRow
from usage.ids import started_at
from usage.journal_shipping.background_cost import COUNTED_LATER, settle_responses
from usage.journal_shipping.digests import DIGEST
from usage.journal_shipping.stored_object_rows import object_ids, write_objects
from usage.metric_counters import counters
from usage.models import Outcome, Request, UsageSource
from usage.money.spent_and_reserved import settle_reservations
from usage.sums.adding_up import ROW_COLUMNS, SUMMED_SQL, SUMS, Rollup
from usage.sums.summed_names import mark_unknown
from usage.sums.summed_rows import fetch_summed_rows

FIELDS = {field.name: field for field in Request._meta.concrete_fields if field.name != "digest"}
COLUMNS = list(FIELDS)
NAMES = ", ".join(COLUMNS)
# Columns that a record may leave out and that are not null in the table, with their defaults.
DEFAULTS = {name: field.get_default() for name, field in FIELDS.items() if not field.null}
STUB = "dead_letter"
GUESS = "interrupted"
BODY_NAMES = ("request_body", "response_body")
# The columns that a stub takes from the refused row if the table can store their values: those from which the call's
# cost, its sums, and the row that counts its response are found.
NOT_IN_STUB = {"request_id", "started_at", "outcome", "error_code", "cost", "cost_kind"}
STUB_COLUMNS = (
    *(name for name in ROW_COLUMNS if name not in NOT_IN_STUB),
    "method", "stream", "service_tier", "response_id", "usage", "usage_source", "other_usage",
)  # fmt: skip
Replaced = tuple[str, SummedRow]  # the request id of a row, and an older row that it replaces
LEAST_TEXTS = ("key_name", "method", "route")
CUT_TEXTS = {"key_name", "method", "route", "request_model", "response_model"}

INSERT_ROWS = (
    f"INSERT INTO usage_request ({NAMES}, digest)"
    f" SELECT {NAMES}, {DIGEST} FROM jsonb_populate_recordset(NULL::usage_request, %s::jsonb)"
    f" ON CONFLICT (request_id) DO NOTHING RETURNING {SUMMED_SQL}"
)
# How complete a row of a call is (`_rank`). 1: a row made because the call's end is unknown, with the outcome
# `interrupted`. 3: the row of the call's end. 0 and 2: the stubs of these two.
RANK = (
    f"CASE WHEN error_code = '{STUB}' THEN 2 * (outcome <> '{Outcome.INTERRUPTED}')::int"
    f" WHEN error_code = '{GUESS}' THEN 1 ELSE 3 END"
)
DELETE_LESSER = (
    "DELETE FROM usage_request USING unnest(%s::uuid[], %s::int[]) AS new(id, rank)"
    f" WHERE request_id = new.id AND {RANK} < new.rank RETURNING {SUMMED_SQL}"
)
UPDATE_PRICES = (
    "UPDATE usage_request SET cost = priced.cost, cost_kind = priced.cost_kind, price = priced.price"
    " FROM jsonb_populate_recordset(NULL::usage_request, %s::jsonb) AS priced"
    " WHERE usage_request.request_id = priced.request_id"
    f" RETURNING {SUMMED_SQL}"
)
READ_ROWS = f"SELECT {SUMMED_SQL} FROM usage_request WHERE request_id = ANY(%s::uuid[])"
# Removes the usage from a row since another row counts it, as `background_cost` does in rows that are not written yet.
COUNT_NOTHING = (
    f"UPDATE usage_request SET {', '.join(f'{name} = NULL' for name in COUNTS)}, cost = 0, cost_kind = 'exact',"
    f" usage_source = '{UsageSource.UNKNOWN}', price = '{orjson.dumps(COUNTED_LATER).decode()}'"
    f" WHERE request_id = ANY(%s::uuid[]) RETURNING {SUMMED_SQL}"
)
COPY_BODIES = f"COPY usage_requestbody (request_id, {', '.join(BODY_NAMES)}) FROM STDIN"
DELETE_BODIES = "DELETE FROM usage_requestbody WHERE request_id = ANY(%s::uuid[])"
UPDATE_DIGESTS = f"UPDATE usage_request SET digest = {DIGEST} WHERE request_id = ANY(%s::uuid[])"


def write_rows(rows: Sequence[CallRecord]) -> int:
    """Writes the rows of calls to the database, with their bodies and all sums, in one transaction.

    Of a row and one of the same call in the table, the more complete is kept. Returns how many rows were inserted.

    Raises:
        django.db.Error: the database has failed or has refused a row, and nothing was written.
    """
    by_id = {str(row["request_id"]): row for row in sorted(rows, key=_rank)}  # the most complete row of each call
    rollup = Rollup()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DELETE_LESSER, [list(by_id), [_rank(row) for row in by_id.values()]])
        if lesser := fetch_summed_rows(cursor):
            rollup.add(lesser, sign=-1)
            cursor.execute(DELETE_BODIES, [[row["request_id"] for row in lesser]])
        settled = settle_responses(mark_unknown(cursor, list(by_id.values())))
        replaced = defaultdict(list, {str(row["request_id"]): [row] for row in lesser})
        for newer, row in _take_estimates_back(cursor, settled.replaced, rollup):
            replaced[newer].append(row)
        cursor.execute(INSERT_ROWS, [orjson.dumps([_columns(row) for row in settled.rows]).decode()])
        inserted = fetch_summed_rows(cursor)
        rollup.add(inserted)
        is_all = len(inserted) == len(by_id)  # as nearly always
        _insert_bodies(cursor, by_id.values() if is_all else [by_id[str(row["request_id"])] for row in inserted])
        rollup.write(cursor)
        settle_reservations(cursor, list(by_id), _estimated(settled.rows, inserted))
        write_objects(by_id.values())
    counters.count_usage(inserted, replaced)
    return len(inserted)


def _take_estimates_back(cursor: CursorWrapper, replaced: Mapping[str, str], rollup: Rollup) -> list[Replaced]:
    """Removes the estimated usage from older rows in the table and from the sums, because newer rows state it exactly.

    `replaced` maps the request id of each older row to that of the newer one. Returns pairs of newer id and older row.
    """
    if not replaced:
        return []
    cursor.execute(READ_ROWS, [list(replaced)])
    before = fetch_summed_rows(cursor)
    rollup.add(before, sign=-1)
    cursor.execute(COUNT_NOTHING, [list(replaced)])
    rollup.add(fetch_summed_rows(cursor))
    cursor.execute(UPDATE_DIGESTS, [list(replaced)])
    return [(replaced[str(row["request_id"])], row) for row in before]


def _estimated(rows: Iterable[CallRecord], inserted: Iterable[SummedRow]) -> list[str]:
    """Returns the request ids of those inserted rows whose usage is an estimate."""
    found = {str(row["request_id"]) for row in rows if row.get("usage_source") == UsageSource.ESTIMATED}
    return [str(row["request_id"]) for row in inserted if str(row["request_id"]) in found] if found else []


def is_stub(row: CallRecord) -> bool:
    """Returns whether a row is a stub: a shortened row, written in place of one that the database has refused."""
    return row.get("error_code") == STUB


def update_prices(rows: Sequence[CallRecord]) -> tuple[list[SummedRow], list[SummedRow]]:
    """Writes the new cost, cost kind and price of each given row to the table of calls.

    Returns two lists: the rows as they were before, and as they are now. Call this function in a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute(READ_ROWS, [[row["request_id"] for row in rows]])
        before = fetch_summed_rows(cursor)
        priced = [{name: row[name] for name in ("request_id", "cost", "cost_kind", "price")} for row in rows]
        cursor.execute(UPDATE_PRICES, [orjson.dumps(priced).decode()])
        updated = fetch_summed_rows(cursor)
        cursor.execute(UPDATE_DIGESTS, [[row["request_id"] for row in rows]])
    return before, updated


def _rank(row: CallRecord) -> int:
    """Returns how complete a row is, from 0 to 3. Of several rows of one call, the most complete one is kept.

    The SQL expression `RANK` computes the same number for a row in the table.
    """
    if (code := row.get("error_code")) == STUB:
        return 2 * int(row["outcome"] != Outcome.INTERRUPTED)
    return 1 if code == GUESS else 3


def _insert_bodies(cursor: CursorWrapper, rows: Iterable[CallRecord]) -> None:
    """Inserts the logged request and response bodies of the given calls into the table of bodies."""
    # COPY and not INSERT, because most of the bytes are bodies, and quoting them for SQL costs more than all else.
    with connection.wrap_database_errors, cursor.copy(COPY_BODIES) as copy:
        for row in rows:
            bodies = [row.get(name, "") for name in BODY_NAMES]
            if any(bodies):
                copy.write_row([row["request_id"], *bodies])


def _columns(row: CallRecord) -> dict[str, object]:
    """Returns a row's values for all columns of the table of calls, with a default where the row has no value."""
    columns: dict[str, object] = {**DEFAULTS, **row}
    for name in columns.keys() - FIELDS.keys():  # a few; looking at each of the row's fields in Python takes longer
        del columns[name]
    return columns


def interrupted(begin: CallRecord) -> CallRecord:
    """Returns a row with the outcome `interrupted` for a call whose end is unknown, with an estimate of its usage.

    `begin` is what the journal has of the call: the record of its beginning, or only its request id.
    """
    return {
        "started_at": started_at(begin["request_id"]).isoformat(),
        **begin,
        **estimate_interrupted(begin),
        "outcome": Outcome.INTERRUPTED,
        "duration_ms": 0.0,
        "error_type": "server_error",
        "error_code": GUESS,
        "error_message": "The server ended in the middle of this call. It may have been billed.",
    }


def stub(row: CallRecord) -> CallRecord:
    """Returns a shortened row, to be written in place of a row that the database has refused.

    It has those of the refused row's values that the database can store, so the call is still priced and counted.
    """
    kept = _sound_columns(row, STUB_COLUMNS)
    if row.get("usage") is not None:
        kept.setdefault(
            "usage", {}
        )  # without it, the row would not count as exact (`usage.journal_shipping.background_cost`)
    if not _has_owner(row):
        kept.pop("response_id", None)
    return {**_stub_of(row), **kept, **_made_by(row)}


def least_stub(row: CallRecord) -> CallRecord:
    """Returns a shorter row than `stub`, if that is refused: ids, numbers, key, method, route and created objects."""
    return {**bare_stub(row), **_sound_columns(row, SUMS)}


def bare_stub(row: CallRecord) -> CallRecord:
    """Returns the shortest row of a call, if all others are refused: ids, key, method, route and created objects."""
    mark: CallRecord = {"by_gateway": True} if row.get("by_gateway") is True else {}
    return {**_stub_of(row), **_sound_columns(row, LEAST_TEXTS), **_made_by(row), **mark}


def _made_by(row: CallRecord) -> CallRecord:
    """Returns the fields of a call's record that a stub must have although they are no columns of the table.

    They say which objects the call has created, if these last, the state of its response, and if that may be polled.
    """
    return {
        "objects": object_ids(row) if _has_owner(row) else [],
        "objects_last": bool(row.get("objects_last", True)),
        "response_status": row.get("response_status"),
        "pollable": row.get("pollable") is True,
        "unbilled": row.get("unbilled") is True,
    }


def _has_owner(row: CallRecord) -> bool:
    """Returns whether a row has an API key's name that the table can store uncut: a cut name could be another key's."""
    name = row.get("key_name")
    return _is_sound("key_name", name) and _fitted("key_name", name) == name


def _stub_of(row: CallRecord) -> CallRecord:
    """Returns the fields that every stub of a refused row has: the call's id, start and outcome, and an error text."""
    return {
        "request_id": row["request_id"],
        "started_at": started_at(row["request_id"]).isoformat(),
        "duration_ms": 0.0,
        "outcome": row["outcome"] if row.get("outcome") in Outcome.values else Outcome.INTERRUPTED,
        "error_code": STUB,
        "error_message": "The database refused this call's row; the whole of it is in the dead-letter file.",
    }


def _is_sound(name: str, value: object) -> bool:
    """Returns whether a value fits a column: type, bounds, no control characters. A text that gets cut may be long."""
    field = FIELDS[name]
    if isinstance(field, models.CharField):
        if not isinstance(value, str) or not value.isprintable():
            return False
        return name in CUT_TEXTS or field.max_length is None or len(value) <= field.max_length
    if isinstance(field, models.BooleanField):
        return isinstance(value, bool)
    if isinstance(field, models.JSONField):
        return _is_sound_json(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 2**53:
        return False
    try:
        return bool(field.clean(value, None) == value)
    except ValidationError:
        return False


def _is_sound_json(value: object) -> bool:
    """Returns whether a JSON column of PostgreSQL can store a value: it can be serialized, and has no NUL character."""
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:  # lone surrogates, whole numbers beyond 64 bits
        return False


def _fitted(name: str, value: object) -> object:
    """Converts a value to what its column stores: cuts a text to the column's length, makes 5.0 the integer 5."""
    if name in CUT_TEXTS and isinstance(value, str):
        return value[: FIELDS[name].max_length]
    return int(value) if isinstance(FIELDS[name], models.IntegerField) and isinstance(value, int | float) else value


def _sound_columns(row: CallRecord, names: Iterable[str]) -> CallRecord:
    """Returns those of a row's columns `names` whose values the table can store, converted to what is stored."""
    given: Mapping[str, object] = row
    sound = {name: _fitted(name, given[name]) for name in names if name in given and _is_sound(name, given[name])}
    return cast(CallRecord, sound)  # each value has been checked against its column
