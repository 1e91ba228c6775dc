"""The shipper's periodic threads: what they do again after an error, and how they end."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError, ProgrammingError

from tests.support.polling import PATIENCE
from usage.upkeep import periodic_thread
from usage.upkeep.periodic_thread import PeriodicThread


class Worker(PeriodicThread):
    """Raises the given errors one after the other, and then works."""

    name = "worker of a test"
    first_seconds = every_seconds = 0.001
    stop_seconds = PATIENCE
    failure = "the work was not done"

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self.errors = list(errors)
        self.has_worked = threading.Event()
        self.has_finished = False

    def work(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.has_worked.set()

    def finish(self) -> None:
        self.has_finished = True


def test_no_error_ends_it_and_only_its_own_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    bugs = [ValueError("a bug"), ProgrammingError("a statement that the database does not understand")]
    worker = Worker(OperationalError("away"), *bugs, OperationalError("away"))
    worker.start()
    assert worker.has_worked.wait(PATIENCE)
    worker.stop()

    assert (worker.is_running, worker.has_finished) == (False, True)
    logged = [(record.name, record.getMessage()) for record in caplog.records]
    assert logged == [(__name__, Worker.failure)] * 2


def test_connections_that_cannot_be_closed_do_not_end_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(periodic_thread, "connections", SimpleNamespace(close_all=fail))
    worker = Worker()
    worker.work_once()
    assert [record.getMessage() for record in caplog.records] == [Worker.failure]


def test_one_that_was_never_started_can_be_stopped() -> None:
    Worker().stop()
