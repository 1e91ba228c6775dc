"""Decodes the content encodings of request bodies (RFC 9110, 8.4), and refuses those that are ambiguous.

Policies, budgets and the ledger read the decoded body, upstream gets the encoded one as it came. Both must read the
same: a body that is incomplete, has bytes behind its end, or can be decoded in two ways is refused. A body is decoded
in steps of bounded size, under the cap of a body without encoding.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from proxyapi.bodies import large_bodies
from proxyapi.bodies.decoding import PIECE_BYTES, WITHOUT_HEADER, Decoder, is_wrapped
from proxyapi.exceptions import BadRequest, UnsupportedMediaType

TAKEN = ("gzip", "x-gzip", "deflate")
# Members of gzip. Each costs some microseconds, even an empty one. Programs that write members, such as bgzip, make one
# of every 64 KiB.
MAX_MEMBERS = 1024
STEP_BYTES = 64 * 1024
_SENTENCE = "Send the body as it is, or encoded as gzip or deflate."
KEY_FIRST = (
    "A request with an encoded body (Content-Encoding) must have its key in a header (Authorization: Bearer ...) or in"
    " the query."
)


class TooLarge(Exception):
    """Error for a body that is larger, once decoded, than its limit."""


def encoding_of(headers: Mapping[str, object]) -> str:
    """Returns the content encoding of a request, from the headers by their WSGI names; empty for none.

    Raises:
        UnsupportedMediaType: the encoding is not one of `TAKEN`, or there is more than one.
    """
    named = headers.get("HTTP_CONTENT_ENCODING")
    if named is None:
        return ""
    encoding = str(named).strip(" \t").lower()
    if encoding in {"", "identity"}:
        return ""
    if encoding not in TAKEN:
        words = (
            "More than one content encoding" if "," in encoding else f"The content encoding '{_printable(encoding)}'"
        )
        error = UnsupportedMediaType(f"{words} is not supported. {_SENTENCE}")
        error.headers["Accept-Encoding"] = "gzip, deflate"
        raise error
    return encoding


async def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """Decodes a request's body and returns it. A body that is large, encoded or decoded, is decoded in a thread.

    Raises:
        TooLarge: the decoded body has more than `limit` bytes.
        BadRequest: the body has another encoding, is incomplete, has bytes behind its end, or can be read in two ways.
    """
    small = large_bodies.LARGE_BYTES
    if len(body) <= small:
        try:
            return decode_now(body, encoding, min(limit, small))
        except TooLarge:
            if limit <= small:
                raise
    return await large_bodies.run(max(len(body), small + 1), decode_now, body, encoding, limit)


def decode_now(body: bytes, encoding: str, limit: int) -> bytes:
    """Returns a request's body with its Content-Encoding undone, in the calling thread. Raises as `decode`."""
    decoder = BodyDecoder(encoding, limit)
    decoded = b"".join(decoder.steps(body))
    decoder.end()
    return decoded


class BodyDecoder:
    """Decoder of one body, piece by piece. Raises what `decode` raises. `size` is that of the decoded body so far."""

    def __init__(self, encoding: str, limit: int) -> None:
        self.size = 0  # decoded
        self._encoding = encoding
        self._limit = limit
        self._decoder = Decoder(encoding, is_strict=True)
        self._other_reading = _OtherReading(limit) if encoding == "deflate" else None

    @property
    def members(self) -> int:
        """The number of gzip members in the body that have begun."""
        return self._decoder.members

    def steps(self, data: bytes) -> Iterator[bytes]:
        """Decodes the next input of the body, and yields the result in pieces of bounded size, some of them empty."""
        self._decoder.feed(data)
        if self._other_reading is not None:
            self._other_reading.feed(data)
            if self._other_reading.is_possible:
                raise self._bad("it can be read in two ways")
        while self._decoder.has_more:
            try:
                piece = self._decoder.step()
            except zlib.error:
                raise self._bad("it cannot be decoded") from None
            self.size += len(piece)
            if self.size > self._limit:
                raise TooLarge
            if self._decoder.members > MAX_MEMBERS:
                raise self._bad(f"it has more than {MAX_MEMBERS} members")
            yield piece

    def end(self) -> None:
        """Checks that the body is complete, once all of it has been decoded. Raises what `decode` raises."""
        if not self._decoder.is_whole or not self._decoder.members:
            raise self._bad("it ends too early")
        if self._encoding == "deflate" and self._decoder.members > 1:
            raise self._bad("there is more behind its end")

    def _bad(self, words: str) -> BadRequest:
        return BadRequest(f"The request body is not valid {self._encoding}: {words}.", code="bad_encoding")


class _OtherReading:
    """Test whether a body in zlib's wrapper can also be read as bare deflate, as some servers try first.

    Bytes can be made that are valid both ways; `is_possible` is then true. Other bodies nearly always fail at the
    first block.
    """

    def __init__(self, limit: int) -> None:
        self.is_possible = False
        self._limit = limit
        self._size = 0
        self._reader: zlib._Decompress | None = None
        self._has_begun = False

    def feed(self, data: bytes) -> None:
        if not self._has_begun and data:
            self._has_begun = True
            if is_wrapped(data):
                self._reader = zlib.decompressobj(wbits=WITHOUT_HEADER)
        for start in range(0, len(data), PIECE_BYTES):
            if self._reader is None:
                return
            self._read(self._reader, data[start : start + PIECE_BYTES])

    def _read(self, reader: zlib._Decompress, data: bytes) -> None:
        try:
            while data and not self.is_possible:
                self._size += len(reader.decompress(data, STEP_BYTES))
                self.is_possible = reader.eof or self._size > self._limit
                data = reader.unconsumed_tail
        except zlib.error:
            self._reader = None
        if self.is_possible:
            self._reader = None


def _printable(encoding: str) -> str:
    """Returns the name of an encoding for an error message: only printable characters, and cut."""
    return "".join(filter(str.isprintable, encoding))[:50]
