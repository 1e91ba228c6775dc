"""The keys in memory: fresh in two seconds in every worker, there when the database is not, without a text on disk.

Over 300 lines, since the tests in one process and those of whole servers are of the same promises.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.utils import timezone

from proxyapi import sealing
from proxyapi.keys import keyring as keyring_module
from proxyapi.keys import snapshots
from proxyapi.keys.callers import Budgets
from proxyapi.keys.keyring import Keyring
from proxyapi.models import AccessKey
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.moved_clock import PutClock
from tests.support.polling import wait_until, wait_until_quick
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
FRESH_SECONDS = 2.0


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def start_keyring(data_dir: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(keyring_module, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(keyring_module, "START_SECONDS", PATIENCE)  # each start has looked once
    with ExitStack() as running:

        def start() -> Keyring:
            keyring = Keyring()
            keyring.start()
            running.callback(keyring.stop)
            return keyring

        yield start


# --- in one process


def test_it_works(start_keyring: Callable[[], Keyring]) -> None:
    rules = {"allowed_models": ["gpt-4o*"], "tags": ["a"], "owner": "Ada", "parallel_calls": 3, "budget_day": "1.5"}
    _, text = AccessKey.objects.issue("one", upstream_key="sk-of-its-own", **rules)
    keyring = start_keyring()
    caller = keyring.find(text)

    assert caller is not None
    assert (caller.name, caller.allowed_models, caller.tags) == ("one", ("gpt-4o*",), ("a",))
    assert (caller.team, caller.owner) == ("", "Ada")
    assert (caller.parallel_calls, caller.requests_per_minute) == (3, None)
    assert caller.budgets == Budgets(day=Decimal("1.5"))
    assert caller.upstream_key == "sk-of-its-own"
    assert "sk-of-its-own" not in repr(caller)
    assert (keyring.state, keyring.loaded) == ("loaded", True)
    assert keyring.age < 5


@pytest.mark.parametrize("text", ["", " ", "cp-", "cp-" + "A" * 43, "x" * 10**6, "\ud83d", "é", "\0"])
def test_what_is_no_key_is_nobodys(start_keyring: Callable[[], Keyring], text: str) -> None:
    AccessKey.objects.issue("one")
    assert start_keyring().find(text) is None


def test_the_built_in_key_is_there_without_a_database(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "START_SECONDS", 0.01)
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)
    keyring = Keyring()
    keyring.start()
    caller = keyring.find(SECURITY_KEY)
    keyring.stop()

    assert caller is not None
    assert (caller.name, caller.allowed_models, caller.budgets) == ("default", (), Budgets())
    assert (keyring.loaded, keyring.state) == (False, "missing")


def test_changes_of_every_kind_are_seen(start_keyring: Callable[[], Keyring]) -> None:
    keyring = start_keyring()
    key, text = AccessKey.objects.issue("one")
    wait_until(lambda: keyring.find(text))
    AccessKey.objects.update(tags=["by hand"])  # says nothing of when
    wait_until(lambda: getattr(keyring.find(text), "tags", ()) == ("by hand",))
    key.active = False
    key.save(update_fields=["active"])
    wait_until(lambda: keyring.find(text) is None)
    key.active = True
    key.save(update_fields=["active"])
    wait_until(lambda: keyring.find(text))
    key.revoke()
    wait_until(lambda: keyring.find(text) is None)


def test_expiry_and_grace_end_by_the_clock_not_by_a_change(
    start_keyring: Callable[[], Keyring], put_clock: PutClock
) -> None:
    key, old = AccessKey.objects.issue("one", expires_at=timezone.now() + timedelta(hours=2))
    new = key.rotate(timedelta(hours=1))
    keyring = start_keyring()
    keyring.stop()

    def known(hours: float) -> list[bool]:
        put_clock(timedelta(hours=hours))
        return [keyring.find(text) is not None for text in (old, new)]

    assert [known(0), known(0.9), known(1.1), known(2.1)] == [[True, True], [True, True], [False, True], [False, False]]
    assert known(-24) == [True, True]


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(days=365)], ids=str)
def test_a_clock_that_is_set_makes_keys_neither_stale_nor_fresh(
    start_keyring: Callable[[], Keyring], put_clock: PutClock, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    keyring = start_keyring()
    keyring.stop()
    put_clock(ahead)
    assert keyring.state == "loaded"
    assert 0 <= keyring.age < PATIENCE
    monkeypatch.setattr(keyring_module, "STALE_SECONDS", 0.0)
    since = datetime.strptime(keyring.state, "stale since %Y-%m-%dT%H:%M:%S%z")
    confirmed_at = datetime.now(UTC) - timedelta(seconds=keyring.age)
    assert timedelta(0) <= confirmed_at - since < timedelta(seconds=PATIENCE)  # `since` is cut to whole seconds


def test_a_second_rotation_ends_the_first_key(start_keyring: Callable[[], Keyring]) -> None:
    key, first = AccessKey.objects.issue("one")
    second = key.rotate(timedelta(days=1))
    third = key.rotate(timedelta(days=1))
    keyring = start_keyring()

    assert [keyring.find(text) is not None for text in (first, second, third)] == [False, True, True]


def test_a_fault_does_not_end_it(start_keyring: Callable[[], Keyring], monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = start_keyring()
    with monkeypatch.context() as broken:
        broken.setattr(snapshots, "marker", lambda: 1 / 0)
        wait_until(lambda: "ZeroDivisionError" in keyring._fault)
    _, text = AccessKey.objects.issue("one")
    wait_until(lambda: keyring.find(text) and not keyring._fault)


def test_a_key_whose_account_cannot_be_unsealed_is_refused(start_keyring: Callable[[], Keyring]) -> None:
    _, text = AccessKey.objects.issue("one", upstream_key="sk-of-its-own")
    AccessKey.objects.update(sealed_upstream_key=sealing.seal("sk-other")[:-4] + "AAAA")
    _, other = AccessKey.objects.issue("two")
    keyring = start_keyring()

    assert keyring.find(text) is None  # and its calls are not paid by the configured account
    assert keyring.find(other) is not None


# --- the copy on disk


def test_the_copy_has_no_text_and_is_private(start_keyring: Callable[[], Keyring], data_dir: Path) -> None:
    _, text = AccessKey.objects.issue("one", upstream_key="sk-of-its-own-0123")
    start_keyring()
    path = data_dir / "keyring.json"
    wait_until(path.exists)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    copy = path.read_text()
    assert json.loads(copy)["records"][0]["name"] == "one"
    assert [secret for secret in (text, text[3:], "sk-of-its-own-0123", SECURITY_KEY) if secret in copy] == []


def test_a_start_without_the_database_takes_the_copy(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = AccessKey.objects.issue("one", upstream_key="sk-of-its-own", budget_total="2.25")
    revoked, gone = AccessKey.objects.issue("two")
    first = start_keyring()
    wait_until(lambda: first.find(gone) and (data_dir / "keyring.json").exists())
    revoked.revoke()
    wait_until(lambda: first.find(gone) is None and '"two"' not in (data_dir / "keyring.json").read_text())
    known = first.find(text)
    first.stop()
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)
    monkeypatch.setattr(keyring_module, "STALE_SECONDS", 0.0)
    second = start_keyring()

    assert second.find(text) == known
    assert second.find(gone) is None
    assert second.state.startswith("stale since 20")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 1}', '{"marker": "", "loaded_at": 1, "records": [{}]}'])
def test_a_damaged_copy_is_left_alone(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    (data_dir / "keyring.json").write_text(damage)
    with monkeypatch.context() as away:
        away.setattr(snapshots, "marker", lambda: 1 / 0)
        keyring = start_keyring()
        assert (keyring.state, keyring.find(SECURITY_KEY) is not None) == ("missing", True)
    wait_until(lambda: keyring.state == "loaded")


def test_a_copy_that_cannot_be_written_is_said_and_stops_nothing(
    start_keyring: Callable[[], Keyring], data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", keyring_module.logger.name)
    (data_dir / "keyring.json").mkdir()
    keyring = start_keyring()
    wait_until(lambda: "DATA_DIR" in keyring._copy_fault)
    for name in ("one", "two"):
        _, text = AccessKey.objects.issue(name)
        wait_until(partial(keyring.find, text))
    (data_dir / "keyring.json").rmdir()
    wait_until(lambda: not keyring._copy_fault)
    lines = [record.getMessage() for record in caplog.records if record.name == keyring_module.logger.name]
    assert [line.partition(":")[0] for line in lines] == [
        "the keys cannot be written to DATA_DIR",
        "the keys are written to DATA_DIR again",
    ]


# --- over the socket


def test_every_worker_knows_a_new_key_and_refuses_a_revoked_one_in_two_seconds(
    start_gateway: Callable[..., Gateway],
) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    numbers = count()

    def make(name: str) -> tuple[str, float]:
        """Makes a key; returns its text, and after how many seconds every worker knows it."""
        text = gateway.manage("keys", "create", name).stdout.strip()
        made_at = time.monotonic()
        gateway.wait_until_known(text)
        return text, time.monotonic() - made_at

    def revoke() -> float:
        """Revokes a key; returns after how many seconds every worker refuses it."""
        name = f"revoked {next(numbers)}"
        text, _ = make(name)
        assert gateway.manage("keys", "revoke", name).returncode == 0
        revoked_at = time.monotonic()
        gateway.wait_until_known(text, known=False)
        return time.monotonic() - revoked_at

    wait_until_quick(lambda: make(f"made {next(numbers)}")[1], FRESH_SECONDS)
    wait_until_quick(revoke, FRESH_SECONDS)


def test_without_the_database_known_keys_work_and_unknown_ones_are_refused(
    outage: tuple[Gateway, Postgres], simulator: Simulator
) -> None:
    gateway, postgres = outage
    text = gateway.make_key("known", "--tag", "team a")
    postgres.stop()
    answer = gateway.post("/openai", {**CHAT, "security_key": text})
    unknown = gateway.post("/openai", {**CHAT, "security_key": "cp-" + "x" * 43})

    assert answer.status_code == 200
    assert unknown.status_code == 403
    assert unknown.json()["error"]["code"] == "invalid_key"
    wait_until(lambda: gateway.http.get("/readyz").json()["keys"].startswith("stale since "))
    ready = gateway.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")

    os.kill(gateway.worker_pids[0], signal.SIGKILL)  # the next one starts without a database
    wait_until(lambda: len(gateway.worker_pids) == 2)
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
        again = http.post("/openai", json={**CHAT, "security_key": text})
        assert again.status_code == 200
        assert http.post("/openai", json={**CHAT, "security_key": "cp-" + "x" * 43}).status_code == 403

    postgres.start()
    for call in (answer, again):
        row = gateway.row(call)
        assert (row["key_name"], row["tags"]) == ("known", ["team a"])
    gateway.make_key("made after")
    assert gateway.http.get("/readyz").json()["keys"] == "loaded"


def test_a_database_that_hangs_holds_up_no_call_and_no_start(outage: tuple[Gateway, Postgres]) -> None:
    gateway, postgres = outage
    text = gateway.make_key("known")
    postgres.freeze()
    try:
        assert gateway.ask(text).status_code == 400
        os.kill(gateway.worker_pids[0], signal.SIGKILL)
        wait_until(lambda: len(gateway.worker_pids) == 2)
        with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
            assert gateway.ask(text, http).status_code == 400
    finally:
        postgres.thaw()
    wait_until(lambda: gateway.http.get("/readyz").json()["keys"] == "loaded")
