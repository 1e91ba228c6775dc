"""The form of a journal record: CRC32 of the rest of the line, CRC32 of the request id, JSON, newline.

The CRCs (checksums) are in hex, with a space after each. JSON escapes newlines, so a newline is always the end of a
record. Reading never raises an error: an unfinished line at the end is left for later, and a damaged line is returned
as it is. The second CRC shows whether the request id in a damaged record is still right.
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
ID_BYTES = 200  # at the start of a record, which have its request id
REQUEST_ID = re.compile(rb'"request_id":"([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})"')


class Scan(NamedTuple):
    """The result of reading a part of a journal file: its records, and the lines that are not usable records.

    `size` is the length of all complete lines in bytes; an unfinished line may follow. `damaged` has the lines that
    cannot be read, `newer` the records whose version this code cannot read, as they are in the file.
    """

    records: list[CallRecord]
    damaged: list[bytes]
    size: int
    newer: Sequence[bytes] = ()


def frame(record: Mapping[str, object]) -> bytes:
    """Returns the line that the journal stores for a record: two checksums, the record as JSON, and a newline."""
    checked = b"%08x %b" % (zlib.crc32(str(record["request_id"]).encode()), orjson.dumps(record))
    return b"%08x %b\n" % (zlib.crc32(checked), checked)


def scan(data: bytes) -> Scan:
    """Parses lines of a journal, and returns their records as a `Scan`. `data` must begin at the start of a line.

    * Damaged lines are in the result's `damaged`. If a damaged line ends with a whole record, this record is returned
      as well.
    * Records of a newer format version are in `newer`, as they are in the file.
    * A last line without a line end is left out.
    """
    size = data.rfind(b"\n") + 1
    records: list[CallRecord] = []
    damaged: list[bytes] = []
    newer: list[bytes] = []
    for line in data[:size].split(b"\n")[:-1]:
        whole, record = line, _read(line)
        if record is None:
            damaged.append(line)
            whole, record = _read_last(line)
        if record is None:
            continue
        if is_readable_version(record.get("version")):
            records.append(record)
        else:
            newer.append(whole)  # without what is damaged before it, which is set aside once
    return Scan(records, damaged, size, tuple(newer))


def damaged_id(line: bytes) -> str | None:
    """Returns the request id in a damaged line of the journal; None if the id is missing or damaged, too."""
    found = REQUEST_ID.search(line)
    return found[1].decode() if found and line[9:17] == b"%08x" % zlib.crc32(found[1]) else None


def _read(line: bytes) -> CallRecord | None:
    """Parses a line of the journal and returns its record; None for a damaged line."""
    if not FRAME_START.match(line) or int(line[:8], 16) != zlib.crc32(line[9:]):
        return None
    try:
        record: CallRecord = orjson.loads(line[HEADER_BYTES:])
    except orjson.JSONDecodeError:  # a text in a damaged record, which a caller has made to look like one
        return None
    return record


def _read_last(line: bytes) -> tuple[bytes, CallRecord | None]:
    """Looks for a whole record at the end of a damaged journal line; returns the bytes of this record, and the record.

    Returns empty bytes and None if there is none.
    """
    # When a newline is lost, two lines become one.
    for match in FRAME_START.finditer(line, 1):
        start = match.start()
        # A caller's text may look like thousands of records, whose checksums would take minutes. It cannot have the
        # name of a member, since JSON escapes quotation marks.
        if damaged_id(line[start : start + ID_BYTES]) is None:
            continue
        end = line[start:]
        if (record := _read(end)) is not None:
            return end, record
    return b"", None
