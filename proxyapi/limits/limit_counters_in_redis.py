"""Counts the limits of keys and teams in Redis, for all processes and hosts together.

All times are those of Redis' clock, since the clocks of hosts differ.

A slot for a parallel call is a lease: a right that ends at a certain time. Each spender has a sorted set with the ids
of its leases and the time at which each ends. `renew` extends the leases of this process; the leases of a process that
was killed expire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence, Set

from redis.asyncio import Redis

from proxyapi.keys.callers import Ceilings
from proxyapi.limits.limit_counters import WINDOW_SECONDS, LimitCounters, LimitState

PREFIX = "chatproxy"
LEASE_SECONDS = 15

# KEYS: the sorted set of a spender. ARGV: its limit, the seconds of a lease, the id of the new lease.
TAKE_SLOT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
# The moving windows of several spenders: a list of times each, newest first. KEYS: the lists. ARGV: the seconds of the
# window, the limit of each list. If no limit is reached, the present time is added to all lists, else to none. Returns
# 0, or the number of the first list whose limit is reached; then, for each list, how many of its newest times up to the
# limit are in the window, and the milliseconds until the oldest of these leaves it.
COUNT_ALL = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local begin = now - ARGV[1]
local function time_at(key, place)
    local found = redis.call('LINDEX', key, place)
    return found and tonumber(found) or -1
end
local reached = 0
for i, key in ipairs(KEYS) do
    local limit = tonumber(ARGV[1 + i])
    if limit < 1 or time_at(key, limit - 1) >= begin then reached = i break end
end
local result = {reached}
for i, key in ipairs(KEYS) do
    local limit = tonumber(ARGV[1 + i])
    if reached == 0 then
        redis.call('LPUSH', key, time[1] .. '.' .. string.format('%06d', time[2]))
        redis.call('LTRIM', key, 0, limit - 1)
        redis.call('EXPIRE', key, ARGV[1])
    end
    local low, high = 0, math.min(limit, redis.call('LLEN', key))
    while low < high do
        local middle = math.floor((low + high) / 2)
        if time_at(key, middle) >= begin then low = middle + 1 else high = middle end
    end
    result[2 * i] = low
    result[2 * i + 1] = low > 0 and math.ceil((time_at(key, low - 1) - begin) * 1000) or 0
end
return result
"""
# KEYS: the count of a spender's tokens. ARGV: the tokens to add, the seconds of a window, which begins with the first.
ADD_TOKENS = """
if redis.call('INCRBY', KEYS[1], ARGV[1]) == tonumber(ARGV[1]) then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
"""
# KEYS: an entry that is only written, then the sorted sets. ARGV: the seconds of a lease; then, for each set, how many
# leases to extend, and their ids.
RENEW_LEASES = """
redis.call('SET', KEYS[1], '', 'EX', 60)
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + ARGV[1]
local at = 2
for i = 2, #KEYS do
    for j = at + 1, at + ARGV[at] do redis.call('ZADD', KEYS[i], ends, ARGV[j]) end
    redis.call('EXPIRE', KEYS[i], ARGV[1])
    at = at + ARGV[at] + 1
end
"""


class SharedCounters(LimitCounters):
    """Counters of limits in Redis, which all processes and hosts share; its methods raise the Redis client's errors.

    `slots` maps the name of each spender (key or team) to the ids of the slots (rights to run) of this process's calls.
    """

    def __init__(self, client: Redis, slots: Mapping[str, Set[str]]) -> None:
        self._client = client
        self._slots = slots
        self._unconfirmed: dict[tuple[str, str], float] = {}  # when a slot was freed that Redis may still have
        self._take_slot_script = client.register_script(TAKE_SLOT)
        self._count_all_script = client.register_script(COUNT_ALL)
        self._add_tokens_script = client.register_script(ADD_TOKENS)
        self._renew_script = client.register_script(RENEW_LEASES)

    # Commands that are passed to `asyncio.gather` are sent together, and Redis runs them in their order.

    async def settle(self, ceilings: Sequence[Ceilings], lease: str, tokens: int) -> None:
        steps = []
        for one in ceilings:
            if one.parallel_calls is not None:
                steps.append(self.release_slot(one.counted_as, lease))
            if tokens and one.tokens_per_minute is not None:
                steps.append(self.add_tokens(one.counted_as, one.tokens_per_minute, tokens))
        await asyncio.gather(*steps)

    async def count_requests(self, limits: Sequence[tuple[str, int]]) -> tuple[int | None, list[LimitState]]:
        keys = [f"{PREFIX}:requests/{name}" for name, _ in limits]
        highest = [limit for _, limit in limits]
        reached, *windows = await self._count_all(keys, WINDOW_SECONDS, highest)
        states = [
            LimitState(limit, max(0, limit - count), _seconds(milliseconds, WINDOW_SECONDS))
            for limit, count, milliseconds in zip(highest, windows[::2], windows[1::2], strict=True)
        ]
        return reached - 1 if reached else None, states

    async def _count_all(self, keys: Sequence[str], seconds: int, limits: Sequence[int]) -> list[int]:
        """Runs the script `COUNT_ALL` for the lists `keys` and their `limits` in `seconds`; returns its result."""
        counted: list[int] = await self._count_all_script(keys=keys, args=[seconds, *limits])
        return counted

    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        key = _tokens_key(name)
        spent, milliseconds = await asyncio.gather(self._client.get(key), self._client.pttl(key))
        return LimitState(limit, max(0, limit - int(spent or 0)), _seconds(milliseconds, WINDOW_SECONDS))

    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        await self._add_tokens_script(keys=[_tokens_key(name)], args=[tokens, WINDOW_SECONDS])

    async def pace(self, name: str, seconds: int) -> float:
        reached, _, milliseconds = await self._count_all([f"{PREFIX}:pace/{name}"], seconds, [1])
        return _seconds(milliseconds, seconds) if reached else 0.0

    async def take_slot(self, name: str, lease: str, limit: int) -> bool:
        return bool(await self._take_slot_script(keys=[_key(name)], args=[limit, LEASE_SECONDS, lease]))

    async def release_slot(self, name: str, lease: str) -> None:
        await self._client.zrem(_key(name), lease)
        self._unconfirmed.pop((name, lease), None)

    def mark_released(self, ceilings: Iterable[Ceilings], lease: str) -> None:
        """Records that a call has ended or was refused, so that `renew` frees its slots that Redis may still store."""
        for one in ceilings:
            if one.parallel_calls is not None:
                self._unconfirmed[one.counted_as, lease] = time.monotonic()

    async def renew(self) -> None:
        """Renews the slots of this process's running calls in Redis, and frees the slots of its ended calls.

        Raises an error if Redis cannot count, for example because it is full.
        """
        # Slots expire after `LEASE_SECONDS`, so that those of a dead process become free. If Redis has lost its data,
        # the slots of running calls are written again. One entry is written even if no call runs: a Redis that is full,
        # or a replica, refuses this write.
        held = {name: list(leases) for name, leases in self._slots.items() if leases}
        arguments: list[str | int] = [LEASE_SECONDS]
        for leases in held.values():
            arguments += [len(leases), *leases]
        # No await between the copy of the slots and the command: a slot freed in between would be written again.
        await self._renew_script(keys=[f"{PREFIX}:probe", *map(_key, held)], args=arguments)
        # It may be written again all the same if Redis has lost the script, which the client then awaits to be loaded.
        dropped = {(name, lease) for name, leases in held.items() for lease in leases if lease not in self._slots[name]}
        gone = dropped | self._unconfirmed.keys()
        await asyncio.gather(*(self._client.zrem(_key(name), lease) for name, lease in gone))
        for place in gone:
            self._unconfirmed.pop(place, None)

    def forget_ended(self) -> None:
        """Forgets the slots of ended calls that have expired in Redis by now, so that `renew` need not free them."""
        begin = time.monotonic() - LEASE_SECONDS
        self._unconfirmed = {place: since for place, since in self._unconfirmed.items() if since > begin}


def _key(name: str) -> str:
    return f"{PREFIX}:calls/{name}"


def _tokens_key(name: str) -> str:
    return f"{PREFIX}:tokens/{name}"


def _seconds(milliseconds: int, most: int) -> float:
    """Converts a time until the end of a window, as Redis returns it, to seconds; at least 0, and at most `most`."""
    # It is negative if there is no window, and would be more than `most` if Redis' clock has been put back meanwhile.
    return min(max(0, milliseconds) / 1000, most)
