"""Owns the taking of holds: in PostgreSQL, atomically across workers and hosts, from the event loop.

One transaction takes the key's advisory lock and then, in a statement of its own and so with a snapshot that has every
hold of before, inserts the hold only if what is spent, what is held and this hold are within each budget. It is one
round trip, and needs no durability of its own: what a crash of PostgreSQL forgets, the ledger will count.

Nothing here waits longer than `PATIENCE`. When the database does not answer, `fault` says so and `take` fails at once,
until it has answered a look in the background.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from math import inf
from typing import Any, TypeVar

import psycopg
from django.db import connections
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 1.0  # seconds, for everything that a call waits for
LOOK_SECONDS = 1.0
CONNECTIONS = 4
APPLICATION = "chatproxy budgets"
ONE_OUTAGE_SECONDS = 60.0  # a database that fails again within a minute of coming back has not been back

TAKE = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 900;
SET LOCAL synchronous_commit = off;
SELECT pg_advisory_xact_lock(hashtextextended('chatproxy budget ' || %(key_name)s, 0));
WITH spent AS (
    SELECT
        COALESCE(sum(cost) FILTER (WHERE day = %(day)s), 0) AS day,
        COALESCE(sum(cost) FILTER (WHERE day >= %(month_start)s AND day < %(month_end)s), 0) AS month,
        COALESCE(sum(cost), 0) AS total
    FROM usage_usageday WHERE key_name = %(key_name)s AND day >= COALESCE(%(since)s::date, '-infinity')
), held AS (
    SELECT
        COALESCE(sum(dollars) FILTER (WHERE day = %(day)s), 0) AS day,
        COALESCE(sum(dollars) FILTER (WHERE day >= %(month_start)s AND day < %(month_end)s), 0) AS month,
        COALESCE(sum(dollars), 0) AS total
    FROM usage_hold WHERE key_name = %(key_name)s
), taken AS (
    INSERT INTO usage_hold (request_id, key_name, day, dollars)
    SELECT %(request_id)s, %(key_name)s, %(day)s, %(dollars)s FROM spent, held
    WHERE (spent.day + held.day + %(dollars)s <= %(day_budget)s::numeric) IS NOT FALSE
        AND (spent.month + held.month + %(dollars)s <= %(month_budget)s::numeric) IS NOT FALSE
        AND (spent.total + held.total + %(dollars)s <= %(total_budget)s::numeric) IS NOT FALSE
        AND NOT EXISTS (SELECT FROM usage_request WHERE request_id = %(request_id)s)
    RETURNING request_id
)
SELECT spent.*, held.*, EXISTS (SELECT FROM taken) FROM spent, held;
COMMIT
"""
# Rows that the shipper is about to delete are left to it: waiting for several of them could be a deadlock.
SETTLE = """
BEGIN;
SET LOCAL statement_timeout = 900;
SET LOCAL synchronous_commit = off;
WITH settled AS (
    SELECT request_id, actual.dollars
    FROM usage_hold JOIN unnest(%(ids)s::uuid[], %(dollars)s::numeric[]) AS actual(id, dollars) ON request_id = id
    FOR UPDATE OF usage_hold SKIP LOCKED
), gone AS (
    DELETE FROM usage_hold USING settled WHERE usage_hold.request_id = settled.request_id AND settled.dollars = 0
)
UPDATE usage_hold SET dollars = settled.dollars FROM settled
WHERE usage_hold.request_id = settled.request_id AND settled.dollars <> 0;
COMMIT
"""


class Away(Exception):
    """The database does not answer, or not in time; whether it has taken the hold is not known."""


@dataclass(frozen=True)
class Wanted:
    """One hold. `day` is that of the call's start, in UTC; budgets are dollars, None: no limit."""

    request_id: str
    key_name: str
    day: date
    dollars: Decimal
    day_budget: Decimal | None
    month_budget: Decimal | None
    total_budget: Decimal | None


@dataclass(frozen=True)
class Standing:
    """Dollars by span (`day`, `month`, `total`); of spans longer than every budget, a part."""

    taken: bool
    spent: dict[str, Decimal]
    held: dict[str, Decimal]


@dataclass
class Batch:
    """What ended calls have really cost, on its way into their holds."""

    dollars: dict[str, Decimal] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    written: asyncio.Event = field(default_factory=asyncio.Event)


class Reservations:
    """`open` in each worker's event loop; there is no connection before the first hold is wanted."""

    def __init__(self) -> None:
        self.fault = ""
        self.outages = 0  # the number of the one that goes on, or was the last
        self._back_at = self._answered_at = -inf
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._batch = Batch()
        self._in_flight = Batch()
        self._work = asyncio.Event()

    async def open(self) -> None:
        parameters = connections["default"].get_connection_params()
        del parameters["context"]  # Django's own ways with times
        parameters |= {
            "application_name": APPLICATION, "autocommit": True, "cursor_factory": AsyncClientCursor,
            "connect_timeout": 2, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
        }  # fmt: skip
        self._pool = AsyncConnectionPool(
            kwargs=parameters,
            min_size=0,
            max_size=CONNECTIONS,
            num_workers=1,
            timeout=PATIENCE,
            reconnect_timeout=PATIENCE,
            check=AsyncConnectionPool.check_connection,
            name=APPLICATION,
            open=False,
        )
        await self._pool.open()
        self._own(self._keep())

    async def close(self) -> None:
        """What is still to be settled is settled by the rows."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        if self._pool is not None:
            await self._pool.close(timeout=PATIENCE)

    async def take(self, wanted: Wanted) -> Standing:
        """Takes the hold if every budget has room for it.

        Raises:
            Away: nobody knows.
        """
        if self.fault:
            raise Away
        return await self._in_time(self._take(wanted))

    def settle(self, key_name: str, request_id: str, dollars: Decimal) -> None:
        """The call has ended and has cost so much: the next one need not wait for its row. Best effort."""
        self._batch.dollars[request_id] = dollars
        self._batch.keys.add(key_name)
        self._work.set()

    async def _take(self, wanted: Wanted) -> Standing:
        for batch in (self._in_flight, self._batch):
            if wanted.key_name in batch.keys:
                await batch.written.wait()
        month_start = wanted.day.replace(day=1)
        month_end = date(wanted.day.year + wanted.day.month // 12, wanted.day.month % 12 + 1, 1)
        month_or_day = wanted.day if wanted.month_budget is None else month_start
        since = month_or_day if wanted.total_budget is None else None
        bounds = {"month_start": month_start, "month_end": month_end, "since": since}
        *sums, taken = (await self._run(TAKE, {**vars(wanted), **bounds}))[0]
        spans = ("day", "month", "total")
        return Standing(taken, dict(zip(spans, sums[:3], strict=True)), dict(zip(spans, sums[3:], strict=True)))

    async def _run(self, statements: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of the last statement that has some."""
        assert self._pool is not None  # noqa: S101  (it is open while calls are served)
        rows: list[tuple[Any, ...]] = []
        async with self._pool.connection() as lent, lent.cursor() as cursor:
            await cursor.execute(statements, values)
            while True:
                if cursor.description is not None:
                    rows = await cursor.fetchall()
                if not cursor.nextset():
                    return rows

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """Whoever waits for it may leave. To end a connection that says nothing takes psycopg ten seconds more."""
        task = self._own(_bounded(work))
        done, _ = await asyncio.wait({task}, timeout=PATIENCE)
        if not done:
            self._gone("NoAnswer")
            raise Away
        try:
            found = task.result()
        except (psycopg.Error, PoolTimeout, OSError) as error:
            self._gone(type(error).__name__)
            raise Away from error
        self._answered_at = time.monotonic()
        return found

    def _own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was raised where somebody waited, if anybody did

    def _gone(self, fault: str) -> None:
        """Not if it answers others: then it is only busy."""
        if time.monotonic() - self._answered_at < PATIENCE:
            return
        if not self.fault:
            logger.warning("budgets cannot be reserved: %s", fault)
            if time.monotonic() - self._back_at > ONE_OUTAGE_SECONDS:
                self.outages += 1
        self.fault = fault
        self._work.set()

    async def _keep(self) -> None:
        """Settles what has ended, and looks for the database while it is away."""
        while True:
            await self._work.wait()
            self._work.clear()
            if self.fault:
                await asyncio.sleep(LOOK_SECONDS)
            self._in_flight, self._batch = self._batch, Batch()
            ended = self._in_flight
            values = {"ids": list(ended.dollars), "dollars": list(ended.dollars.values())}
            try:
                await self._in_time(self._run(SETTLE, values))
            except Away:
                continue  # the rows will settle them
            except Exception:  # the border: nothing may end this task
                logger.exception("holds could not be settled before their rows")
                continue
            finally:
                ended.written.set()
                ended.keys.clear()
            if self.fault:
                logger.info("budgets are reserved again")
                self.fault, self._back_at = "", time.monotonic()


async def _bounded(work: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await work


reservations = Reservations()
