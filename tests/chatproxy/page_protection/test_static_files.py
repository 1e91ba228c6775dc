"""Static files are sent piece by piece and compressed, and are kept by browsers under links that tell their content."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.templatetags.static import static
from django.test import AsyncClient

from chatproxy.asgi import application
from chatproxy.page_protection.static_files import FOREVER, PIECE_BYTES, file_pieces
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


async def content(answer: Any) -> bytes:
    return b"".join([piece async for piece in answer.streaming_content])


@pytest.mark.parametrize("accepted", ["gzip", "br, GZIP;q=0.5", "deflate,gzip , br"])
async def test_a_text_is_compressed_for_who_reads_gzip(accepted: str) -> None:
    answer = await AsyncClient().get(f"/static/{FILES[0]}", headers={"accept-encoding": accepted})
    sent = await content(answer)
    assert (answer["Content-Encoding"], answer["Vary"], answer["Content-Length"]) == (
        "gzip", "Accept-Encoding", str(len(sent)))  # fmt: skip
    assert "ETag" not in answer.headers  # that is the digest of another content
    assert len(sent) < len(content_of(FILES[0])) / 2
    assert gzip.decompress(sent) == content_of(FILES[0])


@pytest.mark.parametrize("accepted", ["", "br", "gzip;q=0", "gzip;q=0.000, br", "xgzip"])
async def test_others_get_the_file_as_it_is(accepted: str) -> None:
    answer = await AsyncClient().get(f"/static/{FILES[1]}", headers={"accept-encoding": accepted})
    assert "Content-Encoding" not in answer.headers
    assert answer["Vary"] == "Accept-Encoding"
    assert await content(answer) == content_of(FILES[1])


async def test_a_compressed_head_has_no_body() -> None:
    answer = await AsyncClient().head(f"/static/{FILES[0]}", headers={"accept-encoding": "gzip"})
    assert answer["Content-Encoding"] == "gzip"
    assert list(answer) == []


async def test_a_font_is_compressed_already() -> None:
    answer = await AsyncClient().get("/static/usage/icons.woff2", headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert await content(answer) == content_of("usage/icons.woff2")


async def test_a_link_leads_to_what_is_kept_for_a_year() -> None:
    link = static("usage/pages.css")
    assert link.startswith("/static/usage/pages.css?v=")
    answer = await AsyncClient().get(link)
    assert answer["Cache-Control"] == FOREVER
    assert await content(answer) == content_of("usage/pages.css")
    for other in ("/static/usage/pages.css", "/static/usage/pages.css?v=", "/static/usage/pages.css?v=0123456789"):
        answer = await AsyncClient().head(other)
        assert answer["Cache-Control"] == "max-age=60, public"


def test_a_file_that_is_nowhere_has_a_link_without_a_version() -> None:
    assert static("usage/nowhere.css") == "/static/usage/nowhere.css"
    assert static("usage/") == "/static/usage/"
