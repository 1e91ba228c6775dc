"""An upstream server that begins its answer, and then breaks off or falls silent."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.servers.gateway import PATIENCE

CASE, END = "x-case", "x-end"  # the headers in which a request names its answer, and how that ends
CUT, SILENCE = "cut", "silence"
WORK_SECONDS = 0.1  # before each answer


class BreakingUpstream(ThreadingHTTPServer):
    """A server in upstream's place that sends the chunks of an answer without its end.

    The request's header `CASE` chooses one of `answers`; for an answer that is None, not even the head is sent. The
    header `END` says whether the connection then breaks (`CUT`), or stays open until the client leaves (`SILENCE`).
    `wait_for` waits until a request is there.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answers: Mapping[str, Sequence[bytes] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self._asked: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    def note(self, case: str, end: str) -> None:
        with self._changed:
            self._asked.add((case, end))
            self._changed.notify_all()

    def wait_for(self, case: str, end: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (case, end) in self._asked, PATIENCE)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, BreakingUpstream)
        self._read_body()
        self.close_connection = True
        case, end = self.headers[CASE], self.headers[END]
        server.note(case, end)
        threading.Event().wait(WORK_SECONDS)
        with suppress(ConnectionError):
            if (answer := server.answers[case]) is not None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for piece in answer:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if end == SILENCE:
                self.rfile.read(1)

    def _read_body(self) -> None:
        if self.headers.get("transfer-encoding") != "chunked":
            self.rfile.read(int(self.headers.get("content-length", "0")))
            return
        while size := int(self.rfile.readline(), 16):
            self.rfile.read(size + 2)
        self.rfile.readline()

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because a failing test reports by itself what is wrong."""


@contextmanager
def run_breaking_upstream(answers: Mapping[str, Sequence[bytes] | None]) -> Iterator[BreakingUpstream]:
    with BreakingUpstream(answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
