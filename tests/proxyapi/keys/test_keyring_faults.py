"""Errors while the keys are read and written: keys stay valid, and an error of the gateway's own shows its place."""

from __future__ import annotations

import pytest
from django.db import InterfaceError, OperationalError

from proxyapi.keys import snapshots
from proxyapi.keys.keyring import Keyring


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
    [record] = caplog.records
    assert "cannot be written to DATA_DIR" in record.getMessage()
    assert bool(record.exc_info) is (not isinstance(fault, OSError))
