"""Calls that wait for dollars while the database hangs: when one round fails, all of them hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.support.upstreams.raw import until
from usage.money import lease_rounds, reservations
from usage.money.lease_rounds import LeaseRounds, Round
from usage.money.lease_statements import SPANS, Grant
from usage.money.leases import BudgetState, Wanted
from usage.money.reservations import Reservations, ReservationsUnavailable
from usage.money.spenders import Spender

NONE = {span: Decimal(0) for span in SPANS}
KEYS = 5


def key(number: int) -> Spender:
    return Spender("key", f"key {number}")


def wanted(number: int) -> Wanted:
    return Wanted(key(number % KEYS), date(2026, 11, 28), Decimal(1), Decimal(999), None, None, least=Decimal(1))


class Database(LeaseRounds):
    """A database that grants just what is needed. It hangs, or fails, at the round `fails_at`."""

    def __init__(self, fails_at: int, error: Exception | None) -> None:
        super().__init__()
        self.rounds: list[int] = []  # how many leases each of them was for
        self.granted: dict[str, Decimal] = {}
        self._fails_at = fails_at
        self._error = error

    async def open(self) -> None:
        pass

    async def _write(self, planned: Round) -> None:
        self.rounds.append(len(planned.needs))
        if len(self.rounds) == self._fails_at:
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        for lease, dollars in planned.given.items():
            self.granted[lease.id] = self.granted.get(lease.id, Decimal(0)) - dollars
        for need in planned.needs:
            self.granted[need.lease.id] = self.granted.get(need.lease.id, Decimal(0)) + need.dollars
            planned.answers.append(Grant(NONE, NONE, 0, Decimal(0), self.granted[need.lease.id]))
        planned.rows = {lease.id: (False, self.granted.get(lease.id, Decimal(0))) for lease in planned.looked}


def leases_of(database: Database) -> Reservations:
    found = Reservations()
    found._rounds = database
    return found


FAULTS: dict[str, Callable[[], Exception | None]] = {
    "it hangs": lambda: None,
    "it is away": lambda: psycopg.OperationalError("away"),
    "a bug": lambda: ValueError("a bug"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("calls", [1, 50, 220])
async def test_a_round_that_fails_is_the_last_that_anybody_waits_for(
    monkeypatch: pytest.MonkeyPatch, fault: str, fails_at: int, calls: int
) -> None:
    monkeypatch.setattr(lease_rounds, "PATIENCE", 0.05)
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 600)  # what waits for a look is not told in this test
    database = Database(fails_at, FAULTS[fault]())
    leases = leases_of(database)
    await leases.open("a worker")
    try:
        for number in range(1, fails_at + 1):
            taking = [asyncio.create_task(leases.take(wanted(call))) for call in range(calls)]
            results = await asyncio.wait_for(asyncio.gather(*taking, return_exceptions=True), 60)
            if number < fails_at:
                assert all(isinstance(result, BudgetState) and result.share for result in results)
            else:
                assert all(isinstance(result, ReservationsUnavailable) for result in results)
        assert database.rounds == [min(calls, KEYS)] * fails_at
        with pytest.raises(ReservationsUnavailable):
            await leases.take(wanted(0))
    finally:
        await leases.close()


async def test_many_keys_at_once_are_several_rounds() -> None:
    """Each lease is a transaction of its own, and all of a round have a second together."""
    database = Database(fails_at=0, error=None)
    leases = leases_of(database)
    await leases.open("a worker")
    try:
        found = await asyncio.gather(*(leases.take(replace(wanted(0), spender=key(one))) for one in range(120)))
    finally:
        await leases.close()
    assert all(state.share is not None for state in found)
    assert max(database.rounds) <= reservations.LEASES_AT_ONCE < 120


async def test_the_look_that_is_answered_ends_the_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 0.01)
    database = Database(1, psycopg.OperationalError("away"))
    leases = leases_of(database)
    await leases.open("a worker")
    try:
        with pytest.raises(ReservationsUnavailable):
            await leases.take(wanted(0))
        await until(lambda: not leases.fault)
        assert (await leases.take(wanted(1))).share
    finally:
        await leases.close()


async def test_a_caller_that_leaves_with_its_share_gives_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    leases = leases_of(Database(0, None))
    await leases.open("a worker")
    try:
        taking = asyncio.create_task(leases.take(wanted(0)))
        answer = leases._read_answers
        shares: list[Decimal] = []

        def answer_and_leave(*round_and_calls: Any) -> None:
            answer(*round_and_calls)
            [lease] = leases._leases.values()
            shares.append(lease.reserved)
            taking.cancel()  # the call has its share, and its task has not run since

        monkeypatch.setattr(leases, "_read_answers", answer_and_leave)
        await asyncio.wait({taking})
        assert taking.cancelled()
        [lease] = leases._leases.values()
        assert shares == [Decimal(1)]
        assert (lease.reserved, lease.in_flight) == (Decimal(0), 0)
    finally:
        monkeypatch.undo()
        await leases.close()
