"""Long work with the database ends by itself, whatever time limits its role or the database has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from pytest_django.fixtures import Settings

from usage.database.lock import try_lock
from usage.database.snapshot import one_snapshot
from usage.database.time_limits import without_time_limits
from usage.management.commands import ledger
from usage.upkeep import retention, verify

pytestmark = pytest.mark.django_db(transaction=True)

LIMITED = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
LIMIT = "300ms"


@pytest.fixture(autouse=True)
def _limits() -> Iterator[None]:
    """Sets the limits of the database, for each new connection, as an administrator does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(current_database())")
        [(name,)] = cursor.fetchall()
        for limit in LIMITED:
            cursor.execute(f"ALTER DATABASE {name} SET {limit} = '{LIMIT}'")
    _forget_connections()
    yield
    with connection.cursor() as cursor:
        for limit in LIMITED:
            cursor.execute(f"ALTER DATABASE {name} RESET {limit}")
    _forget_connections()


def _forget_connections() -> None:
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]  # the PostgreSQL backend's


def sleep(*_: object, **__: object) -> Any:
    """Waits for longer than the limit, in one statement."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(0.6)")
    return []


def shown() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(f"SELECT current_setting('{limit}')" for limit in LIMITED))
        return {value for (value,) in cursor.fetchall()}


def test_it_works() -> None:
    with pytest.raises(OperationalError, match="statement timeout"):
        sleep()
    with without_time_limits():
        sleep()
        with transaction.atomic():
            assert shown() == {"0"}
            with transaction.atomic():
                sleep()
        with one_snapshot():  # before which a transaction may have no query
            assert shown() == {"0"}
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = 77")
            assert shown() == {"0", "77ms"}
    assert shown() == {LIMIT}


def test_an_error_is_djangos_and_leaves_nothing_behind() -> None:
    with without_time_limits(), connection.cursor() as cursor:
        with pytest.raises(OperationalError):
            cursor.execute("SET LOCAL statement_timeout = 10; SELECT pg_sleep(5)")
        cursor.execute("SELECT 1")
    assert not connection.in_atomic_block


def test_a_lock_is_kept_for_as_long_as_its_block_takes() -> None:
    with try_lock(77) as is_mine, without_time_limits():
        assert is_mine
        sleep()
        with try_lock(77) as is_again:
            assert not is_again


@pytest.mark.parametrize("action", ["sum", "prune", "reprice"])
def test_no_command_about_the_ledger_is_cut(monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    steps: dict[str, tuple[object, str, Callable[..., Any]]] = {
        "sum": (ledger, "rebuild_totals", lambda *_, **__: len(sleep())),
        "prune": (retention, "prune", lambda **_: sleep() or retention.Pruned(0, 0, is_more_due=False)),
        "reprice": (ledger, "reprice", lambda *_, **__: len(sleep())),
    }
    monkeypatch.setattr(*steps[action])
    call_command("ledger", action, *(["--since", "2026-11-01"] if action == "reprice" else []))


@pytest.mark.parametrize("parallel", ["1", "2"])
def test_no_check_of_the_ledger_is_cut(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, parallel: str
) -> None:
    def slow_check(_: object) -> Iterator[str]:
        yield from sleep()

    settings.DATA_DIR = tmp_path
    monkeypatch.setattr(verify, "changed_rows", slow_check)
    call_command("ledger", "verify", "--parallel", parallel)


def test_the_daily_pruning_is_not_cut(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for task in ("drop_orphans", "make_months", "prune_if_due"):
        monkeypatch.setattr(retention, task, sleep)
    retention.DailyPruning().work()
    assert caplog.messages == []
