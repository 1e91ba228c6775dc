"""The form of a journal record: CRC32 of what follows, CRC32 of the request id, JSON, newline.

The CRCs are in hex, with a space after each. JSON escapes newlines, so only the end of a record is a newline. Reading
never raises: an unfinished line at the end is left for later, a damaged line is returned as it is. The second CRC shows
whether the request id in a damaged record is still right.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson

from usage.call_record import CallRecord, is_readable_version

FRAME_START = re.compile(rb"[0-9a-f]{8} [0-9a-f]{8} \{")
HEADER_BYTES = 18
REQUEST_ID = re.compile(rb'"request_id":"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"')


class Scan(NamedTuple):
    """What a piece of a segment holds. `size` is the length of its whole lines in bytes; the rest is a torn tail.

    `damaged` are lines that cannot be read, `newer` those of records whose version this code does not know.
    """

    records: list[CallRecord]
    damaged: list[bytes]
    size: int
    newer: Sequence[bytes] = ()


def frame(record: Mapping[str, object]) -> bytes:
    """Returns the line of a record. Dates become text."""
    checked = b"%08x %b" % (zlib.crc32(str(record["request_id"]).encode()), orjson.dumps(record))
    return b"%08x %b\n" % (zlib.crc32(checked), checked)


def scan(data: bytes) -> Scan:
    """Reads the records in `data`, which begins at the start of a line."""
    size = data.rfind(b"\n") + 1
    records: list[CallRecord] = []
    damaged: list[bytes] = []
    newer: list[bytes] = []
    for line in data[:size].split(b"\n")[:-1]:
        record = _read(line)
        if record is None:
            damaged.append(line)
            record = _read_last(line)
        if record is None:
            continue
        if is_readable_version(record.get("version")):
            records.append(record)
        else:
            newer.append(line)
    return Scan(records, damaged, size, tuple(newer))


def damaged_id(line: bytes) -> str | None:
    """Returns the request id in a damaged line; None if that part is damaged, too."""
    found = REQUEST_ID.search(line)
    return found[1].decode() if found and line[9:17] == b"%08x" % zlib.crc32(found[1]) else None


def _read(line: bytes) -> CallRecord | None:
    """Returns the record of a line; None if the line is damaged."""
    if not FRAME_START.match(line) or int(line[:8], 16) != zlib.crc32(line[9:]):
        return None
    record: CallRecord = orjson.loads(line[HEADER_BYTES:])
    return record


def _read_last(line: bytes) -> CallRecord | None:
    """Returns the record at the end of a damaged line: a lost newline joins two records. None if there is none."""
    starts = (match.start() for match in FRAME_START.finditer(line, 1))
    return next((record for start in starts if (record := _read(line[start:])) is not None), None)
