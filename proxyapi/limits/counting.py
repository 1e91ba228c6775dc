"""Owns counting for the limits of keys: what every place that counts does, and the counting in this process.

Requests are counted in a moving window (never more than the limit in any 60 seconds), tokens in a fixed one that begins
with its first token, so that a cost that comes late can always be added, and calls in flight by the places they hold.
A call that is refused is not counted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from proxyapi.keys.keyring import Caller

Window = Literal["requests", "tokens"]
WINDOW_SECONDS = 60


class Away(Exception):
    """Counters that processes share are not to be had now."""


class Standing(NamedTuple):
    """How a key stands with a limit. `reset`: seconds until one more request is free, or the tokens' window ends."""

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True)
class Verdict:
    """Whether a call may go on: `reached` is the limit that stops it, if one does."""

    standings: dict[Window, Standing] = field(default_factory=dict)
    reached: Literal["", "requests", "tokens", "calls"] = ""


class Counters(ABC):
    """One place that counts. A key's counts are kept under its name, which never changes; its limits may."""

    async def take(self, caller: Caller, lease: str) -> Verdict:
        """Counts one call, under all of its key's limits or under none. A place that it gets is `lease`'s."""
        standings: dict[Window, Standing] = {}
        if caller.tokens_per_minute is not None:
            standings["tokens"] = await self.tokens(caller.name, caller.tokens_per_minute)
            if not standings["tokens"].remaining:
                return Verdict(standings, "tokens")
        if caller.parallel_calls is not None and not await self.occupy(caller.name, lease, caller.parallel_calls):
            return Verdict(standings, "calls")
        # Last, because a request that has been counted cannot be taken back.
        if caller.requests_per_minute is not None:
            counted, standings["requests"] = await self.hit(caller.name, caller.requests_per_minute)
            if not counted:
                if caller.parallel_calls is not None:
                    await self.vacate(caller.name, lease)
                return Verdict(standings, "requests")
        return Verdict(standings)

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        """A call has ended: its place is free, and what it has cost counts, also beyond the limit."""
        if caller.parallel_calls is not None:
            await self.vacate(caller.name, lease)
        if tokens and caller.tokens_per_minute is not None:
            await self.spend(caller.name, caller.tokens_per_minute, tokens)

    @abstractmethod
    async def hit(self, name: str, limit: int) -> tuple[bool, Standing]:
        """Counts a request, unless the last minute has had `limit`. Returns whether it did, and what is left."""

    @abstractmethod
    async def tokens(self, name: str, limit: int) -> Standing:
        """What is left of this minute's tokens."""

    @abstractmethod
    async def spend(self, name: str, limit: int, tokens: int) -> None:
        """Counts tokens. The first ones begin a minute."""

    @abstractmethod
    async def pace(self, name: str, seconds: int) -> float:
        """Counts one in so many seconds, and returns 0; or how many seconds are left."""

    @abstractmethod
    async def occupy(self, name: str, lease: str, limit: int) -> bool:
        """Whether there was one of so many places."""

    @abstractmethod
    async def vacate(self, name: str, lease: str) -> None:
        """Gives the place back; one that is not held stays so."""


class ProcessCounters(Counters):
    """In memory, on the event loop: nothing here waits, so nothing comes between a look and a count.

    Of each key that has called it holds as much as the key's limits allow.
    """

    def __init__(self) -> None:
        self.places: defaultdict[str, set[str]] = defaultdict(set)
        self._hits: defaultdict[str, deque[float]] = defaultdict(deque)  # when, `time.monotonic()`
        self._spent: dict[str, tuple[int, float]] = {}  # and until when
        self._paced: dict[str, float] = {}  # when the next one is free

    async def note(self, caller: Caller, lease: str) -> None:
        """Counts a call that another place has let in."""
        if caller.parallel_calls is not None:
            self.places[caller.name].add(lease)
        if caller.requests_per_minute is not None:
            await self.hit(caller.name, caller.requests_per_minute)

    def settle_now(self, caller: Caller, lease: str, tokens: int) -> None:
        """As `settle`, for who cannot wait."""
        if caller.parallel_calls is not None:
            self.places[caller.name].discard(lease)
        if tokens and caller.tokens_per_minute is not None:
            self._spend(caller.name, tokens)

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        self.settle_now(caller, lease, tokens)

    async def hit(self, name: str, limit: int) -> tuple[bool, Standing]:
        now = time.monotonic()
        hits = self._hits[name]
        while hits and hits[0] <= now - WINDOW_SECONDS:
            hits.popleft()
        is_free = len(hits) < limit
        if is_free:
            hits.append(now)
        return is_free, Standing(limit, max(0, limit - len(hits)), max(0.0, _until_free(hits, limit) - now))

    async def tokens(self, name: str, limit: int) -> Standing:
        spent, until = self._spent.get(name, (0, 0.0))
        left = until - time.monotonic()
        return Standing(limit, max(0, limit - spent), left) if left > 0 else Standing(limit, limit, 0.0)

    async def spend(self, name: str, limit: int, tokens: int) -> None:
        self._spend(name, tokens)

    def _spend(self, name: str, tokens: int) -> None:
        now = time.monotonic()
        spent, until = self._spent.get(name, (0, 0.0))
        self._spent[name] = (spent + tokens, until) if now < until else (tokens, now + WINDOW_SECONDS)

    async def pace(self, name: str, seconds: int) -> float:
        now = time.monotonic()
        left = self._paced.get(name, 0.0) - now
        if left > 0:
            return left
        self._paced[name] = now + seconds
        return 0.0

    async def occupy(self, name: str, lease: str, limit: int) -> bool:
        places = self.places[name]
        if len(places) >= limit:
            return False
        places.add(lease)
        return True

    async def vacate(self, name: str, lease: str) -> None:
        self.places[name].discard(lease)


def _until_free(hits: deque[float], limit: int) -> float:
    """When there is room for one more: once so many of the hits have left the window."""
    return hits[max(0, len(hits) - max(1, limit))] + WINDOW_SECONDS if hits else 0.0
