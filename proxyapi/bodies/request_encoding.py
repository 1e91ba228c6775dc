"""Decodes the content encodings of request bodies (RFC 9110, 8.4), and refuses those that are ambiguous.

The gateway's policies, budgets and ledger read the decoded body, but upstream gets the encoded one as it came. Both
must find the same content, so a body is refused if it is incomplete, has bytes behind its end, or can be decoded in two
ways. A body is decoded in steps of bounded size, and the size limit for bodies holds for the result.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from proxyapi.bodies import large_bodies
from proxyapi.bodies.decoding import PIECE_BYTES, WITHOUT_HEADER, Decoder, is_wrapped
from proxyapi.exceptions import BadRequest, UnsupportedMediaType

TAKEN = ("gzip", "x-gzip", "deflate")
# The most members of one gzip body. Each takes some microseconds, even an empty one. Programs that write several
# members, such as bgzip, make one of every 64 KiB.
MAX_MEMBERS = 1024
STEP_BYTES = 64 * 1024
_SENTENCE = "Send the body as it is, or encoded as gzip or deflate."
KEY_FIRST = (
    "A request with an encoded body (Content-Encoding) must have its key in a header (Authorization: Bearer ...) or in"
    " the query."
)


class TooLarge(Exception):
    """Error: a request's body has more bytes, after decoding, than are allowed."""


def encoding_of(headers: Mapping[str, object]) -> str:
    """Returns the content encoding of a request's body, such as `gzip`; an empty text if the body is not encoded.

    `headers` have WSGI names, such as `HTTP_CONTENT_ENCODING`.

    Raises:
        UnsupportedMediaType: the gateway does not accept this encoding, or several encodings are named.
    """
    named = headers.get("HTTP_CONTENT_ENCODING")
    if named is None:
        return ""
    encoding = str(named).strip(" \t").lower()
    if encoding in {"", "identity"}:
        return ""
    if encoding not in TAKEN:
        name = _printable(encoding)
        words = (
            f"'{name}' is more than one content encoding, which"
            if "," in encoding
            else f"The content encoding '{name}'"
        )
        error = UnsupportedMediaType(f"{words} is not supported. {_SENTENCE}")
        error.headers["Accept-Encoding"] = "gzip, deflate"
        raise error
    return encoding


async def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """Decodes a request's body from its Content-Encoding, such as `gzip`; a large body or result, in a thread.

    Raises:
        TooLarge: the decoded body has more than `limit` bytes.
        BadRequest: the body is invalid or incomplete, has bytes after its end, or could be decoded to two different
            texts.
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
    """Decodes a request's body from its Content-Encoding, such as `gzip`, in the calling thread.

    Raises `TooLarge` beyond `limit` decoded bytes, and `BadRequest` if the body is invalid, or could be decoded to two
    different texts.
    """
    decoder = BodyDecoder(encoding, limit)
    decoded = b"".join(decoder.steps(body))
    decoder.end()
    return decoded


class BodyDecoder:
    """Decoder for the Content-Encoding of one request's body, which arrives in pieces.

    `size` is the number of bytes decoded until now, and `limit` the maximum allowed. The methods raise `TooLarge` and
    `BadRequest` like the function `decode`.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self.size = 0  # decoded
        self._encoding = encoding
        self._limit = limit
        self._decoder = Decoder(encoding, is_strict=True)
        self._other_reading = _OtherReading(limit) if encoding == "deflate" else None

    @property
    def members(self) -> int:
        """The number of gzip members that have begun until now; a gzip body has one or more of them."""
        return self._decoder.members

    @property
    def has_more(self) -> bool:
        """True while some bytes that have arrived are not decoded yet."""
        return self._decoder.has_more

    def steps(self, data: bytes) -> Iterator[bytes]:
        """Decodes the next bytes of the body from its Content-Encoding; yields the result in small or empty pieces.

        Raises:
            TooLarge: the decoded body is over the limit.
            BadRequest: the body is invalid, could be decoded to two different texts, or has too many gzip members.
        """
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
        """Checks, after the last bytes were decoded, that the body is complete and that no bytes follow deflate data.

        Raises:
            BadRequest: the body is incomplete, or bytes follow.
        """
        if not self._decoder.is_whole or not self._decoder.members:
            raise self._bad("it ends too early")
        if self._encoding == "deflate" and self._decoder.members > 1:
            raise self._bad("there is more behind its end")

    def _bad(self, words: str) -> BadRequest:
        return BadRequest(f"The request body is not valid {self._encoding}: {words}.", code="bad_encoding")


class _OtherReading:
    """Tests whether deflate data with a zlib header could also be decoded as deflate data without a header.

    `is_possible` becomes true if such a decoding succeeds, or gives more than `limit` bytes.
    """

    def __init__(self, limit: int) -> None:
        # Some servers first try to read the data without a wrapper.
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
    """Returns at most 50 printable characters of an encoding's name, for an error message."""
    return "".join(filter(str.isprintable, encoding))[:50]
