"""Owns the form of a journal record: CRC32 in hex, space, JSON, newline.

JSON escapes newlines, so a newline ends a record and nothing else does. Reading never raises: what
is not whole is left for later, what is damaged is handed back as it is.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

FRAME_START = re.compile(rb"[0-9a-f]{8} \{")
REQUEST_ID = re.compile(rb'"request_id":"([0-9a-f-]{36})"')


class Scan(NamedTuple):
    """What a piece of a segment holds. `size` is the length of its whole lines; the rest is a torn tail."""

    records: list[dict[str, Any]]
    damaged: list[bytes]
    size: int


def frame(record: Mapping[str, Any]) -> bytes:
    """One line for `record`; dates and UUIDs become text."""
    payload = orjson.dumps(record)
    return b"%08x %b\n" % (zlib.crc32(payload), payload)


def scan(data: bytes) -> Scan:
    """The records in `data`, which starts at the start of a line."""
    size = data.rfind(b"\n") + 1
    records: list[dict[str, Any]] = []
    damaged: list[bytes] = []
    for line in data[:size].split(b"\n")[:-1]:
        record = _read(line)
        if record is None:
            damaged.append(line)
            record = _read_last(line)
        if record is not None:
            records.append(record)
    return Scan(records, damaged, size)


def damaged_id(line: bytes) -> str | None:
    """The request id in a damaged line, if that part can still be read."""
    found = REQUEST_ID.search(line)
    return found[1].decode() if found else None


def _read(line: bytes) -> dict[str, Any] | None:
    if not FRAME_START.match(line) or int(line[:8], 16) != zlib.crc32(line[9:]):
        return None
    record: dict[str, Any] = orjson.loads(line[9:])
    return record


def _read_last(line: bytes) -> dict[str, Any] | None:
    """The record at the end of a line whose first part is damaged: a lost newline joins two records."""
    starts = [match.start() for match in FRAME_START.finditer(line)]
    return next((record for start in starts[1:] if (record := _read(line[start:])) is not None), None)
