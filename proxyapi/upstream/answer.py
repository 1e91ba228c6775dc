"""One answer of upstream: its head, and its body, which is read whole or while it arrives."""

from __future__ import annotations

from collections.abc import Callable

from proxyapi.exceptions import UpstreamAnswerTooLarge, UpstreamTimeout, UpstreamUnreachable
from proxyapi.upstream.exchange import Exchange, Sink
from proxyapi.upstream.fault_answers import MAYBE_BILLED
from proxyapi.upstream.faults import Late, Silent, TransportFault
from proxyapi.upstream.passed_headers import pass_down
from proxyapi.upstream.request import UpstreamRequest

# The end of the paths of stored files, as they were uploaded; those in a vector store come as a list of JSON.
STORED_CONTENT, VECTOR_STORES = "content", "vector_stores"
MAX_WHOLE_BYTES = 256 * 1024 * 1024  # decoded, of an answer that is read whole


class UpstreamAnswer:
    """Upstream's answer to one request. Its head has arrived; its body can be read whole or piece by piece.

    `content_type` is the Content-Type header, or empty. `is_event_stream` is True for the type `text/event-stream`.
    """

    def __init__(self, exchange: Exchange, request: UpstreamRequest) -> None:
        self._exchange = exchange
        self._body: bytes | None = None
        self._start = b""  # the beginning of the body, which `begins_as` has read and `chunk` has not returned yet
        self._route = request.route
        self.deadline = request.deadline
        self._timeout_error = request.timeout_error
        self.status = exchange.status
        self.content_type = exchange.headers.get("content-type", "")
        self.is_event_stream = self.content_type.lower().startswith("text/event-stream")

    @property
    def is_text(self) -> bool:
        """True if the answer's Content-Type is JSON or text (but no event stream), or is missing."""
        # Such an answer is read whole before it is passed on; sound, files and streams of events pass while they
        # arrive.
        kind = self.content_type.lower()
        return not kind or (kind.startswith(("application/json", "text/")) and not self.is_event_stream)

    @property
    def length(self) -> int | None:
        """The length of the body in bytes, by its Content-Length; None if none is stated, or if the body is encoded."""
        stated = self._exchange.headers.get("content-length", "")
        # The gateway decodes such a body, which changes its length.
        encoded = "content-encoding" in self._exchange.headers
        return int(stated) if stated.isdecimal() and not encoded else None

    @property
    def request_id(self) -> str:
        """OpenAI's id of the request, from the answer's header X-Request-Id; empty if there is none."""
        return self._exchange.headers.get("x-request-id", "")

    def passed_headers(self) -> dict[str, str]:
        """Returns the headers of upstream's answer that the caller gets, as a dict with names in lower case."""
        return pass_down(self._exchange.headers.items())

    async def read(self) -> bytes:
        """Reads upstream's answer to its end, and returns the whole body, decoded.

        Raises:
            UpstreamUnreachable: the connection broke before the end of the body, or ended in the middle of a JSON body
                without a Content-Length.
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
            if self._exchange.ends_with_connection and self._is_cut_json(self._body):
                raise UpstreamUnreachable(
                    f"The connection to upstream ended in the middle of the answer. {MAYBE_BILLED}",
                    code="upstream_disconnected",
                )
        return self._body

    def _is_cut_json(self, body: bytes) -> bool:
        """Returns whether the last bytes of a successful answer of JSON are missing: its object or array has no end.

        False for the content of a stored file, which may be any text.
        """
        # Of an answer without a stated length, nothing else tells. Types such as `application/jsonl` have several
        # values, and a stored file may be broken JSON.
        kind = self.content_type.partition(";")[0].strip().lower()
        route = self._route
        is_stored = route is not None and route.last_id == STORED_CONTENT and route.family.name != VECTOR_STORES
        if self.status >= 300 or kind != "application/json" or is_stored:
            return False
        text = body.strip()
        return (text[:1] == b"{" and text[-1:] != b"}") or (text[:1] == b"[" and text[-1:] != b"]")

    async def begins_as(self, reads: Callable[[bytes], bool | None]) -> bool:
        """Returns the verdict of the function `reads` on the first bytes of upstream's body: True or False.

        `reads` gets all bytes that have arrived until now, and returns True, False, or None if it needs more. If the
        body ends before a verdict, the result is False. The bytes stay readable by `chunk` and `read`. Raises the
        errors of `chunk`, and closes the answer after one.
        """
        try:
            while (begins := reads(self._start)) is None and (piece := await self._chunk(bytes)):
                self._start += piece
        except BaseException:  # a border: cleans up after any exception, and raises it
            self.close()
            raise
        return bool(begins)

    async def chunk(self, sink: Sink = bytes) -> bytes:
        """Returns the next bytes of upstream's body that the function `sink` does not take; b"" at the end of the body.

        `sink` is called with each piece of the body; it takes what it can, and returns the other bytes. Without a
        `sink`, the next piece is returned.

        Raises:
            UpstreamUnreachable: the connection broke.
            UpstreamTimeout: the bytes came too late.
        """
        if self._start:
            start, self._start = self._start, b""
            if left := sink(start):
                return left
        return await self._chunk(sink)

    async def _chunk(self, sink: Sink) -> bytes:
        """Returns the next bytes of upstream's body that the function `sink` does not take; b"" at the end of the body.

        Raises a fault of the connection as the error for the caller: `UpstreamTimeout` or `UpstreamUnreachable`.
        """
        try:
            return await self._exchange.chunk(sink)
        except Silent as fault:
            raise UpstreamTimeout(
                f"Upstream fell silent in the middle of its answer, for {fault.seconds:g} seconds ({fault.setting})."
                f" {MAYBE_BILLED}"
            ) from fault
        except Late as fault:
            raise self._timeout_error(f"Upstream did not finish in time. {MAYBE_BILLED}") from fault
        except TransportFault as fault:
            raise UpstreamUnreachable(
                f"The connection to upstream broke during the answer: {fault}. {MAYBE_BILLED}",
                code="upstream_disconnected",
            ) from fault

    def close(self) -> None:
        """Frees the connection to upstream; closes it if the answer has not arrived whole."""
        # closed, so that upstream stops its work
        self._exchange.close()
