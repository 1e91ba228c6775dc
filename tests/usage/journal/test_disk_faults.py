"""A disk that takes nothing for another reason than that it is full: a quota, no free inodes, a read-only remount."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ledger.journals import FACTS, ids, new_id, pass_a_second, read, running
from tests.support.servers.disks import PretendedOS
from usage.journal import full_disk
from usage.journal import writer as journal_module
from usage.journal.full_disk import LEAST_FILES, JournalFull
from usage.journal.writer import Journal


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> PretendedOS:
    """The journal's disk. Nothing looks at it by itself: see `pass_a_second`."""
    disk = PretendedOS()
    monkeypatch.setattr(journal_module, "os", disk)
    monkeypatch.setattr(full_disk, "os", disk)
    monkeypatch.setattr(journal_module, "ROOM_CHECK_SECONDS", float("inf"))
    return disk


@pytest.fixture
def journal(disk: PretendedOS, tmp_path: Path) -> Iterator[Journal]:
    with running(tmp_path / "journal") as journal:
        yield journal


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO], ids=os.strerror)
def test_no_call_begins_and_no_end_is_lost(disk: PretendedOS, journal: Journal, fault: int) -> None:
    begun = new_id()
    journal.begin(begun, FACTS)
    disk.room, disk.fault = 0, fault  # the free space stays as it was
    for _ in range(3):
        with pytest.raises(JournalFull):
            journal.begin(new_id(), FACTS)
        assert journal.full
        pass_a_second(journal)
    journal.end(begun, {**FACTS, "status": 200})
    pass_a_second(journal)
    assert journal.full
    assert ids(journal.directory, "end") == []

    disk.room = None
    pass_a_second(journal)
    assert not journal.full
    journal.begin(later := new_id(), FACTS)
    assert (ids(journal.directory, "begin"), ids(journal.directory, "end")) == ([begun, later], [begun])


def test_a_torn_record_that_cannot_be_cut_off_spoils_no_other(disk: PretendedOS, journal: Journal) -> None:
    journal.begin(begun := new_id(), FACTS)
    disk.room, disk.refuses_cuts = 10, True
    with pytest.raises(JournalFull):
        journal.begin(new_id(), FACTS)
    journal.end(begun, FACTS)
    disk.room = None
    pass_a_second(journal)
    assert journal.full
    journal.rotate()

    disk.refuses_cuts = False
    pass_a_second(journal)
    assert not journal.full
    assert (ids(journal.directory, "begin"), ids(journal.directory, "end")) == ([begun], [begun])


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE], ids=os.strerror)
def test_without_another_file_the_old_segment_goes_on(
    disk: PretendedOS, journal: Journal, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    """No call is refused for it, and the log does not say so at each call."""
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 2000)
    disk.free_files, disk.fault = 0, fault
    calls = [new_id() for _ in range(40)]
    for request_id in calls:
        journal.begin(request_id, FACTS)
        journal.end(request_id, FACTS)
    assert not journal.full
    assert len(list(journal.directory.glob("*.journal"))) == 1
    said = [text for text in caplog.messages if "cannot start a new segment" in text]
    assert 0 < len(said) <= sum(map(len, disk.writes)) / 2000

    disk.free_files = 2**20
    for request_id in (more := [new_id() for _ in range(20)]):
        journal.begin(request_id, FACTS)
        journal.end(request_id, FACTS)
    assert len(list(journal.directory.glob("*.journal"))) > 1
    assert ids(journal.directory, "end") == calls + more
    assert len(read(journal.directory)) >= 2 * len(calls + more)


def test_a_disk_without_free_inodes_is_full(
    disk: PretendedOS, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.begin(begun := new_id(), FACTS)
    disk.free_files = LEAST_FILES - 1
    for _ in range(3):
        pass_a_second(journal)
    assert journal.full
    with pytest.raises(JournalFull):
        journal.begin(new_id(), FACTS)
    journal.end(begun, FACTS)  # needs no further file
    assert ids(journal.directory, "end") == [begun]
    assert len([text for text in caplog.messages if "no room for further files" in text]) == 1

    disk.free_files = LEAST_FILES
    pass_a_second(journal)
    assert not journal.full
