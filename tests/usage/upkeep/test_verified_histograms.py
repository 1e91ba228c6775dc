"""`ledger verify` notices every histogram that is not that of its calls."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.ledger.ledgers import NOON, call, end, ship
from usage.models import UsageBreakdown, UsageHour, UsageTotal
from usage.sums.histogram import unpack
from usage.sums.sum_tables import HISTOGRAMS, NAMED, PACKED, HistogramName
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _calls(tmp_path: Path) -> None:
    ship(tmp_path, *map(end, (call(), call(NOON + timedelta(days=1)))))
    assert faults(tmp_path) == []


def faults(directory: Path) -> list[str]:
    return list(find_faults(directory))


def test_a_changed_histogram_of_a_total_is_noticed(tmp_path: Path) -> None:
    UsageTotal.objects.filter(span="day", dimension="all", start__lt=NOON).update(overhead_ms_histogram=[5])
    off = "usage_usagetotal's histogram of overhead_ms is off for day / all / 2026-11-01 00:00:00+00 / "
    assert faults(tmp_path) == [off]


@pytest.mark.parametrize("span", ["hour", "day"])
@pytest.mark.parametrize("dimension", ["key", "model", "route"])
@pytest.mark.parametrize("change", ["moved", "elsewhere", "more"])
def test_a_changed_histogram_of_a_key_a_model_or_a_route_is_noticed(
    tmp_path: Path, span: str, dimension: str, change: str
) -> None:
    [total] = UsageTotal.objects.filter(span=span, dimension=dimension, start__lte=NOON)
    first, count = total.durations
    changed = {"moved": [first + 1, count], "elsewhere": [0, count], "more": [first, count, 1]}
    UsageTotal.objects.filter(pk=total.pk).update(durations=changed[change])
    [fault] = faults(tmp_path)
    assert fault.startswith(
        f"usage_usagetotal's histogram of duration_ms is off for {span} / {dimension} / 2026-11-01 "
    )


def test_a_histogram_from_before_there_were_such_is_no_fault(tmp_path: Path) -> None:
    """An upgrade leaves it empty, or with the later calls only, until `ledger sum` completes it."""
    UsageTotal.objects.filter(dimension__in=NAMED).update(durations=[])
    assert faults(tmp_path) == []


@pytest.mark.parametrize("span", ["day", "month"])
def test_lost_durations_of_a_breakdown_are_noticed_and_mended(tmp_path: Path, span: str) -> None:
    """No version has written breakdowns without durations."""
    breakdowns = UsageBreakdown.objects.filter(span=span, dimension="key")
    right = list(breakdowns.order_by("pk").values())
    breakdowns.update(durations=[])
    found = faults(tmp_path)
    assert len(found) == len(right)
    assert {fault.partition(" for ")[0] for fault in found} == {"usage_usagebreakdown's histogram is off"}
    rebuild_totals(NOON + timedelta(days=3))
    assert list(breakdowns.order_by("pk").values()) == right
    assert faults(tmp_path) == []


def test_a_histogram_in_two_columns_is_their_sum(tmp_path: Path) -> None:
    """Older versions have the histograms of a key's days in the other column."""
    for total in UsageTotal.objects.filter(span="day", dimension="key"):
        UsageTotal.objects.filter(pk=total.pk).update(durations=[], duration_ms_histogram=unpack(total.durations))
    assert faults(tmp_path) == []


@pytest.mark.parametrize("name", HISTOGRAMS)
def test_a_histogram_of_an_hour_in_two_columns_is_their_sum(tmp_path: Path, name: HistogramName) -> None:
    """Older versions have added to the other column."""
    hour = UsageHour.objects.get(hour=NOON)
    packed = getattr(hour, PACKED[name])
    UsageHour.objects.filter(hour=NOON).update(**{PACKED[name]: [], f"{name}_histogram": unpack(packed)})
    assert faults(tmp_path) == []
    UsageHour.objects.filter(hour=NOON).update(**{PACKED[name]: packed})
    assert f"usage_usagehour's histogram of {name} is off for 2026-11-01 12" in " ".join(faults(tmp_path))


@pytest.mark.parametrize("name", HISTOGRAMS)
@pytest.mark.parametrize("change", ["moved", "more", "gone"])
def test_a_changed_histogram_is_noticed(tmp_path: Path, name: HistogramName, change: str) -> None:
    hour = UsageHour.objects.get(hour=NOON)
    column = PACKED[name]
    first, *counts = getattr(hour, column)
    changed = {"moved": [first + 1, *counts], "more": [first, *counts, 1], "gone": []}[change]
    UsageHour.objects.filter(hour=NOON).update(**{column: changed})
    groups = ["all", "key", "model", "route"] if name == "duration_ms" else ["all"]
    breakdowns = ["day", "month"] if name == "duration_ms" else []
    assert sorted(fault.partition(" / 2026-")[0] for fault in faults(tmp_path)) == [
        *(f"usage_usagebreakdown's histogram is off for {span} / key" for span in breakdowns),
        f"usage_usagehour's histogram of {name} is off for 2026-11-01 12:00:00+00 / default / "
        "gpt-4o-mini-2024-07-18 / /openai / success",
        *sorted(
            f"usage_usagetotal's histogram of {name} is off for {span} / {group}"
            for span in ("hour", "day", "month") for group in groups
        ),
    ]  # fmt: skip
