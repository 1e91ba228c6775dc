"""Owns what is special about stored responses: their usage is repeated by every look at them, and counts once.

The first row in the tables that states a response's usage owns it (`CountedResponse`); every later
one costs nothing. A background response that nobody has fetched yet waits in `PendingResponse`,
to be asked for by us. Both are kept in the transaction that writes the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from usage.clock import database_now
from usage.models import CountedResponse, Hold, PendingResponse
from usage.tokens import COUNTS

ROUTES = ("/openai2", "/v1/responses")
STORED_COMPLETION = "/v1/chat/completions/"  # and its id: its usage was counted when it was made
COUNTED_BEFORE = {"source": "counted before"}  # the price of a look at what another row owns
UNFINISHED = {"queued", "in_progress"}
LEASE = timedelta(seconds=60)  # one process asks; another may when this has passed
GIVE_UP_AFTER = timedelta(days=30)  # upstream keeps a response no longer

Row = dict[str, Any]


def settle_responses(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows, with the usage of a response that another row owns taken out. Call it in a transaction."""
    own = [dict(row) for row in rows]
    owners = _claim({row["response_id"]: row["request_id"] for row in reversed(own) if _states_usage(row)})
    _remember_pending([row for row in own if row.get("response_status") in UNFINISHED and row.get("pollable")])
    return [_without_usage(row) if _is_repeated(row, owners) else row for row in own]


def _claim(stated: dict[str, str]) -> dict[str, str]:
    """Whose row owns each response's usage: who was there first, or the one given here."""
    if not stated:
        return {}
    claims = [CountedResponse(response_id=key, request_id=value) for key, value in sorted(stated.items())]
    CountedResponse.objects.bulk_create(claims, ignore_conflicts=True)
    _settle_pending(PendingResponse.objects.filter(pk__in=stated))
    owners = CountedResponse.objects.filter(pk__in=stated).values_list("response_id", "request_id")
    return {response_id: str(request_id) for response_id, request_id in owners}


def forget_pending(response: PendingResponse) -> None:
    """It will never state a usage."""
    with transaction.atomic():
        _settle_pending(PendingResponse.objects.filter(pk=response.pk))


def _settle_pending(pending: QuerySet[PendingResponse]) -> None:
    """What was held for them goes with them."""
    Hold.objects.filter(pk__in=pending.values("request_id")).delete()
    pending.delete()


def _remember_pending(rows: Sequence[Row]) -> None:
    ids = {row["response_id"] for row in rows}
    counted = set(CountedResponse.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    pending = [
        PendingResponse(response_id=row["response_id"], key_name=row["key_name"], request_id=row["request_id"])
        for row in rows
        if row["response_id"] not in counted
    ]
    PendingResponse.objects.bulk_create(pending, ignore_conflicts=True)


def _states_usage(row: Row) -> bool:
    return bool(row.get("usage") is not None and row.get("response_id") and row.get("route", "").startswith(ROUTES))


def _is_repeated(row: Row, owners: dict[str, str]) -> bool:
    if str(row.get("route", "")).startswith(STORED_COMPLETION):
        return row.get("usage") is not None
    return _states_usage(row) and owners[row["response_id"]] != str(row["request_id"])


def _without_usage(row: Row) -> Row:
    """What upstream said stays in `usage`; nothing of it is counted or paid again."""
    return {**row, **dict.fromkeys(COUNTS), "cost": "0", "price": COUNTED_BEFORE}


def lease_pending(limit: int) -> list[PendingResponse]:
    """Responses that it is time to ask for; no other process gets them until the lease has passed."""
    now = database_now()
    with transaction.atomic():
        PendingResponse.objects.filter(created_at__lt=now - GIVE_UP_AFTER).delete()
        due = PendingResponse.objects.filter(ask_at__lte=now).order_by("ask_at").select_for_update(skip_locked=True)
        responses = list(due[:limit])
        PendingResponse.objects.filter(pk__in=[response.pk for response in responses]).update(ask_at=now + LEASE)
    return responses


def postpone(response: PendingResponse) -> None:
    """Not yet: ask again when it is half as old again, in at most a minute."""
    now = database_now()
    response.ask_at = now + min(LEASE, (now - response.created_at) / 2)
    response.save(update_fields=["ask_at"])
