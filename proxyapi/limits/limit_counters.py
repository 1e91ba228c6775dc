"""The interface for counting the limits of keys, and its implementation in this process's memory.

`limit_counters_in_redis` is the implementation that processes share.

Requests are counted in a moving window (never more than the limit in any 60 seconds). A call in flight counts as one
slot. Tokens are counted in a fixed window of 60 seconds that begins with its first token, so that tokens known only at
the end of a call can always be added. A refused call is not counted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from proxyapi.keys.keyring import Caller

LimitKind = Literal["requests", "tokens"]
WINDOW_SECONDS = 60


class CountersUnavailable(Exception):
    """Error: the counters in Redis, which all processes share, cannot be used now."""


class LimitState(NamedTuple):
    """How much of a key's limit per minute is left: `remaining` of `limit` requests or tokens.

    `reset` is a number of seconds: for requests, until one more is allowed; for tokens, until a new minute begins.
    """

    limit: int
    remaining: int
    reset: float


@dataclass(frozen=True)
class Verdict:
    """The decision whether a call is within its key's limits.

    `refused_by` names the limit that refuses the call; it is empty for an admitted call. `limit_states` says how much
    is left of the limits per minute.
    """

    limit_states: dict[LimitKind, LimitState] = field(default_factory=dict)
    refused_by: Literal["", "requests", "tokens", "calls"] = ""


class LimitCounters(ABC):
    """Base class of counters of what keys use: requests and tokens per minute, and slots for parallel calls.

    The counts of a key remain when its limits change.
    """

    # Counts are stored under the key's name, which never changes.
    async def count_call(self, caller: Caller, lease: str) -> Verdict:
        """Counts a new call against all limits of its key, or against none if one refuses it; returns the decision.

        With a limit of parallel calls, the call also takes a slot, which is stored under the id `lease`.
        """
        limit_states: dict[LimitKind, LimitState] = {}
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
        """Counts the tokens of an ended call, even beyond its key's limit, and frees the call's slot.

        `lease` is the id of the slot.
        """
        if caller.parallel_calls is not None:
            await self.release_slot(caller.name, lease)
        if tokens and caller.tokens_per_minute is not None:
            await self.add_tokens(caller.name, caller.tokens_per_minute, tokens)

    @abstractmethod
    async def count_request(self, name: str, limit: int) -> tuple[bool, LimitState]:
        """Counts one request of the key `name`, unless the key has made `limit` requests in the last minute.

        Returns whether the request was counted, and how much of the limit is left.
        """

    @abstractmethod
    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        """Returns how many tokens of its `limit` per minute the key `name` has left."""

    @abstractmethod
    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        """Adds `tokens` to the count of the key `name` for the current minute.

        When a minute is over, the count begins anew.
        """

    @abstractmethod
    async def pace(self, name: str, seconds: int) -> float:
        """Returns 0 if the event `name`, such as a request for a page, may happen now, else the seconds until then.

        All callers together may have the event once in `seconds` seconds. A result of 0 counts as the event.
        """

    @abstractmethod
    async def take_slot(self, name: str, lease: str, limit: int) -> bool:
        """Takes one of the `limit` slots of the key `name` for parallel calls; returns whether one was free.

        The slot is stored under the id `lease`.
        """

    @abstractmethod
    async def release_slot(self, name: str, lease: str) -> None:
        """Frees the slot of the key `name` with the id `lease`, if there is one."""


class ProcessCounters(LimitCounters):
    """Counters of keys' limits in the memory of this process; for use on the event loop."""

    def __init__(self) -> None:
        # No method lets another call run between the check of a limit and its count. For each key that has called, at
        # most as many timestamps and slots are stored as its limits allow.
        self.slots: defaultdict[str, set[str]] = defaultdict(set)
        self._hits: defaultdict[str, deque[float]] = defaultdict(deque)  # times of requests (`time.monotonic()`)
        self._spent: dict[str, tuple[int, float]] = {}  # tokens, and when their minute ends
        self._paced: dict[str, float] = {}  # when the next event may happen

    async def record_admitted_elsewhere(self, caller: Caller, lease: str) -> None:
        """Counts a call in this process that Redis has admitted: if Redis fails, this process must count alone.

        `lease` is the id of the call's slot.
        """
        if caller.parallel_calls is not None:
            self.slots[caller.name].add(lease)
        if caller.requests_per_minute is not None:
            # not counted if this process would have refused it
            await self.count_request(caller.name, caller.requests_per_minute)

    def settle_now(self, caller: Caller, lease: str, tokens: int) -> None:
        """Counts the tokens of an ended call and frees its slot, as `settle` does, for callers that cannot await."""
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
    """Returns the time at which a key will have one more request left for its minute.

    `hits` has the times of the key's requests in the last minute, oldest first. The result is a time of the same clock,
    or 0 if there are no requests.
    """
    # one more is left when this request is a minute old
    return hits[max(0, len(hits) - max(1, limit))] + WINDOW_SECONDS if hits else 0.0
