"""Owns the damage to a journal that nobody writes any more: bytes that are not what they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from usage.journal.records import scan


class Damage(NamedTuple):
    """Damage to the journal's record of a call.

    `marker` is the call's marker. `only_record`: the journal had no other record of the call than the damaged one; that
    is the begin record of a call that had not ended yet.
    """

    marker: str
    only_record: bool


class _Span(NamedTuple):
    start: int
    end: int
    marker: str


def flip_bytes(path: Path, records: int) -> dict[str, Damage]:
    """Changes up to three bytes of a journal file in each of `records` records, at most one of each call.

    Returns the damage by the call's request id. The last byte of the file is not changed, because that would make a
    torn tail, which is another fault.
    """
    data = bytearray(path.read_bytes())
    found = _spans(bytes(data))
    damaged = {}
    for request_id in random.sample(sorted(found), min(records, len(found))):
        span = random.choice(found[request_id])
        for _ in range(random.randint(1, 3)):
            position = random.randrange(span.start, min(span.end, len(data) - 1))
            data[position] ^= random.randint(1, 255)
        damaged[request_id] = Damage(span.marker, only_record=len(found[request_id]) == 1)
    path.write_bytes(data)
    return damaged


def _spans(data: bytes) -> dict[str, list[_Span]]:
    """Returns the places of each call's records in the content of a journal file, by the call's request id.

    A record's newline is part of it. Calls that were refused have no begin record and are left out.
    """
    spans: dict[str, list[_Span]] = {}
    start = 0
    while (end := data.find(b"\n", start) + 1) > 0:
        for record in scan(data[start:end]).records:
            if record["kind"] == "begin" or record["request_id"] in spans:
                spans.setdefault(record["request_id"], []).append(_Span(start, end, record["incoming_request_id"]))
        start = end
    return spans
