"""Makes reservations of budgets in PostgreSQL, atomically across workers and hosts, from the event loop.

One transaction takes the key's advisory lock. A second statement, whose snapshot therefore has every earlier
reservation, inserts the new one only if spent, reserved and new dollars are within each budget. It is not synced to
the disk: the ledger counts the call even if a crash of PostgreSQL forgets the reservation.

One task works in rounds. A round is one transaction and one round trip for all calls of this process that wait by then,
and for all that have ended: many calls do not queue for connections, and a caller whose call has ended finds its
reservation reduced to the cost. A round takes `PATIENCE` seconds at most. If it fails, all waiting calls fail at once,
`fault` has the reason, and `take` fails at once until a later round succeeds.

Over 300 lines, since the rounds and the statements that they send describe one transaction.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from math import inf

import psycopg
from django.db import connections
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from usage.timeouts import result_within

logger = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds for one round; a call may also have to wait for rounds before its own
SETTLE_SECONDS = 0.02
FRESH_SECONDS = 5.0
CALLS_AT_ONCE = 50
LOOK_SECONDS = 1.0
CONNECTIONS = 4
SPANS = ("day", "month", "total")
APPLICATION = "chatproxy budgets"
ONE_OUTAGE_SECONDS = 60.0  # a database that fails again within a minute of coming back is in the same outage

BEGIN = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 900;
SET LOCAL synchronous_commit = off"""
LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('chatproxy budget ' || %s, 0))"
TAKE = """
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
), room AS (
    SELECT
        COALESCE(LEAST(
            %(day_budget)s::numeric - spent.day - held.day,
            %(month_budget)s::numeric - spent.month - held.month,
            %(total_budget)s::numeric - spent.total - held.total
        ), %(dollars)s) AS dollars,
        COALESCE(LEAST(
            %(day_budget)s::numeric - spent.day,
            %(month_budget)s::numeric - spent.month,
            %(total_budget)s::numeric - spent.total
        ), %(dollars)s) AS unheld
    FROM spent, held
), taken AS (
    INSERT INTO usage_hold (request_id, key_name, day, dollars)
    SELECT %(request_id)s, %(key_name)s, %(day)s, LEAST(%(dollars)s, room.dollars) FROM room
    WHERE (%(dollars)s <= room.dollars
            OR (%(least)s <= room.dollars AND (%(is_last_try)s OR room.dollars * 2 >= room.unheld)))
        AND NOT EXISTS (SELECT FROM usage_request WHERE request_id = %(request_id)s)
    RETURNING dollars
)
SELECT spent.*, held.*, (SELECT dollars FROM taken) AS taken FROM spent, held"""
# Rows that the shipper is about to delete are skipped, because waiting for several of them could be a deadlock.
SETTLE = """
WITH settled AS (
    SELECT request_id, actual.dollars
    FROM usage_hold JOIN unnest(%(ids)s::uuid[], %(dollars)s::numeric[]) AS actual(id, dollars) ON request_id = id
    FOR UPDATE OF usage_hold SKIP LOCKED
), gone AS (
    DELETE FROM usage_hold USING settled WHERE usage_hold.request_id = settled.request_id AND settled.dollars = 0
)
UPDATE usage_hold SET dollars = settled.dollars FROM settled
WHERE usage_hold.request_id = settled.request_id AND settled.dollars <> 0"""


class ReservationsUnavailable(Exception):
    """Error: the database did not answer a budget reservation in time; it may or may not have made the reservation."""


@dataclass(frozen=True)
class Wanted:
    """Request for a reservation: the dollars that a call should get from the budgets of its key.

    `day` is the UTC day on which the call has begun. A budget is in dollars; None means no limit. If the budgets have
    less than `dollars` left, all that is left is reserved, provided that it is at least `least`. Where other
    reservations hold more than half of the unspent dollars, this is done only with `is_last_try`, because they may be
    about to end.
    """

    request_id: str
    key_name: str
    day: date
    dollars: Decimal
    day_budget: Decimal | None
    month_budget: Decimal | None
    total_budget: Decimal | None
    least: Decimal
    is_last_try: bool = False

    def values(self) -> dict[str, object]:
        """Returns the parameters of the SQL statement `TAKE`, which makes this reservation.

        `since` is the first day whose costs must be added up for the budgets; None for all days.
        """
        month_start = self.day.replace(day=1)
        month_end = (month_start + timedelta(days=31)).replace(day=1)
        since = self.day if self.month_budget is None else month_start
        bounds = {"month_start": month_start, "month_end": month_end, "since": since}
        return {**vars(self), **bounds, "since": since if self.total_budget is None else None}


@dataclass(frozen=True)
class BudgetState:
    """The state of a key's budgets after an attempt to reserve: dollars spent, and dollars reserved before the attempt.

    `spent` and `held` (the reserved dollars) map the spans `day`, `month` and `total` to dollars. `taken` is what the
    attempt has reserved, in dollars; None if it has failed. For a span without a budget, some of the spent dollars may
    be left out.
    """

    taken: Decimal | None
    spent: dict[str, Decimal]
    held: dict[str, Decimal]


class Reservations:
    """Client of one worker process for budget reservations in the database.

    Call `open` before use, in the event loop that serves calls.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.outages = 0  # how many outages of the database there have been, the present one included
        self._back_at = self._answered_at = -inf
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._rounds: set[asyncio.Task[list[BudgetState]]] = set()  # the round that runs, and any late ones
        self._waiting: list[tuple[Wanted, asyncio.Future[BudgetState]]] = []
        self._ended: dict[str, Decimal] = {}
        self._work = asyncio.Event()

    async def open(self) -> None:
        """Opens the pool of database connections, and starts the task that makes budget reservations in rounds."""
        parameters = connections["default"].get_connection_params()
        del parameters["context"]  # Django's conversions of times
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
            check=self._check,
            name=APPLICATION,
            open=False,
        )
        await self._pool.open()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Stops making budget reservations, and closes the pool of database connections.

        Reservations that are not settled yet are deleted when the rows of their calls are written.
        """
        tasks = [task for task in (self._keeper, *self._rounds) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        if self._pool is not None:
            await self._pool.close(timeout=PATIENCE)

    async def take(self, wanted: Wanted) -> BudgetState:
        """Reserves a call's highest cost if it fits into every budget of its key; returns the state of these budgets.

        Raises:
            ReservationsUnavailable: the database does not say whether there is room.
        """
        if self.fault:
            raise ReservationsUnavailable
        future: asyncio.Future[BudgetState] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        self._work.set()
        return await future

    def settle(self, request_id: str, dollars: Decimal) -> None:
        """Reduces an ended call's reservation to its cost, in the next round; the call's row later replaces it."""
        if not self._ended:  # the round comes a moment later, so that it also serves the caller's next call
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._work.set)
        self._ended[request_id] = dollars

    async def _keep(self) -> None:
        """Runs a round of budget reservations whenever calls wait or have ended; pauses first after a failed round."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                if self.fault:
                    await asyncio.sleep(LOOK_SECONDS)
                await self._round()
        finally:
            self._fail(self._waiting)

    async def _round(self) -> None:
        """Makes the budget reservations that calls wait for and answers them; reduces those of calls that ended."""
        calls = [(wanted, future) for wanted, future in self._waiting[:CALLS_AT_ONCE] if not future.done()]
        self._waiting = self._waiting[CALLS_AT_ONCE:]
        if self._waiting:
            self._work.set()
        ended, self._ended = self._ended, {}
        try:
            states = await self._write_in_time(ended, [wanted for wanted, _ in calls])
        except Exception as error:  # the border: after any error, waiting calls need an answer, and later calls a round
            if not isinstance(error, psycopg.Error | PoolTimeout | OSError):
                logger.exception("a round of reservations failed")
            self._gone(type(error).__name__)
            waiting, self._waiting = self._waiting, []
            self._fail([*calls, *waiting])
            return
        self._answered_at = time.monotonic()
        if self.fault:
            logger.info("budgets are reserved again")
            self.fault, self._back_at = "", time.monotonic()
        for (_, future), standing in zip(calls, states, strict=True):
            if not future.done():  # else the caller has left, and the call's row will delete the reservation
                future.set_result(standing)

    async def _write_in_time(self, ended: Mapping[str, Decimal], wanted: Sequence[Wanted]) -> list[BudgetState]:
        """Runs one round of budget reservations; raises TimeoutError if it takes longer than `PATIENCE` seconds.

        Without that, psycopg would give up only after ten seconds.
        """
        task = asyncio.create_task(self._write(ended, wanted))
        self._rounds.add(task)
        task.add_done_callback(self._round_ended)
        try:
            return await result_within(task, PATIENCE)
        except TimeoutError:
            task.cancel()
            raise

    def _round_ended(self, task: asyncio.Task[list[BudgetState]]) -> None:
        """Forgets an ended round's task; reads the task's error, because asyncio logs an error that nobody has read."""
        self._rounds.discard(task)
        if not task.cancelled():
            task.exception()  # `_write_in_time` has raised it, if it was still waiting

    async def _check(self, connection: AsyncConnection[TupleRow]) -> None:
        """Checks by a query that a connection is open; skips the query if the database has answered a moment ago."""
        if time.monotonic() - self._answered_at > FRESH_SECONDS:
            await AsyncConnectionPool.check_connection(connection)

    async def _write(self, ended: Mapping[str, Decimal], wanted: Sequence[Wanted]) -> list[BudgetState]:
        """Makes and reduces budget reservations in one transaction; returns the budgets' state for each of `wanted`."""
        assert self._pool is not None  # noqa: S101  (it is open while calls are served)
        by_key: dict[str, list[int]] = defaultdict(list)
        for number, one in enumerate(wanted):
            by_key[one.key_name].append(number)
        order: list[int] = []
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            assert isinstance(cursor, AsyncClientCursor)  # noqa: S101  (it was asked for)
            statements = [BEGIN]
            if ended:
                values = {"ids": list(ended), "dollars": list(ended.values())}
                statements.append(cursor.mogrify(SETTLE, values))
            for key_name in sorted(by_key):  # in one order, so that two processes never deadlock
                statements.append(cursor.mogrify(LOCK, [key_name]))
                statements += [cursor.mogrify(TAKE, wanted[number].values()) for number in by_key[key_name]]
                order += by_key[key_name]
            await cursor.execute("; ".join([*statements, "COMMIT"]).encode())
            found: dict[int, BudgetState] = {}
            numbers = iter(order)
            while True:
                if cursor.description is not None and cursor.description[-1].name == "taken":
                    [[*sums, taken]] = await cursor.fetchall()
                    spent, held = (dict(zip(SPANS, three, strict=True)) for three in (sums[:3], sums[3:]))
                    found[next(numbers)] = BudgetState(taken, spent, held)
                if not cursor.nextset():
                    return [found[number] for number in range(len(wanted))]

    def _gone(self, fault: str) -> None:
        """Remembers in `fault` that the database does not answer reservations, and logs it when an outage begins."""
        if not self.fault:
            logger.warning("budgets cannot be reserved: %s", fault)
            if time.monotonic() - self._back_at > ONE_OUTAGE_SECONDS:
                self.outages += 1
        self.fault = fault
        self._work.set()

    def _fail(self, calls: Sequence[tuple[Wanted, asyncio.Future[BudgetState]]]) -> None:
        """Raises `ReservationsUnavailable` in each of `calls`, which wait for a budget reservation."""
        for _, future in calls:
            if not future.done():
                future.set_exception(ReservationsUnavailable())


reservations = Reservations()
