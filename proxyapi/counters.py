"""Owns counting for the limits of keys: what every place that counts does, and the counting in this process.

Requests are counted in a moving window (never more than the limit in any 60 seconds), tokens in a fixed one that begins
with its first token, so that a cost that comes late can always be added, and calls in flight by the places they hold.
A call that is refused is not counted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from proxyapi.keyring import Caller

Window = Literal["requests", "tokens"]
WINDOW_SECONDS = 60


class Away(Exception):
    """Counters that processes share are not to be had now."""


@dataclass(frozen=True)
class Standing:
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
    """One place that counts. A key's counts are kept under its name, which never changes, and its limit."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._moving = MovingWindowRateLimiter(storage)
        self._fixed = FixedWindowRateLimiter(storage)

    async def take(self, caller: Caller, lease: str) -> Verdict:
        """Counts one call, under all of its key's limits or under none. A place that it gets is `lease`'s."""
        standings: dict[Window, Standing] = {}
        if caller.tokens_per_minute is not None:
            item = tokens_item(caller.tokens_per_minute)
            key = item.key_for(caller.name)
            used, ends_at = await self._in_order(self._storage.get(key), self._storage.get_expiry(key))
            standings["tokens"] = _standing(item, ends_at, item.amount - used)
            if not standings["tokens"].remaining:
                return Verdict(standings, "tokens")
        if caller.parallel_calls is not None and not await self.occupy(caller.name, lease, caller.parallel_calls):
            return Verdict(standings, "calls")
        # Last, because a request that has been counted cannot be taken back.
        if caller.requests_per_minute is not None:
            item = requests_item(caller.requests_per_minute)
            counted, stats = await self._in_order(
                self._moving.hit(item, caller.name), self._moving.get_window_stats(item, caller.name)
            )
            standings["requests"] = _standing(item, *stats)
            if not counted:
                if caller.parallel_calls is not None:
                    await self.vacate(caller.name, lease)
                return Verdict(standings, "requests")
        return Verdict(standings)

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        """A call has ended: its place is free, and what it has cost counts, also beyond the limit."""
        steps: list[Coroutine[Any, Any, Any]] = []
        if caller.parallel_calls is not None:
            steps.append(self.vacate(caller.name, lease))
        if tokens and caller.tokens_per_minute is not None:
            steps.append(self._fixed.hit(tokens_item(caller.tokens_per_minute), caller.name, cost=tokens))
        await self._in_order(*steps)

    async def pace(self, name: str, seconds: int) -> float:
        """Counts one in so many seconds, and returns 0; or how many seconds are left."""
        item = RateLimitItemPerSecond(1, seconds, namespace="pace")
        if await self._moving.hit(item, name):
            return 0.0
        return _standing(item, *await self._moving.get_window_stats(item, name)).reset

    async def _in_order(self, *steps: Coroutine[Any, Any, Any]) -> list[Any]:
        """What the steps return, taken one after the other."""
        return [await step for step in steps]

    @abstractmethod
    async def occupy(self, name: str, lease: str, limit: int) -> bool:
        """Whether there was one of so many places."""

    @abstractmethod
    async def vacate(self, name: str, lease: str) -> None:
        """Gives the place back; one that is not held stays so."""


class ProcessCounters(Counters):
    """In memory, on the event loop: nothing here waits, so nothing comes between a look and a count."""

    def __init__(self) -> None:
        super().__init__(ProcessStorage())
        self.places: defaultdict[str, set[str]] = defaultdict(set)

    async def note(self, caller: Caller, lease: str) -> None:
        """Counts a call that another place has let in."""
        if caller.parallel_calls is not None:
            self.places[caller.name].add(lease)
        if caller.requests_per_minute is not None:
            await self._moving.hit(requests_item(caller.requests_per_minute), caller.name)

    async def occupy(self, name: str, lease: str, limit: int) -> bool:
        if len(self.places[name]) >= limit:
            return False
        self.places[name].add(lease)
        return True

    async def vacate(self, name: str, lease: str) -> None:
        self.places[name].discard(lease)


class ProcessStorage(Storage, MovingWindowSupport):
    """Where `limits` counts in this process. Its own storage starts a task and threads at every count.

    It holds as much as the limits of the keys allow, so nothing has to be cleared up.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._counted: defaultdict[str, deque[float]] = defaultdict(deque)  # when, `time.monotonic()`
        self._sums: dict[str, tuple[int, float]] = {}  # and until when

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        counted = self._in_window(key, expiry)
        if len(counted) + amount > limit:
            return False
        counted.extend([time.monotonic()] * amount)
        return True

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        counted = self._in_window(key, expiry)
        age = time.monotonic() - counted[0] if counted else 0.0
        return time.time() - age, len(counted)

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        total, until = self._sum(key)
        self._sums[key] = (total + amount, until or time.monotonic() + expiry)
        return total + amount

    async def get(self, key: str) -> int:
        return self._sum(key)[0]

    async def get_expiry(self, key: str) -> float:
        _, until = self._sum(key)
        return time.time() + (until - time.monotonic() if until else 0.0)

    async def check(self) -> bool:
        return True

    async def reset(self) -> int:
        count = len(self._counted) + len(self._sums)
        self._counted.clear()
        self._sums.clear()
        return count

    async def clear(self, key: str) -> None:
        self._counted.pop(key, None)
        self._sums.pop(key, None)

    def _in_window(self, key: str, expiry: int) -> deque[float]:
        counted = self._counted[key]
        begin = time.monotonic() - expiry
        while counted and counted[0] < begin:
            counted.popleft()
        return counted

    def _sum(self, key: str) -> tuple[int, float]:
        total, until = self._sums.get(key, (0, 0.0))
        return (total, until) if time.monotonic() < until else (0, 0.0)


@lru_cache(maxsize=1024)
def requests_item(limit: int) -> RateLimitItem:
    return RateLimitItemPerMinute(limit, namespace="requests")


@lru_cache(maxsize=1024)
def tokens_item(limit: int) -> RateLimitItem:
    return RateLimitItemPerMinute(limit, namespace="tokens")


def _standing(item: RateLimitItem, reset_at: float, remaining: int) -> Standing:
    return Standing(item.amount, max(0, remaining), max(0.0, reset_at - time.time()))
