"""Files of a living process's journal that somebody deletes: its records are in the ledger nevertheless."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ledger.journals import FACTS, ids, new_id, pass_a_second, running
from tests.support.ledger.ledgers import NOON, call_id
from tests.support.servers.disks import PretendedOS
from usage.journal import segments
from usage.journal import writer as journal_module
from usage.journal.full_disk import JournalFull
from usage.journal.writer import Journal
from usage.journal_shipping import shipper as shipper_module
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.shipper import Shipper, adopt_dead
from usage.models import Hold, Request


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> PretendedOS:
    """The journal's disk. Nothing looks at it by itself: see `pass_a_second`."""
    disk = PretendedOS()
    monkeypatch.setattr(journal_module, "os", disk)
    monkeypatch.setattr(journal_module, "ROOM_CHECK_SECONDS", float("inf"))
    return disk


@pytest.fixture
def journal(disk: PretendedOS, tmp_path: Path) -> Iterator[Journal]:
    with running(tmp_path / "journal") as journal:
        yield journal


def delete_segments(directory: Path) -> None:
    for path in directory.glob("*.journal"):
        path.unlink()


def delete_locks(directory: Path) -> None:
    for path in directory.glob("*.lock"):
        path.unlink()


def move_away(directory: Path) -> None:
    directory.rename(directory.with_name("moved away"))


DELETIONS = [delete_segments, delete_locks, shutil.rmtree, move_away]


@pytest.mark.parametrize("delete", DELETIONS)
def test_they_are_made_again_with_all_records(journal: Journal, delete: Callable[[Path], None]) -> None:
    journal.begin(before := new_id(), FACTS)
    delete(journal.directory)
    journal.end(before, FACTS)
    journal.begin(after := new_id(), FACTS)
    pass_a_second(journal)

    assert segments.is_alive(journal.directory, journal.writer)
    assert (ids(journal.directory, "begin"), ids(journal.directory, "end")) == ([before, after], [before])
    journal.end(after, FACTS)
    pass_a_second(journal)
    assert ids(journal.directory, "end") == [before, after]
    assert len(segments.segments_of(journal.directory, journal.writer)) == 1


@pytest.mark.parametrize("delete", DELETIONS)
def test_a_new_segment_that_begins_meanwhile_costs_no_record(journal: Journal, delete: Callable[[Path], None]) -> None:
    journal.begin(before := new_id(), FACTS)
    journal.begin(open_call := new_id(), FACTS)
    delete(journal.directory)
    journal.end(before, FACTS)
    journal.rotate()

    assert segments.is_alive(journal.directory, journal.writer)
    assert ids(journal.directory, "end") == [before]
    assert set(ids(journal.directory, "begin")) == {before, open_call}


@pytest.mark.parametrize("delete", DELETIONS)
def test_at_the_close_they_are_made_again_too(
    disk: PretendedOS, tmp_path: Path, delete: Callable[[Path], None]
) -> None:
    with running(tmp_path / "journal") as journal:
        journal.begin(request_id := new_id(), FACTS)
        delete(journal.directory)
        journal.end(request_id, FACTS)
    assert ids(journal.directory, "end") == [request_id]


def test_no_call_begins_while_they_cannot_be_made_again(
    disk: PretendedOS, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.begin(begun := new_id(), FACTS)
    delete_segments(journal.directory)
    disk.free_files = 0
    for _ in range(3):
        pass_a_second(journal)
        with pytest.raises(JournalFull):
            journal.begin(new_id(), FACTS)
    journal.end(begun, FACTS)
    assert len([text for text in caplog.messages if "cannot be made again" in text]) == 1

    disk.free_files = 2**20
    pass_a_second(journal)
    assert not journal.full
    assert (ids(journal.directory, "begin"), ids(journal.directory, "end")) == ([begun], [begun])


@pytest.mark.django_db(transaction=True)
def test_a_process_that_was_taken_for_dead_has_each_call_in_the_ledger_once(disk: PretendedOS, tmp_path: Path) -> None:
    calls = [new_id() for _ in range(3)]
    with running(tmp_path) as journal:
        for request_id in calls:
            journal.begin(request_id, FACTS)
        journal.end(calls[0], {**FACTS, "outcome": "success", "duration_ms": 1.0})
        delete_locks(tmp_path)
        adopt_dead(tmp_path, Delivery(tmp_path))  # which deletes the segment
        journal.end(calls[1], {**FACTS, "outcome": "success", "duration_ms": 1.0})
        pass_a_second(journal)
        adopt_dead(tmp_path, Delivery(tmp_path))
        journal.end(calls[2], {**FACTS, "outcome": "success", "duration_ms": 1.0})
    adopt_dead(tmp_path, Delivery(tmp_path))
    rows = Request.objects.order_by("request_id").values_list("request_id", "outcome")
    assert [(str(request_id), outcome) for request_id, outcome in rows] == [(one, "success") for one in calls]


@pytest.mark.django_db(transaction=True)
def test_a_process_that_was_taken_for_dead_keeps_the_leases_that_it_gets_afterwards(
    disk: PretendedOS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipper = Shipper(tmp_path)
    monkeypatch.setattr(shipper_module, "LATE_SECONDS", float("inf"))
    with running(tmp_path) as journal:
        journal.begin(new_id(), FACTS)
        delete_locks(tmp_path)
        shipper._ship_once()
        pass_a_second(journal)
        Hold.objects.create(pk=call_id(), key_name="alice", day=NOON.date(), dollars=1, writer=journal.writer)
        monkeypatch.setattr(shipper_module, "LATE_SECONDS", 0.0)
        shipper._ship_once()
        assert Hold.objects.exists()
