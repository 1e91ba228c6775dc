"""Sums are mended in steps, beside writers: each step is right by itself, and what is written meanwhile is counted."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.ledger.ledgers import NOON, assert_sums_are_right, call, random_call
from usage.journal_shipping.rows import write_rows
from usage.models import (
    ErrorTotal,
    LabelTotal,
    LedgerState,
    Request,
    TeamDay,
    UsageBreakdown,
    UsageDay,
    UsageHour,
    UsageTotal,
)
from usage.money.row_pricing import Pricer
from usage.sums import totals_rollup
from usage.upkeep.differing_sums import adding_cursor
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.sum_mending import group_differences, missing_sums
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db
NOW = NOON + timedelta(days=3)
MODELS: tuple[Any, ...] = (UsageHour, UsageDay, TeamDay, UsageTotal, UsageBreakdown, ErrorTotal, LabelTotal)


class Ended(Exception):
    """The process has ended."""


def fill() -> None:
    chance = random.Random(4)
    rows = [random_call(chance, NOON + timedelta(hours=chance.randrange(30))) for _ in range(20)]
    for row in rows:
        row |= {"team": chance.choice(["", "a team"]), "end_user": chance.choice(["", "somebody"])}
    write_rows(Pricer().priced(rows))


def stored() -> dict[Any, Any]:
    """All sums, by table and group: the number of calls and, where there are any, the dollars."""
    return {
        (model.__name__, row.pk): (row.calls, getattr(row, "cost", None))
        for model in MODELS
        for row in model.objects.all()
    }


def break_sums() -> None:
    """Deletes a third of all sums."""
    for model in MODELS:
        keys = list(model.objects.order_by("pk").values_list("pk", flat=True))
        model.objects.filter(pk__in=keys[::3]).delete()


def test_a_process_that_ends_between_two_steps_doubles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_differences, "MOST_GROUPS", 12)
    fill()
    right = stored()
    break_sums()
    broken = stored()
    as_json = totals_rollup.as_json
    runs = steps = 0

    def end_in_second_step(groups: Any) -> str:
        nonlocal steps
        steps += 1
        if steps > 1:
            raise Ended
        return as_json(groups)

    monkeypatch.setattr(group_differences, "as_json", end_in_second_step)
    has_ended = True
    while has_ended and runs < 100:
        runs, steps, has_ended = runs + 1, 0, False
        try:
            rebuild_totals(NOW)
        except Ended:
            has_ended = True
            found = stored()
            assert {group for group in found if found[group] not in (broken.get(group), right[group])} == set()
    assert runs > len(MODELS)
    assert stored() == right
    assert list(find_faults(Path("/nonexistent"))) == []


def test_calls_that_are_written_between_reading_and_adding_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fill()
    break_sums()
    add = group_differences.add_groups

    def write_and_add(*arguments: Any) -> None:
        write_rows(Pricer().priced([call(NOON, team="a team", end_user="somebody"), call(NOON, outcome="timeout")]))
        add(*arguments)

    monkeypatch.setattr("usage.upkeep.rebuild_totals.add_groups", write_and_add)
    rebuild_totals(NOW)
    assert_sums_are_right()


def test_days_are_right_if_the_process_ends_after_their_hours_and_their_rows_are_pruned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hours that are right already are not looked at again, and days from before the mark are not either."""

    def end(*_: Any) -> None:
        raise Ended

    fill()
    right = stored()
    UsageHour.objects.update(cost=7)
    UsageDay.objects.update(cost=7)
    with monkeypatch.context() as patch:
        patch.setattr("usage.upkeep.rebuild_totals.missing_team_days", end)
        with pytest.raises(Ended):
            rebuild_totals(NOW)
    LedgerState.load()
    LedgerState.objects.update(pruned_before=NOW)
    Request.objects.all().delete()
    rebuild_totals(NOW)
    assert stored() == right


def test_a_minute_in_which_the_rows_begin_stays() -> None:
    write_rows(Pricer().priced([call(NOON + timedelta(seconds=seconds)) for seconds in (10, 50)]))
    right = stored()
    LedgerState.load()
    LedgerState.objects.update(pruned_before=NOON + timedelta(seconds=30))
    rebuild_totals(NOON)
    assert stored() == right


class Backwards:
    def __init__(self, cursor: Any) -> None:
        self.execute, self.cursor = cursor.execute, cursor

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(self.cursor, reverse=True))


@contextmanager
def backwards() -> Iterator[Any]:
    """Context manager that yields a cursor with rows in another order, as of a database that sorts otherwise."""
    with adding_cursor() as cursor:
        yield Backwards(cursor)


def test_groups_are_added_in_the_order_of_writers_whatever_language_the_database_sorts_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise two processes could each wait for a group that the other one has changed."""
    write_rows(Pricer().priced([call(NOON, key_name=name, outcome="timeout") for name in ("a", "B", "_", "é", "z")]))
    UsageDay.objects.update(cost=7)
    ErrorTotal.objects.update(calls=7)
    monkeypatch.setattr(missing_sums, "adding_cursor", backwards)
    names = ["B", "_", "a", "z", "é"]
    assert [group["key_name"] for group in missing_sums.missing_days(None)] == names
    assert [group["key_name"] for group in missing_sums.missing_failures(None)] == names * 2  # of the day and the hour


def test_no_writer_is_locked_out() -> None:
    fill()
    break_sums()
    with CaptureQueriesContext(connection) as queries:
        rebuild_totals(NOW)
    locks = [query["sql"] for query in queries if "LOCK TABLE" in query["sql"]]
    assert locks != []
    assert [lock for lock in locks if "IN ACCESS SHARE MODE" not in lock and "IN ROW EXCLUSIVE MODE" not in lock] == []
