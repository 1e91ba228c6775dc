"""Shortened rows (stubs) for calls whose rows the database refuses, so that these calls are still priced and summed.

A stub has those values of the refused row that the table can store. If the database refuses the stub, too, a shorter
one takes its place, in this order: `stub`, `least_stub`, `bare_stub`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import cast
from uuid import UUID

import orjson
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models

from usage.answers.tokens import MAX_COUNT, is_count
from usage.call_record import COUNTS, STUB_CODE, CallRecord, LeaseShare, SupposedUsage
from usage.ids import started_at
from usage.journal_shipping.stored_object_rows import object_ids
from usage.models import Outcome, Request
from usage.sums.sum_tables import ROW_COLUMNS, SUMS

FIELDS = {field.name: field for field in Request._meta.concrete_fields if field.name != "digest"}
# The columns that a stub takes from the refused row if the table can store their values: those from which the call's
# cost, its sums, and the row that counts its response are found.
NOT_IN_STUB = {"request_id", "started_at", "outcome", "error_code", "cost", "cost_kind"}
SUPPOSED_COLUMNS = (*COUNTS, "other_usage")  # of the usage that a record supposes
STUB_COLUMNS = (
    *(name for name in ROW_COLUMNS if name not in NOT_IN_STUB),
    "method", "stream", "service_tier", "response_id", "usage", "usage_source", "other_usage",
)  # fmt: skip
LEAST_TEXTS = ("key_name", "team", "owner", "method", "route")
CUT_TEXTS = {"key_name", "owner", "method", "route", "request_model", "response_model"}


def is_stub(row: CallRecord) -> bool:
    """Returns whether a row is a stub: a shortened row, written instead of one that the database has refused."""
    return row.get("error_code") == STUB_CODE


def stub(row: CallRecord) -> CallRecord:
    """Makes a stub: a shortened row, to be written instead of a row that the database has refused.

    The stub has the values by which the call is priced and counted. Values that the database cannot store are left out,
    and long names are cut.
    """
    kept = _sound_columns(row, STUB_COLUMNS)
    if row.get("usage") is not None:
        kept.setdefault(
            "usage", {}
        )  # without it, the row would not count as exact (`usage.journal_shipping.response_billing`)
    if not _has_owner(row):
        kept.pop("response_id", None)
    return {**_stub_of(row), **kept, **_fields_beside_columns(row)}


def least_stub(row: CallRecord) -> CallRecord:
    """Makes a very short row, to be written for a call whose stub (a shortened row) the database has refused as well.

    It has the fields that `bare_stub` returns, and the numbers that are added to sums, such as tokens. Numbers that the
    database cannot store are left out.
    """
    return {**bare_stub(row), **_sound_columns(row, SUMS)}


def bare_stub(row: CallRecord) -> CallRecord:
    """Makes the shortest row, for a call whose longer stubs (shortened rows) the database has refused as well.

    The row has id, start, duration, outcome, error, key, team, owner, method, route, created objects and shares of
    budget leases. For a request of the gateway itself, `by_gateway` is true.
    """
    mark: CallRecord = {"by_gateway": True} if row.get("by_gateway") is True else {}
    return {**_stub_of(row), **_sound_columns(row, LEAST_TEXTS), **_fields_beside_columns(row), **mark}


def _fields_beside_columns(row: CallRecord) -> CallRecord:
    """Returns fields for the stub (shortened row) of a refused row: those that are no columns of the table of calls.

    * the ids of created objects
    * the status of the call's response, and whether the response is billed and may be polled
    * the estimate of the response's usage
    * the call's shares of budget leases

    An invalid value is left out, or replaced by an empty one.
    """
    leases: CallRecord = {}
    if (share := _sound_share(row.get("lease"))) is not None:
        leases["lease"] = share
    if (share := _sound_share(row.get("team_lease"))) is not None:
        leases["team_lease"] = share
    supposed: CallRecord = {}
    if isinstance(stated := row.get("supposed"), dict):
        supposed = {"supposed": _sound_supposed(stated)}
    return {
        **supposed,
        **leases,
        "objects": object_ids(row) if _has_owner(row) else [],
        "objects_last": bool(row.get("objects_last", True)),
        "response_status": row.get("response_status"),
        "pollable": row.get("pollable") is True,
        "unbilled": row.get("unbilled") is True,
    }


def _sound_supposed(stated: Mapping[str, object]) -> SupposedUsage:
    """Returns the estimated usage of a refused row, without invalid values."""
    sound = cast(SupposedUsage, _sound_columns(cast(CallRecord, stated), SUPPOSED_COLUMNS))
    if is_count(answers := stated.get("answers")) and answers >= 1:
        sound["answers"] = int(answers)
    if stated.get("is_of_named_account") is True:
        sound["is_of_named_account"] = True
    return sound


def _sound_share(share: object) -> LeaseShare | None:
    """Returns a call's share of a budget lease (the lease's id, and dollars) if it is valid; else None."""
    # The database could not subtract the dollars of an invalid share from the lease.
    if not isinstance(share, dict):
        return None
    try:
        sound: LeaseShare = {"id": str(UUID(share["id"])), "dollars": str(Decimal(share["dollars"]))}
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return None
    return sound if Decimal(sound["dollars"]).is_finite() else None


def _has_owner(row: CallRecord) -> bool:
    """Returns whether a row has a valid key name that the column can store without cutting it."""
    # A cut name could be that of another key.
    name = row.get("key_name")
    return _is_sound("key_name", name) and _fitted("key_name", name) == name


def _stub_of(row: CallRecord) -> CallRecord:
    """Returns the fields that each stub (a shortened row) of a refused row has: id, start, duration, outcome, error.

    An unknown outcome becomes `interrupted`. The duration is 0, and the error says that the database refused the row.
    """
    return {
        "request_id": row["request_id"],
        "started_at": started_at(row["request_id"]).isoformat(),
        "duration_ms": 0.0,
        "outcome": row["outcome"] if row.get("outcome") in Outcome.values else Outcome.INTERRUPTED,
        "error_code": STUB_CODE,
        "error_message": "The database refused this call's row; the whole of it is in the dead-letter file.",
    }


def _is_sound(name: str, value: object) -> bool:
    """Returns whether the column `name` can store `value`: it has the right type, and is within the column's bounds.

    A text with control characters cannot be stored. A text that is too long can be, if the column is one of
    `CUT_TEXTS`, because it is cut then.
    """
    field = FIELDS[name]
    if isinstance(field, models.CharField):
        if not isinstance(value, str) or not value.isprintable():
            return False
        return name in CUT_TEXTS or field.max_length is None or len(value) <= field.max_length
    if isinstance(field, models.BooleanField):
        return isinstance(value, bool)
    if isinstance(field, models.JSONField):
        return _is_sound_json(value)
    if isinstance(field, ArrayField):
        return isinstance(value, list) and all(
            isinstance(item, str) and item.isprintable() and len(item) <= (field.base_field.max_length or 0)
            for item in value
        )
    limit = MAX_COUNT if name in COUNTS else 2**53
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < limit:
        return False
    try:
        return bool(field.clean(value, None) == value)
    except ValidationError:
        return False


def _is_sound_json(value: object) -> bool:
    """Returns whether a JSON column of PostgreSQL can store a value: serializable, and without NUL characters."""
    try:
        return b"\\u0000" not in orjson.dumps(value)
    except TypeError:  # lone surrogates, whole numbers beyond 64 bits
        return False


def _fitted(name: str, value: object) -> object:
    """Converts a value to the form in which its column stores it: cuts a long text, makes 5.0 the integer 5."""
    if name in CUT_TEXTS and isinstance(value, str):
        return value[: FIELDS[name].max_length]
    return int(value) if isinstance(FIELDS[name], models.IntegerField) and isinstance(value, int | float) else value


def _sound_columns(row: CallRecord, names: Iterable[str]) -> CallRecord:
    """Returns the columns of a row that are listed in `names`, with values in the form in which the table stores them.

    A column that `row` lacks, or whose value the table cannot store, is left out.
    """
    given: Mapping[str, object] = row
    sound = {name: _fitted(name, given[name]) for name in names if name in given and _is_sound(name, given[name])}
    return cast(CallRecord, sound)  # each value has been checked against its column
