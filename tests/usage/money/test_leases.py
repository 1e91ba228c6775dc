"""Leases of several workers on a real PostgreSQL: when they ask, when they give back, and what a lost answer does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from tests.support.ledger.budget_workers import KEY, TODAY, Worker, in_database, row_of, until_it_is, workers
from tests.support.ledger.ledgers import Row
from tests.support.upstreams.raw import until
from usage.journal_shipping.rows import interrupted, write_rows
from usage.models import Hold, SummedName
from usage.money import reservations
from usage.money.lease_statements import GIVE_BACK, grant
from usage.money.leases import SLICE_CALLS, BudgetState, CallShare, Lease, Need, Wanted
from usage.money.spenders import Spender
from usage.money.spent_and_reserved import drop_orphans, end_leases, spent_by

pytestmark = pytest.mark.django_db(transaction=True)

CENT = Decimal("0.01")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "IDLE_SECONDS", 0.1)


async def take(worker: Worker, dollars: Decimal = CENT, budget: Any = 100, **more: Any) -> BudgetState:
    wanted = Wanted(
        Spender("key", KEY), TODAY, dollars, Decimal(budget), None, Decimal(budget), **{"least": dollars, **more}
    )
    return await worker.leases.take(wanted)


async def share_of(worker: Worker, dollars: Decimal = CENT, **more: Any) -> CallShare:
    share = (await take(worker, dollars, **more)).share
    assert share is not None
    return share


async def gets(worker: Worker, dollars: Decimal = CENT, **more: Any) -> bool:
    return (await take(worker, dollars, **more)).share is not None


async def held() -> Decimal:
    return (await in_database(lambda: spent_by("key", [KEY], TODAY)))[KEY].held


async def spent() -> Decimal:
    found = (await in_database(lambda: spent_by("key", [KEY], TODAY)))[KEY]
    return found.total - found.held


async def test_it_works() -> None:
    async with workers(1) as [worker]:
        share = await share_of(worker)
        assert await held() == (SLICE_CALLS + 1) * CENT
        worker.leases.settle(share, CENT / 2)
        await in_database(lambda: write_rows([row_of(share, CENT / 2, CENT / 2)]))
        assert await held() == (SLICE_CALLS + 1) * CENT - CENT / 2
        assert await spent() == CENT / 2


@pytest.mark.parametrize("at_once", [1, 10])
async def test_many_calls_cause_few_rounds(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Two hundred calls, each of which uses a tenth of what it could."""
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 600)
    async with workers(1) as [worker]:
        for _ in range(0, 200, at_once):
            shares = await asyncio.gather(*(share_of(worker) for _ in range(at_once)))
            for share in shares:
                worker.leases.settle(share, CENT / 10)
        assert worker.rounds.made <= 4


async def test_the_last_dollars_go_call_by_call() -> None:
    async with workers(2) as (one, other):
        shares = [await share_of(one, budget="0.05") for _ in range(3)]
        assert await held() == 3 * CENT
        shares.append(await share_of(other, budget="0.05"))
        shares.append(await share_of(other, budget="0.05"))
        assert (await take(one, budget="0.05")).share is None
        one.leases.settle(shares[0], CENT / 10)
        one.leases.settle(shares[1], CENT / 10)
        await until_it_is(True, lambda: gets(other, budget="0.05"))
        assert await held() <= 5 * CENT


async def test_who_is_short_gets_what_others_do_not_use() -> None:
    async with workers(2) as (rich, poor):
        await share_of(rich, budget=1)
        rest = await held() - CENT
        assert rest > 10 * CENT
        wanted = 1 - 2 * CENT
        state = await take(poor, wanted, budget=1)
        assert (state.share, state.others) == (None, 1)
        await until_it_is(True, lambda: gets(poor, wanted, budget=1))
        assert await held() == wanted + CENT
        assert (await take(poor, 2 * CENT, budget=1)).others == 0  # nobody has more to give


async def test_a_part_is_taken_where_all_is_too_much() -> None:
    async with workers(1) as [worker]:
        state = await take(worker, Decimal(5), budget=1, least=CENT)
        assert state.share is not None
        assert state.share.dollars == 1
        assert (await take(worker, CENT, budget=1)).share is None


@pytest.mark.usefixtures("impatient")
async def test_an_idle_lease_is_given_back_and_goes_when_its_calls_are_shipped() -> None:
    async with workers(1) as [worker]:
        share = await share_of(worker)
        made = worker.rounds.made
        await until(lambda: worker.rounds.made > made + 4)  # looks, for longer than a lease may be idle
        assert await held() > CENT, "a call is in flight"
        worker.leases.settle(share, CENT / 2)
        await until_it_is(CENT / 2, held)
        await in_database(lambda: write_rows([row_of(share, CENT / 2, CENT / 2)]))
        await until_it_is(False, lambda: in_database(Hold.objects.exists))
        assert await spent() == CENT / 2
        assert not worker.leases._retired


async def test_a_worker_that_stops_keeps_only_what_is_used() -> None:
    async with workers(1) as [worker]:
        used, _ = await share_of(worker), await share_of(worker)
        worker.leases.settle(used, CENT / 2)
    assert await held() == CENT + CENT / 2


async def test_a_killed_worker_leaves_no_lease_when_its_calls_are_shipped() -> None:
    async with workers(2) as running:
        dead, living = running
        share = await share_of(dead)
        await share_of(living)
        running.remove(dead)
        await dead.kill()
        begin = row_of(share, CENT, CENT / 4)
        guess: Row = {**begin, **interrupted(begin), "cost": begin["cost"]}
        await in_database(lambda: write_rows([guess]))
        before = await held()
        await in_database(lambda: end_leases(dead.writer))
        assert await held() == before - SLICE_CALLS * CENT
        assert await spent() == CENT / 4
        # The real end turns up later: it replaces the guess, and is not taken off a second time.
        end: Row = {**begin, "cost": str(CENT / 2)}
        await in_database(lambda: write_rows([end]))
        assert await held() == before - SLICE_CALLS * CENT
        assert await spent() == CENT / 2


async def test_a_lease_that_is_used_does_not_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "RENEW_SECONDS", 0.0)
    async with workers(1) as [worker]:
        await share_of(worker)
        await in_database(lambda: age_leases("9 days"))
        made = worker.rounds.made
        await until(lambda: worker.rounds.made > made + 1)
        assert await in_database(drop_orphans) == 0


async def test_a_lease_that_has_run_out_is_not_used_any_more() -> None:
    async with workers(1) as [worker]:
        share = await share_of(worker)
        await in_database(lambda: age_leases("9 days"))
        assert await in_database(drop_orphans) == 1
        await until(lambda: share.lease.is_retired)
        assert (await share_of(worker)).lease is not share.lease
        worker.leases.settle(share, CENT)
        assert await held() == (SLICE_CALLS + 1) * CENT


def age_leases(interval: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_hold SET made_at = made_at - %s::interval", [interval])


async def test_changed_budgets_hold_for_the_next_call() -> None:
    async with workers(1) as [worker]:
        share = await share_of(worker, budget=100)
        assert (await take(worker, CENT, budget="0.01")).share is None
        worker.leases.settle(share, Decimal(0))
        await until_it_is(True, lambda: gets(worker, CENT, budget="0.01"))
        assert await held() == CENT


async def test_a_call_that_costs_more_than_was_reserved_is_seen_at_once() -> None:
    async with workers(2) as (one, other):
        share = await share_of(one, budget="0.03")
        one.leases.settle(share, 3 * CENT)
        await until_it_is(3 * CENT, held)
        assert (await take(other, budget="0.03")).share is None
        await in_database(lambda: write_rows([row_of(share, 3 * CENT, 3 * CENT)]))
        assert await held() == 0


async def test_a_lost_answer_loses_no_dollars() -> None:
    """The grant was executed: the worker learns that from the row, and gives back what no call uses."""
    async with workers(1) as [worker]:
        worker.rounds.loses = True
        with pytest.raises(reservations.ReservationsUnavailable):
            await take(worker)
        await until(lambda: not worker.leases.fault)
        await share_of(worker)
        await until_it_is(CENT, held)


async def test_a_late_statement_has_no_effect() -> None:
    """A worker gives up on a round, looks, and believes what it sees; then the round arrives after all."""
    async with workers(1) as [worker]:
        share = await share_of(worker)
        late: dict[str, Any] = {"ids": [share.lease.id], "dollars": [CENT], "has_spare": [True], "version": 0}

        def arrive() -> None:
            with connection.cursor() as cursor:
                cursor.execute(GIVE_BACK, late)

        before = await held()
        await in_database(arrive)
        assert await held() == before


def test_a_grant_waits_for_the_disk_whatever_the_administrator_has_set() -> None:
    """Otherwise PostgreSQL could forget it in a crash, and grant the same dollars again."""
    wanted = Wanted(Spender("key", KEY), TODAY, CENT, Decimal(100), None, None, CENT)
    need = Need(Lease(wanted, 0.0), CENT, CENT, CENT)
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        SummedName.objects.create(dimension="key", value="on no disk yet")
        cursor.execute("SELECT pg_current_wal_insert_lsn()")
        [(written,)] = cursor.fetchall()
        cursor.execute("; ".join(grant(need, "a worker", 1, cursor.mogrify)))
        cursor.execute("RESET synchronous_commit")
        cursor.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", [written])
        assert cursor.fetchall() == [(True,)]
    assert Hold.objects.get().dollars >= CENT


@pytest.mark.parametrize("spans", [{"day_budget": Decimal(1)}, {"month_budget": Decimal(1)}], ids=["day", "month"])
async def test_a_response_that_goes_on_over_midnight_is_reserved_on_each_day(spans: dict[str, Decimal]) -> None:
    """Its cost is filed under the day on which its usage becomes known, which may be any of them."""
    began = TODAY.replace(day=1) - timedelta(days=1)  # of the month before
    budgets: dict[str, Any] = {"day_budget": None, "month_budget": None, "total_budget": None, **spans}

    async def is_granted(dollars: str) -> bool:
        wanted = Wanted(Spender("key", KEY), TODAY, Decimal(dollars), **budgets, least=Decimal(dollars))
        share = (await worker.leases.take(wanted)).share
        if share is not None:
            worker.leases.settle(share, Decimal(0))
        return share is not None

    async with workers(1) as [worker]:
        held_back = await in_database(
            lambda: Hold.objects.create(pk=uuid4(), key_name=KEY, day=began, dollars=Decimal("0.8"))
        )
        leased = {"writer": "another", "granted": 1, "dollars": Decimal(1)}
        await in_database(lambda: Hold.objects.create(pk=uuid4(), key_name=KEY, day=began, **leased))
        assert not await is_granted("0.3")
        assert await is_granted("0.2")
        spent = (await in_database(lambda: spent_by("key", [KEY], TODAY)))[KEY]
        assert spent.day >= Decimal("0.8")
        await in_database(held_back.delete)
        assert await is_granted("0.3")
