"""An upstream server that gives every request the answer that the test has set, and records the requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FixedUpstream(ThreadingHTTPServer):
    """A server in upstream's place that gives every request the same answer, which the test sets.

    If there are answers in `queued`, each a status and a body, the next requests get these first.

    `asked` has the method, path, headers and body of each request that was received completely, in their order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reset()

    def reset(self) -> None:
        """Sets the answer to an empty JSON object with status 200, and forgets all requests."""
        self.status, self.content_type, self.body = 200, "application/json", b"{}"
        self.headers: dict[str, str] = {}
        self.queued: list[tuple[int, bytes]] = []
        self.delay = 0.0  # seconds before each answer
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        server = self.server
        assert isinstance(server, FixedUpstream)
        length = int(self.headers.get("content-length", "0"))
        body = self.rfile.read(length)
        if len(body) < length:  # it was broken off
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        server.asked.append((self.command, self.path, headers, body))
        threading.Event().wait(server.delay)
        status, content = server.queued.pop(0) if server.queued else (server.status, server.body)
        self.send_response(status)
        self.send_header("content-type", server.content_type)
        self.send_header("content-length", str(len(content)))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = do_HEAD = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because a failing test reports by itself what is wrong."""


@contextmanager
def run_fixed_upstream() -> Iterator[FixedUpstream]:
    with FixedUpstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
