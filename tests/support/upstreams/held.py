"""An upstream server that waits: it sends the pieces of its answer one by one, when the test allows it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.support.servers.gateway import PATIENCE


class HeldUpstream(socketserver.ThreadingTCPServer):
    """A server in upstream's place that sends its answer piece by piece; a test lets each piece go by `release`.

    `answer` are the pieces of the answer to every request; unless `is_held`, the first one is sent at once. `answers`
    are complete answers to the next requests, which are sent at once instead. `bodies` are the bodies of the requests.
    `gone` is set when a client leaves while `answer` is empty, so that nothing is sent to it.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.start([])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def start(self, answer: Sequence[bytes], *, is_held: bool = True) -> None:
        self.answer = list(answer)
        self.answers: list[bytes] = []
        self.is_held = is_held
        self.gone = threading.Event()
        self._permits = threading.Semaphore(0)

    def release(self) -> None:
        """Lets this server send one more piece of its answer."""
        self._permits.release()

    def turn(self) -> tuple[list[bytes], bool, threading.Semaphore, threading.Event]:
        """Returns the state that a new request gets: the pieces of its answer, `is_held`, permits and `gone`.

        The last `start` has set this state, and a request keeps it to its end. So a request left behind by an earlier
        test cannot take a permit of a later test, or set the `gone` of a later test.
        """
        return self.answer, self.is_held, self._permits, self.gone


class _Handler(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, HeldUpstream)
        length, is_chunked = 0, False
        while line := self.rfile.readline().strip().lower():
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            is_chunked = is_chunked or line == b"transfer-encoding: chunked"
        body = self.rfile.read(length)
        while is_chunked and not body.endswith(b"0\r\n\r\n"):
            body += self.rfile.readline()
        self.server.bodies.append(body)
        if self.server.answers:
            self.wfile.write(self.server.answers.pop(0))
            return
        answer, is_held, permits, gone = self.server.turn()
        for number, piece in enumerate(answer):
            if number or is_held:
                assert permits.acquire(timeout=PATIENCE)
            with suppress(ConnectionError):
                self.wfile.write(piece)
        if not answer and not self.rfile.read(1):  # it says nothing, until its client leaves
            gone.set()


@contextmanager
def held_upstream() -> Iterator[HeldUpstream]:
    with HeldUpstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def whole(status: bytes, body: bytes, *headers: bytes) -> bytes:
    """Builds a complete answer as bytes, with a Content-Length and `Connection: close` in its head."""
    lines = [b"HTTP/1.1 " + status, *headers, b"connection: close", b"content-length: %d" % len(body)]
    return b"\r\n".join([*lines, b"", body])


def events(*pieces: bytes, label: bytes = b"text/event-stream") -> list[bytes]:
    """Builds the pieces of a streamed answer as bytes: its head, then each of `pieces` as a chunk.

    The answer has no end unless `LAST` is appended. `label` is its content type.
    """
    return [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: " + label + b"\r\ntransfer-encoding: chunked\r\n\r\n",
        *map(in_chunk, pieces),
    ]


def in_chunk(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


LAST = b"0\r\n\r\n"
