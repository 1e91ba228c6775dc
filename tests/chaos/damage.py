"""Owns the damage to a journal that nobody writes any more: bytes that are not what they were."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from usage.journal.records import scan


class Damage(NamedTuple):
    """What was done to a call's record. Its only one: its begin, of a call that had no end yet."""

    marker: str
    only_record: bool


class _Span(NamedTuple):
    start: int
    end: int
    marker: str


def flip_bytes(path: Path, records: int) -> dict[str, Damage]:
    """Changes up to three bytes in each of so many calls' records, of one call at most one; the ids are request ids.

    The last byte stays: a torn tail is another thing.
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
    """Where the records of each call are, newlines included. Calls that were refused have no begin and are left out."""
    spans: dict[str, list[_Span]] = {}
    start = 0
    while (end := data.find(b"\n", start) + 1) > 0:
        for record in scan(data[start:end]).records:
            if record["kind"] == "begin" or record["request_id"] in spans:
                spans.setdefault(record["request_id"], []).append(_Span(start, end, record["incoming_request_id"]))
        start = end
    return spans
