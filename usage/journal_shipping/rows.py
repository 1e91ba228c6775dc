"""Writes ended calls into the tables, a batch in one transaction: rows, bodies, sums, failures, stored objects.

Each call is counted exactly once: a row's primary key is its request id, and sums are added only from rows that this
transaction really inserted. A more complete row of a call (`_rank`) replaces a less complete one, whose numbers are
subtracted from the sums. The dollars that the calls have used are subtracted from the leases of budgets
(`usage.money.spent_and_reserved`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import orjson
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from usage.answers.estimate_rules import estimate_interrupted
from usage.call_record import COUNTS, STUB_CODE, CallRecord, SummedRow
from usage.database.last_statements import LastStatements
from usage.ids import started_at
from usage.journal_shipping.continued_sessions import begin_sessions, name_sessions
from usage.journal_shipping.digests import DIGEST, UPDATE_DIGESTS
from usage.journal_shipping.response_billing import COUNTED_LATER, settle_responses
from usage.journal_shipping.stored_object_rows import write_objects
from usage.journal_shipping.stub_rows import FIELDS
from usage.metric_counters import counters
from usage.models import Outcome, UsageSource
from usage.money.spent_and_reserved import settle_reservations, take_off_leases
from usage.sums.labels.changed_days import mark_changed_days
from usage.sums.sum_tables import SUMMED_SQL, fetch_summed_rows
from usage.sums.summed_names import mark_unknown
from usage.sums.totals_rollup import Rollup

COLUMNS = list(FIELDS)
NAMES = ", ".join(COLUMNS)
# Columns that a record may leave out and that are not null in the table, with their defaults.
DEFAULTS = {name: field.get_default() for name, field in FIELDS.items() if not field.null}
GUESS = "interrupted"
BODY_NAMES = ("request_body", "response_body")
Replaced = tuple[str, SummedRow]  # the request id of a row, and an older row that it replaces

# The defaults are given once, and not in each row, because reading JSON is PostgreSQL's largest part of a batch.
INSERT_ROWS = (
    f"INSERT INTO usage_request ({NAMES}, digest) SELECT {NAMES}, {DIGEST}"
    " FROM jsonb_populate_recordset(jsonb_populate_record(NULL::usage_request, %s::jsonb), %s::jsonb)"
    f" ON CONFLICT (request_id) DO NOTHING RETURNING {SUMMED_SQL}"
)
# How complete a row of a call is (`_rank`). 1: a row made because the call's end is unknown, with the outcome
# `interrupted`. 3: the row of the call's end. 0 and 2: the stubs of these two.
RANK = (
    f"CASE WHEN error_code = '{STUB_CODE}' THEN 2 * (outcome <> '{Outcome.INTERRUPTED}')::int"
    f" WHEN error_code = '{GUESS}' THEN 1 ELSE 3 END"
)
HIGHEST_RANK = 3
# Its parameters are the ids of new rows, and a JSON object with the ranks of those that have not the highest one.
DELETE_LESSER = (
    "DELETE FROM usage_request WHERE request_id = ANY(%s::uuid[])"
    f" AND {RANK} < COALESCE((%s::jsonb ->> request_id::text)::int, {HIGHEST_RANK}) RETURNING {SUMMED_SQL}"
)
UPDATE_PRICES = (
    "UPDATE usage_request SET cost = priced.cost, cost_kind = priced.cost_kind, price = priced.price"
    " FROM jsonb_populate_recordset(NULL::usage_request, %s::jsonb) AS priced"
    " WHERE usage_request.request_id = ANY(%s::uuid[]) AND usage_request.request_id = priced.request_id"
    f" RETURNING {SUMMED_SQL}"
)
READ_ROWS = f"SELECT {SUMMED_SQL} FROM usage_request WHERE request_id = ANY(%s::uuid[])"
# Removes the usage from a row since another row counts it, as `response_billing` does in rows that are not written yet.
COUNT_NOTHING = (
    f"UPDATE usage_request SET {', '.join(f'{name} = NULL' for name in COUNTS)}, cost = 0, cost_kind = 'exact',"
    f" usage_source = '{UsageSource.UNKNOWN}', price = '{orjson.dumps(COUNTED_LATER).decode()}'"
    f" WHERE request_id = ANY(%s::uuid[]) RETURNING {SUMMED_SQL}"
)
COPY_BODIES = f"COPY usage_requestbody (request_id, {', '.join(BODY_NAMES)}) FROM STDIN"
DELETE_BODIES = "DELETE FROM usage_requestbody WHERE request_id = ANY(%s::uuid[])"


def write_rows(rows: Sequence[CallRecord]) -> int:
    """Writes calls' rows and bodies, and everything that depends on them, to the database in one transaction.

    The sums, stored objects, sessions, responses to poll, reservations and budget leases depend on them. If the table
    has a row of the same call, the more complete row is kept. After the transaction, the usage is counted for
    `/metrics`. Returns how many rows were inserted.

    Raises:
        django.db.Error: the database has failed or has refused a row, and nothing was written.
    """
    by_id = {str(row["request_id"]): row for row in sorted(rows, key=_rank)}  # the most complete row of each call
    rollup = Rollup()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(DELETE_LESSER, [_array(by_id), _lower_ranks(by_id)])
        if lesser := fetch_summed_rows(cursor):
            rollup.add(lesser, sign=-1)
            cursor.execute(DELETE_BODIES, [[row["request_id"] for row in lesser]])
        named = name_sessions(cursor, mark_unknown(cursor, list(by_id.values())))
        settled = settle_responses(named.rows)
        begin_sessions(cursor, named.begun)
        # What the others have used was taken off before; not by a row without a key, which stood for a damaged record.
        fresh = by_id.keys() - {str(row["request_id"]) for row in lesser if row["key_name"]}
        replaced = defaultdict(list, {str(row["request_id"]): [row] for row in lesser})
        for newer, row in _take_estimates_back(cursor, settled.replaced, rollup):
            replaced[newer].append(row)
        mark_changed_days(cursor, chain.from_iterable(replaced.values()))
        columns = orjson.dumps([_columns(row) for row in settled.rows]).decode()
        cursor.execute(INSERT_ROWS, [orjson.dumps(DEFAULTS).decode(), columns])
        inserted = fetch_summed_rows(cursor)
        rollup.add(inserted)
        is_all = len(inserted) == len(by_id)  # as nearly always
        _insert_bodies(cursor, by_id.values() if is_all else [by_id[str(row["request_id"])] for row in inserted])
        write_objects(by_id.values())
        # Nearly last, because the shippers of other hosts wait for the rows of sums; and the rows of leases last,
        # because workers wait for them, and not for long.
        last = LastStatements(cursor)
        rollup.write(last)
        take_off_leases(last, [by_id[one] for row in inserted if (one := str(row["request_id"])) in fresh])
        settle_reservations(last, _array(by_id), _estimated(settled.rows, inserted))
        last.run()
    counters.count_usage(inserted, replaced)
    return len(inserted)


def _take_estimates_back(cursor: CursorWrapper, replaced: Mapping[str, str], rollup: Rollup) -> list[Replaced]:
    """Takes the usage out of older rows of calls, and out of the sums, because newer rows have the exact usage.

    `replaced` maps the request ids of the older rows to those of the newer ones. Returns a pair for each older row: the
    newer row's request id, and the older row as it was before.
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
    """Returns the request ids of those rows in `inserted` whose usage is estimated.

    `inserted` are rows as the database returned them, without the source of their usage. The source is looked up in
    `rows`, the records from which these rows were made.
    """
    found = {str(row["request_id"]) for row in rows if row.get("usage_source") == UsageSource.ESTIMATED}
    return [str(row["request_id"]) for row in inserted if str(row["request_id"]) in found] if found else []


def update_prices(rows: Sequence[CallRecord]) -> tuple[list[SummedRow], list[SummedRow]]:
    """Stores the new cost, cost kind and price of the given rows in the table of calls; renews the rows' digests.

    Also marks the sums by all labels together (end user and tags) of these days as wrong, so that reports do not read
    them. Returns the changed rows twice: as they were stored before, and as they are stored now. In the same
    transaction, the caller must subtract the former from the other sums, and add the latter
    (`usage.sums.totals_rollup.Rollup`).
    """
    ids = [row["request_id"] for row in rows]
    with connection.cursor() as cursor:
        cursor.execute(READ_ROWS, [ids])
        before = fetch_summed_rows(cursor)
        priced = [{name: row[name] for name in ("request_id", "cost", "cost_kind", "price")} for row in rows]
        cursor.execute(UPDATE_PRICES, [orjson.dumps(priced).decode(), ids])
        updated = fetch_summed_rows(cursor)
        cursor.execute(UPDATE_DIGESTS, [ids])
        mark_changed_days(cursor, before)
    return before, updated


def _rank(row: CallRecord) -> int:
    """Returns how complete a call's row is, from 0 to 3. Of two rows of one call, the one with the higher rank is kept.

    * 3: the row that was written when the call ended.
    * 2: a shortened row (a stub) in place of such a row, which the database has refused.
    * 1: a row that was made because the call's end is unknown.
    * 0: a shortened row in place of a row of rank 1.
    """
    # `RANK` is the same rule in SQL.
    if (code := row.get("error_code")) == STUB_CODE:
        return 2 * int(row["outcome"] != Outcome.INTERRUPTED)
    return 1 if code == GUESS else HIGHEST_RANK


def _lower_ranks(by_id: Mapping[str, CallRecord]) -> str:
    """Returns the ranks of the incomplete rows among those in `by_id`, as the text of a JSON object by request id.

    A rank says how complete a row is (`_rank`). Usually all rows are complete, and the object is empty. It is a
    parameter of an SQL statement.
    """
    return orjson.dumps({key: rank for key, row in by_id.items() if (rank := _rank(row)) < HIGHEST_RANK}).decode()


def _array(ids: Iterable[str]) -> str:
    """Returns request ids as the text of a PostgreSQL array; psycopg would take much longer to convert a list."""
    return f"{{{','.join(ids)}}}"


def _insert_bodies(cursor: CursorWrapper, rows: Iterable[CallRecord]) -> None:
    """Inserts the logged request and response bodies of calls, where there are any, into the table of bodies."""
    # COPY and not INSERT, because most of the bytes are bodies, and quoting them for SQL costs more than all else.
    with connection.wrap_database_errors, cursor.copy(COPY_BODIES) as copy:
        for row in rows:
            bodies = [row.get(name, "") for name in BODY_NAMES]
            if any(bodies):
                copy.write_row([row["request_id"], *bodies])


def _columns(row: CallRecord) -> dict[str, object]:
    """Returns a copy of a call's record with only those fields that are columns of the table of calls."""
    columns: dict[str, object] = {**row}
    for name in columns.keys() - FIELDS.keys():  # a few; looking at each of the row's fields in Python takes longer
        del columns[name]
    return columns


def interrupted(begin: CallRecord) -> CallRecord:
    """Returns a row with the outcome `interrupted`, for a call that has begun and whose end is unknown.

    `begin` is the call's begin record, from which the usage is estimated. If that record is lost, `begin` has only the
    request id, and nothing is estimated. The duration is 0.
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
