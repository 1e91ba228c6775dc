"""One answer of upstream: its head, and its body as it arrives or whole."""

from __future__ import annotations

from collections.abc import Callable

from proxyapi.exceptions import UpstreamAnswerTooLarge, UpstreamTimeout, UpstreamUnreachable
from proxyapi.upstream.exchange import Exchange, Sink
from proxyapi.upstream.failures import MAYBE_BILLED
from proxyapi.upstream.faults import Late, Silent, TransportFault
from proxyapi.upstream.passed_headers import pass_down
from proxyapi.upstream.request import UpstreamRequest

MAX_WHOLE_BYTES = 256 * 1024 * 1024  # decoded, of an answer that is read whole


class UpstreamAnswer:
    """The answer of upstream to one request. Its head has arrived; its body can be read whole or piece by piece.

    `content_type` is its Content-Type header, empty if it has none. `is_event_stream` is true if that header says that
    the body is a stream of server-sent events.
    """

    def __init__(self, exchange: Exchange, request: UpstreamRequest) -> None:
        self._exchange = exchange
        self._body: bytes | None = None
        self._start = b""  # the beginning of the body, which `begins_as` has read and `chunk` has not returned yet
        self.deadline = request.deadline
        self.status = exchange.status
        self.content_type = exchange.headers.get("content-type", "")
        self.is_event_stream = self.content_type.lower().startswith("text/event-stream")

    @property
    def is_text(self) -> bool:
        """True if the Content-Type of upstream's answer says JSON or other text, or is missing.

        The gateway reads such an answer whole before it passes it on; sound, files and streams of events pass while
        they arrive.
        """
        kind = self.content_type.lower()
        return not kind or (kind.startswith(("application/json", "text/")) and not self.is_event_stream)

    @property
    def length(self) -> int | None:
        """The length in bytes of the body of upstream's answer, from its Content-Length.

        None if upstream does not state it, or if the body is encoded: the gateway decodes such a body, so its length
        changes.
        """
        stated = self._exchange.headers.get("content-length", "")
        encoded = "content-encoding" in self._exchange.headers
        return int(stated) if stated.isdecimal() and not encoded else None

    @property
    def request_id(self) -> str:
        """The header X-Request-Id of upstream's answer, OpenAI's id of the request; empty if there is none."""
        return self._exchange.headers.get("x-request-id", "")

    def passed_headers(self) -> dict[str, str]:
        """Returns those headers of upstream's answer that the caller gets, by their names in lower case."""
        return pass_down(self._exchange.headers.items())

    async def read(self) -> bytes:
        """Reads upstream's answer to its end, and returns its whole body, decoded.

        Raises:
            UpstreamUnreachable: the connection broke before the end of the body.
            UpstreamTimeout: the deadline of the call passed, or upstream sent nothing for too long.
            UpstreamAnswerTooLarge: the body has, or announces, more than `MAX_WHOLE_BYTES`; the exchange is closed.
        """
        if self._body is None:
            pieces, size = [], self.length or 0
            if size <= MAX_WHOLE_BYTES:
                size = 0
                while size <= MAX_WHOLE_BYTES and (piece := await self.chunk()):
                    pieces.append(piece)
                    size += len(piece)
            if size > MAX_WHOLE_BYTES:
                self.close()
                raise UpstreamAnswerTooLarge(
                    f"Upstream's answer is larger than {MAX_WHOLE_BYTES} bytes, so it was not read to its end."
                    f" {MAYBE_BILLED}"
                )
            self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return self._body

    async def begins_as(self, reads: Callable[[bytes], bool | None]) -> bool:
        """Tests the beginning of upstream's body with the function `reads`, and returns the function's verdict.

        `reads` gets all bytes of the body that have come so far. It returns True, False or, if these bytes are too few
        to decide, None. After None, it is called again with more bytes. If the body ends before `reads` has decided,
        the result is False. `chunk` and `read` return the tested bytes, too, when they are called later.

        If the connection fails, the answer is closed, and the errors of `chunk` are raised.
        """
        try:
            while (begins := reads(self._start)) is None and (piece := await self._chunk(bytes)):
                self._start += piece
        except BaseException:  # a border: cleans up after any exception, and raises it
            self.close()
            raise
        return bool(begins)

    async def chunk(self, sink: Sink = bytes) -> bytes:
        """Waits for bytes of upstream's body, offers them to the function `sink`, and returns what `sink` leaves.

        `sink` gets each piece of the body when the piece arrives, and returns the rest that it did not take. While it
        takes all, the wait goes on (`Exchange.chunk`). Returns empty bytes at the end of the body. Raises
        `UpstreamUnreachable` if the connection breaks, and `UpstreamTimeout` if the bytes do not arrive in time.
        """
        if self._start:
            start, self._start = self._start, b""
            if left := sink(start):
                return left
        return await self._chunk(sink)

    async def _chunk(self, sink: Sink) -> bytes:
        """Waits for bytes from the connection, offers them to the function `sink`, and returns what `sink` leaves.

        The bytes that `begins_as` has read before are not offered here, but by `chunk`. A fault of the connection is
        raised as the error that the caller gets.
        """
        try:
            return await self._exchange.chunk(sink)
        except Silent as fault:
            raise UpstreamTimeout(
                f"Upstream fell silent in the middle of its answer, for {fault.seconds:g} seconds ({fault.setting})."
                f" {MAYBE_BILLED}"
            ) from fault
        except Late as fault:
            raise UpstreamTimeout(f"Upstream did not finish in time. {MAYBE_BILLED}") from fault
        except TransportFault as fault:
            raise UpstreamUnreachable(
                f"The connection to upstream broke during the answer: {fault}. {MAYBE_BILLED}",
                code="upstream_disconnected",
            ) from fault

    def close(self) -> None:
        """Frees the connection to upstream.

        If the answer has not arrived whole, the connection is closed, so that upstream stops its work.
        """
        self._exchange.close()
