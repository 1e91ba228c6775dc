"""The interface for counting the limits of keys, and its implementation in this process's memory.

`counting_in_redis` is the implementation that processes share.

Requests are counted in a moving window (never more than the limit in any 60 seconds), and calls in flight by the slots
that they hold. Tokens are counted in a fixed window that begins with its first token, so that tokens known only at the
end of a call can always be added. A refused call is not counted.
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


class CountersUnavailable(Exception):
    """The counters in Redis, which processes share, cannot be asked now."""


class LimitState(NamedTuple):
    """The state of one limit of a key.

    `reset` is the number of seconds until one more request is allowed, or until the window of the tokens ends.
    """

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True)
class Verdict:
    """The decision about one call. `refused_by` names the limit that refuses it; empty if the call is admitted."""

    limit_states: dict[Window, LimitState] = field(default_factory=dict)
    refused_by: Literal["", "requests", "tokens", "calls"] = ""


class LimitCounters(ABC):
    """Counts calls for the limits of keys, under a key's name, which never changes; its limits may change."""

    async def count_call(self, caller: Caller, lease: str) -> Verdict:
        """Counts one call under all of its key's limits or, if one refuses it, under none.

        The slot that the call takes among the parallel ones is held under the id `lease`.
        """
        limit_states: dict[Window, LimitState] = {}
        if caller.tokens_per_minute is not None:
            limit_states["tokens"] = await self.remaining_tokens(caller.name, caller.tokens_per_minute)
            if not limit_states["tokens"].remaining:
                return Verdict(limit_states, "tokens")
        if caller.parallel_calls is not None and not await self.take_slot(caller.name, lease, caller.parallel_calls):
            return Verdict(limit_states, "calls")
        # Last, because a request that has been counted cannot be taken back.
        if caller.requests_per_minute is not None:
            counted, limit_states["requests"] = await self.count_request(caller.name, caller.requests_per_minute)
            if not counted:
                if caller.parallel_calls is not None:
                    await self.release_slot(caller.name, lease)
                return Verdict(limit_states, "requests")
        return Verdict(limit_states)

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        """Frees the slot of a call that has ended and adds its tokens, even if they go beyond the limit."""
        if caller.parallel_calls is not None:
            await self.release_slot(caller.name, lease)
        if tokens and caller.tokens_per_minute is not None:
            await self.add_tokens(caller.name, caller.tokens_per_minute, tokens)

    @abstractmethod
    async def count_request(self, name: str, limit: int) -> tuple[bool, LimitState]:
        """Counts a request unless there were `limit` in the last minute. Returns whether it counted, and the state."""

    @abstractmethod
    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        """Returns the state of the limit of tokens per minute."""

    @abstractmethod
    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        """Adds tokens to the current minute; the first ones begin a new minute."""

    @abstractmethod
    async def pace(self, name: str, seconds: int) -> float:
        """Allows one event in so many seconds: returns 0 and counts it, or the seconds until the next is allowed."""

    @abstractmethod
    async def take_slot(self, name: str, lease: str, limit: int) -> bool:
        """Takes one of `limit` slots for a parallel call. Returns False if none is free."""

    @abstractmethod
    async def release_slot(self, name: str, lease: str) -> None:
        """Frees the slot that is held under `lease`; does nothing if there is none."""


class ProcessCounters(LimitCounters):
    """Counters in memory, on the event loop. No method awaits, so no other call runs between a check and its count.

    Memory: for each key that has called, at most as many timestamps and slots as its limits allow.
    """

    def __init__(self) -> None:
        self.slots: defaultdict[str, set[str]] = defaultdict(set)
        self._hits: defaultdict[str, deque[float]] = defaultdict(deque)  # times of requests, `time.monotonic()`
        self._spent: dict[str, tuple[int, float]] = {}  # tokens, and the end of their window
        self._paced: dict[str, float] = {}  # when the next one is free

    async def record_admitted_elsewhere(self, caller: Caller, lease: str) -> None:
        """Counts a call that Redis has admitted, so that this process can go on alone if Redis fails."""
        if caller.parallel_calls is not None:
            self.slots[caller.name].add(lease)
        if caller.requests_per_minute is not None:
            await self.count_request(caller.name, caller.requests_per_minute)

    def settle_now(self, caller: Caller, lease: str, tokens: int) -> None:
        """Counts the tokens of an ended call and releases its slot, as `settle` does, for callers that cannot await."""
        if caller.parallel_calls is not None:
            self.slots[caller.name].discard(lease)
        if tokens and caller.tokens_per_minute is not None:
            self._add_tokens(caller.name, tokens)

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        self.settle_now(caller, lease, tokens)

    async def count_request(self, name: str, limit: int) -> tuple[bool, LimitState]:
        now = time.monotonic()
        hits = self._hits[name]
        while hits and hits[0] <= now - WINDOW_SECONDS:
            hits.popleft()
        is_free = len(hits) < limit
        if is_free:
            hits.append(now)
        return is_free, LimitState(limit, max(0, limit - len(hits)), max(0.0, _until_free(hits, limit) - now))

    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        spent, until = self._spent.get(name, (0, 0.0))
        left = until - time.monotonic()
        return LimitState(limit, max(0, limit - spent), left) if left > 0 else LimitState(limit, limit, 0.0)

    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        self._add_tokens(name, tokens)

    def _add_tokens(self, name: str, tokens: int) -> None:
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

    async def take_slot(self, name: str, lease: str, limit: int) -> bool:
        slots = self.slots[name]
        if len(slots) >= limit:
            return False
        slots.add(lease)
        return True

    async def release_slot(self, name: str, lease: str) -> None:
        self.slots[name].discard(lease)


def _until_free(hits: deque[float], limit: int) -> float:
    """Returns when one more request is allowed: the time at which enough of the earlier ones leave the window."""
    return hits[max(0, len(hits) - max(1, limit))] + WINDOW_SECONDS if hits else 0.0
