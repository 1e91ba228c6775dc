"""The journal: what `begin` and `end` returned for is on disk, whatever happens to the disk and to the process.

Over 300 lines, since each fault of a disk is tried on the same writer, and every test reads the file back in the same
way.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from tests.support.ledger.journals import FACTS, die, ids, new_id, pass_a_second, read, running
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.disks import PretendedOS, fill, small_disk
from usage.call_record import RECORD_VERSION
from usage.journal import full_disk, segments
from usage.journal import writer as journal_module
from usage.journal.full_disk import LEAST_SHARE_BYTES, JournalFull
from usage.journal.records import frame, scan
from usage.journal.writer import Journal, Sync


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> PretendedOS:
    """The journal's disk. Nothing looks at it by itself: see `pass_a_second`."""
    disk = PretendedOS()
    monkeypatch.setattr(journal_module, "os", disk)
    monkeypatch.setattr(full_disk, "os", disk)
    monkeypatch.setattr(journal_module, "ROOM_CHECK_SECONDS", float("inf"))
    return disk


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with running(tmp_path / "journal") as journal:
        yield journal


def files_of(journal: Journal) -> list[Path]:
    return segments.segments_of(journal.directory, journal.writer)


def test_it_works(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", reserve_bytes=0)
    journal.open()
    request_id = new_id()
    journal.begin(request_id, FACTS)
    journal.end(request_id, {**FACTS, "status": 200})
    journal.close()
    assert read(journal.directory) == [
        {"version": RECORD_VERSION, "kind": "begin", "request_id": request_id, **FACTS},
        {"version": RECORD_VERSION, "kind": "end", "request_id": request_id, **FACTS, "status": 200},
    ]
    with segments.adopted(journal.directory, journal.writer) as (path,):
        path.unlink()
    assert list(journal.directory.iterdir()) == []


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with running(tmp_path / "data" / "journal") as journal:
            journal.rotate()
            assert stat.S_IMODE(journal.directory.stat().st_mode) == 0o700
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in journal.directory.iterdir()}
            assert set(modes.values()) == {0o600}, modes
            assert len(modes) == 3
    finally:
        os.umask(before)


def test_a_record_is_one_write(disk: PretendedOS, journal: Journal) -> None:
    request_id = new_id()
    journal.begin(request_id, FACTS)
    journal.end(request_id, {"request_body": "x" * 5_000_000})
    assert [scan(data).records[0]["kind"] for data in disk.writes] == ["begin", "end"]
    assert all(len(scan(data).records) == 1 for data in disk.writes)


def test_a_full_segment_is_closed(monkeypatch: pytest.MonkeyPatch, journal: Journal) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    open_id = new_id()
    journal.begin(open_id, FACTS)
    for _ in range(20):
        request_id = new_id()
        journal.begin(request_id, FACTS)
        journal.end(request_id, FACTS)
    assert len(files_of(journal)) >= 4
    assert open_id in {record["request_id"] for record in scan(files_of(journal)[-1].read_bytes()).records}


def test_a_segment_that_is_seen_has_the_open_calls_and_the_one_before_does_not_grow(
    disk: PretendedOS, monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    """Another process may delete the older one as soon as it sees the newer one."""
    request_id = new_id()
    journal.begin(request_id, FACTS)
    seen: list[list[Path]] = []

    def look(fd: int, data: bytes) -> int:
        seen.append(files_of(journal))
        return os.write(fd, data)

    monkeypatch.setattr(disk, "write", look, raising=False)
    journal.rotate()
    old, new = files_of(journal)
    assert seen == [[old]]  # while the begin is copied
    size = old.stat().st_size
    assert [record["request_id"] for record in scan(new.read_bytes()).records] == [request_id]
    journal.end(request_id, FACTS)
    assert old.stat().st_size == size


def test_open_calls_that_fill_a_segment_do_not_rotate_it_for_ever(
    monkeypatch: pytest.MonkeyPatch, journal: Journal
) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_BYTES", 1000)
    for _ in range(30):
        journal.begin(new_id(), {"user_agent": "x" * 300})
    assert len(files_of(journal)) <= 12
    assert len(set(ids(journal.directory, "begin"))) == 30


def test_an_old_segment_is_closed_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal_module, "SEGMENT_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "ROOM_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(journal_module, "SYNC_SECONDS", 0.01)
    with running(tmp_path) as journal:
        journal.end(new_id(), FACTS)
        wait_until(lambda: len(files_of(journal)) > 1)


def test_a_thread_that_sleeps_syncs_soon_after_each_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal_module, "IDLE_SECONDS", 3600.0)
    synced = threading.Semaphore(0)
    monkeypatch.setattr(journal_module, "_sync_file", lambda _: synced.release())
    with running(tmp_path) as journal:
        assert synced.acquire(timeout=PATIENCE)  # the new file
        for _ in range(3):
            journal.end(new_id(), FACTS)
            assert synced.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("room", [0, 1, 40, 99])
def test_a_short_write_leaves_no_torn_bytes(disk: PretendedOS, journal: Journal, room: int) -> None:
    request_id, refused = new_id(), new_id()
    journal.begin(request_id, FACTS)
    disk.room = room
    with pytest.raises(JournalFull):
        journal.begin(refused, FACTS)
    assert journal.full
    disk.room = room
    journal.end(request_id, {**FACTS, "status": 200})
    assert read(journal.directory) == [{"version": RECORD_VERSION, "kind": "begin", "request_id": request_id, **FACTS}]

    disk.room = None
    pass_a_second(journal)
    assert not journal.full
    assert ids(journal.directory, "end") == [request_id]
    journal.begin(refused, FACTS)
    assert ids(journal.directory, "begin") == [request_id, refused]


def test_ends_that_the_disk_refuses_keep_their_order_and_survive_a_rotation(
    disk: PretendedOS, journal: Journal
) -> None:
    calls = [new_id() for _ in range(5)]
    for request_id in calls:
        journal.begin(request_id, FACTS)
    disk.room = 0
    for request_id in calls[:4]:
        journal.end(request_id, FACTS)
        pass_a_second(journal)
    journal.rotate()
    line = frame({"version": RECORD_VERSION, "kind": "end", "request_id": calls[0], **FACTS})
    disk.room = len(line) + 7  # room for one, and a torn one
    pass_a_second(journal)
    assert journal.full
    assert ids(journal.directory, "end") == calls[:1]
    disk.room = None
    pass_a_second(journal)
    journal.end(calls[4], FACTS)
    assert ids(journal.directory, "end") == calls
    assert not journal.full


def test_a_rotation_that_cannot_carry_the_open_calls_is_not_made(disk: PretendedOS, journal: Journal) -> None:
    request_id = new_id()
    journal.begin(request_id, FACTS)
    disk.room = 10
    journal.rotate()
    assert len(files_of(journal)) == 1
    assert ids(journal.directory, "begin") == [request_id]
    disk.room = None
    journal.rotate()
    assert len(files_of(journal)) == 2
    assert ids(journal.directory, "begin") == [request_id, request_id]


def test_refused_ends_are_written_at_the_close(disk: PretendedOS, tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    request_id = new_id()
    journal.begin(request_id, FACTS)
    disk.room = 3
    journal.end(request_id, FACTS)
    disk.room = None
    journal.close()
    assert ids(tmp_path, "end") == [request_id]


def test_below_the_reserve_only_calls_in_flight_are_written(
    disk: PretendedOS, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tmp_path, reserve_bytes=1000) as journal:
        request_id = new_id()
        journal.begin(request_id, FACTS)
        disk.free = 999
        pass_a_second(journal)
        with pytest.raises(JournalFull):
            journal.begin(new_id(), FACTS)
        journal.end(new_id(), FACTS)  # never began: rejected before upstream, and there is no room for it
        journal.end(request_id, FACTS)
        assert [record["request_id"] for record in read(tmp_path)] == [request_id] * 2
        by_gateway = new_id()
        journal.end(by_gateway, {**FACTS, "by_gateway": True})  # it may have the usage of a background response
        assert ids(tmp_path, "end") == [request_id, by_gateway]
        disk.free = 1000
        pass_a_second(journal)
        journal.begin(new_id(), FACTS)
        assert len(read(tmp_path)) == 4
    assert [message for message in caplog.messages if "refused calls" in message] == [
        "1 refused calls are not in the ledger, because the disk was full"
    ]


def test_a_full_disk_at_the_start_is_known_at_once(disk: PretendedOS, tmp_path: Path) -> None:
    disk.free = 999
    with running(tmp_path, reserve_bytes=1000) as journal, pytest.raises(JournalFull):
        journal.begin(new_id(), FACTS)


def test_its_thread_survives_a_disk_that_cannot_be_asked(
    disk: PretendedOS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as journal:
        disk.fail_sync = True
        journal.end(new_id(), FACTS)
        assert disk.sync_entered.acquire(timeout=PATIENCE)
        disk.fail_sync = False
        monkeypatch.setattr(disk, "statvfs", None, raising=False)  # a TypeError, whenever it looks
        monkeypatch.setattr(journal_module, "ROOM_CHECK_SECONDS", 0.0)
        journal.end(new_id(), FACTS)
        wait_until(lambda: disk.synced >= 1)
        assert journal._thread.is_alive()


class Waits:
    """In place of the journal's events and of its clock: each wait ends before its time, with work or without."""

    def __init__(self, has_work: bool) -> None:
        self.now, self.has_work = 0.0, has_work

    def wait(self, seconds: float) -> bool:
        self.now += max(seconds - 0.01, 0.001)
        return self.has_work

    def clear(self) -> None:
        pass

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("has_work", [False, True])
def test_the_free_space_is_checked_every_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_work: bool
) -> None:
    """Also if the thread wakes just before a check is due, or if a record is written just then."""
    journal, checks = Journal(tmp_path, reserve_bytes=0), []
    waits = Waits(has_work)

    def check() -> None:
        checks.append(waits.now)
        journal._stopping = len(checks) == 6

    monkeypatch.setattr(journal_module, "time", waits)
    for name, value in {"_check_room": check, "_has_work": waits, "_sync_wanted": waits}.items():
        monkeypatch.setattr(journal, name, value)
    monkeypatch.setattr(journal, "_sync_now", lambda: None)
    journal._run_thread()
    assert all(later - earlier < 1.1 for earlier, later in itertools.pairwise(checks)), checks


def test_a_check_that_fails_delays_no_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with `JOURNAL_SYNC=always` waits for the sync, which nobody may ask for again."""
    journal, checks, syncs = Journal(tmp_path, reserve_bytes=0), list[float](), list[float]()
    waits = Waits(has_work=False)

    def check() -> None:
        checks.append(waits.now)
        journal._stopping = len(checks) == 4
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journal_module, "time", waits)
    for name, value in {"_check_room": check, "_has_work": waits, "_sync_wanted": waits}.items():
        monkeypatch.setattr(journal, name, value)
    monkeypatch.setattr(journal, "_sync_now", lambda: syncs.append(waits.now))
    journal._run_thread()
    assert set(checks) <= set(syncs)


def test_much_that_is_written_between_two_checks_is_noticed(disk: PretendedOS, tmp_path: Path) -> None:
    """By the next call: a check that is late, because of a slow disk, lets nobody fill the reserve."""
    reserve = 64 * LEAST_SHARE_BYTES
    disk.free = reserve
    with running(tmp_path, reserve_bytes=reserve) as journal:
        request_id = new_id()
        journal.begin(request_id, FACTS)
        disk.free = reserve - LEAST_SHARE_BYTES
        journal.begin(new_id(), FACTS)
        assert not journal.full
        journal.end(request_id, {**FACTS, "error_message": "x" * LEAST_SHARE_BYTES})
        with pytest.raises(JournalFull):
            journal.begin(new_id(), FACTS)
        assert journal.full


def test_a_disk_that_cannot_be_asked_refuses_no_call(
    disk: PretendedOS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with running(tmp_path) as journal:
        monkeypatch.setattr(disk, "statvfs", fail, raising=False)
        journal.end(new_id(), {**FACTS, "error_message": "x" * LEAST_SHARE_BYTES})
        journal.begin(new_id(), FACTS)
    assert "the free space of the journal's disk is unknown: Input/output error" in caplog.messages


def test_a_real_full_disk(tmp_path: Path) -> None:
    directory = tmp_path / "journal"
    with small_disk(directory, 1024 * 1024), running(directory, reserve_bytes=128 * 1024) as journal:
        calls = [new_id() for _ in range(20)]
        for request_id in calls:
            journal.begin(request_id, FACTS)
        ballast = fill(directory, leave=64 * 1024)
        wait_until(lambda: journal.full)
        with pytest.raises(JournalFull):
            journal.begin(new_id(), FACTS)
        journal.end(calls[0], FACTS)
        assert ids(directory, "end") == calls[:1]  # the reserve is for this

        fill(directory)
        for request_id in calls[1:]:
            journal.end(request_id, {"error_message": "x" * 3000})
        written = ids(directory, "end")
        assert written == calls[: len(written)]
        assert len(written) < len(calls)

        ballast.unlink()
        wait_until(lambda: not journal.full)
        assert ids(directory, "end") == calls
        journal.begin(new_id(), FACTS)


LIMITED = """
import resource, sys
from pathlib import Path
from usage.journal.full_disk import JournalFull
from usage.journal.writer import Journal
journal = Journal(Path(sys.argv[1]), reserve_bytes=0)
journal.open()
ids = ["019a0000-0000-7000-8000-%012d" % number for number in range(100)]
for request_id in ids:
    journal.begin(request_id, {})
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
for request_id in ids:
    journal.end(request_id, {"error_message": "x" * 237})
assert journal.full
[path] = journal.directory.glob("*.journal")
print(path.read_bytes().count(b'"kind":"end"'), path.stat().st_size)
try:
    journal.begin("019a0000-0000-7000-9000-000000000000", {})
except JournalFull:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.close()
"""


def test_a_real_limit_writes_short_and_nothing_is_torn_or_lost(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], cwd=BASE_DIR, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    ends, size = map(int, done.stdout.split()[:2])
    assert 0 < ends < 100
    assert size <= 20_000
    assert done.stdout.split()[2] == "refused"
    assert len(ids(tmp_path, "begin")) == len(ids(tmp_path, "end")) == 100


# Locks.

WRITER = """
import sys
from pathlib import Path
from usage.journal.writer import Journal
journal = Journal(Path(sys.argv[1]), reserve_bytes=0)
journal.open()
journal.begin(sys.argv[2], {"route": "/openai"})
journal.rotate()
print(journal.writer, flush=True)
sys.stdin.read()
"""


def test_the_segments_of_another_process_are_taken_when_it_is_dead_and_not_before(tmp_path: Path) -> None:
    request_id = new_id()
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), request_id],
        cwd=BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        writer = process.stdout.readline().strip()
        assert segments.writers(tmp_path) == [writer]
        with segments.adopted(tmp_path, writer) as paths:
            assert paths == []
        assert (tmp_path / f"{writer}.lock").exists()

        process.send_signal(signal.SIGKILL)
        process.wait()
        with segments.adopted(tmp_path, writer) as paths:
            assert len(paths) == 2
            with segments.adopted(tmp_path, writer) as second:
                assert second == []  # one adopter at a time
            for path in paths:
                assert [record["request_id"] for record in scan(path.read_bytes()).records] == [request_id]
                path.unlink()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_somebody_else_has_finished_with_gives_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    die(journal)
    with segments.adopted(tmp_path, journal.writer) as paths:
        (tmp_path / f"{journal.writer}.lock").rename(tmp_path / "kept")  # as if it had been unlinked and made anew
        with segments.adopted(tmp_path, journal.writer) as others:
            assert others == paths
        os.unlink(tmp_path / "kept")


def test_only_journals_have_writers(journal: Journal) -> None:
    for name in ("damaged.log", "deadletter.log", "deadletter.retried", ".new"):
        (journal.directory / name).touch()
    assert segments.writers(journal.directory) == [journal.writer]


def test_a_journal_without_its_lock_is_taken_too(tmp_path: Path) -> None:
    writer = new_id()
    (tmp_path / f"{writer}.00000001.journal").write_bytes(frame({"kind": "end", "request_id": new_id()}))
    assert segments.writers(tmp_path) == [writer]
    with segments.adopted(tmp_path, writer) as paths:
        assert len(paths) == 1
    assert paths[0].exists()
    with pytest.raises(OSError, match="disk"), segments.adopted(tmp_path, writer):
        raise OSError("disk")
    assert (tmp_path / f"{writer}.lock").exists()


# Reading.


def test_a_record_larger_than_a_piece_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(segments, "READ_BYTES", 100)
    path = tmp_path / "a.journal"
    records = [{"kind": "end", "request_id": new_id(), "text": "x" * size} for size in (10, 5000, 0, 300)]
    path.write_bytes(b"".join(map(frame, records)) + b"torn")
    assert [record for found in segments.read_all(path) for record in found.records] == records


@pytest.mark.parametrize("left", [b"", b"half a rec", b"x" * 5000])
def test_what_the_disk_has_not_kept_of_a_live_segment_is_handed_back_and_passed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: bytes
) -> None:
    monkeypatch.setattr(segments, "READ_BYTES", 64)
    path = tmp_path / "a.journal"
    path.write_bytes(left)
    found = segments.read_from(path, 0, limit=6000)
    assert found.records == []
    assert b"".join(found.damaged) == left
    assert found.size == 6000


# Syncing.


async def hold_next_sync(journal: Journal, disk: PretendedOS) -> int:
    """Lets the next sync wait until `disk.sync_may_go` is set; returns the number of syncs that there have been."""
    await journal.wait_until_durable()
    while disk.sync_entered.acquire(blocking=False):
        pass
    disk.sync_may_go.clear()
    return disk.synced


async def test_always_returns_only_after_a_sync_that_came_after_the_write(disk: PretendedOS, tmp_path: Path) -> None:
    with running(tmp_path, sync="always") as journal:
        before = await hold_next_sync(journal, disk)
        journal.end(new_id(), FACTS)
        first = asyncio.create_task(journal.wait_until_durable())
        await asyncio.to_thread(disk.sync_entered.acquire)
        journal.end(new_id(), FACTS)  # after the sync that is running has begun: it may not be covered
        second = asyncio.create_task(journal.wait_until_durable())
        await asyncio.sleep(0)
        assert not first.done()
        disk.sync_may_go.set()
        await first
        await second
        assert disk.synced == before + 2


async def test_always_lets_many_calls_share_a_sync(disk: PretendedOS, tmp_path: Path) -> None:
    with running(tmp_path, sync="always") as journal:
        before = await hold_next_sync(journal, disk)
        journal.end(new_id(), FACTS)
        calls = [asyncio.create_task(journal.wait_until_durable())]
        await asyncio.to_thread(disk.sync_entered.acquire)
        for _ in range(200):  # they come while that sync is running, and the next one covers all of them
            journal.end(new_id(), FACTS)
            calls.append(asyncio.create_task(journal.wait_until_durable()))
        await asyncio.sleep(0)
        disk.sync_may_go.set()
        await asyncio.gather(*calls)
        assert disk.synced == before + 2


async def test_always_covers_a_write_before_a_rotation(disk: PretendedOS, tmp_path: Path) -> None:
    with running(tmp_path, sync="always") as journal:
        await journal.wait_until_durable()
        synced: list[int] = []
        real = disk.fdatasync

        def remember(fd: int, real: Any = real) -> None:
            synced.append(os.fstat(fd).st_ino)
            real(fd)

        disk.fdatasync = remember  # type: ignore[method-assign]
        inode = files_of(journal)[0].stat().st_ino
        journal.end(new_id(), FACTS)
        journal.rotate()
        await journal.wait_until_durable()
        assert inode in synced


async def test_a_caller_that_left_does_not_stop_the_syncing(tmp_path: Path) -> None:
    with running(tmp_path, sync="always") as journal:
        journal.end(new_id(), FACTS)
        gone = asyncio.create_task(journal.wait_until_durable())
        await asyncio.sleep(0)
        gone.cancel()
        journal.end(new_id(), FACTS)
        await asyncio.wait_for(journal.wait_until_durable(), PATIENCE)


@pytest.mark.parametrize("sync", ["interval", "off"])
async def test_other_policies_do_not_wait(disk: PretendedOS, tmp_path: Path, sync: Sync) -> None:
    disk.sync_may_go.clear()
    with running(tmp_path, sync=sync) as journal:
        journal.end(new_id(), FACTS)
        await asyncio.wait_for(journal.wait_until_durable(), PATIENCE)  # no sync ends meanwhile
        disk.sync_may_go.set()
        if sync == "interval":
            wait_until(lambda: disk.synced)
        journal.rotate()
    assert bool(disk.synced) == (sync == "interval")
