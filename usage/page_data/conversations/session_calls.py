"""Reads the calls of one session or one end user in the order in which they were made.

`calls_in_order` reads their times and costs, `texts_of` what was said in them. Both take a fixed number of queries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db.models import F, Func, IntegerField

from usage.models import Request, RequestBody
from usage.page_data.conversations.new_turns import NewTurns, NewTurnsReader
from usage.page_data.conversations.reader import conversation_of

MAX_CALLS = 200  # on one page
MAX_BODY_BYTES = 4_194_304  # of the logged bodies that are read for one page; those of its first call are always read
READ_SECONDS = 0.8  # after this time no further call's bodies are read for a page
COLUMNS = {"session": "Session", "end_user": "End user"}


@dataclass(frozen=True)
class SessionCall:
    """A call on the page of a session, with the pause before the call and the page's cost up to this call.

    `pause_ms` is the time since the end of the previous call, in milliseconds; None for the first call of a page.
    `cost_so_far` is the cost, in dollars, of the page's calls from the first one to this one.
    """

    call: Request
    pause_ms: float | None
    cost_so_far: Decimal


@dataclass(frozen=True)
class SessionCalls:
    """A page of the calls of a session or of an end user, oldest first.

    `after` is the request id of the last call on this page; None if there is no later call. `cost` and `tokens` are the
    sums of the calls on this page.
    """

    calls: list[SessionCall]
    after: UUID | None
    tokens: int
    cost: Decimal


@dataclass(frozen=True)
class SessionTexts:
    """The new turns of each call of a page, by request id; calls without a logged conversation are left out.

    `read_to` is None if all calls were read. If reading stopped early, because of too much text or time, it is the
    request id of the last call that was read.
    """

    new_turns: Mapping[UUID, NewTurns] = field(default_factory=dict)
    read_to: UUID | None = None


def calls_in_order(column: str, value: str, after: UUID | None = None) -> SessionCalls:
    """Reads one page of a session's or end user's calls, oldest first: at most `MAX_CALLS` calls.

    `column` is one of `COLUMNS`, such as `session`, and `value` the name of the session or end user. With `after`, a
    request id, only later calls are read.
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


def texts_of(calls: Sequence[Request], *, is_start: bool) -> SessionTexts:
    """Reads the new turns of each call of a page: questions that no earlier call on the page had, and the answers.

    `is_start` says whether the first call is the first one of its session or end user. Reading stops when the bodies
    have more than `MAX_BODY_BYTES` together, when the page has no room for more texts, or after `READ_SECONDS`.
    """
    # The size of a text is known without reading the text.
    size = Func(F("request_body"), function="octet_length", output_field=IntegerField()) + Func(
        F("response_body"), function="octet_length", output_field=IntegerField()
    )
    sizes = dict(RequestBody.objects.filter(pk__in=[call.pk for call in calls]).values_list("pk", size))
    room, wanted = MAX_BODY_BYTES, 0
    while wanted < len(calls) and (not wanted or sizes.get(calls[wanted].pk, 0) <= room):
        room -= sizes.get(calls[wanted].pk, 0)
        wanted += 1
    bodies = RequestBody.objects.in_bulk([call.pk for call in calls[:wanted]])
    reader, deadline = NewTurnsReader(is_start=is_start), time.monotonic() + READ_SECONDS
    found: dict[UUID, NewTurns] = {}
    for number, call in enumerate(calls[:wanted]):
        if number and (reader.is_full or time.monotonic() >= deadline):
            return SessionTexts(found, calls[number - 1].pk)
        body = bodies.get(call.pk)  # it may not have been logged
        said = body and conversation_of(call.route, body.request_body, body.response_body, is_streamed=call.stream)
        if said:
            found[call.pk] = reader.read(said)
    return SessionTexts(found, calls[wanted - 1].pk if wanted < len(calls) else None)


def _end_of(call: Request) -> datetime:
    return call.started_at + timedelta(milliseconds=call.duration_ms)
