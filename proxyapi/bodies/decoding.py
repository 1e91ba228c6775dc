"""Owns the decoding of an answer that came encoded, though it was asked not to be, and of requests (RFC 9110, 8.4.1).

What is fed is decoded step by step, so that a little input never becomes much output at once: deflate makes up to a
thousand bytes of one.
"""

from __future__ import annotations

import zlib
from collections import deque

ENCODINGS = {"gzip", "x-gzip", "deflate"}
WITH_HEADER = zlib.MAX_WBITS | 32  # gzip's or zlib's
WITH_GZIP_HEADER = zlib.MAX_WBITS | 16
WITHOUT_HEADER = -zlib.MAX_WBITS
ZLIB = 8  # the low half of its first byte
MAX_STEP_BYTES = 64 * 1024  # decoded
# A step goes through so many pieces of input; an empty member of gzip is one, too, and makes no output.
MAX_STEP_PIECES = 64
PIECE_BYTES = 4096  # what a member's decompressor leaves of its piece is copied


class Decoder:
    """gzip, of any number of members; deflate in its wrapper, or without it, as some servers send it.

    `members` is how many have begun. If it `is_strict`, what is called gzip has to be gzip, and deflate deflate.
    """

    def __init__(self, encoding: str, *, is_strict: bool = False) -> None:
        self.members = 0
        self._may_be_bare = encoding == "deflate"
        strict = zlib.MAX_WBITS if self._may_be_bare else WITH_GZIP_HEADER
        self._wrapped_bits = strict if is_strict else WITH_HEADER
        self._member: zlib._Decompress | None = None
        self._input: deque[bytes] = deque()
        self._has_output = False  # whether the decompressor may hold output of input that it has taken

    @property
    def is_whole(self) -> bool:
        """Whether the answer may end here. Nothing at all is whole."""
        return self._member is None and not self._input

    @property
    def has_more(self) -> bool:
        """Whether another step is needed for what was fed."""
        return bool(self._input) or self._has_output

    def feed(self, data: bytes) -> None:
        self._input.extend(data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES))

    def step(self) -> bytes:
        """Decodes some of what was fed: `MAX_STEP_BYTES` at most. Raises `zlib.error`."""
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


def is_wrapped(data: bytes) -> bool:
    """Whether deflate that begins with these bytes is in its wrapper (RFC 1950, 2.2), rather than bare."""
    return data[0] & 0x0F == ZLIB
