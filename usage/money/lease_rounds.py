"""Makes round trips to PostgreSQL for one worker: in each, all its leases get dollars and give dollars back.

So calls do not queue for connections. A round trip takes `PATIENCE` seconds at most. After that, it is unknown whether
its statements were executed (`lease_statements` explains why that does no harm).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf

from django.db import connections
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from usage.money.lease_statements import Grant, Mogrify, give_back, grant, look
from usage.money.leases import Lease, Need
from usage.timeouts import result_within

PATIENCE = 1.0  # seconds for one round; a call may also have to wait for rounds before its own
FRESH_SECONDS = 5.0
CONNECTIONS = 4
APPLICATION = "chatproxy budgets"


@dataclass
class Round:
    """One round trip to the database for a worker's leases (parts of budgets): the requests, and their answers.

    * `writer`: the id of the worker's journal.
    * `version`: the number of this round trip; the next one has a higher number.
    * `given`: for each lease to renew, the dollars that it gives back to the budgets; often 0.
    * `needs`: the leases' requests for more dollars.
    * `answers`: the answers to `needs`, in the same order.
    * `looked`: the leases whose rows in the database are to be read.
    * `rows`: what these rows say, by the lease's id: whether another worker needs the unused dollars, and all dollars
      of the lease. A lease without a row is absent.
    """

    writer: str
    version: int
    given: dict[Lease, Decimal]
    needs: list[Need]
    looked: list[Lease]
    answers: list[Grant] = field(default_factory=list)
    rows: dict[str, tuple[bool, Decimal]] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """True if this round trip has nothing to send to the database."""
        return not (self.given or self.needs or self.looked)


class LeaseRounds:
    """Client of the database that makes one worker's round trips for its leases (parts of budgets).

    Call `open` before use, in the event loop that serves calls.
    """

    def __init__(self) -> None:
        self._answered_at = -inf
        self._pool: AsyncConnectionPool[AsyncConnection[TupleRow]] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # the round that runs, and any late ones

    async def open(self) -> None:
        """Opens the pool of database connections; the first connection is made when it is needed."""
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

    async def close(self) -> None:
        """Cancels the round trips that still run, and closes the connections to the database."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)
        if self._pool is not None:
            await self._pool.close(timeout=PATIENCE)

    async def make(self, planned: Round) -> None:
        """Makes the round trip `planned` to the database for a worker's leases; stores the answers in `planned`.

        Raises:
            TimeoutError: the round trip takes longer than `PATIENCE` seconds.
            psycopg.Error, psycopg_pool.PoolTimeout, OSError: the database is away, or refuses a statement.
        """
        task = asyncio.create_task(self._write(planned))
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        try:
            # psycopg itself would give up only after ten seconds.
            await result_within(task, PATIENCE)
        except TimeoutError:
            task.cancel()
            raise
        self._answered_at = time.monotonic()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Forgets the task of a round trip that has ended, and reads its error, which asyncio would log otherwise."""
        # asyncio logs an error that nobody has read, so it is read here.
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # `make` has raised it, if it was still waiting

    async def _check(self, connection: AsyncConnection[TupleRow]) -> None:
        """Checks with a query that a connection works, unless the database has answered in the last few seconds.

        Raises:
            psycopg.Error: the connection does not work.
        """
        if time.monotonic() - self._answered_at > FRESH_SECONDS:
            await AsyncConnectionPool.check_connection(connection)

    async def _write(self, planned: Round) -> None:
        """Sends the statements of the round trip `planned` in one message, and stores the answers in `planned`."""
        assert self._pool is not None  # noqa: S101  (it is open while calls are served)
        async with self._pool.connection() as connection, connection.cursor() as cursor:
            assert isinstance(cursor, AsyncClientCursor)  # noqa: S101  (it was asked for)
            # First dollars are given back, then others are asked for. Each lease that needs dollars has its own
            # transaction, so no two processes ever wait for the locks of each other's spenders.
            await cursor.execute("; ".join(statements_of(planned, cursor.mogrify)).encode())
            while True:
                columns = [column.name for column in cursor.description or ()]
                if columns[-1:] == ["granted"]:
                    planned.answers += [Grant.from_row(row) for row in await cursor.fetchall()]
                elif columns[-1:] == ["granted_in_all"]:
                    planned.rows = {name: (recalled, dollars) for name, recalled, dollars in await cursor.fetchall()}
                if not cursor.nextset():
                    return


def statements_of(planned: Round, mogrify: Mogrify) -> list[str]:
    """Returns the SQL statements of a worker's round trip to the database for its leases (parts of budgets).

    The statements do what `planned` names, which may be any of three things: give dollars back, request dollars, and
    read the rows of leases. If it names nothing, there is a single statement, which has no effect. The function
    `mogrify` writes values into SQL.
    """
    found = give_back(planned.given, planned.version, mogrify) if planned.given else []
    for need in planned.needs:
        found += grant(need, planned.writer, planned.version, mogrify)
    if planned.looked:
        over = [lease for lease in planned.looked if lease.is_retired and not lease.in_flight]
        found += look(planned.looked, over, mogrify)
    return found or ["SELECT"]
