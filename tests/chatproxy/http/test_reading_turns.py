"""Strangers' bytes are parsed one piece at a time, in turn, so that calls continue between the pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from chatproxy.http.reading_turns import ReadingTurns


def reader(name: str, pieces: int, log: list[str]) -> Callable[[], bool]:
    left = iter(range(pieces - 1, -1, -1))

    def read_piece() -> bool:
        log.append(name)
        return bool(next(left))

    return read_piece


async def test_each_turn_of_the_loop_reads_one_piece_of_one_connection() -> None:
    log: list[str] = []
    turns = ReadingTurns()
    for name, pieces in (("a", 3), ("b", 1), ("c", 2)):
        turns.add(reader(name, pieces, log))
    assert log == []
    sizes = []
    for _ in range(8):
        await asyncio.sleep(0)
        sizes.append(len(log))
    assert log == ["a", "b", "c", "a", "c", "a"]
    assert sizes == [1, 2, 3, 4, 5, 6, 6, 6]


async def test_one_that_comes_later_waits_behind_those_that_are_there() -> None:
    log: list[str] = []
    turns = ReadingTurns()
    turns.add(reader("a", 2, log))
    await asyncio.sleep(0)
    turns.add(reader("b", 1, log))
    for _ in range(4):
        await asyncio.sleep(0)
    assert log == ["a", "a", "b"]
    turns.add(reader("c", 1, log))
    await asyncio.sleep(0)
    assert log[3:] == ["c"]


async def test_a_connection_may_be_queued_from_within_a_turn() -> None:
    log: list[str] = []
    turns = ReadingTurns()

    def read_piece() -> bool:
        turns.add(reader("b", 1, log))
        return False

    turns.add(read_piece)
    for _ in range(3):
        await asyncio.sleep(0)
    assert log == ["b"]


async def test_an_error_in_one_turn_takes_no_other_connection_its_own(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    turns = ReadingTurns()

    def fail() -> bool:
        raise ValueError("a fault of ours")

    turns.add(fail)
    turns.add(reader("a", 2, log))
    for _ in range(4):
        await asyncio.sleep(0)
    assert log == ["a", "a"]
    assert "a fault of ours" in caplog.text
