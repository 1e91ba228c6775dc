"""Checks that all places that show dollars show the same ones: rows, sums, pages, reports, exports."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO
from typing import Any, NamedTuple

import pytest
from django.test import Client

from tests.support.ledger.pages import DASHBOARD, REQUESTS, pieces_of, tiles
from usage.metric_counters import counters
from usage.models import Dimension, Request, Span, UsageDay, UsageHour, UsageTotal
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_reader import CHARTED, read_all, read_key
from usage.sums.ranges import TimeRange, read_range
from usage.sums.report_reader import GROUPS, read_report

DATED_PAGES = (
    "usage.admin_pages.dashboard", "usage.admin_pages.export", "usage.admin_pages.requests", "proxyapi.pages.key_usage",
)  # fmt: skip
DATABASE_CLOCKS = ("usage.sums.pruned_calls", "usage.upkeep.wrong_totals", "usage.upkeep.rebuild_totals")


class Dollars(NamedTuple):
    """A sum of dollars, and the parts of it that are exact, estimated and provisional (with an assumed price)."""

    all: Decimal = Decimal(0)
    exact: Decimal = Decimal(0)
    estimated: Decimal = Decimal(0)
    provisional: Decimal = Decimal(0)

    @classmethod
    def of_calls(cls, calls: Iterable[tuple[Any, str]]) -> Dollars:
        """Adds up the costs of calls, given as pairs of dollars and kind; a missing cost adds nothing."""
        parts = {"exact": Decimal(0), "estimated": Decimal(0), "provisional": Decimal(0)}
        for cost, kind in calls:
            if cost not in (None, ""):
                parts[kind] += Decimal(str(cost))
        return cls(sum(parts.values(), Decimal(0)), **parts)

    @classmethod
    def of_sums(cls, sums: Iterable[Any]) -> Dollars:
        """Adds up the dollars of rows of a table of sums, or of the totals of a dashboard."""
        found = [(Decimal(row.cost), Decimal(row.estimated_cost), Decimal(row.provisional_cost)) for row in sums]
        cost, estimated, provisional = (sum(column, Decimal(0)) for column in zip(*found, strict=True)) if found else (
            Decimal(0), Decimal(0), Decimal(0)
        )  # fmt: skip
        return cls(cost, cost - estimated - provisional, estimated, provisional)

    @classmethod
    def of_report(cls, total: Mapping[str, Any]) -> Dollars:
        names = ("cost", "cost_estimated", "cost_provisional")
        cost, estimated, provisional = (round(Decimal(repr(float(total[name]))), 8) for name in names)
        return cls(cost, cost - estimated - provisional, estimated, provisional)

    @classmethod
    def of_export(cls, text: str) -> Dollars:
        """Adds up the costs of the calls in a CSV export, which is given as text."""
        return cls.of_calls((row["cost"], row["cost_kind"]) for row in csv.DictReader(StringIO(text)))

    def is_in_tile(self, page: str) -> bool:
        """Returns whether a dashboard's page shows this cost, and its uncertain part, in the tile of dollars."""
        words = tiles(page)["dollars"]
        uncertain = formatting.uncertain(self.all, self.estimated, self.provisional)
        return f"{words} ".startswith(f"Cost {formatting.dollars(self.all)} ") and (uncertain or " a call") in words


@contextmanager
def clock_at(moment: datetime) -> Iterator[None]:
    """Sets the clock of pages and of the database's time to `moment` until the block ends.

    Code that compares or deletes rows by the database's time uses this clock, too.
    """

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return moment

    with pytest.MonkeyPatch.context() as patch:
        for module in DATED_PAGES:
            patch.setattr(f"{module}.datetime", Clock)
        for module in DATABASE_CLOCKS:
            patch.setattr(f"{module}.database_now", lambda: moment)
        yield


def rows_of(time_range: TimeRange) -> list[Request]:
    return list(Request.objects.filter(started_at__gte=time_range.start, started_at__lt=time_range.end))


def of_rows(rows: Iterable[Request]) -> Dollars:
    return Dollars.of_calls((row.cost, row.cost_kind) for row in rows)


def sums_everywhere(name: str, now: datetime, keys: Iterable[str]) -> dict[str, Dollars]:
    """Returns the cost of a calendar month or day, such as `2028-02-29`, from every place that states it, by place."""
    time = read_range({"range": name}, now)
    start, end = time.start, time.end
    days = UsageDay.objects.filter(day__gte=start.date(), day__lte=_last_day(end))
    reading, report = read_all(time, now), read_report(time)
    found = {
        "hours": Dollars.of_sums(UsageHour.objects.filter(hour__gte=start, hour__lt=end)),
        "days of keys": Dollars.of_sums(days),
        "tile": Dollars.of_sums([reading.totals]),
        "tile of what follows": Dollars.of_sums([_compared_by_next(time, now)]),
        "chart": Dollars.of_sums(totals for totals in reading.series.everything if totals),
        "tiles of keys": Dollars.of_sums(read_key(key, time, now).totals for key in keys),
        "/usage": Dollars.of_report(report["total"]),
    }
    for span in (Span.HOUR, Span.DAY):
        for dimension in Dimension:
            totals = UsageTotal.objects.filter(span=span, dimension=dimension, start__gte=start, start__lt=end)
            found[f"totals of {span}s by {dimension}"] = Dollars.of_sums(totals)
    for name, values in reading.by_value.items():
        found[f"table by {name}"] = Dollars.of_sums(values.values())
    for group in GROUPS:
        groups = [Dollars.of_report(one) for one in read_report(time, (group,))["groups"]]
        found[f"/usage by {group}"] = Dollars(*(sum(column, Decimal(0)) for column in zip(*groups, strict=True)))
    for dimension in CHARTED:
        if CHARTED[dimension] == "cost":
            lines = reading.series.by_value[dimension].values()
            whole = sum((Decimal(number) for line in lines for number in line), Decimal(0))
            found[f"chart by {dimension}"] = found["chart"]._replace(all=whole)
    return found


def _compared_by_next(time: TimeRange, now: datetime) -> Any:
    """Returns the totals of a month or day as the dashboard of the following month or day shows them for comparison."""
    name = f"{time.end:%Y-%m}" if len(time.name) == len("2028-02") else f"{time.end:%Y-%m-%d}"
    return read_all(read_range({"range": name}, now), now).before


def _last_day(end: datetime) -> date:
    return datetime.fromtimestamp(end.timestamp() - 1, UTC).date()


def metered() -> Decimal:
    """Returns the dollars of calls in the metrics of this process, minus the dollars that were taken back."""
    signs = {"cost_dollars": 1, "cost_taken_back_dollars": -1}
    return sum((signs.get(name, 0) * value for (name, *_), value in counters.dollars.items()), Decimal(0))


def assert_all_say(name: str, expected: Dollars, now: datetime, keys: Iterable[str], admin: Client) -> None:
    """Asserts that every place states the same cost of a calendar month or day: `expected`."""
    wrong = {place: found for place, found in sums_everywhere(name, now, keys).items() if found != expected}
    assert not wrong, f"{name}: {expected} expected"
    with clock_at(now):
        page = admin.get(DASHBOARD, {"range": name}).content.decode()
    assert expected.is_in_tile(page), tiles(page)["dollars"]


def exported(name: str, now: datetime, admin: Client) -> Dollars:
    """Returns the cost of a calendar month or day by the admin's CSV export of its calls."""
    with clock_at(now):
        return Dollars.of_export(b"".join(pieces_of(admin.get(f"{REQUESTS}export.csv", {"range": name}))).decode())
