"""Enforces the limits of keys: admits or refuses a call, and settles it when it ends.

Where `REDIS_URL` is set, Redis counts, for all processes together. Each process counts its own calls as well, and goes
on with this count alone while Redis is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.conf import settings

from proxyapi.exceptions import RateLimited
from proxyapi.keys.keyring import Caller
from proxyapi.limits import limit_headers
from proxyapi.limits.counting import WINDOW_SECONDS, CountersUnavailable, LimitState, ProcessCounters, Verdict, Window

logger = logging.getLogger(__name__)

if TYPE_CHECKING:  # Redis' client takes a worker 5 MB: see `Limiter.start`
    from proxyapi.limits.counting_in_redis import SharedCounters
    from proxyapi.limits.redis_link import RedisLink

RENEW_SECONDS = 1.0
STOP_SECONDS = 2.0


class Ticket:
    """The slot and the counts of one call of a limited key, from its admission to its end."""

    def __init__(self, limiter: Limiter, caller: Caller, lease: str) -> None:
        self.caller = caller
        self.lease = lease
        self.limit_states: dict[Window, LimitState] = {}
        self._limiter = limiter
        self._ended = False
        self._settling: asyncio.Task[None] | None = None

    def settle(self, tokens: int = 0) -> None:
        """Frees the call's slot and counts its tokens. Only the first call of this method has an effect."""
        if self._ended:
            return
        self._ended = True
        counted = self.limit_states.get("tokens")
        if counted is not None and tokens:
            remaining = max(0, counted.remaining - tokens)
            self.limit_states["tokens"] = LimitState(counted.limit, remaining, counted.reset or WINDOW_SECONDS)
        if self.caller.parallel_calls is not None or (tokens and self.caller.tokens_per_minute is not None):
            self._settling = self._limiter.settle(self, tokens)

    async def settled(self) -> None:
        """Waits until the end of the call has been counted: its tokens added, its slot released."""
        if self._settling is not None:
            await asyncio.wait({self._settling})

    def refuse(self) -> None:
        """Marks a call as refused, so that no slot is freed and no tokens are counted for the call later."""
        self._ended = True


class Limiter:
    """The limits of keys in one worker. `start` runs on the worker's event loop."""

    def __init__(self) -> None:
        self._process = ProcessCounters()
        self._link: RedisLink | None = None
        self._shared: SharedCounters | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settlements: dict[str, set[asyncio.Task[None]]] = {}  # under way, by the key's name

    async def start(self) -> None:
        """Connects to Redis, if `REDIS_URL` is set. Returns when Redis has answered, or has failed to in time."""
        if settings.REDIS_URL:
            # Imported here: Redis' client takes a worker 5 MB, which gateways without Redis need not spend.
            from proxyapi.limits.counting_in_redis import SharedCounters
            from proxyapi.limits.redis_link import RedisLink

            self._link = RedisLink(settings.REDIS_URL)
            self._shared = SharedCounters(self._link.client, self._process.slots)
            await self._link.probe(self._shared.renew)
            self._keeper = asyncio.create_task(self._keep(self._link, self._shared))

    async def stop(self) -> None:
        """Tells Redis of the calls that have ended, for `STOP_SECONDS` at most, and closes the connection."""
        if pending := set[asyncio.Task[None]]().union(*self._settlements.values()):
            await asyncio.wait(pending, timeout=STOP_SECONDS)
        if self._keeper is not None and self._link is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            await self._link.client.stop()

    @property
    def degraded(self) -> bool:
        """True while counts should be shared through Redis and are not."""
        return self._link is not None and self._link.away_since is not None

    @property
    def away_seconds(self) -> float | None:
        """The seconds for which Redis has been unavailable; 0 while it answers, None without `REDIS_URL`."""
        if self._link is None:
            return None
        since = self._link.away_since
        return 0.0 if since is None else (datetime.now(UTC) - since).total_seconds()

    @property
    def state(self) -> str:
        """How limits are counted, in words: `shared`, `per process` (no `REDIS_URL`) or `per process since …`."""
        if self._link is None:
            return "per process"
        if self._link.away_since is None:
            return "shared"
        return f"per process since {self._link.away_since:%Y-%m-%dT%H:%M:%SZ}"

    async def admit(self, caller: Caller, request_id: str, place: ExitStack) -> Ticket:
        """Counts a call of a limited key and returns its ticket, which is settled, at the latest, when `place` closes.

        Raises:
            RateLimited: a limit refuses the call, which is then not counted.
        """
        ticket = Ticket(self, caller, request_id)
        place.callback(ticket.settle)  # now: the caller may leave while Redis is asked
        await self._wait_for_settlements(caller)
        verdict = await self._count_call(caller, ticket.lease)
        ticket.limit_states = verdict.limit_states
        if verdict.refused_by:
            ticket.refuse()
            raise _refusal(caller, verdict)
        return ticket

    async def pace(self, name: str, seconds: int) -> float:
        """Allows one event in so many seconds: returns 0 and counts it, or the seconds until the next is allowed."""
        if self._link is not None and self._shared is not None:
            shared = self._shared
            with suppress(CountersUnavailable):
                return await self._link.ask(lambda: shared.pace(name, seconds))
        return await self._process.pace(name, seconds)

    def settle(self, ticket: Ticket, tokens: int) -> asyncio.Task[None] | None:
        """Frees the ticket's slot and counts the call's tokens. Returns the task that tells Redis, if there is one."""
        if self._link is None:
            self._process.settle_now(ticket.caller, ticket.lease, tokens)
            return None
        task = asyncio.create_task(self._settle(ticket, tokens))
        pending = self._settlements.setdefault(ticket.caller.name, set())
        pending.add(task)
        task.add_done_callback(pending.discard)
        return task

    async def _count_call(self, caller: Caller, lease: str) -> Verdict:
        """Counts a call in Redis or, while Redis is unavailable, in this process."""
        if self._link is None or self._shared is None:
            return await self._process.count_call(caller, lease)
        shared = self._shared
        try:
            verdict = await self._link.ask(lambda: shared.count_call(caller, lease))
        except CountersUnavailable:
            verdict = await self._process.count_call(caller, lease)
            if verdict.refused_by:
                shared.mark_released(caller, lease)  # Redis may have given the slot before it failed
        else:
            if not verdict.refused_by:
                await self._process.record_admitted_elsewhere(caller, lease)
        return verdict

    async def _wait_for_settlements(self, caller: Caller) -> None:
        """Waits for pending settlements of this key.

        A caller that has just received an answer must not be refused because of the slot that this call held.
        """
        if pending := self._settlements.get(caller.name):
            await asyncio.wait(set(pending))

    async def _settle(self, ticket: Ticket, tokens: int) -> None:
        """Settles a call in this process and in Redis."""
        caller, lease = ticket.caller, ticket.lease
        await self._process.settle(caller, lease, tokens)
        if self._link is not None and self._shared is not None:
            shared = self._shared
            shared.mark_released(caller, lease)
            with suppress(CountersUnavailable):
                await self._link.ask(lambda: shared.settle(caller, lease, tokens))

    async def _keep(self, link: RedisLink, shared: SharedCounters) -> None:
        """Renews the leases of this process every `RENEW_SECONDS`, until it is cancelled."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                shared.forget_ended()
                if link.rested:
                    await link.probe(shared.renew)
            except Exception:  # the border: if this task ended, a Redis that is back would stay unnoticed
                logger.exception("the shared limits could not be renewed")


def _refusal(caller: Caller, verdict: Verdict) -> RateLimited:
    """Returns the error for a refused call: the limit, the seconds to wait and the headers with all limits."""
    match verdict.refused_by:
        case "requests" | "tokens" as window:
            state = verdict.limit_states[window]
            words, wait = f"{state.limit} {window} per minute", state.reset
        case _:
            words, wait = f"{caller.parallel_calls} calls at once", 1.0
    # The official SDK obeys Retry-After up to one minute.
    seconds = min(max(1, math.ceil(wait)), WINDOW_SECONDS)
    error = RateLimited(f"Rate limit of this key reached: {words}. Try again in {seconds} s.", retry_after=seconds)
    error.headers.update(limit_headers.headers(verdict.limit_states))
    return error


limiter = Limiter()
