"""Static files are sent piece by piece: for a client that takes nothing, the worker holds one piece only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders

from chatproxy.asgi import application
from chatproxy.page_protection.static_files import PIECE_BYTES, file_pieces
from tests.support.callers.asgi import Asgi

FILES = [
    "drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js",
    "admin/js/cancel.js",
    "admin/img/inline-delete.svg",
]


def content_of(name: str) -> bytes:
    found = finders.find(name)
    assert isinstance(found, str)
    return Path(found).read_bytes()


class Reader(Asgi):
    """A client that keeps the pieces of the answer apart, and takes none after the first until it `may_go_on`."""

    def __init__(self, name: str, **headers: str) -> None:
        super().__init__("GET", f"/static/{name}", headers={"transfer-encoding": "", **headers})
        self.received: list[bytes] = []
        self.may_go_on = asyncio.Event()
        self.has_first = asyncio.Event()


async def pieces_of(reader: Reader) -> tuple[int, list[bytes]]:
    """Requests the file; returns the status and the pieces."""
    status = 0

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif message.get("body"):
            reader.received.append(message["body"])
            reader.has_first.set()
            await reader.may_go_on.wait()

    async def receive() -> Mapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    await application(reader.scope, receive, send)
    return status, reader.received


@pytest.mark.parametrize("name", FILES)
async def test_a_file_leaves_whole_and_in_small_pieces(name: str) -> None:
    reader = Reader(name)
    reader.may_go_on.set()
    status, pieces = await pieces_of(reader)
    assert status == 200
    assert b"".join(pieces) == content_of(name)
    assert max(map(len, pieces)) <= PIECE_BYTES


async def test_a_range_leaves_as_asked() -> None:
    reader = Reader(FILES[0], range="bytes=100-200099")
    reader.may_go_on.set()
    status, pieces = await pieces_of(reader)
    assert status == 206
    assert b"".join(pieces) == content_of(FILES[0])[100:200_100]


async def test_no_more_is_read_than_is_taken() -> None:
    reader = Reader(FILES[0])
    asked = asyncio.create_task(pieces_of(reader))
    await reader.has_first.wait()
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(reader.received) == 1
    assert len(reader.received[0]) <= PIECE_BYTES
    reader.may_go_on.set()
    await asked
    assert b"".join(reader.received) == content_of(FILES[0])


async def test_a_file_is_closed_when_its_reader_leaves(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * PIECE_BYTES))
    file = path.open("rb")
    async with aclosing(file_pieces(file)) as content:
        assert len(await anext(content)) == PIECE_BYTES
        assert not file.closed
    assert file.closed
