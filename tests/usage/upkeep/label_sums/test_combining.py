"""Sums by all labels together: equal to the rows, read instead of them, and never read when they are not right."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from threading import Event
from typing import Any

import pytest
from django.db import OperationalError, connection
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import call, random_call
from usage.database.lock import try_lock
from usage.journal_shipping.rows import write_rows
from usage.models import LabelCombination, LabelPeriod, LedgerState, Request
from usage.money.row_pricing import Pricer
from usage.sums.labels import combined_reader
from usage.sums.labels.label_groups import LabelsUnreadable
from usage.sums.labels.label_reader import LabelReport, read_label_report
from usage.sums.labels.label_tables import OTHERS
from usage.upkeep.label_sums import combining
from usage.upkeep.label_sums.combining import combine_labels, wrong_combinations

pytestmark = pytest.mark.django_db

FIRST, END = date(2026, 9, 1), date(2026, 11, 12)
NOW = datetime(2026, 11, 12, 9, tzinfo=UTC)
NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
LABELS = ("end_user", "tag:project", "tag:a", "tag:b c")
OTHER_GROUPS = ("team", "owner", "key", "model", "route", "day")


@pytest.fixture(autouse=True)
def _few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "LEAST_CALLS", 0)
    monkeypatch.setattr(combined_reader, "MOST_DAYS_OF_ROWS", 100)


def write(*rows: Any) -> None:
    write_rows(Pricer().priced(rows))


def write_random(count: int = 150) -> None:
    chance = random.Random(5)
    start = datetime(2026, 9, 1, tzinfo=UTC)
    write(*(random_call(chance, start + timedelta(minutes=chance.randrange(72 * 24 * 60))) for _ in range(count)))
    write(call(NOON, tags=["a=first", "a"]), call(NOON, tags=["a", "a=second"]), call(NOON, tags=["ab=c", "xa"]))
    write(call(NOON, by_gateway=True, end_user="user-1", tags=["project=x"]))


def report(groups: Sequence[str], first: date = FIRST, end: date = END, **only: str | None) -> LabelReport:
    named = {name.replace("__", ":"): value for name, value in only.items()}
    return read_label_report(first, end, groups, only=named, most=10_000)


def told(found: LabelReport) -> Any:
    return found.total, {row.group: row for row in found.rows}


def forbid_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, no day may be added up from rows."""
    monkeypatch.setattr(combined_reader, "MOST_DAYS_OF_ROWS", 0)


def test_any_labels_equal_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    write_random()
    groups = [*combinations(LABELS, 2), *((*LABELS[:2], name) for name in OTHER_GROUPS), LABELS]
    expected = [told(report(names)) for names in groups]
    filtered = [
        told(report(("model",), tag__project="x", end_user="user-1")),
        told(report((), tag__a="", end_user=None)),
        told(report(("tag:a", "day"), tag__project=None, team="red")),
    ]
    combine_labels(now=NOW)
    forbid_rows(monkeypatch)
    assert [told(report(names)) for names in groups] == expected
    assert filtered == [
        told(report(("model",), tag__project="x", end_user="user-1")),
        told(report((), tag__a="", end_user=None)),
        told(report(("tag:a", "day"), tag__project=None, team="red")),
    ]
    assert list(wrong_combinations(None)) == []


def test_the_first_of_several_tags_with_one_name_counts() -> None:
    write(call(NOON, tags=["a=first", "a"]), call(NOON, tags=["a", "a=second"]), call(NOON, tags=["ab=c", "xa"]))
    expected = {("first", None): 1, ("", None): 1, (None, None): 1}
    for _ in ("rows", "sums"):
        assert {row.group: row.calls for row in report(("tag:a", "end_user")).rows} == expected
        combine_labels(now=NOW)


def test_a_tag_is_found_by_its_name_not_by_its_name_and_value() -> None:
    write(call(NOON, tags=["a=b"]), call(NOON, tags=["a=b=c"]))
    for _ in ("rows", "sums"):
        assert {row.group: row.calls for row in report(("tag:a=b", "end_user")).rows} == {(None, None): 2}
        assert {row.group: row.calls for row in report(("tag:a", "end_user")).rows} == {
            ("b", None): 1,
            ("b=c", None): 1,
        }
        combine_labels(now=NOW)


def test_days_that_go_on_are_read_from_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    write(call(NOON, end_user="a", tags=["project=x"]), call(NOW, end_user="a", tags=["project=x"]))
    assert combine_labels(now=NOW) == 12  # the eleven days of November that are over, and all of them together
    assert LabelPeriod.objects.filter(first=date(2026, 11, 1), until=NOW.date()).exists()
    assert report(LABELS[:2], end=END + timedelta(days=1)).total.calls == 2
    forbid_rows(monkeypatch)
    with pytest.raises(LabelsUnreadable, match="where they have no sums"):
        report(LABELS[:2], end=END + timedelta(days=1))


def test_a_late_call_and_a_new_price_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_random()
    combine_labels(now=NOW)
    write(call(NOON, end_user="late", tags=["project=x"]))
    assert ("late", "x") in told(report(LABELS[:2]))[1]
    assert combine_labels(now=NOW) == 2  # the day and the month
    assert combine_labels(now=NOW) == 0
    forbid_rows(monkeypatch)
    assert ("late", "x") in told(report(LABELS[:2]))[1]


def test_the_costliest_end_users_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "MOST_END_USERS", 1)
    write(*(call(NOON, end_user=name, tags=["project=x"], output_tokens=tokens)
            for name, tokens in (("a", 9), ("b", 5), ("c", 3), ("", 1))))  # fmt: skip
    combine_labels(now=NOW)
    found = report(LABELS[:2], first=NOON.date())
    assert {row.group: row.calls for row in found.rows} == {("a", "x"): 1, (OTHERS, "x"): 2, (None, "x"): 1}
    assert found.total.cost == sum(row.cost or Decimal(0) for row in Request.objects.all())
    assert report(("model",), end_user="c", tag__project="x").total.calls == 1  # from rows
    assert list(wrong_combinations(None)) == []


def inserted_sums() -> int:
    """Returns how many rows this transaction has inserted into the table of sums; rows deleted since count, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT n_tup_ins FROM pg_stat_xact_user_tables WHERE relname = 'usage_labelcombination'")
        [(number,)] = cursor.fetchall()
    return int(number)


def test_sums_of_nearly_as_many_groups_as_calls_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "LEAST_CALLS", 2)
    write(*(call(NOON, tags=[f"trace={number % 3}"]) for number in range(5)))
    before = inserted_sums()
    combine_labels(now=NOW)
    assert inserted_sums() == before  # there may be millions, which would be written and deleted each day
    assert not LabelCombination.objects.filter(period__first=NOON.date()).exists()
    assert combine_labels(now=NOW) == 0  # they are not tried again
    assert len(report(("end_user", "tag:trace")).rows) == 3
    write(call(NOON, tags=["trace=0"]))
    combine_labels(now=NOW)
    assert LabelCombination.objects.filter(period__first=NOON.date()).count() == 3


def test_each_month_has_sums_and_only_the_last_days(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combining, "DAYS_KEPT", timedelta(days=5))
    write_random()
    later = datetime(2026, 11, 14, 9, tzinfo=UTC)
    for now in (NOW, later):
        combine_labels(now=now)
    months = {(month, (month + timedelta(days=31)).replace(day=1)) for month in (date(2026, 9, 1), date(2026, 10, 1))}
    days = {(later.date() - timedelta(days=n), later.date() - timedelta(days=n - 1)) for n in range(1, 6)}
    wanted = {*months, (date(2026, 11, 1), later.date()), *days}
    assert set(LabelPeriod.objects.values_list("first", "until")) == wanted


def test_names_go_with_the_rows(settings: Settings) -> None:
    write_random()
    combine_labels(now=NOW)
    settings.RETENTION_DAYS = 20
    combine_labels(now=NOW)
    assert min(LabelPeriod.objects.values_list("first", flat=True)) == date(2026, 10, 23)


def test_old_names_go_although_nothing_can_be_added_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_random()
    combine_labels(now=NOW)
    settings.RETENTION_DAYS = 20
    write(call(NOON))

    def fail(_: object) -> None:
        raise OperationalError("no space left on device")

    monkeypatch.setattr(combining, "_add_up", fail)
    with pytest.raises(OperationalError, match="no space"):
        combine_labels(now=NOW)
    assert min(LabelPeriod.objects.values_list("first", flat=True)) == date(2026, 10, 23)


def test_days_without_rows_keep_their_sums_and_get_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    write_random()
    combine_labels(now=NOW)
    expected = told(report(LABELS[:2], first=date(2026, 10, 5)))
    LedgerState.load()
    LedgerState.objects.update(pruned_before=datetime(2026, 10, 6, tzinfo=UTC))
    Request.objects.filter(started_at__lt=datetime(2026, 10, 6, tzinfo=UTC)).delete()
    assert combine_labels(now=NOW, anew=True) == 37 + 1  # the days since the sixth, and November
    assert told(report(LABELS[:2], first=date(2026, 10, 5))) == expected
    with pytest.raises(LabelsUnreadable, match="deleted"):
        report(LABELS[:2], first=date(2026, 10, 4))


def test_a_changed_sum_is_found_and_mended() -> None:
    write_random()
    combine_labels(now=NOW)
    one = LabelCombination.objects.filter(period__first=NOON.date()).first()
    assert one is not None
    LabelCombination.objects.filter(period=one.period, number=one.number).update(end_user="somebody else")
    [fault] = wrong_combinations(None)
    assert "from 2026-11-10 to 2026-11-10 for default" in fault
    assert list(wrong_combinations(NOON + timedelta(days=1))) == []
    combine_labels(now=NOW, anew=True)
    assert list(wrong_combinations(None)) == []


def test_it_stops_and_leaves_the_work_to_one_process() -> None:
    write_random()
    stopping = Event()
    stopping.set()
    assert combine_labels(stopping, NOW) == 0
    with try_lock(combining.LOCK) as is_mine:
        assert is_mine
        assert combine_labels(now=NOW) == 0
    assert not LabelPeriod.objects.exists()


def test_ledger_sum_waits_for_a_process_that_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would say that all sums are right now, and would have mended none of these."""
    waited_for = list[int]()

    @contextmanager
    def wait(number: int, _notice: Callable[[], None]) -> Iterator[None]:
        waited_for.append(number)
        yield

    monkeypatch.setattr(combining, "wait_for_lock", wait)
    write_random()
    with try_lock(combining.LOCK):
        assert combine_labels(now=NOW, anew=True) > 0
    assert waited_for == [combining.LOCK]
