"""An upstream server whose answers quote the key that it was called with, as the test's script says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Quoted:
    """One answer of a `QuotingUpstream`. `body` may be any bytes; with the content type of events, it is a stream."""

    def __init__(
        self, status: int, body: bytes, content_type: str = "application/json", headers: dict[str, str] | None = None
    ) -> None:
        self.status = status
        self.body = body
        self.headers = {"content-type": content_type, **(headers or {})}


Script = Callable[[str], Quoted]


class QuotingUpstream(ThreadingHTTPServer):
    """A server in upstream's place whose answers may quote a request's API key: `script` makes them from the key."""

    script: Script
    daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", "0")))
        assert isinstance(self.server, QuotingUpstream)
        answer = self.server.script(self.headers["authorization"].removeprefix("Bearer "))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST

    def log_message(self, *_words: object) -> None:
        """Logs nothing."""


@contextmanager
def quoting_upstream() -> Iterator[QuotingUpstream]:
    with QuotingUpstream(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
