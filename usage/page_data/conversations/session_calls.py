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
    """A call of a session, with the milliseconds since the end of the call before.

    `cost_so_far` is the cost of the calls of its page up to this one.
    """

    call: Request
    pause_ms: float | None
    cost_so_far: Decimal


@dataclass(frozen=True)
class SessionCalls:
    """A page of the calls of a session or of an end user, oldest first.

    If `after` is set, there are later calls, with higher request ids. `cost` and `tokens` are those of this page.
    """

    calls: list[SessionCall]
    after: UUID | None
    tokens: int
    cost: Decimal


def calls_in_order(column: str, value: str, after: UUID | None = None) -> SessionCalls:
    """Returns the first `MAX_CALLS` calls with a value in a column of `COLUMNS`, or those after the call `after`."""
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
