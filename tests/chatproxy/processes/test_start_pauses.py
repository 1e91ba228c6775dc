"""While new workers end before they serve, the master pauses between tries; one that has served is replaced at once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from gunicorn.arbiter import Arbiter

from chatproxy.processes import gunicorn_conf
from chatproxy.processes.gunicorn_conf import FORGOTTEN_SECONDS, LONGEST_PAUSE_SECONDS, StartPauses
from chatproxy.processes.upgrade import AdoptedWorker
from chatproxy.processes.worker import Worker

FAILED = cast(Worker, SimpleNamespace(has_started=False))
SERVED = cast(Worker, SimpleNamespace(has_started=True))


class Master:
    """gunicorn's master process, as far as it starts workers, and a clock that stands still."""

    def __init__(self) -> None:
        self.started = 0
        self.now = 1000.0
        self.pauses = StartPauses()
        self.pauses.install(cast(Arbiter, self))

    def spawn_workers(self) -> None:
        self.started += 1

    def starts_a_worker(self) -> bool:
        before = self.started
        self.spawn_workers()
        return self.started > before

    def seconds_until_start(self) -> float:
        """Passes the time, second by second, until a worker is started."""
        began_at = self.now
        while not self.starts_a_worker():
            self.now += 1
        return self.now - began_at


@pytest.fixture
def master(monkeypatch: pytest.MonkeyPatch) -> Master:
    found = Master()
    monkeypatch.setattr(gunicorn_conf, "time", SimpleNamespace(monotonic=lambda: found.now))
    return found


def test_it_works(master: Master) -> None:
    assert master.starts_a_worker()
    waited = []
    for _ in range(8):
        master.pauses.worker_has_ended(FAILED)
        waited.append(master.seconds_until_start())
    assert waited == [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]


def test_without_pauses_the_log_promises_none(caplog: pytest.LogCaptureFixture) -> None:
    """As with `--reload`, where workers are started again at once."""
    StartPauses().worker_has_ended(FAILED)
    assert caplog.records == []


@pytest.mark.parametrize("worker", [SERVED, AdoptedWorker(1)])
def test_a_worker_that_has_served_is_replaced_at_once(master: Master, worker: Worker | AdoptedWorker) -> None:
    for _ in range(3):
        master.pauses.worker_has_ended(worker)
        assert master.starts_a_worker()


def test_workers_that_fail_together_cause_one_pause(master: Master) -> None:
    for _ in range(4):
        master.pauses.worker_has_ended(FAILED)
    assert master.seconds_until_start() == 1


def test_a_failure_of_long_ago_is_forgotten(master: Master) -> None:
    for _ in range(5):
        master.pauses.worker_has_ended(FAILED)
        master.seconds_until_start()
    master.now += FORGOTTEN_SECONDS
    master.pauses.worker_has_ended(FAILED)
    assert master.seconds_until_start() == 1
