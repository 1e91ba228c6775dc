"""The loops that run beside the calls for as long as a worker lives: an error never ends them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import InterfaceError, OperationalError
from pytest_django.fixtures import Settings

from chatproxy import process_restarts
from chatproxy.postgres import watch as postgres_watch
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.watch import PostgresWatch
from chatproxy.processes import shipper_watch
from chatproxy.processes.shipper_watch import ShipperWatch
from proxyapi.call import background_polling
from proxyapi.keys import keyring
from proxyapi.keys.keyring import Keyring
from proxyapi.limits import limiter
from proxyapi.limits.limiter import Limiter
from proxyapi.object_owners import owner_store
from tests.support.polling import PATIENCE
from usage.upkeep import retention
from usage.upkeep.retention import DailyPruning

ERRORS: list[Exception] = [
    OperationalError("away"),
    InterfaceError("closed"),
    OSError(30, "Read-only file system"),
    MemoryError(),
    ValueError("a bug"),
    KeyError("a bug"),
]


class Failing:
    """A function that raises an error three times, and sets `goes_on` when it is called again."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls = 0
        self.goes_on = threading.Event()

    def __call__(self, *_args: Any, **_options: Any) -> bool:
        self.calls += 1
        if self.calls <= 3:
            raise self.error
        self.goes_on.set()
        return False


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def failing(request: pytest.FixtureRequest) -> Failing:
    return Failing(request.param)


async def goes_on(endless: Awaitable[None], failing: Failing) -> bool:
    """Whether an endless coroutine calls `failing` again after its errors."""
    task = asyncio.ensure_future(endless)
    went_on = await asyncio.to_thread(failing.goes_on.wait, PATIENCE)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
    return went_on


@pytest.mark.parametrize("name", ["drop_orphans", "make_months", "prune_if_due"])
def test_pruning(monkeypatch: pytest.MonkeyPatch, failing: Failing, name: str) -> None:
    for pause in ("first_seconds", "every_seconds"):
        monkeypatch.setattr(DailyPruning, pause, 0.001)
    for function in ("drop_orphans", "make_months", "prune_if_due"):
        monkeypatch.setattr(retention, function, failing if function == name else lambda *_: None)
    pruning = DailyPruning()
    pruning.start()
    assert failing.goes_on.wait(PATIENCE)
    pruning.stop()


async def test_the_sweep_of_owners(monkeypatch: pytest.MonkeyPatch, failing: Failing) -> None:
    monkeypatch.setattr(owner_store, "SWEEP_SECONDS", 0.001)
    monkeypatch.setattr(owner_store, "close_folders", Failing(failing.error))
    monkeypatch.setattr(owner_store, "sweep", failing)
    assert await goes_on(owner_store.sweep_forever(), failing)


async def test_background_polling(monkeypatch: pytest.MonkeyPatch, settings: Settings, failing: Failing) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 0.001, "sk-any"
    monkeypatch.setattr(background_polling, "lease_pending", lambda limit: failing(limit) or [])
    assert await goes_on(background_polling.watch_pending(), failing)


async def test_shared_limits(monkeypatch: pytest.MonkeyPatch, failing: Failing) -> None:
    monkeypatch.setattr(limiter, "RENEW_SECONDS", 0.001)
    shared = SimpleNamespace(forget_ended=failing)
    endless = Limiter()._renew_leases(cast(Any, SimpleNamespace(may_probe=False)), cast(Any, shared))
    assert await goes_on(endless, failing)


@pytest.mark.parametrize("name", ["marker", "load", "read_prices", "write"])
def test_the_keyring(monkeypatch: pytest.MonkeyPatch, failing: Failing, name: str) -> None:
    snapshot = SimpleNamespace(records=[], teams=[], marker="other", loaded_at=0.0)
    functions: dict[str, Callable[..., Any]] = {
        "read": lambda: None,
        "leave_pool": lambda: None,
        "marker": lambda: "a marker",
        "load": lambda _marker: snapshot,
        "load_price_list": lambda _records: None,
        "read_prices": lambda _records: None,
        "write": lambda _snapshot: None,
    }
    usual = functions[name]
    functions[name] = lambda *values: failing() or usual(*values)
    monkeypatch.setattr(keyring, "key_snapshots", SimpleNamespace(**functions))
    monkeypatch.setattr(keyring, "REFRESH_SECONDS", 0.001)
    monkeypatch.setattr(keyring, "connections", SimpleNamespace(close_all=lambda: None))
    keys = Keyring()
    keys.start()
    assert failing.goes_on.wait(PATIENCE)
    keys.stop()


class Postgres:
    """A bundled PostgreSQL that has been killed; the method called `name` fails."""

    def __init__(self, failing: Failing, name: str) -> None:
        self._failing = failing
        self._fails_of_running = name == "running"

    @property
    def running(self) -> bool:
        return self._failing() if self._fails_of_running else False

    def revive(self) -> None:
        if not self._fails_of_running:
            self._failing()


@pytest.mark.parametrize("name", ["running", "revive"])
def test_the_watch_of_postgres(monkeypatch: pytest.MonkeyPatch, failing: Failing, name: str) -> None:
    for module in (process_restarts, postgres_watch):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(postgres_watch, "TRY_AGAIN_SECONDS", 0.001)
    watch = PostgresWatch(cast(BundledPostgres, Postgres(failing, name)))
    watch.watch()
    assert failing.goes_on.wait(PATIENCE)
    watch.end_watch(PATIENCE)


def test_the_watch_of_the_shipper(monkeypatch: pytest.MonkeyPatch, failing: Failing) -> None:
    for module in (process_restarts, shipper_watch):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(shipper_watch, "LONGEST_PAUSE", 0.001)
    monkeypatch.setattr(shipper_watch, "Popen", failing)
    watch = ShipperWatch()
    watch.watch()
    assert failing.goes_on.wait(PATIENCE)
    watch.end_watch(PATIENCE)
