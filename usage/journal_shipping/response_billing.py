"""Counts the usage of a stored response once, although many rows may state it.

For each response, one row is billed (`CountedResponse` names it): the first row that states the usage exactly or, as
long as there is none, the first row that estimates it. When a row states the usage exactly, the estimate is removed
from the older row and from the sums. All other rows of the response cost nothing. The result does not depend on the
order, the batches or the processes in which the rows are written. There is one exception: a row of a call that has read
a stored chat completion replaces an estimate only if the estimate was written before.

If the billed row is of a call that has only read the response, it gets the team, owner and labels of the call that
created it, for whose purpose the dollars were spent (unless that call's row is written later).

Some servers give all their responses the same id. So two calls that have each created a response are both billed, and
a row that is older than the call that created a response is never billed for it, since it is about another one.

A response that has not ended has a row in `PendingResponse` until the gateway has learnt its usage by polling
(`usage.journal_shipping.background_responses`). All of this is written in the transaction that writes the rows of the
calls.

Over 300 lines, since each of these rules depends on the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import orjson
from django.db import connection

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import COUNTS, CallRecord, Counts, Price
from usage.journal_shipping.background_responses import remember_pending, settle_pending
from usage.journal_shipping.maker_labels import with_labels_of
from usage.models import CostKind, CountedResponse, PendingResponse, Request, UsageSource
from usage.money.unbilled import NOT_COUNTED

ROUTES = ("/openai2", "/v1/responses")
# The route of a stored chat completion, before its id. Its usage was counted in the call that created it.
STORED_COMPLETION = "/v1/chat/completions/"
RETRIEVABLE = (*ROUTES, STORED_COMPLETION)
# Stored as the price of a call that states a response's usage, when another row counts that usage already.
COUNTED_BEFORE: Price = {"source": "counted before"}
# Stored as the price of a call that ended before its response's usage was known: a later row counts that usage.
COUNTED_LATER: Price = {"source": "counted later"}
NO_COUNTS: Counts = {}
for _name in COUNTS:
    NO_COUNTS[_name] = None

# Finds the rows whose usage is replaced once another row states it exactly: rows with an estimate, and rows without a
# cost because their usage is unknown. FOR UPDATE locks them, because two exact rows may be written at the same time:
# the second must not find the estimate that the first replaces.
FIND_PROVISIONAL = f"""
    SELECT response_id, request_id::text, by_gateway OR strpos(route, '{{id}}') > 0,
           team, owner, end_user, session, tags
    FROM usage_request
    WHERE response_id = ANY(%s) AND response_id <> '' AND request_id <> ALL(%s::uuid[])
        AND usage_source <> '{UsageSource.EXACT}'
        AND (usage_source = '{UsageSource.ESTIMATED}' OR cost IS NULL OR price->>'source' = '{NOT_COUNTED}')
    ORDER BY request_id FOR UPDATE
"""
# In the same order in all processes, so that none of two has what the other one waits for.
CLAIM = """
    INSERT INTO usage_countedresponse (response_id, request_id)
    SELECT key, value::uuid FROM jsonb_each_text(%s::jsonb) ORDER BY key COLLATE "C" ON CONFLICT DO NOTHING
"""
TAKE_OVER = """
    INSERT INTO usage_countedresponse (response_id, request_id) VALUES (%s, %s::uuid)
    ON CONFLICT (response_id) DO UPDATE SET request_id = EXCLUDED.request_id
    WHERE usage_countedresponse.request_id = ANY(%s::uuid[])
"""


class Settled(NamedTuple):
    """The result of `settle_responses`: rows to write, and older rows whose estimates must be removed.

    `replaced` maps the request id of each older row to the request id of the new row with the exact usage.
    """

    rows: list[CallRecord]
    replaced: dict[str, str]


def settle_responses(rows: Iterable[CallRecord]) -> Settled:
    """Decides which row is billed for each response, so that usage that is in the rows of several calls is billed once.

    Returns the rows to write (rows that are not billed have $0 and no counts), and the older rows whose estimates must
    be removed. Also begins or ends the polling of responses. Call this in the transaction that writes the rows.
    """
    # Several calls may have created or read the same response.
    every = list(rows)
    own = [row for row in every if not _has_unshared_usage(row)]
    if not own:
        return Settled(every, {})
    exact = _ids_by_response(filter(_states_usage, own))
    ended = exact | _ids_by_response(filter(_is_stored_completion, own))
    if ended:  # before anything else of these responses is locked (`usage.journal_shipping.background_responses`)
        settle_pending(PendingResponse.objects.filter(pk__in=list(ended)))
    owners = _claim(_ids_by_response(filter(_is_estimate, own)) | exact)
    others = {row["response_id"] for row in own if _is_provisional(row)} - owners.keys()
    owners |= _owners(others)
    remember_pending(
        [
            row
            for row in own
            if _is_pending(row)
            and row["response_id"] not in ended
            and owners.get(row["response_id"], _id(row)) == _id(row)
        ]
    )
    makers = {row["response_id"]: row for row in own if _is_creation(row) and _is_provisional(row)}
    replaced = _replace_estimates(ended, owners, own, makers) if ended else {}
    others_made = _billed_for_their_own(own, owners)
    settled = {_id(row): _with_its_share(row, owners, others_made) for row in own}
    for response_id in makers.keys() & owners.keys():
        billed = settled.get(owners[response_id])
        if billed is not None and not _is_creation(billed):
            settled[owners[response_id]] = with_labels_of(makers[response_id], billed)
    return Settled([settled.get(_id(row), row) for row in every], replaced)


def _ids_by_response(rows: Iterable[CallRecord]) -> dict[str, str]:
    """Returns a map from each response's id to the request id of the oldest of the given rows with this response."""
    found: dict[str, str] = {}
    for row in rows:
        found[row["response_id"]] = min(_id(row), found.get(row["response_id"], _id(row)))
    return found


def _claim(stated: dict[str, str]) -> dict[str, str]:
    """Stores for each response which row is billed for it, unless the table `CountedResponse` names one already.

    `stated` maps the ids of responses to the request ids of the rows to store. Returns such a map of the rows that the
    table names for these responses afterwards.
    """
    if not stated:
        return {}
    # If another transaction is inserting the same response, this insertion waits for its end. So of two processes that
    # write rows for one response, the second finds the row of the first.
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, [orjson.dumps(stated).decode()])
        return dict(stated) if cursor.rowcount == len(stated) else _owners(stated)


def _owners(response_ids: Iterable[str]) -> dict[str, str]:
    """Reads from the table `CountedResponse` which row is billed for each of the given responses.

    Returns a map from response ids to request ids. Responses for which no row is billed yet are absent.
    """
    ids = list(response_ids)
    if not ids:
        return {}
    owners = CountedResponse.objects.filter(pk__in=ids).values_list("response_id", "request_id")
    return {response_id: str(request_id) for response_id, request_id in owners}


def _replace_estimates(
    exact: dict[str, str], owners: dict[str, str], rows: Sequence[CallRecord], makers: dict[str, CallRecord]
) -> dict[str, str]:
    """Bills the new rows with exact usage, instead of the older rows that bill the same responses by estimates.

    Returns a map from the request ids of the older rows to those of the new ones; the caller must remove the estimates
    from the older rows. Stores the new rows in the table `CountedResponse`, and in `owners`.

    `exact` maps response ids to the request ids of rows with exact usage, and `owners` to those of billed rows. The
    labels of older rows that created a response are added to `makers`, by response id.
    """
    read_again = {row["response_id"] for row in rows if row.get("response_id") in exact and not _is_creation(row)}
    wanted = {key: value for key, value in exact.items() if key in read_again or owners.get(key) != value}
    # Each row with exact usage has created its response, and is billed for it already: no query is needed.
    if not wanted:
        return {}
    creations = {_id(row) for row in rows if _is_creation(row)}
    provisional: dict[str, list[str]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(FIND_PROVISIONAL, [list(wanted), list(wanted.values())])
        for response_id, request_id, is_read, team, owner, end_user, session, tags in cursor.fetchall():
            if not is_read:
                labels: CallRecord = {"team": team, "owner": owner, "end_user": end_user, "session": session}
                makers.setdefault(response_id, {**labels, "tags": tags})
            # Two calls that each create a response have two responses, even if upstream gave both the same id.
            if is_read or wanted[response_id] not in creations:
                provisional[response_id].append(request_id)
        for response_id, ids in sorted(provisional.items()):
            cursor.execute(TAKE_OVER, [response_id, wanted[response_id], ids])
    owners |= _owners(wanted)
    return {one: owners[key] for key, ids in provisional.items() for one in ids if one < owners[key]}


def _id(row: CallRecord) -> str:
    """Returns the request id of a call's row as text."""
    return str(row["request_id"])


def _is_creation(row: CallRecord) -> bool:
    """Returns whether a row is of a call that has created the row's response, and not of one that has read a response.

    Reading calls have a route with `{id}`, or are polls of the gateway (`by_gateway`).
    """
    return "{id}" not in str(row.get("route")) and not row.get("by_gateway")


def _has_unshared_usage(row: CallRecord) -> bool:
    """Returns whether the usage in a call's row can be in no other row, and so needs no check against double billing.

    True for a new chat completion with exact usage, for example; false for calls of the Responses API.
    """
    # This check is quick, and spares most chats the comparison.
    if str(row.get("route")).startswith(RETRIEVABLE):
        return False
    return not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT


def _is_of_response(row: CallRecord) -> bool:
    """Returns whether a row names a response of the Responses API which its call has created, read or cancelled."""
    return bool(row.get("response_id")) and str(row.get("route", "")).startswith(ROUTES)


def _is_final(row: CallRecord) -> bool:
    """Returns whether the usage in a row is not an estimate: upstream has stated it, or it is unknown."""
    return row.get("usage_source") != UsageSource.ESTIMATED


def _states_usage(row: CallRecord) -> bool:
    """Returns whether a row has the final usage of a response of the Responses API.

    The usage is final if upstream has stated it, if the response has failed (it then costs nothing), or if the response
    was cancelled and the gateway has estimated it after a poll.
    """
    return (_has_exact_usage(row) or _has_ended_without_usage(row)) and _is_of_response(row)


def _has_ended_without_usage(row: CallRecord) -> bool:
    """Returns whether a row's response has ended, and upstream will never state the usage.

    True for the row of a failed response, and for the row of the poll that found a response cancelled.
    """
    if row.get("usage") is not None:
        return False
    status = row.get("response_status")
    # A failed response is not billed. A cancelled one may be: the gateway polls it and estimates its usage.
    return status == "failed" or (status == "cancelled" and row.get("usage_source") == UsageSource.ESTIMATED
                                  and row.get("by_gateway") is True)  # fmt: skip


def _has_exact_usage(row: CallRecord) -> bool:
    """Returns whether a row has exact usage, that is usage stated by upstream."""
    # An answer that was too long to be parsed has upstream's token counts, but no usage object.
    is_counted = row.get("usage_source") == UsageSource.EXACT and row.get("response_status") not in UNFINISHED_STATUSES
    return _is_final(row) and (row.get("usage") is not None or is_counted)


def _is_estimate(row: CallRecord) -> bool:
    """Returns whether a row has estimated usage of a response, which another row with exact usage may still replace.

    False for the row of the poll that found a response cancelled: upstream will never state its usage.
    """
    return _is_of_response(row) and not _is_final(row) and not _has_ended_without_usage(row)


def _is_provisional(row: CallRecord) -> bool:
    """Returns whether a row's cost will be replaced once another row has the exact usage of the same response.

    True if the usage is estimated, or the cost is missing or marked as not counted. `FIND_PROVISIONAL` is the same
    condition in SQL.
    """
    if not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT:
        return False
    price = row.get("price") or {}
    return not _is_final(row) or row.get("cost") is None or price.get("source") == NOT_COUNTED


def _is_pending(row: CallRecord) -> bool:
    """Returns whether the response of a call is unfinished, and may be polled by the gateway."""
    is_unfinished = row.get("response_id") and row.get("response_status") in UNFINISHED_STATUSES
    return bool(is_unfinished and row.get("pollable") and not _states_usage(row))


def _is_stored_completion(row: CallRecord) -> bool:
    """Returns whether a row is of a call that has read a stored chat completion, and states its usage exactly."""
    # The call that created the completion is billed; if that row has an estimate, the reading call's is.
    return (
        _has_exact_usage(row)
        and bool(row.get("response_id"))
        and str(row.get("route", "")).startswith(STORED_COMPLETION)
    )


def _billed_for_their_own(rows: Sequence[CallRecord], owners: dict[str, str]) -> set[str]:
    """Returns the request ids of billed rows whose calls have created a response with the id of another one.

    Only those are returned that began later than a call in `rows` that has also created a response with this id; the
    later call may have ended first. `owners` maps the ids of responses to the request ids of the billed rows.
    """
    created = {_id(row): row["response_id"] for row in rows if _is_creation(row) and row.get("response_id")}
    later = {owner for one, response_id in created.items() if (owner := owners.get(response_id, "")) > one}
    stored = later - created.keys()  # nearly always none
    if not stored:
        return later
    found = Request.objects.filter(pk__in=stored, by_gateway=False).exclude(route__contains="{id}")
    return (later - stored) | {str(request_id) for request_id in found.values_list("pk", flat=True)}


def _with_its_share(row: CallRecord, owners: dict[str, str], others_made: Collection[str]) -> CallRecord:
    """Returns a call's row as it is written: with $0 and without counts, if another row is billed for its response.

    `owners` maps the ids of responses to the request ids of the billed rows. The column `usage` stays in any case. A
    row stays unchanged if its call created a response of its own that happens to have the same id as another one:
    the billed row is older, or in `others_made`.
    """
    owner = owners.get(row.get("response_id") or "")
    if owner == _id(row) or (owner and _is_creation(row) and (owner < _id(row) or owner in others_made)):
        return row
    if _states_usage(row) or (_has_exact_usage(row) and str(row.get("route")).startswith(STORED_COMPLETION)):
        return {**row, **NO_COUNTS, "cost": "0", "cost_kind": CostKind.EXACT, "price": COUNTED_BEFORE}
    if owner is not None and _is_provisional(row):
        counted_later: CallRecord = {"cost": "0", "cost_kind": CostKind.EXACT, "price": COUNTED_LATER}
        return {**row, **NO_COUNTS, "usage_source": UsageSource.UNKNOWN, **counted_later}
    return row
