"""Counts the usage of a stored response once, although many rows may state it.

One row owns a response's usage (`CountedResponse`): the first that states it exactly and, as long as there is none, the
first that estimates it. Once a row states it exactly, that row becomes the owner, and the estimate is taken out of its
own row and of the sums. Rows that are no owners cost nothing. The result is the same in whatever order, in however many
batches and by whichever processes the rows are written; but of a stored chat completion, a look takes out the estimate
only if that was written before it.

A call that makes a response is never counted in a row that is older than it: that row speaks of another response. Some
servers give all of theirs the same id.

A response that has not ended waits in `PendingResponse` until the gateway has looked at it. All of this is kept in the
transaction that writes the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, transaction
from django.db.models import QuerySet

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import COUNTS, CallRecord, Counts, Price
from usage.database.clock import database_now
from usage.models import CountedResponse, Hold, PendingResponse, UsageSource

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
LEASE = timedelta(seconds=60)  # one process asks; another may when this has passed
GIVE_UP_AFTER = timedelta(days=30)  # upstream keeps a response no longer

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
    """The rows as they are to be written, and which rows in the table have estimates that these replace.

    `replaced` maps the id of each of the latter to the id of the row that states the same usage exactly.
    """

    rows: list[CallRecord]
    replaced: dict[str, str]


def settle_responses(rows: Iterable[CallRecord]) -> Settled:
    """Decides which rows own the usage of their responses, and takes it out of the others. Call it in a transaction."""
    every = list(rows)
    own = [row for row in every if not _has_all_usage(row)]
    if not own:
        return Settled(every, {})
    exact = _ids_by_response(filter(_states_usage, own))
    owners = _claim(_ids_by_response(filter(_is_estimate, own)) | exact)
    others = {row["response_id"] for row in own if _is_provisional(row)} - owners.keys()
    owners |= _owners(others)
    _remember_pending([row for row in own if _is_pending(row) and owners.get(row["response_id"], _id(row)) == _id(row)])
    exact |= _ids_by_response(filter(_is_stored_completion, own))
    replaced = _replace_estimates(exact, owners, own) if exact else {}
    settled = {_id(row): _with_its_share(row, owners) for row in own}
    return Settled([settled.get(_id(row), row) for row in every], replaced)


def forget_pending(response: PendingResponse) -> None:
    """Deletes a pending response that will never state a usage, and its reservation of a budget."""
    with transaction.atomic():
        _settle_pending(PendingResponse.objects.filter(pk=response.pk))


def _ids_by_response(rows: Iterable[CallRecord]) -> dict[str, str]:
    """Returns the id of the oldest of these rows, by the id of its response."""
    found: dict[str, str] = {}
    for row in rows:
        found[row["response_id"]] = min(_id(row), found.get(row["response_id"], _id(row)))
    return found


def _claim(stated: dict[str, str]) -> dict[str, str]:
    """Claims the usage of responses for rows; returns the owner of each: the row given here, or an earlier one."""
    if not stated:
        return {}
    # The insertion waits for a claim of another transaction that has not ended: of two rows, one sees the other.
    claims = [CountedResponse(response_id=key, request_id=value) for key, value in sorted(stated.items())]
    CountedResponse.objects.bulk_create(claims, ignore_conflicts=True)
    return _owners(stated)


def _owners(response_ids: Iterable[str]) -> dict[str, str]:
    """Returns the id of the row that owns the usage of each of these responses, if any does."""
    ids = list(response_ids)
    if not ids:
        return {}
    owners = CountedResponse.objects.filter(pk__in=ids).values_list("response_id", "request_id")
    return {response_id: str(request_id) for response_id, request_id in owners}


def _replace_estimates(exact: dict[str, str], owners: dict[str, str], rows: Sequence[CallRecord]) -> dict[str, str]:
    """Makes the rows in `exact` owners instead of rows in the table that estimate; returns those. Updates `owners`.

    A call that has made a response and owns its usage from the start has nothing to replace, and costs no query.
    """
    _settle_pending(PendingResponse.objects.filter(pk__in=list(exact)))
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


def _settle_pending(pending: QuerySet[PendingResponse]) -> None:
    """Deletes pending responses and their reservations of budgets."""
    Hold.objects.filter(pk__in=pending.values("request_id")).delete()
    pending.delete()


def _remember_pending(rows: Sequence[CallRecord]) -> None:
    """Writes down the responses that have not ended, so that the gateway asks for them."""
    # In one order: two hosts that insert the same responses in different ones would wait for each other.
    pending = [
        PendingResponse(response_id=row["response_id"], key_name=row["key_name"], request_id=row["request_id"])
        for row in sorted(rows, key=lambda row: str(row["response_id"]))
    ]
    PendingResponse.objects.bulk_create(pending, ignore_conflicts=True)


def _id(row: CallRecord) -> str:
    """Returns the request id of a row as text."""
    return str(row["request_id"])


def _is_creation(row: CallRecord) -> bool:
    """Returns whether the call has made its response. A look at another call's response has an id in its route."""
    return "{id}" not in str(row.get("route")) and not row.get("by_gateway")


def _has_all_usage(row: CallRecord) -> bool:
    """Returns whether no other row can state the usage of this row's call. So it is with most chats, cheaply found."""
    if str(row.get("route")).startswith(RETRIEVABLE):
        return False
    return not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT


def _is_of_response(row: CallRecord) -> bool:
    """Returns whether the call has made or read a response."""
    return bool(row.get("response_id")) and str(row.get("route", "")).startswith(ROUTES)


def _is_final(row: CallRecord) -> bool:
    """Returns whether the row's usage is no estimate."""
    return row.get("usage_source") != UsageSource.ESTIMATED


def _states_usage(row: CallRecord) -> bool:
    """Returns whether the row states the exact usage of a response."""
    return _has_exact_usage(row) and _is_of_response(row)


def _has_exact_usage(row: CallRecord) -> bool:
    """Returns whether upstream has stated the usage. Of an object too long to be kept, only the counts are there."""
    is_counted = row.get("usage_source") == UsageSource.EXACT and row.get("response_status") not in UNFINISHED_STATUSES
    return _is_final(row) and (row.get("usage") is not None or is_counted)


def _is_estimate(row: CallRecord) -> bool:
    """Returns whether the row estimates the usage of a response."""
    return _is_of_response(row) and not _is_final(row)


def _is_provisional(row: CallRecord) -> bool:
    """Returns whether an exact statement may replace the row's usage: `FIND_PROVISIONAL` in Python."""
    if not row.get("response_id") or row.get("usage_source") == UsageSource.EXACT:
        return False
    return not _is_final(row) or row.get("cost") is None


def _is_pending(row: CallRecord) -> bool:
    """Returns whether the row's response has not ended, and the gateway may ask for it."""
    is_unfinished = row.get("response_id") and row.get("response_status") in UNFINISHED_STATUSES
    return bool(is_unfinished and row.get("pollable") and not _states_usage(row))


def _is_stored_completion(row: CallRecord) -> bool:
    """Returns whether the row is a look at a stored completion. It owns usage only if it replaces an estimate."""
    return (
        _has_exact_usage(row)
        and bool(row.get("response_id"))
        and str(row.get("route", "")).startswith(STORED_COMPLETION)
    )


def _with_its_share(row: CallRecord, owners: dict[str, str]) -> CallRecord:
    """Returns the row without counts and cost if another row owns them. Upstream's words stay in `usage`."""
    owner = owners.get(row.get("response_id") or "")
    if owner == _id(row) or (owner is not None and _is_creation(row) and owner < _id(row)):
        return row
    if _states_usage(row) or (_has_exact_usage(row) and str(row.get("route")).startswith(STORED_COMPLETION)):
        return {**row, **NO_COUNTS, "cost": "0", "price": COUNTED_BEFORE}
    if owner is not None and _is_provisional(row):
        return {**row, **NO_COUNTS, "usage_source": UsageSource.UNKNOWN, "cost": "0", "price": COUNTED_LATER}
    return row


def lease_pending(limit: int) -> list[PendingResponse]:
    """Leases responses whose status is due to be asked; no other process gets them until the lease has passed."""
    now = database_now()
    with transaction.atomic():
        PendingResponse.objects.filter(created_at__lt=now - GIVE_UP_AFTER).delete()
        due = PendingResponse.objects.filter(ask_at__lte=now).order_by("ask_at").select_for_update(skip_locked=True)
        responses = list(due[:limit])
        PendingResponse.objects.filter(pk__in=[response.pk for response in responses]).update(ask_at=now + LEASE)
    return responses


def postpone(response: PendingResponse) -> None:
    """Sets when to ask again for a response that has not ended: after half of its age, in at most a minute."""
    now = database_now()
    ask_at = now + min(LEASE, (now - response.created_at) / 2)
    PendingResponse.objects.filter(pk=response.pk).update(ask_at=ask_at)  # none, if it was settled meanwhile
