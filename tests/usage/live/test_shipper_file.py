"""The shipper's own report, as the shipper itself reads it: it is no worker's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from usage.live import worker_files
from usage.live.worker_files import SHIPPER_SUFFIX, WorkerFile, read_worker_reports


def test_a_shipper_that_reads_is_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    shipper = WorkerFile(lambda: {"shipper": ""}, SHIPPER_SUFFIX)
    shipper.start()
    reports = read_worker_reports()
    shipper.stop()

    assert reports.alive == []
    assert reports.shipper is not None
    assert reports.shipper["pid"] == os.getpid()
