"""`/metrics` when something is wrong: on a full disk, with rows that the database refuses, with refused calls."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.metrics import HI, scrape, value
from tests.support.callers.metrics import wait_until as wait_for_samples
from tests.support.ledger.ledgers import call, end
from tests.support.servers.disks import fill, small_disk, wait_until
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from usage.journal.records import frame
from usage.live import worker_files
from usage.live.worker_files import WorkerFile, read_worker_reports

MIB = 1024 * 1024


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Makes a small disk of its own, and returns the DATA_DIR on it."""
    directory = tmp_path / "data"
    with small_disk(directory, 8 * MIB):
        yield directory


@pytest.mark.parametrize("workers_count", [1, 2])
def test_a_full_disk_is_seen(simulator: Simulator, gateway_database: str, full_disk: Path, workers_count: int) -> None:
    settings = {"JOURNAL_RESERVE_BYTES": str(4 * MIB), "WEB_CONCURRENCY": str(workers_count)}
    with run_gateway(simulator.base_url, gateway_database, full_disk, **settings) as gateway:
        before = wait_for_samples(gateway, lambda found: value(found, "chatproxy_workers") == workers_count)
        assert value(before, "chatproxy_journal_full") == 0
        ballast = fill(full_disk)
        wait_until(lambda: gateway.http.get("/readyz").json()["journal"] == "full")
        samples = wait_for_samples(gateway, lambda found: value(found, "chatproxy_journal_full") == 1)
        refused = value(samples, "chatproxy_refused_total", reason="storage_full")
        assert gateway.post("/openai", HI).json()["error"]["code"] == "storage_full"
        samples = wait_for_samples(
            gateway, lambda found: value(found, "chatproxy_refused_total", reason="storage_full") > refused
        )
        assert value(samples, "chatproxy_workers") == workers_count
        ballast.unlink()
        wait_for_samples(gateway, lambda found: value(found, "chatproxy_journal_full") == 0)


def test_a_worker_that_dies_on_a_full_disk_is_counted_once(
    simulator: Simulator, gateway_database: str, full_disk: Path
) -> None:
    settings = {"JOURNAL_RESERVE_BYTES": str(MIB), "WEB_CONCURRENCY": "2"}
    with run_gateway(simulator.base_url, gateway_database, full_disk, **settings) as gateway:
        wait_for_samples(gateway, lambda found: value(found, "chatproxy_workers") == 2)
        for _ in range(8):
            gateway.row(gateway.post("/openai", HI))
        wait_for_samples(gateway, lambda found: value(found, "chatproxy_calls_total") == 8)
        wait_until(lambda: all(path.read_bytes() != b"" for path in (full_disk / "workers").glob("*.json")))
        ballast = fill(full_disk)
        os.kill(gateway.worker_pids[0], signal.SIGKILL)
        assert all(value(scrape(gateway), "chatproxy_calls_total") == 8 for _ in range(3))
        ballast.unlink()
        wait_for_samples(gateway, lambda found: value(found, "chatproxy_workers") == 2)
        assert value(scrape(gateway), "chatproxy_calls_total") == 8


def test_the_own_state_comes_from_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    state = {"journal_full": False}
    worker = WorkerFile(lambda: state)
    worker.start()
    try:
        state["journal_full"] = True
        [alive] = read_worker_reports().alive
        assert alive["journal_full"] is True

        def refuse(*_values: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(worker_files, "_write", refuse)
        state["journal_full"] = False
        [alive] = read_worker_reports().alive
        assert alive["journal_full"] is False
    finally:
        worker.stop()
    assert WorkerFile.of_this_process is None


def test_a_disk_that_has_become_read_only_hides_no_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The own state comes from memory, those of other workers and of dead ones from their last reports."""
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    workers = [WorkerFile(lambda: {"journal_full": True}) for _ in range(2)]
    for worker in workers:
        worker.start()
    really_open = os.open

    def open_to_read(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return really_open(path, flags, mode)

    try:
        monkeypatch.setattr(os, "open", open_to_read)
        for _ in range(2):
            assert [report["journal_full"] for report in read_worker_reports().alive] == [True, True]
        os.close(workers[0]._lock_fd)  # this worker dies; its counts cannot be moved
        assert len(read_worker_reports().alive) == 1
    finally:
        monkeypatch.setattr(os, "open", really_open)
        workers[1].stop()
        workers[0]._stopping.set()


def test_dead_letters_and_damaged_records_are_counted(
    start_gateway: Callable[..., Gateway], simulator: Simulator, tmp_path: Path
) -> None:
    gateway = start_gateway()
    samples = scrape(gateway)
    for name in ("dead_letters", "damaged_records"):
        assert samples[f"chatproxy_{name}_total", ()] == 0  # there before the first one
    damaged = frame(end(call())).replace(b'"success"', b'"sXccess"')
    lines = [frame(end(call(input_tokens=-1))), damaged, frame(end(call(output_tokens=-1))), frame(end(call()))]
    left = tmp_path / "journal" / "00000000-0000-7000-8000-000000000000.00000001.journal"
    unnamed = left.with_name("unnamed")
    unnamed.write_bytes(b"".join(lines))
    unnamed.rename(left)
    samples = wait_for_samples(gateway, lambda found: value(found, "chatproxy_dead_letters_total") == 2)
    assert value(samples, "chatproxy_damaged_records_total") == 1


def refused_by_its_key(gateway: Gateway) -> None:
    gateway.http.post("/openai", json={"security_key": "unknown", **HI})


def refused_by_its_json(gateway: Gateway) -> None:
    headers = {"Content-Type": "application/json", "X-Security-Key": SECURITY_KEY}
    gateway.http.post("/openai", content=b"{", headers=headers)


def refused_by_its_path(gateway: Gateway) -> None:
    gateway.http.get("/nowhere")


def refused_by_its_method(gateway: Gateway) -> None:
    gateway.http.delete("/openai")


def refused_by_its_head(gateway: Gateway) -> None:
    gateway.http.post("/openai", content=b"{}", headers={"Content-Type": "a/b" + ";" * 5000})


REFUSALS: dict[str, Callable[[Gateway], None]] = {
    "invalid_key": refused_by_its_key,
    "bad_json": refused_by_its_json,
    "not_found": refused_by_its_path,
    "method_not_allowed": refused_by_its_method,
    "bad_request": refused_by_its_head,
}


@pytest.mark.parametrize("code", REFUSALS)
def test_refusals_are_counted_by_their_code(gateway: Gateway, code: str) -> None:
    before = value(scrape(gateway), "chatproxy_refused_total", reason=code)
    REFUSALS[code](gateway)
    assert value(scrape(gateway), "chatproxy_refused_total", reason=code) == before + 1
