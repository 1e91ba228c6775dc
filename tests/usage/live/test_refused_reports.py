"""A worker whose status file cannot be written serves without it, and writes it when it can."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatproxy.processes import lifespan
from chatproxy.processes.exit_steps import ShutdownSteps
from tests.simulator.server import Simulator
from tests.support.ledger.ledgers import call
from tests.support.polling import wait_until
from tests.support.servers.gateway import ACCESS_TOKEN, Gateway
from usage.live import worker_files
from usage.live.worker_files import SHIPPER_SUFFIX, WorkerFile, read_shipper_report, read_worker_reports
from usage.metric_counters import WorkerCounters


@pytest.fixture
def own() -> WorkerCounters:
    return WorkerCounters()


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: WorkerCounters) -> Path:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    monkeypatch.setattr(worker_files, "counters", own)
    monkeypatch.setattr(worker_files, "_unreadable", set())
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    return tmp_path / "workers"


@pytest.fixture
def _no_directory(directory: Path) -> None:
    directory.write_text("")


def calls() -> float:
    return sum(value for key, value in read_worker_reports().counted.values.items() if key[0] == "calls")


class Refusing:
    """Makes `os.open` fail in one directory, as a disk does that is full or read-only, or another account's."""

    def __init__(self, directory: Path, number: int) -> None:
        self._directory, self._number, self._open = directory, number, os.open
        self.is_on = True

    def __call__(self, path: Any, *args: Any, **kwargs: Any) -> int:
        if self.is_on and str(path).startswith(str(self._directory)):
            raise OSError(self._number, os.strerror(self._number), str(path))
        return self._open(path, *args, **kwargs)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_worker_starts_without_its_files_and_makes_them_when_it_can(
    directory: Path,
    own: WorkerCounters,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    refusing = Refusing(directory, number)
    monkeypatch.setattr(os, "open", refusing)
    worker = WorkerFile(lambda: {"in_flight": 2})
    own.count_call(call())
    worker.start()
    try:
        assert [(state["in_flight"], calls()) for state in read_worker_reports().alive] == [(2, 1)]  # from memory
        worker.write_report()
        assert list(directory.glob("*.json")) == []
        assert [os.strerror(number) in record.getMessage() for record in caplog.records][:1] == [True]
        assert len({record.getMessage() for record in caplog.records}) == len(caplog.records)  # each is logged once
        refusing.is_on = False
        worker.write_report()
        assert worker_files.has_living_worker()
        assert worker.path.exists()
    finally:
        worker.stop()
    assert (read_worker_reports().alive, calls()) == ([], 1)


def delete_locks(directory: Path) -> None:
    for path in directory.glob(f"*{SHIPPER_SUFFIX}.lock"):
        path.unlink()


@pytest.mark.parametrize("delete", [delete_locks, shutil.rmtree, lambda path: path.rename(path.with_name("moved"))])
def test_files_that_somebody_deletes_are_made_again(directory: Path, delete: Callable[[Path], None]) -> None:
    """Others would think that the process is dead: without a shipper that they see, no server is ready."""
    shipper = WorkerFile(lambda: {"shipper": ""}, SHIPPER_SUFFIX)
    shipper.start()
    try:
        delete(directory)
        shipper.write_report()
        assert (read_shipper_report() or {}).get("shipper") == ""
        assert len(list(directory.glob(f"*{SHIPPER_SUFFIX}.lock"))) == 1
    finally:
        shipper.stop()
    assert read_shipper_report() is None


@pytest.mark.parametrize("make", [lambda path: path.write_text(""), lambda path: path.symlink_to("nowhere")])
def test_what_is_no_directory_in_its_place_stops_no_worker(directory: Path, make: Callable[[Path], object]) -> None:
    make(directory)
    worker = WorkerFile(lambda: {"in_flight": 2})
    worker.start()
    assert [state["in_flight"] for state in read_worker_reports().alive] == [2]
    worker.stop()


@pytest.mark.usefixtures("_no_directory")
async def test_only_the_journal_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = list[str]()
    monkeypatch.setattr(lifespan, "worker_report", dict)
    monkeypatch.setattr(lifespan, "ledger", SimpleNamespace(start=lambda: None, stop=lambda: ended.append("ledger")))
    async with ShutdownSteps() as steps:
        lifespan.start_ledger(steps)
        assert len(read_worker_reports().alive) == 1
    assert ended == ["ledger"]

    def fail() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "journal")

    sent = list[Any]()

    async def receive() -> dict[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    monkeypatch.setattr(lifespan, "ledger", SimpleNamespace(start=fail))
    await lifespan.run_lifespan(cast(Any, receive), cast(Any, send))
    assert [(message["type"], message["message"]) for message in sent] == [
        ("lifespan.startup.failed", "the journal cannot be written: [Errno 30] Read-only file system: 'journal'")
    ]


def test_a_worker_that_starts_without_them_takes_calls(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway()
    workers = Path(gateway.variables["DATA_DIR"]) / "workers"
    (first,) = gateway.worker_pids
    aside = workers.rename(workers.with_name("aside"))
    workers.write_text("")
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(gateway.worker_pids) == 2)
    messages = [{"role": "user", "content": "hi"}]
    assert gateway.post("/openai", {"model": "gpt-4o-mini", "messages": messages}).status_code == 200
    assert gateway.get("/readyz").status_code == 200
    metrics = gateway.get("/metrics", access_token=ACCESS_TOKEN)
    assert re.search(r"^chatproxy_calls_total\{.*\} 1\.0$", metrics.text, flags=re.M)
    gateway.wait_for_log("the report of this worker cannot be written, so others do not see it: ")
    workers.unlink()
    aside.rename(workers)
    gateway.rows(at_least=1)
    wait_until(lambda: str(gateway.worker_pids[-1]) in "".join(path.read_text() for path in workers.glob("*.json")))
