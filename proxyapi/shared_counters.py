"""Owns counting in Redis, where all processes and hosts count the same.

A place among the parallel calls is a lease, by Redis' clock: a set of lease ids, each with the time at which it ends.
`renew` keeps those of this process; those of a process that was killed run out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Set
from typing import Any, cast

from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.typing import AsyncRedisClient
from redis.asyncio import Redis

from proxyapi.counters import Counters
from proxyapi.keyring import Caller

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
# KEYS: the set. ARGV: the seconds, the leases.
RENEW = """
local time = redis.call('TIME')
local ends = time[1] + time[2] / 1000000 + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], ends, ARGV[i]) end
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class SharedCounters(Counters):
    """`places` are those that this process holds. A method raises what Redis' client does."""

    def __init__(self, client: Redis, places: Mapping[str, Set[str]]) -> None:
        super().__init__(PreciseRedisStorage(client))
        self._client = client
        self._places = places
        self._leaving: dict[tuple[str, str], float] = {}  # given back, but Redis has not confirmed it yet; since when
        self._occupy = client.register_script(OCCUPY)
        self._renew = client.register_script(RENEW)

    async def _in_order(self, *steps: Coroutine[Any, Any, Any]) -> list[Any]:
        """They leave together, and Redis takes them in their order."""
        return await asyncio.gather(*steps)

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
        """Keeps the places that are held, and takes back those that are not; a Redis that has lost all learns them."""
        held = {name: list(leases) for name, leases in self._places.items() if leases}
        renewals = (self._renew(keys=[_key(name)], args=[LEASE_SECONDS, *held[name]]) for name in held)
        # A write, whatever is held: one that Redis refuses (full, or a replica) means that it cannot count.
        await asyncio.gather(self._client.set(f"{PREFIX}:probe", "", ex=60), *renewals)
        # A place that was given back meanwhile may have been taken again by the lines above.
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
