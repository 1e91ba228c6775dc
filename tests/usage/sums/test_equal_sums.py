"""Rows, sums, tiles, `/usage`, CSV and `/metrics` say the same dollars to the eighth decimal, whatever has happened.

In months that end on the 31st and in February of leap years; before and after all calls were priced again, summed up
again, and deleted because of their age.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.ledger.equal_sums import Dollars, assert_all_say, clock_at, exported, metered, of_rows, rows_of
from tests.support.ledger.ledgers import Row, call, end, ship
from usage.models import ModelPrice, Request
from usage.sums.ranges import read_range
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.repricing import reprice
from usage.upkeep.retention import prune
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db
INSTANT = timedelta(milliseconds=1)
KEYS = ("one", "another")
# Year, and the day after its 28th of February.
YEARS = [(2028, "2028-02-29"), (2024, "2024-02-29"), (2026, "2026-03-01")]


def names_of(year: int, after: str) -> list[str]:
    months = [f"{year}-01", f"{year}-02", f"{year}-03"]
    return [*months, f"{year}-01-31", f"{year}-02-01", f"{year}-02-28", after, f"{year}-03-01", f"{year}-03-31"]


def moments(year: int) -> Iterator[datetime]:
    """Yields times around the ends of days and months: an instant before, at that very moment, in an hour's middle."""
    edges = [(1, 1), (1, 31), (2, 1), (2, 28), (3, 1), (3, 31), (4, 1)]
    for month, day in edges:
        edge = datetime(year, month, day, tzinfo=UTC)
        yield from (edge - INSTANT, edge, edge + timedelta(minutes=30), edge + timedelta(hours=23, minutes=59))


def calls_of(year: int) -> list[Row]:
    """Returns calls of all kinds: exact, estimated, at a price that is assumed, without a price, not billed."""
    chance = random.Random(year)
    kinds: list[dict[str, Any]] = [
        {},
        {"usage_source": "estimated", "outcome": "client_cancelled"},
        {"response_model": "gpt-4o-mini-2031-01-01"},  # costs what its family does
        {"response_model": "ours"},
        {"outcome": "upstream_error", "status": 500, "usage": None, "usage_source": "unknown", "input_tokens": None,
         "output_tokens": None, "cached_tokens": None, "error_code": "server_error"},
    ]  # fmt: skip
    rows = []
    for moment in moments(year):
        for kind in kinds:
            tokens = {name: chance.randrange(10**6) for name in ("input_tokens", "output_tokens")}
            more = {"cached_tokens": 0, "key_name": chance.choice(KEYS), **tokens, **kind}
            rows.append(call(moment, **more))
    return rows


@pytest.mark.parametrize(("year", "after"), YEARS)
def test_all_places_say_the_same(year: int, after: str, admin: Client, tmp_path: Path, settings: Any) -> None:
    names, now = names_of(year, after), datetime(year, 5, 2, tzinfo=UTC)
    times = {name: read_range({"range": name}, now) for name in names}
    metered_before = metered()
    ship(tmp_path, *map(end, calls_of(year)))

    def check() -> dict[str, Dollars]:
        expected = {name: of_rows(rows_of(time)) for name, time in times.items()}
        for name, dollars in expected.items():
            assert_all_say(name, dollars, now, KEYS, admin)
            assert exported(name, now, admin) == dollars
        assert metered() - metered_before == of_rows(Request.objects.all()).all
        with clock_at(now):
            assert list(find_faults(tmp_path / "none")) == []
        return expected

    first = check()
    february = first[f"{year}-02"]
    assert all(part > 0 for part in february)
    assert sum((first[name].all for name in names[:3]), Decimal(0)) > february.all

    # Prices are corrected: of a model that had none, and a discount on all.
    begin = datetime(year, 1, 1, tzinfo=UTC)
    ModelPrice.objects.create(model="ours", valid_from=begin, input=Decimal("1.23456789"), output=2)
    ModelPrice.objects.create(model="gpt-4o-*", valid_from=begin, multiplier=Decimal("0.876"))
    assert reprice(begin, unpriced_only=False) > 0
    repriced = check()
    assert all(repriced[name] != first[name] for name in names)
    assert reprice(begin, unpriced_only=False) == 0

    rebuild_totals(now)
    assert check() == repriced

    # Calls before the first of March are deleted: only the exports lack them.
    total = of_rows(Request.objects.all()).all
    settings.RETENTION_DAYS = (now - datetime(year, 3, 1, tzinfo=UTC)).days
    with clock_at(now):
        assert prune(now, all_at_once=True).rows > 0
        admin.force_login(User.objects.get())  # by this clock, the old session has expired and is deleted
    for name, dollars in repriced.items():
        assert_all_say(name, dollars, now, KEYS, admin)
        assert exported(name, now, admin) == of_rows(rows_of(times[name]))
    assert exported(f"{year}-02", now, admin) == Dollars()
    assert exported(f"{year}-03", now, admin) == repriced[f"{year}-03"]
    assert metered() - metered_before == total

    with clock_at(now):
        rebuild_totals(now)
    for name, dollars in repriced.items():
        assert_all_say(name, dollars, now, KEYS, admin)
