"""The files of what could not be delivered: a line is there whole, on the disk, and alone on its line."""

from __future__ import annotations

import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import NOON, call, end, letters, ship
from tests.support.servers.disks import PretendedOS
from usage.journal import undelivered
from usage.journal.undelivered import DAMAGED, DEAD_LETTERS, RETRIED, append
from usage.journal_shipping.shipper import replay
from usage.models import Request

LETTER = b'{"request_id":"01997000-0000-7000-8000-000000000001","fault":"x"}'
TORN: dict[str, bytes] = {
    "cut": LETTER[:40],
    "cut at its first byte": b"{",
    "zeros": b"\0" * 40,
    "zeros behind": LETTER + b"\0\0",
    "two on a line": LETTER[:40] + LETTER,
    "no UTF-8": b'{"request_id":"\xff\xfe"}',
    "a number": b"5",
    "a list": b"[]",
    "null": b"null",
    "no id": b'{"fault":"x"}',
    "an id that is no text": b'{"request_id":5,"fault":"x"}',
}


class SyncedOS(PretendedOS):
    """Remembers what was synced: the content of files, and the names of directories."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: list[bytes] = []
        self.directories = 0

    def fsync(self, fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            self.directories += 1
        else:
            self.contents.append(os.pread(fd, status.st_size, 0))
        os.fsync(fd)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> SyncedOS:
    pretended = SyncedOS()
    monkeypatch.setattr(undelivered, "os", pretended)
    return pretended


def test_what_was_appended_is_synced(tmp_path: Path, pretended: SyncedOS) -> None:
    append(tmp_path / DEAD_LETTERS, [b"one", b"two"])
    append(tmp_path / DEAD_LETTERS, [b"three"])
    assert pretended.contents == [b"one\ntwo\n", b"one\ntwo\nthree\n"]
    assert pretended.directories == 1  # a new file's name
    assert (tmp_path / DEAD_LETTERS).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("room", [0, 1, 7, 8])
def test_a_full_disk_keeps_no_part_of_a_line(tmp_path: Path, pretended: SyncedOS, room: int) -> None:
    append(tmp_path / DEAD_LETTERS, [b"one"])
    pretended.room = room
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path / DEAD_LETTERS, [b"four", b"five"])
    pretended.room = None
    append(tmp_path / DEAD_LETTERS, [b"six"])
    assert (tmp_path / DEAD_LETTERS).read_bytes() == b"one\nsix\n"


def test_a_torn_line_stays_alone(tmp_path: Path) -> None:
    (tmp_path / DEAD_LETTERS).write_bytes(b"one\ntw")
    append(tmp_path / DEAD_LETTERS, [b"three"])
    assert (tmp_path / DEAD_LETTERS).read_bytes() == b"one\ntw\nthree\n"


def test_many_may_append_while_a_replay_takes_the_letters_away(tmp_path: Path) -> None:
    ready, taken = threading.Barrier(5), []

    def write(number: int) -> None:
        ready.wait()
        for count in range(50):
            append(tmp_path / DEAD_LETTERS, [f"{number} {count} {'x' * 5000}".encode()])

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, number) for number in range(4)]
        ready.wait()
        while not all(writer.done() for writer in writers):
            retried = undelivered.begin_retry(tmp_path)
            if retried.exists():
                taken += retried.read_bytes().splitlines()
                retried.unlink()
    if (tmp_path / DEAD_LETTERS).exists():
        taken += (tmp_path / DEAD_LETTERS).read_bytes().splitlines()
    assert sorted(line.split()[:2] for line in taken) == sorted(
        [b"%d" % number, b"%d" % count] for number in range(4) for count in range(50)
    )


def a_letter(**columns: Any) -> bytes:
    return json.dumps({**call(**columns), "started_at": NOON.isoformat(), "fault": "x"}).encode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", [DEAD_LETTERS, RETRIED])
@pytest.mark.parametrize("torn", TORN)
def test_a_replay_sets_a_torn_letter_aside(tmp_path: Path, torn: str, name: str) -> None:
    (tmp_path / name).write_bytes(a_letter() + b"\n" + TORN[torn] + b"\n\n" + a_letter() + b"\n" + TORN["cut"])
    delivery = replay(tmp_path)
    assert (delivery.delivered, delivery.dead_letters, delivery.damaged) == (2, 0, 2)
    assert Request.objects.count() == 2
    assert (tmp_path / DAMAGED).read_bytes() == TORN[torn] + b"\n" + TORN["cut"] + b"\n"
    assert not (tmp_path / RETRIED).exists()
    assert replay(tmp_path).damaged == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("torn", TORN)
def test_the_list_of_dead_letters_goes_on_behind_a_torn_one(
    tmp_path: Path, settings: Settings, capsys: pytest.CaptureFixture[str], torn: str
) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / "journal").mkdir()
    without_words = b'{"request_id":"01997000-0000-7000-8000-000000000002","fault":""}'
    lines = [LETTER, TORN[torn], without_words]
    (tmp_path / "journal" / DEAD_LETTERS).write_bytes(b"\n".join(lines))
    call_command("ledger", "deadletter")
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.split() == ["01997000-0000-7000-8000-000000000001", "x"]
    assert second.startswith(f"a line of {len(TORN[torn])} bytes that cannot be read")
    assert third.split() == ["01997000-0000-7000-8000-000000000002"]


@pytest.mark.django_db(transaction=True)
def test_a_letter_behind_a_torn_one_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / DEAD_LETTERS).write_bytes(TORN["cut"])
    poison = call(input_tokens=-1)
    ship(tmp_path, end(poison))
    assert replay(tmp_path).dead_letters == 1
    assert [kept["request_id"] for kept in letters(tmp_path)] == [poison["request_id"]]
