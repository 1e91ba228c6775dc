"""Owns the way from the journal into PostgreSQL: one thread per process.

At least once from the journal, exactly once in the tables (`usage.rows`). A database outage is
waited out; a record that the database will not take is bisected out, kept in a dead-letter file,
and leaves a stub row; a call whose writer died before its end becomes a row `interrupted`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from django.db import DataError, Error, IntegrityError, connections

from usage import segments
from usage.journal import Journal, Segment
from usage.pricing import Pricer
from usage.records import damaged_id
from usage.rows import STUB, interrupted, stub, write_rows

logger = logging.getLogger(__name__)

BATCH_SIZE = 500
IDLE_SECONDS = 0.2
ADOPT_SECONDS = 5.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 5.0

# What a row itself can be blamed for; every other database error is the database's and is waited out.
POISON = (DataError, IntegrityError, ValueError, TypeError, LookupError)

DAMAGED = "damaged.log"
DEAD_LETTERS = "deadletter.log"

Row = dict[str, Any]


class Stopped(Exception):
    """The process ends before the database came back; what is left stays in the journal."""


class Shipper:
    """Ships `journal` as it grows, and adopts the journals of dead writers beside it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._offsets: dict[Path, int] = {}
        self._pricer = Pricer()
        self._stop_by: float | None = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self.database_error = ""
        self.shipped = 0
        self.damaged = 0
        self.dead_letters = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float) -> None:
        """Ships what the closed journal still has, for `seconds` at most; the rest is the next process's."""
        self._stop_by = time.monotonic() + seconds
        self._wake.set()
        self._thread.join()

    @property
    def lag_bytes(self) -> int:
        """How much of this process's journal is not in the database yet."""
        return sum(segment.written - self._offsets.get(segment.path, 0) for segment in list(self._journal.segments))

    def _run(self) -> None:
        adopted = 0.0
        try:
            while True:
                self._ship_own()
                if self._stop_by is not None:
                    return
                if time.monotonic() - adopted >= ADOPT_SECONDS:
                    self._adopt()
                    adopted = time.monotonic()
                self._wake.wait(IDLE_SECONDS)
        except Stopped:
            logger.warning("the database is away; %d bytes stay in the journal", self.lag_bytes)
        finally:
            connections.close_all()

    def _ship_own(self) -> None:
        for segment in list(self._journal.segments):
            self._ship_segment(segment)
            if segment.closed and self._offsets.get(segment.path, 0) >= segment.written:
                self._journal.shipped(segment)
                self._offsets.pop(segment.path, None)

    def _ship_segment(self, segment: Segment) -> None:
        while (offset := self._offsets.get(segment.path, 0)) < segment.written:
            found = segments.read_from(segment.path, offset, segment.written)
            rows = [record for record in found.records if record["kind"] == "end"]
            self._ship(rows + self._set_aside(found.damaged))
            self._offsets[segment.path] = offset + found.size
            if not found.size:
                return

    def _adopt(self) -> None:
        for writer in segments.writers(self._journal.directory):
            if writer == self._journal.writer:
                continue
            with segments.adopted(self._journal.directory, writer) as paths:
                if paths:
                    self._ship_dead(paths)
                    for path in paths:
                        path.unlink()

    def _ship_dead(self, paths: Iterable[Path]) -> None:
        """Ships what a dead writer left; a call without an end was in the air when it died."""
        begun: dict[str, Row] = {}
        for path in paths:
            for found in segments.read_all(path):
                ends = [record for record in found.records if record["kind"] == "end"]
                begun.update((record["request_id"], record) for record in found.records if record["kind"] == "begin")
                guesses = self._set_aside(found.damaged)
                self._ship(ends)
                begun.update((row["request_id"], row) for row in guesses if row["request_id"] not in begun)
                for record in ends:
                    begun.pop(record["request_id"], None)
        if begun:
            logger.warning("%d calls were interrupted by the end of their process", len(begun))
        self._ship([interrupted(record) for record in begun.values()])

    def _set_aside(self, damaged: Sequence[bytes]) -> list[Row]:
        """Keeps damaged lines in a file of their own; each call that they name still gets a row."""
        if not damaged:
            return []
        self.damaged += len(damaged)
        logger.error("%d damaged journal records set aside", len(damaged))
        self._keep(DAMAGED, damaged)
        ids = {request_id for line in damaged if (request_id := damaged_id(line)) is not None}
        return [interrupted({"request_id": request_id}) for request_id in sorted(ids)]

    def _ship(self, rows: Sequence[Row]) -> None:
        for start in range(0, len(rows), BATCH_SIZE):
            self._write(rows[start : start + BATCH_SIZE])

    def _write(self, rows: Sequence[Row]) -> None:
        try:
            self._when_database_is_there(lambda: write_rows(self._pricer.priced(rows)))
        except POISON as error:
            self._bisect(rows, error)
        else:
            self.shipped += len(rows)

    def _bisect(self, rows: Sequence[Row], error: Exception) -> None:
        if len(rows) > 1:
            middle = len(rows) // 2
            self._write(rows[:middle])
            self._write(rows[middle:])
            return
        row = rows[0]
        self.dead_letters += 1
        logger.error("call %s cannot be written (%s); dead-lettered", row.get("request_id"), type(error).__name__)
        self._keep(DEAD_LETTERS, [orjson.dumps({**row, "fault": str(error)[:500]})])
        if row.get("error_code") != STUB:
            self._write([stub(row)])

    def _when_database_is_there(self, write: Callable[[], int]) -> None:
        backoff = FIRST_BACKOFF
        while True:
            try:
                write()
            except POISON:
                raise
            except Error as error:
                connections.close_all()
                if not self.database_error:
                    logger.warning("the database is away: %s", str(error).strip().splitlines()[0])
                self.database_error = type(error).__name__
            else:
                if self.database_error:
                    logger.info("the database is back")
                self.database_error = ""
                return
            if self._stop_by is not None and time.monotonic() + backoff > self._stop_by:
                raise Stopped
            if self._stop_by is None:
                self._wake.wait(backoff)
            else:
                time.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)

    def _keep(self, name: str, lines: Iterable[bytes]) -> None:
        path = self._journal.directory / name
        with path.open("ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(b"".join(line + b"\n" for line in lines))
