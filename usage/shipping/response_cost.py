"""Counts the usage of a stored response once, although many rows may state it.

One row owns a response's usage (`CountedResponse`): the first that states it exactly and, as long as there is none, the
first that estimates it. Once a row states it exactly, that row becomes the owner, and the estimate is taken out of its
own row and of the sums. Rows that are no owners cost nothing. The result is the same in whatever order, in however many
batches and by whichever processes the rows are written; but of a stored chat completion, a look takes out the estimate
only if that was written before it.

A call that makes a response is never counted in a row that is older than it: that row speaks of another response. Some
servers give all of theirs the same id.

A response that has not ended waits in `PendingResponse` until the gateway has looked at it
(`usage.shipping.pending_responses`). All of this is kept in the transaction that writes the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from django.db import connection

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import COUNTS, CallRecord, Counts, Price
from usage.models import CostKind, CountedResponse, PendingResponse, UsageSource
from usage.shipping.pending_responses import remember_pending, settle_pending

ROUTES = ("/openai2", "/v1/responses")
STORED_COMPLETION = "/v1/chat/completions/"  # and its id: its usage was counted when it was made
RETRIEVABLE = (*ROUTES, STORED_COMPLETION)
# The price of a look at a response whose usage another row owns.
COUNTED_BEFORE: Price = {"source": "counted before"}
# The price of a call whose response's usage became known after its end.
COUNTED_LATER: Price = {"source": "counted later"}
NO_COUNTS: Counts = {}
for _name in COUNTS:
    NO_COUNTS[_name] = None

# Rows that are replaced once the usage is known exactly: estimates, and calls without a price for want of usage.
# Locked, so that of two exact rows that are written at the same time the second finds no estimate any more.
FIND_PROVISIONAL = f"""
    SELECT response_id, request_id::text, by_gateway OR strpos(route, '{{id}}') > 0 FROM usage_request
    WHERE response_id = ANY(%s) AND response_id <> '' AND request_id <> ALL(%s::uuid[])
        AND usage_source <> '{UsageSource.EXACT}' AND (usage_source = '{UsageSource.ESTIMATED}' OR cost IS NULL)
    ORDER BY request_id FOR UPDATE
"""
TAKE_OVER = """
    INSERT INTO usage_countedresponse (response_id, request_id) VALUES (%s, %s::uuid)
    ON CONFLICT (response_id) DO UPDATE SET request_id = EXCLUDED.request_id
    WHERE usage_countedresponse.request_id = ANY(%s::uuid[])
"""


class Settled(NamedTuple):
    """The rows of a batch as they are to be written, and which older rows have estimates that must be removed.

    `replaced` maps the request id of each row with such an estimate to the id of the row that states the same usage
    exactly.
    """

    rows: list[CallRecord]
    replaced: dict[str, str]


def settle_responses(rows: Iterable[CallRecord]) -> Settled:
    """Lets one of several rows for the same response count the response's usage, and sets that of the other rows to
    zero.

    So nothing is billed twice. Call this function in the transaction that writes the rows.
    """
    every = list(rows)
    own = [row for row in every if not _has_all_usage(row)]
    if not own:
        return Settled(every, {})
    exact = _ids_by_response(filter(_states_usage, own))
    owners = _claim(_ids_by_response(filter(_is_estimate, own)) | exact)
    others = {row["response_id"] for row in own if _is_provisional(row)} - owners.keys()
    owners |= _owners(others)
    remember_pending([row for row in own if _is_pending(row) and owners.get(row["response_id"], _id(row)) == _id(row)])
    exact |= _ids_by_response(filter(_is_stored_completion, own))
    replaced = _replace_estimates(exact, owners, own) if exact else {}
    settled = {_id(row): _with_its_share(row, owners) for row in own}
    return Settled([settled.get(_id(row), row) for row in every], replaced)


def _ids_by_response(rows: Iterable[CallRecord]) -> dict[str, str]:
    """Maps each response id among the rows to the request id of the oldest row with that response."""
    found: dict[str, str] = {}
    for row in rows:
        found[row["response_id"]] = min(_id(row), found.get(row["response_id"], _id(row)))
    return found


def _claim(stated: dict[str, str]) -> dict[str, str]:
    """Records in `CountedResponse` which row counts the usage of each response, unless an earlier row does already.

    `stated` maps response ids to the request ids of the rows. Returns the request id that now counts, by response id.
    """
    if not stated:
        return {}
    # The insertion waits for a claim of another transaction that has not ended: of two rows, one sees the other.
    claims = [CountedResponse(response_id=key, request_id=value) for key, value in sorted(stated.items())]
    CountedResponse.objects.bulk_create(claims, ignore_conflicts=True)
    return _owners(stated)


def _owners(response_ids: Iterable[str]) -> dict[str, str]:
    """Reads from `CountedResponse` which row counts the usage of each response; returns request ids by response id."""
    ids = list(response_ids)
    if not ids:
        return {}
    owners = CountedResponse.objects.filter(pk__in=ids).values_list("response_id", "request_id")
    return {response_id: str(request_id) for response_id, request_id in owners}


def _replace_estimates(exact: dict[str, str], owners: dict[str, str], rows: Sequence[CallRecord]) -> dict[str, str]:
    """Lets the rows in `exact` count their responses' usage instead of older rows in the table that only estimate it.

    Returns a map from the request id of each such older row to the id of the exact one, and updates `owners`. A call
    that has created its response and counts its usage already has nothing to replace, and costs no query.
    """
    settle_pending(PendingResponse.objects.filter(pk__in=list(exact)))
    looks = {row["response_id"] for row in rows if row.get("response_id") in exact and not _is_creation(row)}
    wanted = {key: value for key, value in exact.items() if key in looks or owners.get(key) != value}
    if not wanted:
        return {}
    creations = {_id(row) for row in rows if _is_creation(row)}
    provisional: dict[str, list[str]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(FIND_PROVISIONAL, [list(wanted), list(wanted.values())])
        for response_id, request_id, is_look in cursor.fetchall():
            if is_look or wanted[response_id] not in creations:  # another creation made another response
                provisional[response_id].append(request_id)
        for response_id, ids in sorted(provisional.items()):
            cursor.execute(TAKE_OVER, [response_id, wanted[response_id], ids])
    owners |= _owners(wanted)
    return {one: owners[key] for key, ids in provisional.items() for one in ids if one < owners[key]}


def _id(row: CallRecord) -> str:
    """Returns the request id of a call's row as text."""
    return str(row["request_id"])


def _is_creation(row: CallRecord) -> bool:
    """Returns whether the call has created its response.

    A call that reads an earlier response has `{id}` in its route.
    """
    return "{id}" not in str(row.get("route")) and not row.get("by_gateway")


def _has_all_usage(row: CallRecord) -> bool:
    """Returns whether no row of another call can state the usage of this call.

    The check is cheap, and true of most chats.
    """
    if str(row.get("route")).startswith(RETRIEVABLE):
        return False
    return not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT


def _is_of_response(row: CallRecord) -> bool:
    """Returns whether the call has created or read a response of the Responses API."""
    return bool(row.get("response_id")) and str(row.get("route", "")).startswith(ROUTES)


def _is_final(row: CallRecord) -> bool:
    """Returns whether the usage in a call's row is not an estimate."""
    return row.get("usage_source") != UsageSource.ESTIMATED


def _states_usage(row: CallRecord) -> bool:
    """Returns whether the call's row states the exact usage of a response of the Responses API, or its only estimate.

    A response that has failed without a usage is not billed: its usage is exactly nothing.
    """
    return (_has_exact_usage(row) or _has_ended_without_usage(row)) and _is_of_response(row)


def _has_ended_without_usage(row: CallRecord) -> bool:
    """Returns whether a row is the last word on a response that has ended without a usage.

    A failed response has none because it is not billed. A cancelled one may be billed: the gateway's own look estimates
    its usage.
    """
    if row.get("usage") is not None:
        return False
    status = row.get("response_status")
    return status == "failed" or (status == "cancelled" and row.get("usage_source") == UsageSource.ESTIMATED
                                  and row.get("by_gateway") is True)  # fmt: skip


def _has_exact_usage(row: CallRecord) -> bool:
    """Returns whether upstream has stated the usage that is in a call's row.

    Of an answer that was too long to be parsed, the row has only the counts, without upstream's usage object.
    """
    is_counted = row.get("usage_source") == UsageSource.EXACT and row.get("response_status") not in UNFINISHED_STATUSES
    return _is_final(row) and (row.get("usage") is not None or is_counted)


def _is_estimate(row: CallRecord) -> bool:
    """Returns whether the call's row has only an estimate of the usage of a response of the Responses API.

    Returns False if no row will ever state the exact usage.
    """
    return _is_of_response(row) and not _is_final(row) and not _has_ended_without_usage(row)


def _is_provisional(row: CallRecord) -> bool:
    """Returns whether an exact statement may later replace the usage in a call's row: `FIND_PROVISIONAL` in Python."""
    if not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT:
        return False
    return not _is_final(row) or row.get("cost") is None


def _is_pending(row: CallRecord) -> bool:
    """Returns whether the response in a call's row has not ended, and the gateway may poll its status."""
    is_unfinished = row.get("response_id") and row.get("response_status") in UNFINISHED_STATUSES
    return bool(is_unfinished and row.get("pollable") and not _states_usage(row))


def _is_stored_completion(row: CallRecord) -> bool:
    """Returns whether the row is of a call that has read a stored chat completion and states the completion's usage.

    Such a row counts that usage only if it replaces an estimate.
    """
    return (
        _has_exact_usage(row)
        and bool(row.get("response_id"))
        and str(row.get("route", "")).startswith(STORED_COMPLETION)
    )


def _with_its_share(row: CallRecord, owners: dict[str, str]) -> CallRecord:
    """Returns the row with its token counts and cost set to nothing if another row counts the usage of the same
    response.

    Upstream's usage object stays in the column `usage`. Otherwise the row is returned as it is.
    """
    owner = owners.get(row.get("response_id") or "")
    if owner == _id(row) or (owner is not None and _is_creation(row) and owner < _id(row)):
        return row
    if _states_usage(row) or (_has_exact_usage(row) and str(row.get("route")).startswith(STORED_COMPLETION)):
        return {**row, **NO_COUNTS, "cost": "0", "cost_kind": CostKind.EXACT, "price": COUNTED_BEFORE}
    if owner is not None and _is_provisional(row):
        counted_later: CallRecord = {"cost": "0", "cost_kind": CostKind.EXACT, "price": COUNTED_LATER}
        return {**row, **NO_COUNTS, "usage_source": UsageSource.UNKNOWN, **counted_later}
    return row
