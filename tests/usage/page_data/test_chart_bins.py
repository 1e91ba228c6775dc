"""The first and the last bar of a chart may count less time than they are long; the data of the chart say so."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_all, read_key
from usage.sums.ranges import read_range

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 15, 7, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "length"),
    [
        ("2025-03-02", "2026-07-14", timedelta(days=28)),
        ("2026-03-02T05:30", "2026-07-14T07:20", timedelta(days=7)),
        ("2026-06-08T05:30", "2026-07-14T07:20", timedelta(days=1)),
        ("2026-07-08T05:30", "2026-07-14T07:20", timedelta(hours=3)),
    ],
)
def test_a_bar_counts_the_calls_between_the_ends_that_are_told(first: str, last: str, length: timedelta) -> None:
    chance = random.Random(7)
    time_range = read_range({"from": first, "to": last}, NOW)
    begin, whole = time_range.start - length, time_range.length + 2 * length
    moments = [begin + whole * chance.random() for _ in range(150)]
    write_rows(Pricer().priced([call(moment) for moment in moments]))
    for reading in (read_all(time_range, NOW), read_key("default", time_range, NOW)):
        series = reading.series
        assert reading.step == length
        counted = [totals.calls if totals else 0 for totals in series.everything]
        ends = [(max(start, series.start), min(start + length, series.end)) for start in series.bins]
        assert counted == [sum(start <= moment < end for moment in moments) for start, end in ends]
