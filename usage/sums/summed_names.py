"""Decides which models, error codes and groups of error messages have sums of their own; callers can invent any number.

A name has sums of its own when it is in `KnownName`, which takes `MOST_NEW` new names of a kind a day (UTC, by the
database's clock). A model is added there when upstream has answered for it; the models of the price list need no entry.
An error code is added when a call fails with it. Calls with other names are added up together, under `UNKNOWN_MODEL`
and `OTHER_CODE`. Their rows have the real name, and a mark that they are added up so. By that mark a row is subtracted
from the group to which it was added, even if its name has got sums of its own since.

The messages of upstream's errors are grouped (`usage.kept_bodies.error_messages`), together with the parameter that was
refused; those of the gateway by the parameter alone. If a group has no sums of its own, the column `error_group` of its
calls stays empty, and they are counted by their code alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.backends.utils import CursorWrapper

from usage.call_record import CALLED_MODEL_SQL, STUB_CODE, CallRecord, SummedRow, called_model
from usage.kept_bodies.error_messages import SIGN, group_of, with_group
from usage.models import Outcome
from usage.prices.price_lookup import listed_models

UNKNOWN_MODEL = "(unknown model)"
OTHER_CODE = "(other code)"
MODEL, CODE, MESSAGE = "model", "code", "error"
MOST_NEW = 100  # new names of each kind a day
# No name of these kinds may be the gateway's own word for all the names without sums: a caller may send that word, too.
RESERVED = {(MODEL, UNKNOWN_MODEL), (CODE, OTHER_CODE)}

# `summed_model` and `summed_code` in SQL, for a row in `usage_request`.
SUMMED_MODEL_SQL = f"CASE WHEN unknown_model THEN '{UNKNOWN_MODEL}' ELSE {CALLED_MODEL_SQL} END"
SUMMED_CODE_SQL = f"""CASE WHEN other_code THEN '{OTHER_CODE}'
    WHEN error_group <> '' OR strpos(error_code, '{SIGN}') > 0 THEN error_code || '{SIGN}' || error_group
    ELSE error_code END"""

FIND_KNOWN = """
    SELECT kind, name FROM usage_knownname JOIN unnest(%s::text[], %s::text[]) AS wanted (kind, name) USING (kind, name)
"""
COUNT_NEW = (
    "SELECT kind, count(*) FROM usage_knownname WHERE learnt_on = (now() AT TIME ZONE 'UTC')::date GROUP BY kind"
)
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('chatproxy known names', 0))"
LEARN = """
    INSERT INTO usage_knownname (kind, name, learnt_on)
    SELECT kind, name, (now() AT TIME ZONE 'UTC')::date FROM unnest(%s::text[], %s::text[]) AS learnt (kind, name)
    ON CONFLICT DO NOTHING
"""

Name = tuple[str, str]  # MODEL, CODE or MESSAGE, and the name


def summed_model(row: SummedRow) -> str:
    """Returns the name of the model under which the tables of sums count a call.

    For a model that has no sums of its own, this is `UNKNOWN_MODEL`.
    """
    # `SUMMED_MODEL_SQL` is the same rule in SQL.
    return UNKNOWN_MODEL if row["unknown_model"] else called_model(row)


def summed_code(row: SummedRow) -> str:
    """Returns the error code under which the tables of sums count a failed call.

    This is `OTHER_CODE` if the call's own code has no sums of its own. If the call's error message is of a group that
    has sums of its own, the group is appended to the code (`with_group`).
    """
    # `SUMMED_CODE_SQL` is the same rule in SQL.
    return OTHER_CODE if row["other_code"] else with_group(row["error_code"], row["error_group"])


def mark_unknown(cursor: CursorWrapper, rows: Sequence[CallRecord]) -> list[CallRecord]:
    """Marks new rows of calls whose model or error code has no sums of its own; returns all rows, in their order.

    * Models in the price list, and names in the table `KnownName`, have sums of their own.
    * New models that have answered a call, new error codes and new groups of error messages are added to this table, a
      limited number each day.
    * Rows with any other model or code are marked in the columns `unknown_model` and `other_code`.
    * The column `error_group` gets the group of the error's message, if the group and the code have sums of their own.

    Call this function in a transaction.
    """
    names = [(_model(row), _code(row), _message(row), _may_be_learnt(row)) for row in rows]
    different = set(names)  # few, because most rows of a batch have the same names
    learnable = {name for _, code, message, _ in different for name in (code, message)}
    learnable |= {model for model, _, _, may_be_learnt in different if may_be_learnt}
    learnable -= RESERVED
    wanted = {model for model, _, _, _ in different if model not in RESERVED} | learnable
    known = {name for name in wanted if not name[1] or _is_listed(name)}
    known |= _known(cursor, wanted - known)
    if unknown := learnable - known:
        known |= _learn(cursor, unknown)
    return [
        row if model in known and code in known and not message[1]
        else {**row, "unknown_model": model not in known, "other_code": code not in known,
              "error_group": message[1] if {code, message} <= known else ""}
        for row, (model, code, message, _) in zip(rows, names, strict=True)
    ]  # fmt: skip


def _model(row: CallRecord) -> Name:
    return MODEL, called_model(row)


def _code(row: CallRecord) -> Name:
    return CODE, row.get("error_code") or "" if row["outcome"] != Outcome.SUCCESS else ""


def _message(row: CallRecord) -> Name:
    """Returns a pair: the kind `MESSAGE`, and the group of a call's error message, which can have sums of its own.

    Errors of upstream are grouped by message and refused parameter, those of the gateway by the parameter alone, since
    their code says the rest. The group is an empty text for all other calls, for polls (the gateway's own requests) and
    for stubs (shortened rows).
    """
    if row.get("by_gateway") or row.get("error_code") == STUB_CODE:
        return MESSAGE, ""
    parameter = row.get("error_param") or ""
    if row["outcome"] == Outcome.REJECTED:
        return MESSAGE, group_of("", parameter=parameter)
    if row["outcome"] != Outcome.UPSTREAM_ERROR:
        return MESSAGE, ""
    names = (row.get("request_model") or "", row.get("response_model") or "")
    return MESSAGE, group_of(row.get("error_message") or "", names, parameter)


def _is_listed(name: Name) -> bool:
    return name[0] == MODEL and name[1] in listed_models()


def _may_be_learnt(row: CallRecord) -> bool:
    """Returns whether a call's model may get sums of its own: it may if the answer names it, or if the call succeeded.

    The name of any other model comes from the request alone, and callers could invent any number of such names.
    """
    # Error codes may always get sums of their own.
    return bool(row.get("response_model")) or row["outcome"] == Outcome.SUCCESS


def _known(cursor: CursorWrapper, names: Iterable[Name]) -> set[Name]:
    asked = list(names)
    if not asked:
        return set()
    cursor.execute(FIND_KNOWN, [[kind for kind, _ in asked], [name for _, name in asked]])
    return set(cursor.fetchall())


def _learn(cursor: CursorWrapper, unknown: set[Name]) -> set[Name]:
    """Adds new names to the table `KnownName`, within the day's limit; returns those that the table has afterwards.

    The result also has names that another process has added meanwhile. It is empty if the limit allows none.
    """
    wanted = sorted(unknown)
    if not _fitting(cursor, wanted):
        return set()
    # Otherwise two processes together could exceed the limit.
    cursor.execute(LOCK)
    learnt = _fitting(cursor, wanted)
    cursor.execute(LEARN, [[kind for kind, _ in learnt], [name for _, name in learnt]])
    return _known(cursor, wanted)


def _fitting(cursor: CursorWrapper, names: Sequence[Name]) -> list[Name]:
    """Returns those new names that the daily limit lets through; only they get sums of their own.

    The names are models, error codes and groups of error messages, none of which has sums yet. Each kind may have
    `MOST_NEW` new names per day.
    """
    cursor.execute(COUNT_NEW)
    learnt: dict[str, int] = dict(cursor.fetchall())
    return [
        name
        for kind in (MODEL, CODE, MESSAGE)
        for name in [one for one in names if one[0] == kind][: max(0, MOST_NEW - learnt.get(kind, 0))]
    ]
