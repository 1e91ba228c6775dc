"""A file of reports or counts that may not be read, as a command that root has run leaves it, harms no page."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from usage.live import worker_files
from usage.live.worker_files import (
    DEAD_COUNTS_FILE,
    SHIPPER_SUFFIX,
    WorkerFile,
    read_shipper_report,
    read_worker_reports,
)
from usage.metric_counters import WorkerCounters

COUNTED = b'{"id": "dead", "values": [["calls", "/openai", "gpt-5", "success", 3]], "histograms": []}'


def calls() -> float:
    return sum(value for key, value in read_worker_reports().counted.values.items() if key[0] == "calls")


@pytest.mark.parametrize("unreadable", [DEAD_COUNTS_FILE, "dead.json"])
def test_it_is_left_out_and_counted_once_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, unreadable: str
) -> None:
    directory, really_read = tmp_path / "workers", Path.read_bytes
    monkeypatch.setattr(worker_files, "directory", lambda: directory)
    monkeypatch.setattr(worker_files, "counters", WorkerCounters())
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    directory.mkdir()
    for name in (DEAD_COUNTS_FILE, "dead.json"):
        (directory / name).write_bytes(COUNTED)

    def read(path: Path) -> bytes:
        if path.name == unreadable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really_read(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert calls() == calls() == (0 if unreadable == DEAD_COUNTS_FILE else 3)
    assert [unreadable in record.getMessage() for record in caplog.records] == [True]  # logged once
    monkeypatch.setattr(Path, "read_bytes", really_read)
    assert calls() == calls() == 6
    assert not (directory / "dead.json").exists()


def test_the_shippers_is_as_if_no_shipper_ran(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    shipper = WorkerFile(lambda: {"shipper": ""}, SHIPPER_SUFFIX)
    shipper.start()
    try:
        assert read_shipper_report() is not None

        def refuse(_path: Path) -> bytes:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert read_shipper_report() is None
    finally:
        shipper.stop()
