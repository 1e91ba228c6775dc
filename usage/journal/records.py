"""Owns the form of a journal record: CRC32 of what follows, CRC32 of the request id, JSON, newline.

The CRCs are in hex, with a space after each. JSON escapes newlines, so a newline ends a record and
nothing else does. Reading never raises: what is not whole is left for later, what is damaged is
handed back as it is. The second CRC tells whether the id in a damaged record can still be believed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

FRAME_START = re.compile(rb"[0-9a-f]{8} [0-9a-f]{8} \{")
HEADER_BYTES = 18
REQUEST_ID = re.compile(rb'"request_id":"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"')


class Scan(NamedTuple):
    """What a piece of a segment holds. `size` is the length of its whole lines; the rest is a torn tail."""

    records: list[dict[str, Any]]
    damaged: list[bytes]
    size: int


def frame(record: Mapping[str, Any]) -> bytes:
    """One line for `record`; dates and UUIDs become text."""
    checked = b"%08x %b" % (zlib.crc32(record["request_id"].encode()), orjson.dumps(record))
    return b"%08x %b\n" % (zlib.crc32(checked), checked)


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
    """The request id in a damaged line, if that part is not damaged."""
    found = REQUEST_ID.search(line)
    return found[1].decode() if found and line[9:17] == b"%08x" % zlib.crc32(found[1]) else None


def _read(line: bytes) -> dict[str, Any] | None:
    if not FRAME_START.match(line) or int(line[:8], 16) != zlib.crc32(line[9:]):
        return None
    record: dict[str, Any] = orjson.loads(line[HEADER_BYTES:])
    return record


def _read_last(line: bytes) -> dict[str, Any] | None:
    """The record at the end of a line whose first part is damaged: a lost newline joins two records."""
    starts = (match.start() for match in FRAME_START.finditer(line, 1))
    return next((record for start in starts if (record := _read(line[start:])) is not None), None)
