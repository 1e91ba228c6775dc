"""Calls that wait for a hold while the database hangs: when one round fails, all of them hear of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal

import psycopg
import pytest

from tests.support.upstreams.raw import until
from usage.money import reservations
from usage.money.reservations import CALLS_AT_ONCE, BudgetState, Reservations, ReservationsUnavailable, Wanted

NONE = {span: Decimal(0) for span in reservations.SPANS}


def wanted(number: int) -> Wanted:
    return Wanted(str(number), "a key", date(2026, 11, 28), Decimal(1), Decimal(5), None, None, least=Decimal(1))


class Database(Reservations):
    """Reservations whose database hangs, or fails, at the round `fails_at`, and answers all the others."""

    def __init__(self, fails_at: int, error: Exception | None) -> None:
        super().__init__()
        self.rounds: list[int] = []  # how many holds each of them was to take
        self._fails_at = fails_at
        self._error = error

    async def _write(self, ended: Mapping[str, Decimal], wanted: Sequence[Wanted]) -> list[BudgetState]:
        self.rounds.append(len(wanted))
        if len(self.rounds) == self._fails_at:
            if self._error is not None:
                raise self._error
            await asyncio.Event().wait()
        return [BudgetState(taken=Decimal(1), spent=NONE, held=NONE) for _ in wanted]


FAULTS: dict[str, Callable[[], Exception | None]] = {
    "it hangs": lambda: None,
    "it is away": lambda: psycopg.OperationalError("away"),
    "a bug": lambda: ValueError("a bug"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("calls", [1, CALLS_AT_ONCE, CALLS_AT_ONCE + 1, 220])
async def test_a_round_that_fails_is_the_last_that_anybody_waits_for(
    monkeypatch: pytest.MonkeyPatch, fault: str, fails_at: int, calls: int
) -> None:
    monkeypatch.setattr(reservations, "PATIENCE", 0.05)
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 600)  # what waits for a look is not told in this test
    database = Database(fails_at, FAULTS[fault]())
    await database.open()
    try:
        taking = [asyncio.create_task(database.take(wanted(number))) for number in range(calls)]
        results = await asyncio.wait_for(asyncio.gather(*taking, return_exceptions=True), 60)
        taken = min(calls, (fails_at - 1) * CALLS_AT_ONCE)
        assert all(isinstance(result, BudgetState) for result in results[:taken])
        assert all(isinstance(result, ReservationsUnavailable) for result in results[taken:])
        assert len(database.rounds) == min(fails_at, -(-calls // CALLS_AT_ONCE))
        if taken < calls:
            with pytest.raises(ReservationsUnavailable):
                await database.take(wanted(calls))
    finally:
        await database.close()


async def test_the_look_that_is_answered_ends_the_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservations, "LOOK_SECONDS", 0.01)
    database = Database(1, psycopg.OperationalError("away"))
    await database.open()
    try:
        with pytest.raises(ReservationsUnavailable):
            await database.take(wanted(0))
        await until(lambda: not database.fault)
        assert (await database.take(wanted(1))).taken
    finally:
        await database.close()
