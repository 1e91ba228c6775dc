"""Simulates workers of a server for tests of leases: several in one process, each with its leases and its journal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from django.db import connections

from tests.support.ledger.ledgers import NOON, Row, call
from tests.support.polling import PATIENCE
from usage.money.lease_rounds import LeaseRounds, Round
from usage.money.leases import CallShare
from usage.money.reservations import Reservations

KEY, TEAM, TODAY = "a key", "a team", NOON.date()
Result = TypeVar("Result")


async def in_database(work: Callable[[], Result]) -> Result:
    """Runs the function `work`, which uses Django's database connection, in a thread; returns its result.

    The thread's connection is closed at the end.
    """

    def run() -> Result:
        try:
            return work()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def until_it_is(value: Result, look: Callable[[], Awaitable[Result]]) -> None:
    """Calls the function `look` until it returns `value`; fails after `PATIENCE` seconds."""
    async with asyncio.timeout(PATIENCE):
        while await look() != value:  # noqa: ASYNC110  (a table tells nobody)
            await asyncio.sleep(0.01)


def row_of(share: CallShare, dollars: Decimal, cost: Decimal | None, **columns: Any) -> Row:
    """Makes the row of a call that has used `dollars` of its reservation, and whose cost is `cost` (None: not known).

    The reservation is one of the budgets of the key `KEY`, or of the team `TEAM`.
    """
    priced = {"cost": None if cost is None else str(cost), "cost_kind": "" if cost is None else "exact", "price": None}
    lease = {"id": share.lease.id, "dollars": str(dollars)}
    of_team = share.lease.spender.kind == "team"
    shared = {"team": TEAM, "team_lease": lease} if of_team else {"lease": lease}
    return call(NOON, key_name=KEY, **shared, **priced, **columns)


def share_of(row: Row) -> Decimal:
    """Reads from a call's row how many dollars of its lease the call has used."""
    share = row.get("lease") or row["team_lease"]
    return Decimal(share["dollars"])


class CountedRounds(LeaseRounds):
    """A worker's round trips to the database for its leases, counted for a test in `made`.

    If `loses` is true, the next round trip is executed, but its answer is lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made = 0
        self.loses = False

    async def make(self, planned: Round) -> None:
        self.made += 1
        await super().make(planned)
        if self.loses:
            self.loses = False
            raise TimeoutError


class Worker:
    """Stand-in for a worker process: its budget leases, its calls in flight, and its journal as a list of rows."""

    def __init__(self) -> None:
        self.writer = str(uuid4())
        self.leases = Reservations()
        self.leases._rounds = self.rounds = CountedRounds()
        self.in_flight: list[CallShare] = []
        self.journal: list[Row] = []

    async def kill(self) -> None:
        """Ends the worker at once; a round trip to the database that is under way may be executed or not."""
        assert self.leases._keeper is not None
        self.leases._keeper.cancel()
        await self.leases._rounds.close()


@asynccontextmanager
async def workers(number: int) -> AsyncIterator[list[Worker]]:
    """Runs `number` workers until the block ends, and yields a list of them.

    At the end, those that are still in the list are stopped.
    """
    running = [Worker() for _ in range(number)]
    for worker in running:
        await worker.leases.open(worker.writer)
    try:
        yield running
    finally:
        for worker in running:
            await worker.leases.close()
