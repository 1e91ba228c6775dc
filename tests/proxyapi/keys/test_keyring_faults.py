"""Errors while the keys are read and written: keys stay valid, and an error of the gateway's own shows its place."""

from __future__ import annotations

import threading
import time
from errno import ENOSPC

import pytest
from django.db import InterfaceError, OperationalError

from proxyapi.keys import keyring as keyring_module
from proxyapi.keys import snapshots
from proxyapi.keys.keyring import SILENCE_SECONDS, Keyring
from tests.support.polling import PATIENCE


@pytest.mark.parametrize(
    ("fault", "has_traceback"),
    [
        (OperationalError("away"), False),
        (InterfaceError("the connection is closed"), False),
        (OSError(5, "no"), False),
        (KeyError("a"), True),
    ],
)
def test_only_an_error_of_the_gateways_own_is_logged_with_its_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception, has_traceback: bool
) -> None:
    def fails(*_: object) -> None:
        raise fault

    keyring = Keyring()
    monkeypatch.setattr(snapshots, "marker", fails)
    keyring._refresh()
    keyring._refresh()
    [record] = caplog.records
    assert type(fault).__name__ in record.getMessage()
    assert bool(record.exc_info) is has_traceback

    caplog.clear()
    monkeypatch.setattr(snapshots, "marker", lambda: "new")
    monkeypatch.setattr(snapshots, "load", lambda marker: snapshots.Snapshot(marker, 0.0, []))
    monkeypatch.setattr(snapshots, "write", fails)
    keyring._refresh()
    [fresh, record] = caplog.records
    assert fresh.getMessage() == "the keys are fresh again"
    assert "cannot be written to DATA_DIR" in record.getMessage()
    assert bool(record.exc_info) is (not isinstance(fault, OSError))


def test_the_log_says_once_that_the_database_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keyring = Keyring()
    monkeypatch.setattr(snapshots, "marker", lambda: "same")
    monkeypatch.setattr(snapshots, "load", lambda marker: snapshots.Snapshot(marker, 0.0, []))
    monkeypatch.setattr(snapshots, "write", lambda _: None)
    keyring.log_silence()  # before the first answer
    keyring._refresh()
    keyring.log_silence()
    assert caplog.messages == []
    monkeypatch.setattr(keyring, "_confirmed_at", keyring._confirmed_at - SILENCE_SECONDS - 1)
    keyring.log_silence()
    keyring.log_silence()
    [line] = caplog.messages
    assert line.endswith("the database does not answer")
    keyring._refresh()
    assert caplog.messages[1:] == ["the keys are fresh again"]


def test_a_hang_is_logged_while_the_keys_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(_: object) -> None:
        raise OSError(ENOSPC, "No space left on device")

    keyring = Keyring()
    monkeypatch.setattr(snapshots, "marker", lambda: "same")
    monkeypatch.setattr(snapshots, "load", lambda marker: snapshots.Snapshot(marker, 0.0, []))
    monkeypatch.setattr(snapshots, "write", fails)
    keyring._refresh()
    monkeypatch.setattr(keyring, "_confirmed_at", keyring._confirmed_at - SILENCE_SECONDS - 1)
    keyring.log_silence()
    assert [line.rpartition(": ")[2] for line in caplog.messages] == [
        "No space left on device", "the database does not answer"
    ]  # fmt: skip


def test_a_hang_that_ends_in_an_error_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    keyring = Keyring()
    monkeypatch.setattr(keyring, "_started_at", time.monotonic() - SILENCE_SECONDS - 1)
    fault: Exception = OperationalError("the connection is lost")

    def fails(*_: object) -> None:
        keyring.log_silence()
        raise fault

    monkeypatch.setattr(snapshots, "marker", fails)
    keyring._refresh()
    keyring._refresh()
    [line] = caplog.messages
    assert line.endswith("the database does not answer")
    fault = KeyError("a fault of the code")
    keyring._refresh()
    assert caplog.messages[1].endswith("KeyError")
    monkeypatch.setattr(snapshots, "marker", lambda: "same")
    monkeypatch.setattr(snapshots, "load", lambda marker: snapshots.Snapshot(marker, 0.0, []))
    monkeypatch.setattr(snapshots, "write", lambda _: None)
    keyring._refresh()
    assert caplog.messages[2:] == ["the keys are fresh again"]


@pytest.mark.parametrize("ends_in_error", [False, True])
def test_each_fault_has_its_end_when_an_outage_ends_on_a_full_disk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ends_in_error: bool
) -> None:
    caplog.set_level("INFO")
    keyring = Keyring()
    is_full, is_away = True, False

    def marker() -> str:
        if is_away:
            raise OperationalError("the connection is lost")
        return "same"

    def write(_: object) -> None:
        if is_full:
            raise OSError(ENOSPC, "No space left on device")

    monkeypatch.setattr(snapshots, "marker", marker)
    monkeypatch.setattr(snapshots, "load", lambda marker: snapshots.Snapshot(marker, 0.0, []))
    monkeypatch.setattr(snapshots, "write", write)
    keyring._refresh()
    if ends_in_error:
        is_away = True
        keyring._refresh()
    else:
        monkeypatch.setattr(keyring, "_confirmed_at", keyring._confirmed_at - SILENCE_SECONDS - 1)
        keyring.log_silence()
    is_away = False
    keyring._refresh()
    keyring._refresh()
    is_full = False
    keyring._refresh()
    keyring._refresh()
    assert [line.partition(":")[0] for line in caplog.messages] == [
        "the keys cannot be written to DATA_DIR",
        "the keys cannot be refreshed, and those known stay in force",
        "the keys are fresh again",
        "the keys are written to DATA_DIR again",
    ]


def test_an_old_copy_of_the_keys_is_no_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def marker() -> str:
        asked.set()
        may_answer.wait(PATIENCE)
        return "same"

    monkeypatch.setattr(snapshots, "leave_pool", lambda: None)
    monkeypatch.setattr(snapshots, "read", lambda: snapshots.Snapshot("same", time.time() - 86_400, []))
    monkeypatch.setattr(snapshots, "marker", marker)
    monkeypatch.setattr(keyring_module, "START_SECONDS", 0.0)
    keyring = Keyring()
    keyring.start()
    try:
        assert asked.wait(PATIENCE)
        keyring.log_silence()
        assert caplog.messages == []
        monkeypatch.setattr(keyring, "_started_at", time.monotonic() - SILENCE_SECONDS - 1)
        keyring.log_silence()
        assert len(caplog.messages) == 1
    finally:
        may_answer.set()
        keyring.stop()
