"""Hosts add to the sums in turn, also beside hosts whose release takes no turn, and every call is counted once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from tests.support.ledger.ledgers import NOON, assert_sums_are_right, call
from tests.support.ledger.response_rows import deliver
from tests.support.other_connection import Beside
from usage.models import Request, UsageDay
from usage.sums.sum_tables import DAYS, TAKE_TURN
from usage.upkeep.sum_mending.group_differences import add_groups

pytestmark = pytest.mark.django_db(transaction=True)


def deliver_calls(batches: int = 1) -> None:
    """Delivers batches of a failed call and a good one, which are counted in all tables of sums."""
    deliver(*([call(outcome="timeout", team="red", tags=["a=b"]), call()] for _ in range(batches)))


@pytest.fixture(autouse=True)
def _known_names() -> None:
    """Lets later calls have no new names, for which a writer takes another lock."""
    deliver_calls()


def mend_nothing() -> None:
    """Adds a group without calls to the sums of a day, as `ledger sum` adds what is missing."""
    add_groups(DAYS.add, [{"day": NOON.date(), "key_name": "default", **dict.fromkeys(DAYS.counters, 0)}])


@contextmanager
def as_earlier_release() -> Iterator[None]:
    """In the block, this thread takes no turn, but does everything else as now."""

    def execute_without(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        return execute(sql.replace(TAKE_TURN, "SELECT 1"), *rest)

    with connection.execute_wrapper(execute_without):
        yield


def deliver_as_earlier_release(batches: int = 1) -> None:
    with as_earlier_release():
        deliver_calls(batches)


def waited_for() -> list[str]:
    """The kinds of locks for which transactions wait in this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT locktype FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE NOT granted AND datname = current_database()"
        )
        return [kind for (kind,) in cursor.fetchall()]


def assert_all_counted(calls: int) -> None:
    assert (UsageDay.objects.get().calls, Request.objects.count()) == (calls, calls)
    assert_sums_are_right()


@pytest.mark.parametrize(("action", "calls"), [(deliver_calls, 6), (mend_nothing, 4)])
def test_whoever_adds_to_sums_waits_for_a_turn_before_any_row(action: Callable[[], None], calls: int) -> None:
    other = Beside(action)
    with transaction.atomic():
        deliver_calls()
        other.start_and_wait_until_it_waits()
        assert waited_for() == ["advisory"]
    other.join()
    assert_all_counted(calls)


def test_the_host_that_has_waited_longest_is_next() -> None:
    """Each host waits for the one that has the turn, and for all that wait already."""
    hosts = [Beside(deliver_calls) for _ in range(4)]
    with transaction.atomic(), connection.cursor() as cursor:
        deliver_calls()
        for number, host in enumerate(hosts, 1):
            host.start_and_wait_until_it_waits(number)
        cursor.execute(
            "SELECT cardinality(pg_blocking_pids(pid)) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database() ORDER BY 1"
        )
        assert cursor.fetchall() == [(1,), (2,), (3,), (4,)]
    for host in hosts:
        host.join()
    assert_all_counted(12)


@pytest.mark.parametrize(
    ("first", "second"), [(deliver_calls, deliver_as_earlier_release), (deliver_as_earlier_release, deliver_calls)]
)
def test_this_release_and_an_earlier_one_wait_for_each_others_rows(
    first: Callable[[], None], second: Callable[[], None]
) -> None:
    other = Beside(second)
    with transaction.atomic():
        first()
        other.start_and_wait_until_it_waits()
        assert waited_for() == ["transactionid"]
    other.join()
    assert_all_counted(6)


def test_hosts_of_both_releases_at_once_never_deadlock() -> None:
    actions = [deliver_calls, deliver_as_earlier_release] * 2
    hosts = [Beside(lambda action=action: action(4)) for action in actions]  # type: ignore[misc]  # binds the action
    for host in hosts:
        host.thread.start()
    for host in hosts:
        host.join()
    assert_all_counted(2 + 4 * 4 * 2)
