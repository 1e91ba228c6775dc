"""The gateway keeps its connection to upstream between calls, on both faces."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SOUND = {"file": ("audio.mp3", b"\xff\xfb\x90\x00" * 100, "audio/mpeg")}
EVENTS = b"data: {}\n\ndata: [DONE]\n\n"


class Counting(socketserver.ThreadingTCPServer):
    """Answers each request, streams those that ask for it; `accepted` counts connections, `answered` requests."""

    daemon_threads = True
    accepted = answered = 0


class Kept(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Counting)
        self.server.accepted += 1
        while head := list(iter(lambda: self.rfile.readline().strip().lower(), b"")):
            body = self._body(dict(line.split(b": ", 1) for line in head[1:]))
            self.server.answered += 1
            if b'"stream"' in body:
                chunked = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                self.wfile.write(b"HTTP/1.1 200 OK\r\n%b%x\r\n%b\r\n0\r\n\r\n" % (chunked, len(EVENTS), EVENTS))
            else:
                self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")

    def _body(self, headers: dict[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding") != b"chunked":
            return self.rfile.read(int(headers.get(b"content-length", b"0")))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Counting]:
    with Counting(("127.0.0.1", 0), Kept) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def keeping(upstream: Counting, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    url = f"http://127.0.0.1:{upstream.server_address[1]}/v1"
    with run_gateway(url, gateway_database, tmp_path_factory.mktemp("keeping")) as gateway:
        yield gateway


def test_calls_in_turn_use_one_connection(keeping: Gateway, upstream: Counting) -> None:
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/openai", {"json": CHAT}),
        ("POST", "/v1/chat/completions", {"json": CHAT}),
        ("POST", "/openai2", {"json": {"model": "gpt-4o", "input": "hi", "stream": True}}),
        ("POST", "/v1/chat/completions", {"json": {**CHAT, "stream": True}}),
        ("POST", "/openai/audio/transcriptions", {"files": SOUND}),
        ("POST", "/v1/audio/transcriptions", {"files": SOUND, "data": {"model": "whisper-1"}}),
        ("GET", "/v1/models", {}),
        ("POST", "/openai", {"json": CHAT}),
    ]
    for method, path, content in calls:
        assert keeping.http.request(method, path, headers=BEARER, **content).status_code == 200, path

    assert (upstream.answered, upstream.accepted) == (len(calls), 1)
