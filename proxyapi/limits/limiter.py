"""Owns the limits of keys: who may go on, and what is given back when a call ends.

Where `REDIS_URL` is set, Redis counts, for all processes together. Each process counts its own calls as well, and goes
on with that count alone while Redis is away.
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
from proxyapi.limits.counting import WINDOW_SECONDS, Away, ProcessCounters, Standing, Verdict, Window

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from proxyapi.limits.counting_in_redis import SharedCounters
    from proxyapi.limits.redis_link import RedisLink

RENEW_SECONDS = 1.0
STOP_SECONDS = 2.0


class Ticket:
    """What one call of a limited key holds, from its admission to its end."""

    def __init__(self, limiter: Limiter, caller: Caller, lease: str) -> None:
        self.caller = caller
        self.lease = lease
        self.standings: dict[Window, Standing] = {}
        self._limiter = limiter
        self._ended = False
        self._settling: asyncio.Task[None] | None = None

    def settle(self, tokens: int = 0) -> None:
        """The call has ended, and cost so many tokens. Only the first call of this method counts."""
        if self._ended:
            return
        self._ended = True
        counted = self.standings.get("tokens")
        if counted is not None and tokens:
            remaining = max(0, counted.remaining - tokens)
            self.standings["tokens"] = Standing(counted.limit, remaining, counted.reset or WINDOW_SECONDS)
        if self.caller.parallel_calls is not None or (tokens and self.caller.tokens_per_minute is not None):
            self._settling = self._limiter.settle(self, tokens)

    async def settled(self) -> None:
        """Waits until whoever counts knows of the end."""
        if self._settling is not None:
            await asyncio.wait({self._settling})

    def refuse(self) -> None:
        """The call was not let in, and holds nothing."""
        self._ended = True


class Limiter:
    """`start` in each worker, on its event loop."""

    def __init__(self) -> None:
        self._process = ProcessCounters()
        self._link: RedisLink | None = None
        self._shared: SharedCounters | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._settlements: dict[str, set[asyncio.Task[None]]] = {}  # under way, by the key's name

    async def start(self) -> None:
        """Returns when Redis has answered, or has had its time."""
        if settings.REDIS_URL:
            # Only then: Redis' client takes a worker 5 MB.
            from proxyapi.limits.counting_in_redis import SharedCounters
            from proxyapi.limits.redis_link import RedisLink

            self._link = RedisLink(settings.REDIS_URL)
            self._shared = SharedCounters(self._link.client, self._process.places)
            await self._link.probe(self._shared.renew)
            self._keeper = asyncio.create_task(self._keep(self._link, self._shared))

    async def stop(self) -> None:
        """Calls have ended; what they hold is given back, for `STOP_SECONDS` at most."""
        if pending := set[asyncio.Task[None]]().union(*self._settlements.values()):
            await asyncio.wait(pending, timeout=STOP_SECONDS)
        if self._keeper is not None and self._link is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            await self._link.client.stop()

    @property
    def degraded(self) -> bool:
        """Whether counts should be shared and are not."""
        return self._link is not None and self._link.away_since is not None

    @property
    def away_seconds(self) -> float | None:
        """How long Redis has been away; 0 when it is there, None when there is to be none."""
        if self._link is None:
            return None
        since = self._link.away_since
        return 0.0 if since is None else (datetime.now(UTC) - since).total_seconds()

    @property
    def state(self) -> str:
        """`shared`, `per process` (no `REDIS_URL`) or `per process since …`."""
        if self._link is None:
            return "per process"
        if self._link.away_since is None:
            return "shared"
        return f"per process since {self._link.away_since:%Y-%m-%dT%H:%M:%SZ}"

    async def admit(self, caller: Caller, request_id: str, place: ExitStack) -> Ticket:
        """Counts a call of a limited key; it is settled, at the latest, when `place` closes.

        Raises:
            RateLimited: one of the limits is reached, and the call is not counted.
        """
        ticket = Ticket(self, caller, request_id)
        place.callback(ticket.settle)  # now: the caller may leave while Redis is asked
        await self._settled(caller)
        verdict = await self._take(caller, ticket.lease)
        ticket.standings = verdict.standings
        if verdict.reached:
            ticket.refuse()
            raise _refusal(caller, verdict)
        return ticket

    async def pace(self, name: str, seconds: int) -> float:
        """Lets one pass in so many seconds, and returns 0; or how many seconds are left."""
        if self._link is not None and self._shared is not None:
            shared = self._shared
            with suppress(Away):
                return await self._link.ask(lambda: shared.pace(name, seconds))
        return await self._process.pace(name, seconds)

    def settle(self, ticket: Ticket, tokens: int) -> asyncio.Task[None] | None:
        """Begins to give back what the ticket holds, and to count what the call has cost; None: it is done."""
        if self._link is None:
            self._process.settle_now(ticket.caller, ticket.lease, tokens)
            return None
        task = asyncio.create_task(self._settle(ticket, tokens))
        pending = self._settlements.setdefault(ticket.caller.name, set())
        pending.add(task)
        task.add_done_callback(pending.discard)
        return task

    async def _take(self, caller: Caller, lease: str) -> Verdict:
        if self._link is None or self._shared is None:
            return await self._process.take(caller, lease)
        shared = self._shared
        try:
            verdict = await self._link.ask(lambda: shared.take(caller, lease))
        except Away:
            verdict = await self._process.take(caller, lease)
            if verdict.reached:
                shared.leave(caller, lease)  # Redis may have given the place, and gone then
        else:
            if not verdict.reached:
                await self._process.note(caller, lease)
        return verdict

    async def _settled(self, caller: Caller) -> None:
        """A caller that has seen its last call's end must not be refused because of it."""
        if pending := self._settlements.get(caller.name):
            await asyncio.wait(set(pending))

    async def _settle(self, ticket: Ticket, tokens: int) -> None:
        caller, lease = ticket.caller, ticket.lease
        await self._process.settle(caller, lease, tokens)
        if self._link is not None and self._shared is not None:
            shared = self._shared
            shared.leave(caller, lease)
            with suppress(Away):
                await self._link.ask(lambda: shared.settle(caller, lease, tokens))

    async def _keep(self, link: RedisLink, shared: SharedCounters) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                shared.forget_ended()
                if link.rested:
                    await link.probe(shared.renew)
            except Exception:  # the border: without this task Redis would never be asked whether it is back
                logger.exception("the shared limits could not be renewed")


def _refusal(caller: Caller, verdict: Verdict) -> RateLimited:
    match verdict.reached:
        case "requests" | "tokens" as window:
            standing = verdict.standings[window]
            words, wait = f"{standing.limit} {window} per minute", standing.reset
        case _:
            words, wait = f"{caller.parallel_calls} calls at once", 1.0
    # The official SDK waits as long as it is told, but no longer than a minute.
    seconds = min(max(1, math.ceil(wait)), WINDOW_SECONDS)
    error = RateLimited(f"Rate limit of this key reached: {words}. Try again in {seconds} s.", retry_after=seconds)
    error.headers.update(limit_headers.headers(verdict.standings))
    return error


limiter = Limiter()
