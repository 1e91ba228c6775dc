"""An answer that states no length ends with its connection: JSON shows whether it has come whole."""

from __future__ import annotations

import asyncio

import pytest

from proxyapi.exceptions import UpstreamUnreachable
from proxyapi.keys.credentials import Credentials
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.request import UpstreamRequest
from tests.support.upstreams.raw import answering, call, raw_upstream, transport_to

JSON, TEXT = b"application/json; charset=utf-8", b"text/plain"


@pytest.mark.parametrize(
    ("status", "kind", "body", "is_whole"),
    [
        (b"200", JSON, b'{"choices": [{"message": {"content": "Hello, wor', False),
        (b"200", JSON, b'[{"id": 1}, ', False),
        (b"200", JSON, b"{", False),
        (b"200", JSON, b' {"a": 1}\r\n', True),
        (b"200", JSON, b"[]", True),
        (b"200", JSON, b'"text"', True),
        (b"200", JSON, b"", True),
        (b"200", TEXT, b"[Music] Hello", True),  # a transcript
        (b"200", b"application/jsonl", b'{"a": 1}\n[2]\n', True),
        (b"200", b"application/json-seq", b'[1]\n{"a": ', True),
        (b"200", b"Application/JSON ;charset=utf-8", b'[{"id": 1}, ', False),
        (b"200", b"application/problem+json", b'{"a": ', True),
        (b"500", JSON, b'{"error": ', True),  # an error stays what it is
    ],
)
async def test_json_without_its_end_was_cut(status: bytes, kind: bytes, body: bytes, is_whole: bool) -> None:
    await check("/responses", status, kind, body, is_whole)


@pytest.mark.parametrize("path", ["/files/file-1/content", "/containers/cntr_1/files/cfile_1/content"])
@pytest.mark.parametrize("body", [b"[not JSON", b'{"torn": '])
async def test_a_stored_file_may_be_broken_json(path: str, body: bytes) -> None:
    await check(path, b"200", JSON, body, is_whole=True)


async def test_the_texts_of_a_file_in_a_vector_store_are_json() -> None:
    await check("/vector_stores/vs_1/files/file-1/content", b"200", JSON, b'{"data": [', is_whole=False)


async def check(path: str, status: bytes, kind: bytes, body: bytes, is_whole: bool) -> None:
    sent = b"HTTP/1.1 %b X\r\ncontent-type: %b\r\n\r\n%b" % (status, kind, body)
    async with raw_upstream(answering(sent)) as upstream, transport_to(upstream.url) as transport:
        request = UpstreamRequest("POST", path, Credentials("sk-x"), asyncio.get_running_loop().time() + 60)
        answer = UpstreamAnswer(await call(transport), request)
        if is_whole:
            assert await answer.read() == body
        else:
            with pytest.raises(UpstreamUnreachable, match="may have been billed") as raised:
                await answer.read()
            assert raised.value.code == "upstream_disconnected"
        answer.close()
