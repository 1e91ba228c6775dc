"""The interface for counting the limits of keys and teams, and its implementation in this process's memory.

`limit_counters_in_redis` is the implementation that processes share.

Requests are counted in a moving window (never more than the limit in any 60 seconds). A call in flight counts as one
slot. Tokens are counted in a fixed window of 60 seconds that begins with its first token, because the tokens of a call
are known only at its end, and must be added even if they exceed the limit. A refused call is not counted.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from proxyapi.keys.callers import Ceilings

LimitKind = Literal["requests", "tokens"]
WINDOW_SECONDS = 60


class CountersUnavailable(Exception):
    """Error: the counters in Redis, which all processes share, cannot be used now."""


class LimitState(NamedTuple):
    """How much of a limit per minute is left: `remaining` of `limit` requests or tokens.

    `reset` is a number of seconds. For requests, it is the time until one more request is left; for tokens, until the
    next window of a minute begins. It is 0 if nothing of the limit is used.
    """

    limit: int
    remaining: int
    reset: float


@dataclass(slots=True)
class Verdict:
    """The decision whether a call is within the limits of its key and of the key's team.

    * `refused_by`: the kind of limit that refuses the call; empty if the call is admitted.
    * `refuser`: the `Ceilings` of the key or team that has this limit; None if the call is admitted.
    * `limit_states`: how much is left of each limit per minute. Of the key's limit and the team's, it has the one with
      less left.
    """

    limit_states: dict[LimitKind, LimitState] = field(default_factory=dict)
    refused_by: Literal["", "requests", "tokens", "calls"] = ""
    refuser: Ceilings | None = None


class LimitCounters(ABC):
    """Base class of counters of what keys and teams (spenders) use: requests and tokens per minute, and parallel calls.

    The counts of a key or team remain when its limits change.
    """

    # Counts are stored under a name that never changes (`Ceilings.counted_as`).
    async def count_call(self, ceilings: Sequence[Ceilings], lease: str) -> Verdict:
        """Counts a new call against all limits in `ceilings`; returns the verdict. A refused call counts against none.

        An admitted call takes a slot (a right to run) of each limit of parallel calls, stored under the id `lease`. Its
        tokens are not known yet: a limit of tokens refuses the call only if no tokens are left.
        """
        states: dict[LimitKind, LimitState] = {}
        for one in ceilings:
            if one.tokens_per_minute is not None:
                state = await self.remaining_tokens(one.counted_as, one.tokens_per_minute)
                if not state.remaining:
                    return Verdict({**states, "tokens": state}, "tokens", one)
                _keep_tighter(states, "tokens", state)
        taken: list[Ceilings] = []
        for one in ceilings:
            if one.parallel_calls is not None:
                if not await self.take_slot(one.counted_as, lease, one.parallel_calls):
                    await self._release_slots(taken, lease)
                    return Verdict(states, "calls", one)
                taken.append(one)
        # Last, because a request that has been counted cannot be taken back.
        limits = [(one.counted_as, one.requests_per_minute) for one in ceilings if one.requests_per_minute is not None]
        if limits:
            refuser, counted = await self.count_requests(limits)
            if refuser is not None:
                await self._release_slots(taken, lease)
                by = next(one for one in ceilings if one.counted_as == limits[refuser][0])
                return Verdict({**states, "requests": counted[refuser]}, "requests", by)
            for state in counted:
                _keep_tighter(states, "requests", state)
        return Verdict(states)

    async def _release_slots(self, taken: Sequence[Ceilings], lease: str) -> None:
        for one in taken:
            await self.release_slot(one.counted_as, lease)

    async def settle(self, ceilings: Sequence[Ceilings], lease: str, tokens: int) -> None:
        """Counts the tokens of an ended call, even beyond the limits, and frees the slots that the call has taken.

        `ceilings` are the limits of the call's key and team; `lease` is the id under which its slots are stored.
        """
        for one in ceilings:
            if one.parallel_calls is not None:
                await self.release_slot(one.counted_as, lease)
            if tokens and one.tokens_per_minute is not None:
                await self.add_tokens(one.counted_as, one.tokens_per_minute, tokens)

    @abstractmethod
    async def count_requests(self, limits: Sequence[tuple[str, int]]) -> tuple[int | None, list[LimitState]]:
        """Counts one request against the limits of all spenders (keys, teams) in `limits`, or against none of them.

        `limits` are pairs of a spender's name and its limit of requests per minute; if one limit is reached, the
        request is not counted. Returns the index of the first spender at its limit (None if the request was counted),
        and how much of each limit is left.
        """

    @abstractmethod
    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        """Returns how many tokens the spender (key or team) `name` has left of its `limit` per minute."""

    @abstractmethod
    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        """Adds `tokens` to the count of the spender (key or team) `name` in its current window of 60 seconds.

        If that window is over, a new one begins with this number.
        """

    @abstractmethod
    async def pace(self, name: str, seconds: int) -> float:
        """Returns 0 if the event `name`, such as a request for a page, may happen now; else the seconds to wait.

        The event may happen once in `seconds` seconds, for all callers together. When 0 is returned, the event is
        counted.
        """

    @abstractmethod
    async def take_slot(self, name: str, lease: str, limit: int) -> bool:
        """Takes a slot for a parallel call of the spender (key or team) `name`; returns whether one was free.

        The spender has `limit` slots. The slot taken is stored under the id `lease`.
        """

    @abstractmethod
    async def release_slot(self, name: str, lease: str) -> None:
        """Frees the slot for a parallel call that the spender (key or team) `name` holds under the id `lease`.

        Does nothing if the spender holds no such slot.
        """


class ProcessCounters(LimitCounters):
    """Counters of limits in the memory of this process; for use on the event loop."""

    def __init__(self) -> None:
        # No method lets another call run between the check of a limit and its count. For each spender that has
        # called, at most as many timestamps and slots are stored as its limits allow.
        self.slots: defaultdict[str, set[str]] = defaultdict(set)
        self._hits: defaultdict[str, deque[float]] = defaultdict(deque)  # times of requests (`time.monotonic()`)
        self._spent: dict[str, tuple[int, float]] = {}  # tokens, and when their minute ends
        self._paced: dict[str, float] = {}  # when the next event may happen

    async def record_admitted_elsewhere(self, ceilings: Sequence[Ceilings], lease: str) -> None:
        """Counts in this process, too, a call that Redis has admitted; so the process can take over when Redis fails.

        The call's slots are stored under the id `lease`. The request is not counted if this process would have refused
        it.
        """
        for one in ceilings:
            if one.parallel_calls is not None:
                self.slots[one.counted_as].add(lease)
            if one.requests_per_minute is not None:
                # not counted if this process would have refused it
                await self.count_requests([(one.counted_as, one.requests_per_minute)])

    def settle_now(self, ceilings: Sequence[Ceilings], lease: str, tokens: int) -> None:
        """Counts the tokens of an ended call and frees its slots, like `settle`, but without `await`."""
        for one in ceilings:
            if one.parallel_calls is not None:
                self.slots[one.counted_as].discard(lease)
            if tokens and one.tokens_per_minute is not None:
                self._add_tokens(one.counted_as, tokens)

    async def settle(self, ceilings: Sequence[Ceilings], lease: str, tokens: int) -> None:
        self.settle_now(ceilings, lease, tokens)

    async def count_requests(self, limits: Sequence[tuple[str, int]]) -> tuple[int | None, list[LimitState]]:
        now = time.monotonic()
        windows: list[tuple[deque[float], int]] = []
        refuser: int | None = None
        for name, limit in limits:
            hits = self._recent_hits(name, now)
            if refuser is None and len(hits) >= limit:
                refuser = len(windows)
            windows.append((hits, limit))
        states = []
        for hits, limit in windows:
            if refuser is None:
                hits.append(now)
            reset = max(0.0, _until_free(hits, limit) - now)
            states.append(LimitState(limit, max(0, limit - len(hits)), reset))
        return refuser, states

    def _recent_hits(self, name: str, now: float) -> deque[float]:
        """Returns the times of a key's or team's requests in the last 60 seconds, oldest first; deletes older times."""
        hits = self._hits[name]
        while hits and hits[0] <= now - WINDOW_SECONDS:
            hits.popleft()
        return hits

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
    """Returns the time at which the spender (key or team) will have one request more left than now.

    `hits` has the times of the spender's requests in the last minute, oldest first; `limit` is the number of requests
    per minute. The result, on the same clock as `hits`, is 0 if `hits` is empty.
    """
    # one more is left when this request is a minute old
    return hits[max(0, len(hits) - max(1, limit))] + WINDOW_SECONDS if hits else 0.0


def _keep_tighter(states: dict[LimitKind, LimitState], kind: LimitKind, state: LimitState) -> None:
    """Stores the `state` of a limit in `states` under its `kind`, unless the stored one has as little or less left."""
    if kind not in states or state.remaining < states[kind].remaining:
        states[kind] = state
