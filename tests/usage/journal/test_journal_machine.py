"""The journal, under any sequence of calls, full disks, rotations and deaths: no promise is broken."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from tests.support.ledger.journals import Record, die, new_id, pass_a_second
from tests.support.servers.disks import PretendedOS
from tests.support.thoroughness import examples
from usage.journal import full_disk, segments
from usage.journal import writer as journal_module
from usage.journal.full_disk import JournalFull
from usage.journal.records import frame, scan
from usage.journal.writer import Journal


class JournalMachine(RuleBasedStateMachine):
    """A journal on a disk that fills and empties, in a process that may be killed at any time."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="chatproxy-tests-"))
        self.patch = pytest.MonkeyPatch()
        self.disk = PretendedOS()
        self.patch.setattr(journal_module, "os", self.disk)
        self.patch.setattr(full_disk, "os", self.disk)
        self.patch.setattr(journal_module, "ROOM_CHECK_SECONDS", float("inf"))
        self.patch.setattr(journal_module, "SEGMENT_BYTES", 700)
        self.open: set[str] = set()  # begun, and not ended
        self.ended: set[str] = set()  # ended, and on disk
        self.waiting: list[str] = []  # ended, and refused by the disk
        self.never_began: set[str] = set()  # of these, nothing was promised before their end
        self.dead: set[str] = set()  # begun in a process that died
        self.shipped: set[str] = set()
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.directory, reserve_bytes=1000, sync="off")
        self.disk.room, self.disk.free = None, 2**40
        self.journal.open()

    def settle(self) -> None:
        """Learns which of the refused ends are on disk by now: they are written in order."""
        on_disk = {record["request_id"] for record in self.records() if record["kind"] == "end"}
        while self.waiting and self.waiting[0] in on_disk:
            self.ended.add(self.waiting.pop(0))
        assert not on_disk & set(self.waiting), "refused ends were written out of order"

    def records(self) -> list[Record]:
        found = [scan(path.read_bytes()) for path in sorted(self.directory.glob("*.journal"))]
        assert not any(scanned.damaged for scanned in found)
        return [record for scanned in found for record in scanned.records]

    @rule(target=calls, size=st.integers(0, 300))
    def begin(self, size: int) -> str:
        request_id = new_id()
        try:
            self.journal.begin(request_id, {"user_agent": "x" * size})
        except JournalFull:
            assert self.journal.full
        else:
            self.open.add(request_id)
        return request_id

    @rule(request_id=consumes(calls), size=st.integers(0, 1000))
    def end(self, request_id: str, size: int) -> None:
        if request_id not in self.open:
            return
        self.journal.end(request_id, {"error_message": "x" * size})
        self.open.remove(request_id)
        self.waiting.append(request_id)
        self.settle()
        assert not self.waiting or self.journal.full

    @rule()
    def end_of_a_call_that_never_began(self) -> None:
        request_id = new_id()
        full = self.journal.full
        self.journal.end(request_id, {})
        if not full:
            self.never_began.add(request_id)
            self.waiting.append(request_id)
            self.settle()

    @rule()
    def rotate(self) -> None:
        self.journal.rotate()

    @rule(room=st.integers(0, 1500))
    def disk_fills(self, room: int) -> None:
        self.disk.room = room

    @rule()
    def disk_empties(self) -> None:
        self.disk.room = None

    @rule(free=st.sampled_from([0, 999, 1000, 2**40]))
    def free_bytes_change(self, free: int) -> None:
        self.disk.free = free

    @rule()
    def a_second_passes(self) -> None:
        pass_a_second(self.journal)
        self.settle()
        assert self.journal.full == (self.disk.free < 1000 or bool(self.waiting))

    @rule()
    def ship_what_is_closed(self) -> None:
        for path in segments.segments_of(self.directory, self.journal.writer)[:-1]:
            records = segments.read_from(path, 0, path.stat().st_size).records
            self.shipped |= {record["request_id"] for record in records if record["kind"] == "end"}
            path.unlink()

    @rule(torn=st.integers(0, 60))
    def kill_and_restart(self, torn: int) -> None:
        path = segments.segments_of(self.directory, self.journal.writer)[-1]
        die(self.journal)
        with path.open("ab") as file:  # it died in the middle of a write
            file.write(frame({"kind": "begin", "request_id": new_id()})[:torn])
        self.lose()

    @rule()
    def stop_and_restart(self) -> None:
        if self.waiting:
            self.disk.room = None
        self.journal.close()
        self.settle()
        self.lose()

    def lose(self) -> None:
        """What the dead process had only in its memory is an open call to whoever comes after it."""
        self.dead |= (self.open | set(self.waiting)) - self.never_began
        self.open.clear()
        self.waiting.clear()
        self.start()

    @precondition(lambda self: self.dead or self.ended)
    @rule()
    def adopt_the_dead(self) -> None:
        for writer in segments.writers(self.directory):
            with segments.adopted(self.directory, writer) as paths:
                assert writer != self.journal.writer or not paths
                records = [record for path in paths for found in segments.read_all(path) for record in found.records]
                self.shipped |= {record["request_id"] for record in records}
                for path in paths:
                    path.unlink()

    @invariant()
    def every_promise_can_be_kept(self) -> None:
        records = self.records()
        begun = {record["request_id"] for record in records if record["kind"] == "begin"}
        ended = {record["request_id"] for record in records if record["kind"] == "end"}
        assert self.ended <= ended | self.shipped, "an end was lost"
        in_flight = (self.open | set(self.waiting)) - self.never_began
        assert in_flight <= begun, "an open call would leave no trace"
        assert self.dead <= begun | ended | self.shipped, "a dead process's call left no trace"

    def teardown(self) -> None:
        die(self.journal)
        self.patch.undo()
        shutil.rmtree(self.directory)


TestJournalMachine = JournalMachine.TestCase
TestJournalMachine.settings = settings(examples(40), stateful_step_count=40)
