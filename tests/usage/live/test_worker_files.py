"""Reports of workers are counted once through restarts and crashes; dead workers have no calls in flight."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from tests.support.ledger.ledgers import call
from tests.support.moved_clock import PutClock
from usage import metric_counters as counters_module
from usage.live import metrics, status, worker_files
from usage.live.shipping_state import NOT_RUNNING, ShippingState, report_shipping
from usage.live.status import read_status
from usage.live.worker_files import WorkerFile, read_worker_reports
from usage.metric_counters import ENDS, MOST_MODELS, OTHER, ServerCounters, WorkerCounters

COUNTED: dict[str, list[list[object]]] = {"values": [["calls", "/openai", "gpt-5", "success", 3]], "histograms": []}
OTHER_PROCESS = """
import os, sys, time
sys.path.insert(0, {root!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.support.settings_without_database"
import django; django.setup()
from usage.live import worker_files as workers
from usage.metric_counters import counters
workers.directory = lambda: __import__("pathlib").Path({directory!r})
counters.count_call({{"route": "/openai", "outcome": "success", "response_model": "gpt-5", "duration_ms": 5.0}})
worker = workers.WorkerFile(lambda: {{"in_flight": 5}})
worker.start()
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    monkeypatch.setattr(counters_module, "counters", WorkerCounters())
    monkeypatch.setattr(worker_files, "counters", counters_module.counters)
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    return tmp_path / "workers"


def calls() -> float:
    return sum(value for key, value in read_worker_reports().counted.values.items() if key[0] == "calls")


def start_another(directory: Path) -> subprocess.Popen[str]:
    root = str(Path(__file__).resolve().parent.parent.parent.parent)
    program = OTHER_PROCESS.format(root=root, directory=str(directory))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ})
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    return process


def test_it_works(directory: Path) -> None:
    worker = WorkerFile(lambda: {"in_flight": 2})
    counters_module.counters.count_call(call())
    worker.start()
    [state] = read_worker_reports().alive

    assert (state["in_flight"], state["pid"], calls()) == (2, os.getpid(), 1)
    counters_module.counters.count_call(call())
    worker.write_report()
    assert calls() == 2
    worker.stop()
    assert (read_worker_reports().alive, calls(), calls()) == ([], 2, 2)
    assert sorted(path.name for path in directory.glob("[!.]*")) == ["departed.json"]


def test_a_worker_killed_at_once_is_counted_once_and_has_nothing_in_flight(directory: Path) -> None:
    process = start_another(directory)
    seen = [state["in_flight"] for state in read_worker_reports().alive], calls()
    process.send_signal(signal.SIGKILL)
    process.communicate()

    assert seen == ([5], 1)
    assert [(read_worker_reports().alive, calls()) for _ in range(3)] == [([], 1)] * 3
    again = start_another(directory)
    assert calls() == 2
    again.kill()
    again.communicate()
    assert calls() == 2


def test_a_crash_between_the_adding_and_the_removing_counts_nobody_twice(directory: Path) -> None:
    directory.mkdir()
    dead = directory / "dead.json"
    dead.write_bytes(orjson.dumps({"id": "dead", **COUNTED}))
    assert calls() == 3
    dead.write_bytes(orjson.dumps({"id": "dead", **COUNTED}))  # as if it had never been removed

    assert calls() == 3
    assert not dead.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"null"])
def test_a_file_that_cannot_be_read_harms_nobody(directory: Path, content: bytes) -> None:
    directory.mkdir()
    (directory / "torn.json").write_bytes(content)
    (directory / "fine.json").write_bytes(orjson.dumps({"id": "fine", **COUNTED}))

    assert calls() == 3


def test_a_disk_that_takes_nothing_stops_no_worker(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerFile(lambda: {"in_flight": 0})
    worker.start()

    def refuse(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(worker_files, "_write", refuse)
    worker.write_report()
    monkeypatch.undo()
    worker._stopping.set()
    worker._thread.join()
    os.close(worker._lock_fd)


def test_before_any_worker_has_started_there_is_nothing() -> None:
    assert (read_worker_reports().alive, calls()) == ([], 0)


def test_the_report_of_another_version_harms_nobody(directory: Path) -> None:
    directory.mkdir()
    report = {
        "id": "other", "in_flight": 4, "gauges": {"unknown_bytes": 7}, "unknown": [1],
        "values": [*COUNTED["values"], ["unknown", "/openai", 1]],
        "histograms": [["unknown_seconds", "/openai", [1, 2.0]], ["upstream_seconds", "/openai", [1, 2.0]]],
    }  # fmt: skip
    for name, written in (("other", report), ("oldest", {"id": "oldest"})):
        (directory / f"{name}.json").write_bytes(orjson.dumps(written))
    with (directory / "other.lock").open("w") as one, (directory / "oldest.lock").open("w") as another:
        fcntl.flock(one, fcntl.LOCK_EX)
        fcntl.flock(another, fcntl.LOCK_EX)
        status = read_status()
        page = metrics.render().decode().splitlines()

    assert (status.workers, status.in_flight, status.upstream) == (2, 4, "unknown")
    assert status.shipping == ShippingState(0, 0.0, "", NOT_RUNNING)
    assert {"chatproxy_workers 2.0", "chatproxy_calls_in_flight 4.0", "chatproxy_unknown_bytes 7.0"} <= {*page}
    assert 'chatproxy_calls_total{model="gpt-5",outcome="success",route="/openai"} 3.0' in page
    assert read_status().workers == 0  # both are dead now, and their files are removed
    assert sorted(path.name for path in directory.glob("[!.]*")) == ["departed.json"]


# Counters


def test_a_call_is_counted_with_its_tokens_and_its_latency() -> None:
    counted = WorkerCounters()
    counted.count_call(call(time_to_first_chunk_ms=100.0))
    counted.count_usage([call(reasoning_tokens=None, cost=Decimal("0.5"))])
    label = "/openai", "gpt-4o-mini-2024-07-18"

    assert counted.values == {
        ("calls", *label, "success"): 1,
        ("tokens", *label, "input"): 1000,
        ("tokens", *label, "cached"): 200,
        ("tokens", *label, "output"): 500,
    }
    assert counted.dollars == {("cost_dollars", *label): Decimal("0.5")}
    *counts, total = counted.histograms["call_duration_seconds", "/openai"]
    assert (counts[ENDS.index(1)], sum(counts)) == (1, 1)
    assert total == pytest.approx(0.812345)
    assert set(counted.histograms) == {
        (name, "/openai")
        for name in ("call_duration_seconds", "first_chunk_seconds", "upstream_seconds", "overhead_seconds")
    }


def test_dollars_follow_later_prices_up_and_down() -> None:
    counted = WorkerCounters()
    label = "/openai", "gpt-4o-mini-2024-07-18"
    dearer, cheaper, gone = (call(cost=Decimal("0.5")) for _ in range(3))
    priced = call(cost=None)
    before = [dearer, cheaper, gone, priced]
    after: list[Any] = [
        {**row, "cost": cost} for row, cost in zip(before, map(Decimal, ("0.75", "0.25", "0", "2")), strict=True)
    ]
    after[2]["cost"] = None
    counted.count_repricing(before, after[::-1])
    assert counted.dollars == {
        ("cost_dollars", *label): Decimal("2.25"),
        ("cost_taken_back_dollars", *label): Decimal("0.75"),
    }


def test_an_estimate_that_was_too_high_is_taken_back() -> None:
    counted = WorkerCounters()
    row = call(reasoning_tokens=None, cost=Decimal("0.2"))
    counted.count_usage([row], {str(row["request_id"]): [call(cost=Decimal("0.2")), call(cost=Decimal("0.3"))]})
    assert {name: value for (name, *_), value in counted.dollars.items()} == {"cost_taken_back_dollars": Decimal("0.3")}


def test_calls_without_a_price_are_counted_once() -> None:
    """Also those whose guess is replaced by the real row; a call that costs something is not counted."""
    counted = WorkerCounters()
    rows: list[Any] = [call(reasoning_tokens=None, cost=None, needs_price=True) for _ in range(2)]
    counted.count_usage([*rows, call(reasoning_tokens=None, cost=Decimal("0.2"), needs_price=False)])
    counted.count_usage(rows[:1], {str(rows[0]["request_id"]): [rows[0]]})
    label = "unpriced_calls", "/openai", "gpt-4o-mini-2024-07-18"
    assert {name: value for name, value in counted.values.items() if name[0] == "unpriced_calls"} == {label: 2}


def test_a_command_leaves_what_it_has_counted_and_it_is_added_once(directory: Path) -> None:
    counters_module.counters.count_call(call())
    worker_files.leave_counts()
    assert (calls(), calls()) == (1, 1)
    assert not read_worker_reports().alive
    assert sorted(path.name for path in directory.glob("[!.]*")) == ["departed.json"]


def test_a_model_that_nobody_has_answered_gets_no_label_of_its_own() -> None:
    counted = WorkerCounters()
    for number in range(200):
        counted.count_call(call(request_model=f"invented-{number}", response_model="", outcome="upstream_error"))
    assert {key[2] for key in counted.values} == {OTHER}
    for number in range(200):
        counted.count_call(call(request_model="", response_model=f"model-{number}"))

    assert len({key[2] for key in counted.values}) == MOST_MODELS + 1


@pytest.mark.parametrize(
    ("rows", "up"),
    [
        ([{"outcome": "timeout"}], False),
        ([{"outcome": "unreachable"}, {"outcome": "success"}], True),
        ([{"outcome": "success"}, {"outcome": "timeout"}], False),
        ([{"outcome": "timeout"}, {"outcome": "rejected", "upstream_ms": None}], False),
        ([{"outcome": "timeout"}, {"outcome": "upstream_error"}], True),
        ([{"outcome": "success"}, {"outcome": "timeout", "is_callers_timeout": True}], True),
        ([{"outcome": "timeout"}, {"outcome": "timeout", "is_callers_timeout": True}], False),
    ],
    ids=str,
)
def test_upstream_is_up_when_the_newest_call_got_through(
    rows: list[dict[str, Any]], up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1, 100))
    monkeypatch.setattr(counters_module, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    counted = WorkerCounters()
    for row in rows:
        counted.count_call(call(**row))

    assert ((counted.upstream_answered_at or 0) > (counted.upstream_failed_at or 0)) is up


@pytest.mark.parametrize("ahead", [timedelta(hours=-1), timedelta(days=365)], ids=str)
def test_a_clock_that_is_set_changes_nothing_of_the_state(
    put_clock: PutClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ahead: timedelta
) -> None:
    counted = WorkerCounters()
    monkeypatch.setattr(status, "counters", counted)
    monkeypatch.setattr(status, "ledger", SimpleNamespace(journal=SimpleNamespace(full=False)))
    complete_at = time.monotonic()
    counted.count_call(call(outcome="timeout"))
    put_clock(ahead)
    counted.count_call(call(outcome="success"))
    with (tmp_path / "shipper.lock").open("w") as lock:
        shipping = report_shipping(
            lock.fileno(), shipped_bytes={}, complete_at=complete_at, database_fault="", shipper_fault=""
        )
        assert os.fstat(lock.fileno()).st_mtime == pytest.approx(shipping["shipped_until"])
    report = {**status.build_report(in_flight=0, draining=False, gauges={}), **shipping}
    now = time.time()
    names = ("shipped_until", "upstream_failed_at", "upstream_answered_at")
    ages = [now - float(str(report[name])) for name in names]
    assert ages == sorted(ages, reverse=True)  # by one clock, in the order in which they were
    assert 0 <= min(ages) <= max(ages) < 1000


def test_sums_survive_buckets_of_another_version() -> None:
    total = ServerCounters()
    total.add({"values": [], "histograms": [["upstream_seconds", "/openai", [1, 2.0]]]})
    total.add({"values": [], "histograms": [["upstream_seconds", "/openai", [1, 1, 2.0]]]})

    assert total.histograms == {("upstream_seconds", "/openai"): [1, 2.0]}
