"""Helpers for tests of the journal: a running journal, its sudden death, and reading all of its records."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uuid_utils import uuid7

from usage.call_record import CallRecord
from usage.journal.records import scan
from usage.journal.writer import Journal, Sync

Record = Any  # tests also make records that no call would leave
FACTS: CallRecord = {"route": "/openai", "key_name": "default"}


def new_id() -> str:
    return str(uuid7())


def read(directory: Path) -> list[Record]:
    """Reads all records in the journals of a directory; asserts that none is damaged or incomplete."""
    records: list[Record] = []
    for path in sorted(directory.glob("*.journal")):
        data = path.read_bytes()
        found = scan(data)
        assert not found.damaged, path
        assert found.size == len(data), f"{path} has a torn tail"
        records += found.records
    return records


def ids(directory: Path, kind: str) -> list[str]:
    return [record["request_id"] for record in read(directory) if record["kind"] == kind]


def pass_a_second(journal: Journal) -> None:
    """Does at once what the journal's thread does every second: checks the disk space, and retries refused records."""
    with journal._lock:
        journal._check_room()


def die(journal: Journal) -> None:
    """Ends a journal as `kill -9` would: nothing more is written, and the lock is released."""
    journal._stopping = True
    journal._wake()
    journal._thread.join()
    os.close(journal._fd)
    os.close(journal._lock_fd)


@contextmanager
def running(directory: Path, sync: Sync = "interval", reserve_bytes: int = 0) -> Iterator[Journal]:
    journal = Journal(directory, reserve_bytes=reserve_bytes, sync=sync)
    journal.open()
    yield journal
    journal.close()
