"""Random walks of several workers with the budgets of one key or team, on a real PostgreSQL: none ever passes a budget.

A walk takes, settles and ships calls in any order, leaves workers idle, kills them, and loses hosts and answers. After
each step two things must be true of what any reader of the tables sees: spent and held are within each budget, and they
cover all that calls have cost, may still cost, or have reserved.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from tests.support.ledger.budget_workers import (
    KEY,
    TEAM,
    TODAY,
    Worker,
    in_database,
    row_of,
    share_of,
    until_it_is,
    workers,
)
from tests.support.ledger.ledgers import NOON, Row, call
from usage.journal_shipping.background_responses import forget_pending
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import Hold, PendingResponse
from usage.money import reservations
from usage.money.leases import NOTHING, Wanted
from usage.money.reservations import ReservationsUnavailable
from usage.money.spenders import Spender, SpenderKind
from usage.money.spent_and_reserved import drop_orphans, end_leases, spent_by

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, STEPS = 3, 120
# Of the day, of the month and in all, for each walk; with what was spent before, another one is the tightest each time.
BUDGETS = [(40, 60, 100), (None, 35, None), (50, None, 75), (30, 30, 75)]
SPENT_BEFORE = {TODAY - timedelta(days=1): Decimal(15), TODAY - timedelta(days=40): Decimal(30)}


class Walk:
    """The workers of one walk, and what has become of all their calls."""

    def __init__(self, kind: SpenderKind, seed: int, running: list[Worker]) -> None:
        self.spender = Spender(kind, KEY if kind == "key" else TEAM)
        self.chance = random.Random(seed)
        self.budgets = [None if dollars is None else Decimal(dollars) for dollars in BUDGETS[seed]]
        self.workers = running
        self.spent = sum(SPENT_BEFORE.values(), NOTHING)
        self.apart: dict[str, Decimal] = {}  # reserved for responses that go on, by the ids of their calls
        self.admitted = self.refused = 0

    async def add_worker(self) -> None:
        worker = Worker()
        await worker.leases.open(worker.writer)
        self.workers.append(worker)

    @property
    def promised(self) -> Decimal:
        """The dollars that all calls have cost, may still cost, or have reserved."""
        found = self.spent + sum(self.apart.values(), NOTHING)
        for worker in self.workers:
            found += sum((share.dollars for share in worker.in_flight), NOTHING)
            found += sum(map(share_of, worker.journal), NOTHING)
        return found

    async def check(self) -> None:
        """Checks the two invariants against the tables."""
        promised = self.promised
        [spent] = (await in_database(lambda: spent_by(self.spender.kind, [self.spender.name], TODAY))).values()
        assert promised <= spent.total
        for seen, budget in zip((spent.day, spent.month, spent.total), self.budgets, strict=True):
            assert budget is None or seen <= budget

    # --- steps

    async def take(self) -> None:
        """Takes dollars for some calls at once; some of them can be limited to less."""
        worker = self.chance.choice(self.workers)

        async def take_one() -> None:
            dollars = Decimal(self.chance.randrange(1, 200)) / 100
            least = dollars / self.chance.choice([1, 1, 4])
            day, month, total = self.budgets
            wanted = Wanted(
                self.spender, TODAY, dollars, day, month, total, least, is_last_try=self.chance.random() < 0.5
            )
            try:
                share = (await worker.leases.take(wanted)).share
            except ReservationsUnavailable:  # the answer to this round, or to the one before, was lost
                share = None
            if share is None:
                self.refused += 1
            else:
                assert least <= share.dollars <= dollars
                self.admitted += 1
                worker.in_flight.append(share)

        await asyncio.gather(*(take_one() for _ in range(self.chance.choice([1, 1, 2, 5]))))

    async def settle(self) -> None:
        """Ends some calls: for a part of what was reserved, for nothing, or with a response that goes on."""
        worker = self.chance.choice(self.workers)
        for share in worker.in_flight[: self.chance.randrange(1, 6)]:
            worker.in_flight.remove(share)
            way = self.chance.random()
            if way < 0.1:
                worker.leases.settle(share, share.dollars)
                response = {"route": "/v1/responses", "response_id": f"resp_{uuid4()}", "response_status": "queued"}
                counts = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "usage"))
                supposed = {"input_tokens": 10, "output_tokens": 0}
                unknown = {**response, **counts, "pollable": True, "usage_source": "unknown", "supposed": supposed}
                worker.journal.append(row_of(share, share.dollars, None, **unknown))
                continue
            cost = (
                NOTHING
                if way < 0.2
                else (share.dollars * self.chance.randrange(1, 101) / 100).quantize(NOTHING + Decimal("0.00000001"))
            )
            worker.leases.settle(share, cost)
            worker.journal.append(row_of(share, cost, cost))

    async def ship(self) -> None:
        worker = self.chance.choice(self.workers)
        count = self.chance.randrange(1, 8)
        rows, worker.journal = worker.journal[:count], worker.journal[count:]
        await self.write(rows)

    async def write(self, rows: Sequence[Row]) -> None:
        """Ships rows; sometimes twice, as after a crash of the shipper."""
        for _ in range(self.chance.choice([1, 1, 2])):
            if rows:
                await in_database(lambda: write_rows(rows))
        for row in rows:
            if row["cost"] is None:
                self.apart[row["request_id"]] = share_of(row)
            else:
                self.spent += Decimal(row["cost"])

    async def count_response(self) -> None:
        """Ends the polling of a background response; what is supposed of it is next to nothing."""
        response = await in_database(lambda: PendingResponse.objects.first())
        if response is not None:
            await in_database(lambda: forget_pending(response))
            del self.apart[str(response.request_id)]

    async def kill(self) -> None:
        """Kills a worker; whoever adopts its journal ships what is there, and estimates the calls in flight."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        await worker.kill()
        guesses = []
        for share in worker.in_flight:
            begin = row_of(share, share.dollars, share.dollars / 2)
            guesses.append({**begin, **interrupted(begin), "cost": begin["cost"]})
        await self.write([*worker.journal, *guesses])
        await in_database(lambda: end_leases(worker.writer))
        await self.add_worker()

    async def lose_host(self) -> None:
        """A worker and its journal are gone for ever: its leases run out, and its calls are in nobody's books."""
        worker = self.workers.pop(self.chance.randrange(len(self.workers)))
        await worker.kill()

        def run_out() -> None:
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE usage_hold SET made_at = now() - interval '9 days' WHERE writer = %s", [worker.writer]
                )
            drop_orphans()

        await in_database(run_out)
        await self.add_worker()

    async def lose_answer(self) -> None:
        """The next round of a worker is executed, but its answer never comes."""
        self.chance.choice(self.workers).rounds.loses = True

    async def wait(self) -> None:
        """For longer than a look takes, and sometimes than a lease may be idle."""
        await asyncio.sleep(self.chance.choice([0.01, 0.03, 0.1]))

    async def finish(self) -> None:
        """Ends all calls, ships all rows, and stops all workers."""
        for worker in self.workers:
            for share in worker.in_flight:
                worker.leases.settle(share, NOTHING)
            worker.in_flight.clear()
            rows, worker.journal = worker.journal, []
            await self.write(rows)
        while self.apart:
            await self.count_response()


def spend_before() -> None:
    for day, cost in SPENT_BEFORE.items():
        names = {"key_name": KEY, "team": TEAM}
        write_rows([call(NOON.replace(month=day.month, day=day.day), **names, cost=str(cost), cost_kind="exact")])


@pytest.mark.parametrize("kind", ["key", "team"])
@pytest.mark.parametrize("seed", range(len(BUDGETS)))
async def test_no_walk_passes_a_budget(
    monkeypatch: pytest.MonkeyPatch, settings: Any, seed: int, kind: SpenderKind
) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 5, "sk-any"
    monkeypatch.setattr(reservations, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 0.02)
    await in_database(spend_before)
    async with workers(WORKERS) as running:
        walk = Walk(kind, seed, running)
        steps = [walk.take] * 8 + [walk.settle] * 8 + [walk.ship] * 4 + [walk.wait] * 3
        steps += [walk.count_response, walk.kill, walk.lose_host, walk.lose_answer]
        for _ in range(STEPS):
            await walk.chance.choice(steps)()
            await walk.check()
        assert walk.admitted > 30
        await walk.finish()
        await walk.check()
        await until_it_is(False, lambda: in_database(Hold.objects.exists))
