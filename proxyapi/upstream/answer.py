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
    """An answer whose head has been read, and whose body has not."""

    def __init__(self, exchange: Exchange, request: UpstreamRequest) -> None:
        self._exchange = exchange
        self._body: bytes | None = None
        self._start = b""  # of the body: read by `begins_as`, and not yet returned by `chunk`
        self.deadline = request.deadline
        self.status = exchange.status

    @property
    def content_type(self) -> str:
        """The Content-Type header; empty if there is none."""
        return self._exchange.headers.get("content-type", "")

    @property
    def is_event_stream(self) -> bool:
        """True if the answer is labelled as server-sent events."""
        return self.content_type.lower().startswith("text/event-stream")

    @property
    def is_text(self) -> bool:
        """True for JSON and other text, which is read whole; sound and files are not."""
        kind = self.content_type.lower()
        return not kind or (kind.startswith(("application/json", "text/")) and not self.is_event_stream)

    @property
    def length(self) -> int | None:
        """The number of bytes of the body, if upstream states it and they are not encoded."""
        stated = self._exchange.headers.get("content-length", "")
        encoded = "content-encoding" in self._exchange.headers
        return int(stated) if stated.isdecimal() and not encoded else None

    @property
    def request_id(self) -> str:
        """The X-Request-Id header, OpenAI's id of the request; empty if there is none."""
        return self._exchange.headers.get("x-request-id", "")

    def passed_headers(self) -> dict[str, str]:
        """Returns the headers that pass to the caller."""
        return pass_down(self._exchange.headers.items())

    async def read(self) -> bytes:
        """Returns the whole body.

        Raises:
            UpstreamUnreachable: the connection broke before the end.
            UpstreamTimeout: the deadline passed.
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
        """Returns whether the body begins as `reads` wants, whatever its content type says.

        `reads` gets the bytes that have arrived; it returns None until they are enough to tell. The answer is closed if
        they do not arrive. Raises as `read`.
        """
        try:
            while (begins := reads(self._start)) is None and (piece := await self._chunk(bytes)):
                self._start += piece
        except BaseException:  # a border: cleans up after any exception, and raises it
            self.close()
            raise
        return bool(begins)

    async def chunk(self, sink: Sink = bytes) -> bytes:
        """Returns the next piece of the body, as `Exchange.chunk` does. Raises as `read`."""
        if self._start:
            start, self._start = self._start, b""
            if left := sink(start):
                return left
        return await self._chunk(sink)

    async def _chunk(self, sink: Sink) -> bytes:
        """Returns the next piece, and says what a fault in the middle of an answer means. Raises as `read`."""
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
                f"The connection to upstream broke during the answer. {MAYBE_BILLED}", code="upstream_disconnected"
            ) from fault

    def close(self) -> None:
        """Ends the exchange; if its body has not been read to its end the connection is closed, so upstream stops."""
        self._exchange.close()
