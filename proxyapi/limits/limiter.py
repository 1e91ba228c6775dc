"""Enforces the limits of keys and teams: admits or refuses a call, and settles it when it ends.

If `REDIS_URL` is set, Redis counts for all processes together. Each process counts its own calls as well, and uses only
this count while Redis is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.conf import settings

from proxyapi.exceptions import RateLimited
from proxyapi.keys.callers import Caller
from proxyapi.limits import limit_headers
from proxyapi.limits.limit_counters import (
    WINDOW_SECONDS,
    CountersUnavailable,
    LimitKind,
    LimitState,
    ProcessCounters,
    Verdict,
)
from usage.number_words import counted

logger = logging.getLogger(__name__)

if TYPE_CHECKING:  # Redis' client takes a worker 5 MB: see `Limiter.start`
    from proxyapi.limits.limit_counters_in_redis import SharedCounters
    from proxyapi.limits.redis_link import RedisLink

RENEW_SECONDS = 1.0
STOP_SECONDS = 2.0


class Ticket:
    """What one call takes from the limits of its key and team: slots (rights to run) and, when it ends, tokens.

    `lease` is the id of the slots in all counters. `limit_states` says how much is left of the limits per minute.
    """

    def __init__(self, limiter: Limiter, caller: Caller, lease: str) -> None:
        self.caller = caller
        self.lease = lease
        self.limit_states: dict[LimitKind, LimitState] = {}
        self._limiter = limiter
        self._ended = False
        self._settling: asyncio.Task[None] | None = None

    def settle(self, tokens: int = 0) -> None:
        """Frees the slots (rights to run) of an ended call, and counts its `tokens` against the limits per minute.

        Also lowers the tokens left in `limit_states`. Only the first use of this method for a call has an effect. With
        Redis, a task does the work; `wait_until_settled` waits for it.
        """
        # A call may be settled early, before its last byte leaves, and once more when everything that it has used is
        # closed.
        if self._ended:
            return
        self._ended = True
        counted = self.limit_states.get("tokens")
        if counted is not None and tokens:
            remaining = max(0, counted.remaining - tokens)
            self.limit_states["tokens"] = LimitState(counted.limit, remaining, counted.reset or WINDOW_SECONDS)
        if self.caller.takes_slots or (tokens and self.caller.counts_tokens):
            self._settling = self._limiter.settle(self, tokens)

    async def wait_until_settled(self) -> None:
        """Waits until `settle`, if called, has freed the call's slots (rights to run) and counted its tokens."""
        if self._settling is not None:
            await asyncio.wait({self._settling})

    def refuse(self) -> None:
        """Marks the call as refused by a limit: it holds no slots (rights to run), so a later `settle` does nothing."""
        self._ended = True


class Limiter:
    """Enforcer of the limits of all keys and teams in one worker: requests and tokens per minute, and parallel calls.

    `start` must run on the worker's event loop.
    """

    def __init__(self) -> None:
        self._process = ProcessCounters()
        self._link: RedisLink | None = None
        self._shared: SharedCounters | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settlements: dict[str, set[asyncio.Task[None]]] = {}  # not finished yet, by the spender's name

    async def start(self) -> None:
        """Connects to Redis, if `REDIS_URL` is set, and starts the task that renews this process's slots there.

        A slot is the right of one call to run. Returns as soon as Redis has answered, has failed, or was too slow.
        """
        if settings.REDIS_URL:
            # Imported here: Redis' client takes a worker 5 MB, which gateways without Redis need not spend.
            from proxyapi.limits.limit_counters_in_redis import SharedCounters
            from proxyapi.limits.redis_link import RedisLink

            self._link = RedisLink(settings.REDIS_URL)
            self._shared = SharedCounters(self._link.client, self._process.slots)
            await self._link.probe(self._shared.renew)
            self._keeper = asyncio.create_task(self._renew_leases(self._link, self._shared))

    async def stop(self) -> None:
        """Closes the connection to Redis, after telling Redis which calls have ended; waits at most `STOP_SECONDS`."""
        if pending := set[asyncio.Task[None]]().union(*self._settlements.values()):
            await asyncio.wait(pending, timeout=STOP_SECONDS)
        if self._keeper is not None and self._link is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            await self._link.client.stop()

    @property
    def degraded(self) -> bool:
        """True while Redis does not answer: each process then counts only its own calls."""
        return self._link is not None and self._link.away_since is not None

    @property
    def away_seconds(self) -> float | None:
        """The seconds for which Redis has not answered: 0 while it answers, None without `REDIS_URL`."""
        if self._link is None:
            return None
        since = self._link.away_since
        return 0.0 if since is None else (datetime.now(UTC) - since).total_seconds()

    @property
    def state(self) -> str:
        """Where limits are counted, as a text for status pages: `shared`, `per process` or `per process since …`.

        `shared` means Redis. The last text means that Redis has not answered since that time (UTC).
        """
        if self._link is None:
            return "per process"
        if self._link.away_since is None:
            return "shared"
        return f"per process since {self._link.away_since:%Y-%m-%dT%H:%M:%SZ}"

    async def admit(self, caller: Caller, request_id: str, at_end: Callable[[Callable[[], None]], None]) -> Ticket:
        """Counts a new call against the limits of its key and team; returns a ticket, which holds the call's slots.

        `at_end` is called at once with the ticket's method `settle`, and must run it when the call ends. With Redis,
        first waits until earlier calls of the key and the team are settled.

        Raises:
            RateLimited: one of the limits refuses the call, which then counts against none of them.
        """
        ticket = Ticket(self, caller, request_id)
        at_end(ticket.settle)  # at once, because the caller may leave while Redis is asked
        if self._settlements:  # only with Redis there are any
            await self._wait_for_settlements(caller)
        verdict = await self._count_call(caller, ticket.lease)
        ticket.limit_states = verdict.limit_states
        if verdict.refused_by:
            ticket.refuse()
            raise _refusal(verdict)
        return ticket

    async def pace(self, name: str, seconds: int) -> float:
        """Returns 0 if the event `name`, such as a request for a page, may happen now; else the seconds to wait.

        The event may happen once in `seconds` seconds; with Redis, in all processes together. If Redis cannot be
        reached, the event is counted in this process only. When 0 is returned, the event is counted.
        """
        if self._link is not None and self._shared is not None:
            shared = self._shared
            with suppress(CountersUnavailable):
                return await self._link.ask(lambda: shared.pace(name, seconds))
        return await self._process.pace(name, seconds)

    def settle(self, ticket: Ticket, tokens: int) -> asyncio.Task[None] | None:
        """Frees the slot of an ended call, and counts the tokens that the call has used.

        With Redis, returns the task that does this. Without Redis, does it at once, and returns None.
        """
        if self._link is None:
            self._process.settle_now(ticket.caller.limit_ceilings, ticket.lease, tokens)
            return None
        task = asyncio.create_task(self._settle(ticket, tokens))
        for one in ticket.caller.limit_ceilings:
            pending = self._settlements.setdefault(one.counted_as, set())
            pending.add(task)
            task.add_done_callback(pending.discard)
        return task

    async def _count_call(self, caller: Caller, lease: str) -> Verdict:
        """Counts a call against its limits, in Redis or, while Redis does not answer, in this process alone."""
        ceilings = caller.limit_ceilings
        if self._link is None or self._shared is None:
            return await self._process.count_call(ceilings, lease)
        shared = self._shared
        try:
            verdict = await self._link.ask(lambda: shared.count_call(ceilings, lease))
        except CountersUnavailable:
            verdict = await self._process.count_call(ceilings, lease)
            if verdict.refused_by:
                shared.mark_released(ceilings, lease)  # Redis may have taken the slot before it failed
        else:
            if not verdict.refused_by:
                await self._process.record_admitted_elsewhere(ceilings, lease)
        return verdict

    async def _wait_for_settlements(self, caller: Caller) -> None:
        """Waits until all ended calls of the caller's key and team are settled: slots freed, tokens counted."""
        # A caller that has just received an answer might otherwise be refused because of the answered call.
        for one in caller.limit_ceilings:
            if pending := self._settlements.get(one.counted_as):
                await asyncio.wait(set(pending))

    async def _settle(self, ticket: Ticket, tokens: int) -> None:
        """Counts the tokens of an ended call and frees its slots (rights to run), in this process and in Redis.

        If there is no Redis, or it does not answer, only this process counts; no error is raised.
        """
        ceilings, lease = ticket.caller.limit_ceilings, ticket.lease
        await self._process.settle(ceilings, lease, tokens)
        if self._link is not None and self._shared is not None:
            shared = self._shared
            shared.mark_released(ceilings, lease)
            with suppress(CountersUnavailable):
                await self._link.ask(lambda: shared.settle(ceilings, lease, tokens))

    async def _renew_leases(self, link: RedisLink, shared: SharedCounters) -> None:
        """Renews the slots of this process's running calls in Redis every `RENEW_SECONDS`, until cancelled.

        After a failure of Redis, waits `REST_SECONDS` and tries again, which also shows whether Redis is back.
        """
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                shared.forget_ended()
                if link.may_probe:
                    await link.probe(shared.renew)
            except Exception:  # the border: if this task ended, nobody would notice that Redis is back
                logger.exception("the shared limits could not be renewed")


def _refusal(verdict: Verdict) -> RateLimited:
    """Creates the 429 error for a call that a limit of its key, or of the key's team, refuses.

    The message says whose limit it is; `param` is `team` for a limit of the team. The headers state the limits and, in
    `Retry-After`, the seconds to wait (1 to 60).
    """
    refuser = verdict.refuser
    assert refuser is not None  # noqa: S101  (the verdict is a refusal)
    match verdict.refused_by:
        case "requests" | "tokens" as window:
            state = verdict.limit_states[window]
            words, wait = f"{state.limit} {window} per minute", state.reset
        case _:
            words, wait = f"{counted(refuser.parallel_calls or 0, 'call')} at once", 1.0
    # The official SDK obeys a Retry-After of up to one minute, and ignores longer ones.
    seconds = min(max(1, math.ceil(wait)), WINDOW_SECONDS)
    told = f"Rate limit of {refuser.words} reached: {words}. Try again in {seconds} s."
    error = RateLimited(told, retry_after=seconds, param=refuser.param)
    error.headers.update(limit_headers.headers(verdict.limit_states))
    return error


limiter = Limiter()
