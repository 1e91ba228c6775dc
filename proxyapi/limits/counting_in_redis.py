"""Owns counting in Redis, where all processes and hosts count the same.

A place among the parallel calls is a lease, by Redis' clock: a set of lease ids, each with the time at which it ends.
`renew` keeps those of this process; those of a process that was killed run out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Set
from typing import cast

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter
from limits.typing import AsyncRedisClient
from redis.asyncio import Redis

from proxyapi.keys.keyring import Caller
from proxyapi.limits.counting import Counters, Standing

PREFIX = "chatproxy"
LEASE_SECONDS = 15

# KEYS: the set. ARGV: the limit, the seconds, the lease.
OCCUPY = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""
# KEYS: one that is only written, then the sets. ARGV: the seconds; for each set the number of its leases, and they.
RENEW = """
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


class SharedCounters(Counters):
    """`places` are those that this process holds. A method raises what Redis' client does."""

    def __init__(self, client: Redis, places: Mapping[str, Set[str]]) -> None:
        self._client = client
        self._places = places
        self._leaving: dict[tuple[str, str], float] = {}  # given back, but Redis has not confirmed it yet; since when
        self._occupy = client.register_script(OCCUPY)
        self._renew = client.register_script(RENEW)
        self._storage = PreciseRedisStorage(client)
        self._moving = MovingWindowRateLimiter(self._storage)
        self._fixed = FixedWindowRateLimiter(self._storage)

    # What is gathered leaves together, and Redis takes it in its order.

    async def settle(self, caller: Caller, lease: str, tokens: int) -> None:
        steps = [self.vacate(caller.name, lease)] if caller.parallel_calls is not None else []
        if tokens and caller.tokens_per_minute is not None:
            steps.append(self.spend(caller.name, caller.tokens_per_minute, tokens))
        await asyncio.gather(*steps)

    async def hit(self, name: str, limit: int) -> tuple[bool, Standing]:
        item = PerMinute(limit, namespace="requests")
        counted, stats = await asyncio.gather(self._moving.hit(item, name), self._moving.get_window_stats(item, name))
        return counted, _standing(item, stats.reset_time, stats.remaining)

    async def tokens(self, name: str, limit: int) -> Standing:
        item = PerMinute(limit, namespace="tokens")
        key = item.key_for(name)
        spent, ends_at = await asyncio.gather(self._storage.get(key), self._storage.get_expiry(key))
        return _standing(item, ends_at, limit - spent)

    async def spend(self, name: str, limit: int, tokens: int) -> None:
        await self._fixed.hit(PerMinute(limit, namespace="tokens"), name, cost=tokens)

    async def pace(self, name: str, seconds: int) -> float:
        item = RateLimitItemPerSecond(1, seconds, namespace="pace")
        if await self._moving.hit(item, name):
            return 0.0
        return max(0.0, (await self._moving.get_window_stats(item, name)).reset_time - time.time())

    async def occupy(self, name: str, lease: str, limit: int) -> bool:
        return bool(await self._occupy(keys=[_key(name)], args=[limit, LEASE_SECONDS, lease]))

    async def vacate(self, name: str, lease: str) -> None:
        await self._client.zrem(_key(name), lease)
        self._leaving.pop((name, lease), None)

    def leave(self, caller: Caller, lease: str) -> None:
        """The place is free from now on; if Redis cannot hear it, `renew` will say it again."""
        if caller.parallel_calls is not None:
            self._leaving[caller.name, lease] = time.monotonic()

    async def renew(self) -> None:
        """Keeps the places that are held, and takes back those that are not; a Redis that has lost all learns them.

        It always writes: a Redis that takes no writes (full, or a replica) cannot count.
        """
        held = {name: list(leases) for name, leases in self._places.items() if leases}
        arguments: list[str | int] = [LEASE_SECONDS]
        for leases in held.values():
            arguments += [len(leases), *leases]
        # Nothing may come between the look and the command: a place given back in between would be taken again.
        await self._renew(keys=[f"{PREFIX}:probe", *map(_key, held)], args=arguments)
        # As it may be all the same where Redis had lost the script, and was told it again first.
        dropped = {
            (name, lease) for name, leases in held.items() for lease in leases if lease not in self._places[name]
        }
        gone = dropped | self._leaving.keys()
        await asyncio.gather(*(self._client.zrem(_key(name), lease) for name, lease in gone))
        for place in gone:
            self._leaving.pop(place, None)

    def forget_ended(self) -> None:
        """Leases that have run out by themselves need not be taken back any more."""
        begin = time.monotonic() - LEASE_SECONDS
        self._leaving = {place: since for place, since in self._leaving.items() if since > begin}


class PerMinute(RateLimitItemPerMinute):
    """Counted under the name alone: a limit that is changed does not begin anew."""

    def key_for(self, *identifiers: bytes | str | int | float) -> str:
        return "/".join((self.namespace, *map(str, identifiers)))


class PreciseRedisStorage(RedisStorage):
    """Where `limits` counts in Redis: with our client; and it knows the end of a window to the millisecond."""

    STORAGE_SCHEME = None  # type: ignore[assignment]  # no URL leads here

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


def _standing(item: RateLimitItem, reset_at: float, remaining: int) -> Standing:
    return Standing(item.amount, max(0, remaining), max(0.0, reset_at - time.time()))
