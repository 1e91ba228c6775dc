"""An offer to upgrade is ignored: the body after it belongs to the request, and is never read as a second request."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from chatproxy.http.protocol import Protocol
from tests.simulator.server import Simulator
from tests.support.callers.served_connection import Line, turns
from tests.support.callers.wire import connect, head, in_chunks
from tests.support.servers.gateway import SECURITY_KEY, Gateway

OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
    "anything": ("Connection: upgrade", "Upgrade: foo/2"),
    "several": ("Connection: keep-alive, Upgrade", "Upgrade: TLS/1.0, HTTP/2.0"),
    "empty": ("Connection: Upgrade", "Upgrade:"),
    "twice": ("Connection: Upgrade", "Upgrade: h2c", "UPGRADE: h2"),
    "by proxy": ("Proxy-Connection: Upgrade", "Upgrade: h2c"),
    "WebSocket": ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="),
    "no offer": ("Connection: Upgrade",),
    "no connection": ("Upgrade: h2c",),
}
CALL: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
LAST = head("GET", "/healthz", "Connection: close")
SMUGGLED = head("GET", "/v1/models?smuggled=1")


def framed(content: bytes, *, chunked: bool) -> tuple[str, bytes]:
    """Returns the header that gives the length of a body, and the body with its framing."""
    if chunked:
        return "Transfer-Encoding: chunked", in_chunks(*filter(None, (content[:3], content[3:])))
    return f"Content-Length: {len(content)}", content


def exchange(gateway: Gateway, segments: list[bytes]) -> list[int]:
    """Sends bytes on one connection; returns the statuses of all answers."""
    with connect(gateway) as wire:
        wire.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for segment in segments:
                wire.send(segment)
        except ConnectionError:
            pass  # it was answered before its end
        received = b""
        try:
            while piece := wire.connection.recv(65536):
                received += piece
        except ConnectionError:
            pass  # closed while more was on its way
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", received)]


def cut(top: bytes, body: bytes, how: str) -> list[bytes]:
    match how:
        case "one segment":
            return [top + body + LAST]
        case "two segments":
            return [top, body + LAST]
        case _:
            return [bytes([byte]) for byte in top + body + LAST]


ways = pytest.mark.parametrize("how", ["one segment", "two segments", "byte by byte"])
framings = pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
offers = pytest.mark.parametrize("offer", OFFERS)


@ways
@framings
@offers
def test_an_honest_body_arrives_whole(
    gateway: Gateway, simulator: Simulator, offer: str, chunked: bool, how: str
) -> None:
    framing, body = framed(json.dumps(CALL).encode(), chunked=chunked)
    top = head("POST", "/v1/chat/completions", "Content-Type: application/json", *OFFERS[offer], framing)

    statuses = exchange(gateway, cut(top, body, how))

    if offer == "WebSocket":
        assert statuses[0] == 426
        assert statuses[1:] in ([], [200])  # the request behind it, unless the connection was closed
        assert simulator.requests == []
    else:
        assert statuses == [200, 200]
        assert [request.json for request in simulator.requests] == [CALL]


@ways
@framings
@pytest.mark.parametrize("offer", ["h2c", "anything", "by proxy", "WebSocket"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai", "/healthz", "/v1/realtime"])
@pytest.mark.parametrize("key", [SECURITY_KEY, "wrong"], ids=["keyed", "stranger"])
def test_a_body_is_no_second_request(
    gateway: Gateway, simulator: Simulator, key: str, path: str, offer: str, chunked: bool, how: str
) -> None:
    framing, body = framed(SMUGGLED, chunked=chunked)
    method = "GET" if path in {"/healthz", "/v1/realtime"} else "POST"
    top = head(method, path, "Content-Type: application/json", *OFFERS[offer], framing, key=key)

    statuses = exchange(gateway, cut(top, body, how))

    assert statuses[1:] in ([], [200])  # the request behind the body, unless the connection was closed
    assert [request for request in simulator.requests if "smuggled" in request.query] == []


@pytest.mark.parametrize("target", ["a:80", "/v1/models", "http://a/v1/models"])
def test_connect_opens_no_tunnel(gateway: Gateway, simulator: Simulator, target: str) -> None:
    statuses = exchange(gateway, [head("CONNECT", target, length=len(SMUGGLED)) + SMUGGLED, LAST])

    assert statuses[0] in {400, 404, 405}
    assert statuses[1:] in ([], [200])
    assert simulator.requests == []


@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
async def test_many_offers_in_a_row_are_as_many_requests(step: int) -> None:
    """Each body is read to its end and no further, wherever the bytes are cut into reads."""
    seen: list[tuple[str, bytes]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        seen.append((scope["path"], body))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    config = uvicorn.Config(application, lifespan="off", log_level="critical")
    config.load()
    line, state = Line(), ServerState()
    protocol = Protocol(config=config, server_state=state, app_state={})
    protocol.connection_made(cast(asyncio.Transport, line))
    sent, expected = b"", []
    for number, offer in enumerate([*OFFERS] * 3):
        content = b"GET /x HTTP/1.1\r\n\r\n" * (number % 3)
        framing, body = framed(content, chunked=number % 2 == 1)
        sent += head("POST", f"/{number}", *OFFERS[offer], framing) + body
        expected.append((f"/{number}", content))
    for start in range(0, len(sent), step):
        protocol.data_received(sent[start : start + step])
        if step == 1 and not start % 50:
            await turns()
    for _ in range(len(expected)):
        await turns()
    protocol.connection_lost(None)

    assert seen == expected
    assert line.sent.count(b"HTTP/1.1 204") == len(expected)
