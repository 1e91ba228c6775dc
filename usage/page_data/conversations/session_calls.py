"""Reads the calls of one session or one end user in the order in which they were made, with time and cost so far."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from usage.models import Request

MAX_CALLS = 200  # on one page
COLUMNS = {"session": "Session", "end_user": "End user"}


@dataclass(frozen=True)
class SessionCall:
    """A call of a session, with the pause before it and the cost of the session up to it.

    `pause_ms` is the time since the end of the call before, in milliseconds; None for the first call of a page.
    `cost_so_far` is the cost, in dollars, of the calls of the same page from the first one to this one.
    """

    call: Request
    pause_ms: float | None
    cost_so_far: Decimal


@dataclass(frozen=True)
class SessionCalls:
    """A page of the calls of a session or of an end user, oldest first.

    If there are later calls, `after` is the request id of the last call on this page, behind which the next page
    begins. `cost` and `tokens` are the sums of the calls on this page.
    """

    calls: list[SessionCall]
    after: UUID | None
    tokens: int
    cost: Decimal


def calls_in_order(column: str, value: str, after: UUID | None = None) -> SessionCalls:
    """Reads one page of a session's or end user's calls, oldest first: at most `MAX_CALLS` calls.

    Selects the calls that have `value` in `column`, one of `COLUMNS`; with `after`, only those with a higher request
    id.
    """
    # The index has no empty values. They are excluded here, too, so that PostgreSQL's planner sees that it can use it.
    rows = Request.objects.filter(**{column: value}).exclude(**{column: ""}).order_by("request_id")
    if after is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows[: MAX_CALLS + 1])
    calls: list[SessionCall] = []
    cost, tokens = Decimal(0), 0
    for number, call in enumerate(found[:MAX_CALLS]):
        before = found[number - 1] if number else None
        pause = call.started_at - _end_of(before) if before else None
        cost += call.cost or 0
        tokens += (call.input_tokens or 0) + (call.output_tokens or 0)
        calls.append(SessionCall(call, max(0.0, pause.total_seconds() * 1000) if pause else None, cost))
    return SessionCalls(calls, found[MAX_CALLS - 1].pk if len(found) > MAX_CALLS else None, tokens, cost)


def _end_of(call: Request) -> datetime:
    return call.started_at + timedelta(milliseconds=call.duration_ms)
