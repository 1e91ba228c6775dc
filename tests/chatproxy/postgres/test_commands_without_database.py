"""Every management command, also Django's own, says in one line that the database cannot be reached."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import django
import psycopg
import pytest
from django.db import DataError, InterfaceError, OperationalError

import manage
from chatproxy.configuration.setting_reader import BASE_DIR, NO_ENV_FILES
from chatproxy.postgres.database_refusals import SHOW_PLACE
from tests.support.servers.gateway import PATIENCE

AWAY = "chatproxy: the database cannot be reached; is the server running? ("
COMMANDS = (
    ("changepassword", "admin"),
    ("migrate",),
    ("keys", "list"),
    ("ledger", "status"),
)


def run_main(
    monkeypatch: pytest.MonkeyPatch, error: Exception, *options: str, command: tuple[str, ...] = ("keys", "list")
) -> str:
    """Runs a command of `manage.py` as if it raised `error`; returns the line with which it ends."""

    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr(manage, "execute_from_command_line", fails)
    monkeypatch.setattr(sys, "argv", ["manage.py", *command, *options])
    monkeypatch.setattr(gc, "freeze", lambda: None)  # not the objects of all tests
    monkeypatch.setattr(gc, "set_threshold", lambda _: None)
    monkeypatch.setattr(django, "setup", lambda: None)  # it configures logging
    with pytest.raises(SystemExit) as ended:
        manage.main()
    return str(ended.value.code)


@pytest.mark.parametrize("kind", [OperationalError, psycopg.OperationalError])
def test_an_outage_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    line = run_main(monkeypatch, kind("the connection is closed\nand more"))
    assert line == f"{AWAY}the connection is closed)"


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        (psycopg.errors.AdminShutdown("it stops"), f"{AWAY}it stops)"),
        (psycopg.errors.TooManyConnections("too many"), f"{AWAY}too many)"),
        (
            psycopg.errors.LockNotAvailable("locked"),
            f"chatproxy: the database has refused a statement: locked; {SHOW_PLACE}",
        ),
    ],
)
def test_a_refused_statement_is_no_outage(monkeypatch: pytest.MonkeyPatch, cause: psycopg.Error, line: str) -> None:
    error = OperationalError(str(cause))
    error.__cause__ = cause
    assert run_main(monkeypatch, error) == line


@pytest.mark.parametrize("kind", [InterfaceError, psycopg.InterfaceError])
def test_a_wrong_use_of_the_connection_is_no_outage(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    line = f"chatproxy: the connection to the database cannot be used: the cursor is closed; {SHOW_PLACE}"
    error = kind("the cursor is closed")
    assert run_main(monkeypatch, error) == line
    error.__cause__ = psycopg.InterfaceError("the cursor is closed")
    assert run_main(monkeypatch, error) == line


@pytest.mark.parametrize("error", [OperationalError("away"), psycopg.InterfaceError("the cursor is closed")])
def test_errors_of_the_shipper_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    with pytest.raises(type(error)):
        run_main(monkeypatch, error, command=("ship",))


def test_the_threshold_of_the_garbage_collector_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    before, handlers = gc.get_threshold(), logging.getLogger().handlers[:]
    run_main(monkeypatch, OperationalError("away"))
    assert (gc.get_threshold(), logging.getLogger().handlers) == (before, handlers)
    assert gc.isenabled()


def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError):
        run_main(monkeypatch, DataError("a fault of the code"))
    with pytest.raises(OperationalError):
        run_main(monkeypatch, OperationalError("away"), "--traceback")


def test_commands_end_with_one_line(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= {NO_ENV_FILES: "1", "DATA_DIR": str(tmp_path), "DJANGO_SECRET_KEY": "0123456789abcdefghij" * 3}
    environment |= {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    # All at once: each waits some seconds for the database.
    running = [
        subprocess.Popen(
            [sys.executable, "manage.py", *command], cwd=BASE_DIR, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for command in COMMANDS
    ]  # fmt: skip
    for command, process in zip(COMMANDS, running, strict=True):
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1, command
        assert errors.splitlines()[-1].startswith(AWAY), command
        assert "Traceback" not in errors, command
