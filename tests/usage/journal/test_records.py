"""Journal records: what comes back of them when a file is cut, or a byte of it is changed."""

from __future__ import annotations

import zlib
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils import uuid7

from tests.support.growth import wait_until_linear
from usage.call_record import RECORD_VERSION
from usage.journal.records import Scan, damaged_id, frame, scan

Record = Any  # whatever can be in one

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    # Text that looks like the start of a record must not be taken for one.
    | st.text(st.characters(codec="utf-8")) | st.just('0badcafe 0badcafe {"kind":"end"}\n'),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), values),
    max_leaves=8,
)  # fmt: skip
OWN_NAMES = {"request_id", "version"}  # which the journal reads itself, so that they cannot be whatever
IDS = st.integers(0, 2**62 - 1).map(lambda bits: str(UUID(int=(0x01997 << 108) | (7 << 76) | (2 << 62) | bits)))
RECORDS = st.builds(
    lambda facts, request_id: {"kind": "end", "request_id": request_id, **facts},
    st.dictionaries(st.text(st.characters(codec="utf-8")).filter(lambda name: name not in OWN_NAMES), VALUES),
    IDS,
)
LISTS = st.lists(RECORDS, min_size=1, max_size=6, unique_by=lambda record: record["request_id"])


def joined(records: list[Record]) -> bytes:
    return b"".join(map(frame, records))


def touched(records: list[Record], position: int) -> int:
    """The number of the record whose line has the byte at `position`."""
    end = 0
    for number, record in enumerate(records):
        end += len(frame(record))
        if position < end:
            return number
    return len(records)


def is_newline(records: list[Record], position: int) -> bool:
    return joined(records)[position : position + 1] == b"\n"


def assert_all_but(records: list[Record], lost: set[int], found: Scan) -> None:
    """Every record comes back but those `lost` or some of them; nothing else does, and nothing twice."""
    kept = [record for number, record in enumerate(records) if number not in lost]
    remaining = iter(records)
    assert all(record in remaining for record in found.records), "a record that nobody wrote, or in another order"
    assert [record for record in found.records if record in kept] == kept
    assert len(found.records) <= len(records)


def test_it_works() -> None:
    record: Record = {"kind": "end", "request_id": str(uuid7()), "error_message": "ä\n\x00"}
    line = frame(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"}\n")
    assert scan(line + line) == Scan([record, record], [], 2 * len(line))


@given(LISTS, st.data())
def test_a_file_cut_anywhere_keeps_its_whole_records(records: list[Record], data: st.DataObject) -> None:
    whole = joined(records)
    cut = data.draw(st.integers(0, len(whole)))
    found = scan(whole[:cut])
    count = whole[:cut].count(b"\n")
    assert found == Scan(records[:count], [], len(joined(records[:count])))


@given(LISTS, st.data())
def test_a_changed_byte_costs_one_record(records: list[Record], data: st.DataObject) -> None:
    whole = bytearray(joined(records))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    found = scan(bytes(whole))
    number = touched(records, position)
    assert_all_but(records, {number}, found)
    if not (number == len(records) - 1 and is_newline(records, position)):  # then it is a torn tail
        assert found.damaged, "the damage was not handed back"
        assert found.size == bytes(whole).rfind(b"\n") + 1


@given(LISTS, st.data())
def test_a_deleted_byte_costs_one_record(records: list[Record], data: st.DataObject) -> None:
    whole = joined(records)
    position = data.draw(st.integers(0, len(whole) - 1))
    found = scan(whole[:position] + whole[position + 1 :])
    number = touched(records, position)
    assert_all_but(records, {number}, found)
    if position < len(whole) - 1:
        assert len(found.damaged) == 1


@given(LISTS, st.data())
def test_an_inserted_byte_costs_one_record(records: list[Record], data: st.DataObject) -> None:
    whole = joined(records)
    position = data.draw(st.integers(0, len(whole)))
    byte = bytes([data.draw(st.integers(0, 255))])
    found = scan(whole[:position] + byte + whole[position:])
    assert_all_but(records, {touched(records, position)}, found)
    if position < len(whole) or byte == b"\n":
        assert 1 <= len(found.damaged) <= 2


@given(LISTS, st.data())
def test_a_destroyed_newline_does_not_cost_the_next_record(records: list[Record], data: st.DataObject) -> None:
    lines = list(map(frame, records))
    number = data.draw(st.integers(0, len(lines) - 1))
    lines[number] = lines[number][:-1] + data.draw(st.sampled_from([b"", b"\x00", b"a", b"}", b" ", b"{"]))
    found = scan(b"".join(lines))
    assert_all_but(records, {number}, found)


@given(st.binary(max_size=200) | st.text("0123456789abcdef {}\n").map(str.encode))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    found = scan(data)
    assert found.records == []
    assert sum(len(line) + 1 for line in found.damaged) == found.size
    for line in found.damaged:
        assert damaged_id(line) is None


def test_a_text_that_looks_like_a_record_is_none_even_if_its_checksum_is_right() -> None:
    inner = b'0badcafe {of a caller"}'
    text = f"{zlib.crc32(inner):08x} 0badcafe {{of a caller"
    line = frame({"kind": "end", "request_id": str(uuid7()), "response_body": text})
    damaged = b"X" + line[1:]
    assert damaged.endswith(inner + b"\n")
    assert scan(damaged) == Scan([], [damaged[:-1]], len(damaged))


@pytest.mark.parametrize("text", ["0badcafe 0badcafe {", '0badcafe 0badcafe {"request_id":"'])
def test_texts_that_look_like_records_are_read_in_linear_time(text: str) -> None:
    def read(length: int) -> None:
        damaged = b"X" + frame({"kind": "end", "request_id": str(uuid7()), "body": text * (length // len(text))})[1:]
        assert len(scan(damaged).damaged) == 1

    wait_until_linear(read, 200_000)


def test_the_id_of_a_damaged_record_is_read() -> None:
    request_id = str(uuid7())
    line = frame({"kind": "begin", "request_id": request_id, "route": "/openai"})
    assert damaged_id(line.replace(b"openai", b"opena1")) == request_id
    assert damaged_id(line[:-9]) == request_id
    assert damaged_id(line.replace(b'"request_id"', b'"request_iD"')) is None
    assert damaged_id(b"") is None


@given(IDS, st.data())
def test_an_id_that_is_damaged_itself_is_not_believed(request_id: str, data: st.DataObject) -> None:
    line = bytearray(frame({"kind": "end", "request_id": request_id}))
    start = line.index(request_id.encode())
    position = start + data.draw(st.integers(0, len(request_id) - 1))
    line[position] ^= data.draw(st.integers(1, 255))
    assert damaged_id(bytes(line)) is None


def test_an_id_inside_another_value_is_not_taken_for_the_records_own() -> None:
    stranger = str(uuid7())
    line = frame({"kind": "end", "request_id": str(uuid7()), "usage": {"request_id": stranger}})
    broken = line.replace(b'"request_id":"', b'"request_iX":"', 1)
    assert damaged_id(broken) is None


def test_a_record_without_a_version_is_of_the_first_and_is_read() -> None:
    record: Record = {"kind": "end", "request_id": str(uuid7())}
    assert scan(frame(record)).records == [record]


@pytest.mark.parametrize("version", [RECORD_VERSION + 1, 0, -1, "2", True, 2.0])
def test_a_record_of_an_unknown_version_is_handed_back_as_it_is(version: object) -> None:
    known: Record = {"version": RECORD_VERSION, "kind": "end", "request_id": str(uuid7())}
    line = frame({**known, "version": version})
    found = scan(line + frame(known))
    assert found == Scan([known], [], len(line) + len(frame(known)), (line[:-1],))
    assert damaged_id(found.newer[0]) == known["request_id"]


@pytest.mark.parametrize("lost", [0, 40, -1], ids=["start", "middle", "newline"])
def test_of_a_damaged_line_only_its_whole_newer_record_is_handed_back(lost: int) -> None:
    """The damaged part would otherwise be set aside and counted again whenever the newer record is tried."""
    known: Record = {"version": RECORD_VERSION, "kind": "end", "request_id": str(uuid7())}
    newer: Record = {"version": RECORD_VERSION + 1, "kind": "end", "request_id": str(uuid7())}
    damaged = frame(known)[:-1] if lost == -1 else frame(known)[:lost] + b"#" + frame(known)[lost + 1 : -1]
    found = scan(damaged + frame(newer))
    assert (found.damaged, found.newer) == ([(damaged + frame(newer))[:-1]], (frame(newer)[:-1],))
    assert damaged_id(found.newer[0]) == newer["request_id"]
    again = scan(b"".join(line + b"\n" for line in found.newer))
    assert (again.damaged, again.newer) == ([], found.newer)
