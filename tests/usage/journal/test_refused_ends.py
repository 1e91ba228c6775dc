"""Ends of calls that the disk takes neither when they come nor when the journal is closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ledger.journals import FACTS, ids, new_id
from tests.support.servers.disks import PretendedOS
from usage.journal import full_disk
from usage.journal import writer as journal_module
from usage.journal.full_disk import MOST_NAMED
from usage.journal.writer import Journal


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> PretendedOS:
    disk = PretendedOS()
    monkeypatch.setattr(journal_module, "os", disk)
    monkeypatch.setattr(full_disk, "os", disk)
    return disk


@pytest.mark.parametrize("calls", [1, 3, MOST_NAMED + 1])
def test_refused_ends_are_said_at_the_close(
    disk: PretendedOS, tmp_path: Path, caplog: pytest.LogCaptureFixture, calls: int
) -> None:
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    request_ids = [new_id() for _ in range(calls)]
    for request_id in request_ids:
        journal.begin(request_id, FACTS)
    disk.room = 0
    for request_id in request_ids:
        journal.end(request_id, FACTS)
    journal.close()
    [words] = [message for message in caplog.messages if "has not taken the ends" in message]
    assert f"the ends of {calls} calls" in words
    assert [request_id in words for request_id in request_ids] == [number < MOST_NAMED for number in range(calls)]
    assert ids(tmp_path, "end") == []


def test_nothing_is_said_when_all_ends_are_written(
    disk: PretendedOS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    request_id = new_id()
    journal.begin(request_id, FACTS)
    disk.room = 0
    journal.end(request_id, FACTS)
    disk.room = None
    journal.close()
    assert ids(tmp_path, "end") == [request_id]
    assert not [message for message in caplog.messages if "has not taken the ends" in message]
