"""Counts the limits of keys and teams in Redis, for all processes and hosts together.

A slot for a parallel call is a lease: a right that ends at a certain time, by the clock of Redis. Each spender has a
sorted set with the ids of its leases and the time at which each ends. `renew` extends the leases of this process; the
leases of a process that was killed expire.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import cast

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond, WindowStats
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from limits.typing import AsyncRedisClient
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
# The moving windows of the library `limits`, of several spenders: a list of times each, newest first. KEYS: the lists.
# ARGV: the present time, the seconds of the window, the limit of each list. Returns 0, or the number of the first list
# whose limit is reached; then the time is added to none.
HIT_ALL = """
for i, key in ipairs(KEYS) do
    local entry = redis.call('LINDEX', key, ARGV[2 + i] - 1)
    if entry and tonumber(entry) >= ARGV[1] - ARGV[2] then return i end
end
for i, key in ipairs(KEYS) do
    redis.call('LPUSH', key, ARGV[1])
    redis.call('LTRIM', key, 0, ARGV[2 + i] - 1)
    redis.call('EXPIRE', key, ARGV[2])
end
return 0
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
        self._hit_all_script = client.register_script(HIT_ALL)
        self._renew_script = client.register_script(RENEW_LEASES)
        self._storage = PreciseRedisStorage(client)
        self._moving = MovingWindowRateLimiter(self._storage)
        self._fixed = FixedWindowRateLimiter(self._storage)

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
        items = [(MinuteLimit(limit, namespace="requests"), name) for name, limit in limits]
        windows = (self._moving.get_window_stats(item, name) for item, name in items)
        results = await asyncio.gather(self._hit_all(items), *windows)
        refuser, stats = cast(int | None, results[0]), cast(list[WindowStats], results[1:])
        states = [
            _limit_state(item, one.reset_time, one.remaining) for (item, _), one in zip(items, stats, strict=True)
        ]
        return refuser, states

    async def _hit_all(self, items: Sequence[tuple[MinuteLimit, str]]) -> int | None:
        """Counts one request for all limits in `items`, or for none of them if one is reached.

        Returns the index of the first reached limit, or None if the request was counted. `items` are pairs of a limit
        and the name of its spender (key or team).
        """
        if len(items) == 1:
            return None if await self._moving.hit(*items[0]) else 0
        keys = [self._storage.bridge.prefixed_key(item.key_for(name)) for item, name in items]
        limits = [item.amount for item, _ in items]
        refuser: int = await self._hit_all_script(keys=keys, args=[time.time(), WINDOW_SECONDS, *limits])
        return refuser - 1 if refuser else None

    async def remaining_tokens(self, name: str, limit: int) -> LimitState:
        item = MinuteLimit(limit, namespace="tokens")
        key = item.key_for(name)
        spent, ends_at = await asyncio.gather(self._storage.get(key), self._storage.get_expiry(key))
        return _limit_state(item, ends_at, limit - spent)

    async def add_tokens(self, name: str, limit: int, tokens: int) -> None:
        await self._fixed.hit(MinuteLimit(limit, namespace="tokens"), name, cost=tokens)

    async def pace(self, name: str, seconds: int) -> float:
        item = RateLimitItemPerSecond(1, seconds, namespace="pace")
        if await self._moving.hit(item, name):
            return 0.0
        return _seconds_until((await self._moving.get_window_stats(item, name)).reset_time, seconds)

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


class MinuteLimit(RateLimitItemPerMinute):
    """A limit per minute, counted for each spender (key or team) by itself; the counts stay when the limit changes."""

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return "/".join((self.namespace, *map(str, identifiers)))


class PreciseRedisStorage(RedisStorage):
    """The Redis storage of the Python library `limits`, changed to use the gateway's own client of Redis.

    It also reads to the millisecond when a count expires; the library reads whole seconds.
    """

    STORAGE_SCHEME = None  # type: ignore[assignment]  # the library need not find this class by a URL

    def __init__(self, client: Redis) -> None:
        self._client = client
        super().__init__("async+redis://", implementation="redispy", key_prefix=PREFIX)

    def configure_bridge(self) -> None:
        bridge = cast(RedispyBridge, self.bridge)
        bridge.storage = self._client
        bridge.connection_getter = lambda _: cast(AsyncRedisClient, self._client)

    async def get_expiry(self, key: str) -> float:
        milliseconds: int = await self._client.pttl(self.bridge.prefixed_key(key))
        return time.time() + max(0, milliseconds) / 1000


def _key(name: str) -> str:
    return f"{PREFIX}:calls/{name}"


def _limit_state(item: RateLimitItem, reset_at: float, remaining: int) -> LimitState:
    return LimitState(item.amount, max(0, remaining), _seconds_until(reset_at, WINDOW_SECONDS))


def _seconds_until(reset_at: float, most: float) -> float:
    """Returns the seconds from now until the Unix time `reset_at`; at least 0, and at most `most`."""
    # It would be more than `most` if the clock has been put back meanwhile.
    return min(max(0.0, reset_at - time.time()), most)
