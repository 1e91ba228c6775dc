"""Decodes bodies with a content encoding such as gzip (RFC 9110, 8.4.1), of requests and of upstream's answers.

A decoder works in steps of bounded size, since a thousand compressed bytes can become a million.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable

ENCODINGS = {"gzip", "x-gzip", "deflate"}
# Values of Content-Encoding with which a body is not encoded. `none` stands before streams, so that proxies do not
# compress them; servers that mean the charset write `utf-8`. Clients read over both.
NO_ENCODINGS = {"", "identity", "none", "utf-8", "utf8"}
WITH_HEADER = zlib.MAX_WBITS | 32  # either gzip's or zlib's
WITH_GZIP_HEADER = zlib.MAX_WBITS | 16
WITHOUT_HEADER = -zlib.MAX_WBITS
ZLIB = 8  # the compression method in the low half of the first byte of zlib's wrapper (RFC 1950)
MAX_STEP_BYTES = 64 * 1024  # the most that one step returns, decoded
# A step reads at most so many pieces of input, because some make no output: empty members of gzip.
MAX_STEP_PIECES = 64
PIECE_BYTES = 4096  # small, because the rest of a piece is copied when a member ends inside it


class Decoder:
    """Incremental decoder of gzip or deflate data: `feed` takes compressed bytes, and `step` returns decoded ones.

    `encoding` is the expected format: `gzip` or `deflate`. If the data have the other format, they are decoded, too,
    unless `is_strict` is true: then `step` raises `zlib.error`. `members` counts the gzip members that have begun.
    """

    def __init__(self, encoding: str, *, is_strict: bool = False) -> None:
        self.members = 0
        # Some senders make deflate data without its zlib wrapper.
        self._may_be_bare = encoding == "deflate"
        strict = zlib.MAX_WBITS if self._may_be_bare else WITH_GZIP_HEADER
        self._wrapped_bits = strict if is_strict else WITH_HEADER
        self._member: zlib._Decompress | None = None
        self._input: deque[bytes] = deque()
        self._has_output = False  # the decompressor may still hold output

    @property
    def is_whole(self) -> bool:
        """True if the input until now is complete: all bytes are decoded, and the compressed data has ended.

        Also true if there was no input yet.
        """
        return self._member is None and not self._input

    @property
    def has_more(self) -> bool:
        """True while some of the input is not decoded yet; `step` must then be called again."""
        return bool(self._input) or self._has_output

    def feed(self, data: bytes) -> None:
        """Adds compressed bytes to the decoder's input, for the next calls of `step` to decode."""
        self._input.extend(data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))

    def step(self) -> bytes:
        """Decodes the next part of the input; returns at most `MAX_STEP_BYTES` decoded bytes, perhaps none.

        Raises `zlib.error` if the input cannot be decoded.
        """
        pieces = []
        room = MAX_STEP_BYTES
        for _ in range(MAX_STEP_PIECES):
            if not room or not self.has_more:
                break
            data = self._input.popleft() if self._input else b""
            if self._member is None:
                is_bare = self._may_be_bare and not is_wrapped(data)
                self._member = zlib.decompressobj(wbits=WITHOUT_HEADER if is_bare else self._wrapped_bits)
                self.members += 1
            piece = self._member.decompress(data, room)
            pieces.append(piece)
            room -= len(piece)
            if rest := self._member.unconsumed_tail or self._member.unused_data:
                self._input.appendleft(rest)
            self._has_output = not room and not self._member.eof
            if self._member.eof:
                self._member = None
        return b"".join(pieces)


def stated_encoding(values: Iterable[str]) -> str:
    """Returns the content encoding that the values of an answer's Content-Encoding headers state, in lower case.

    Empty if the body is not encoded. Several encodings, which no decoder can undo, are joined: `gzip, br`.
    """
    stated = [name.strip().lower() for value in values for name in value.split(",")]
    return ", ".join(name for name in stated if name not in NO_ENCODINGS)


def is_wrapped(data: bytes) -> bool:
    """Returns whether deflate data begins with a zlib header (RFC 1950, 2.2), judging by the first byte.

    `data` must not be empty.
    """
    return data[0] & 0x0F == ZLIB
