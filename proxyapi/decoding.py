"""Owns the decoding of an answer that came encoded, though it was asked not to be (RFC 9110, 8.4.1)."""

from __future__ import annotations

import zlib

ENCODINGS = {"gzip", "x-gzip", "deflate"}
WITH_HEADER = zlib.MAX_WBITS | 32  # gzip's or zlib's
WITHOUT_HEADER = -zlib.MAX_WBITS
ZLIB = 8  # the low half of its first byte
MOST_AT_ONCE = 32 * 1024 * 1024  # of what is read at a time; only a bomb has more


class Decoder:
    """gzip, of any number of members; deflate in its wrapper, or without it, as some servers send it."""

    def __init__(self, encoding: str) -> None:
        self._may_be_bare = encoding == "deflate"
        self._member: zlib._Decompress | None = None

    @property
    def whole(self) -> bool:
        """Whether it may end here. Nothing at all is whole."""
        return self._member is None

    def decode(self, data: bytes) -> bytes:
        """Raises `zlib.error`, also where so little would be too much."""
        pieces = []
        room = MOST_AT_ONCE
        while data:
            if self._member is None:
                is_bare = self._may_be_bare and data[0] & 0x0F != ZLIB
                self._member = zlib.decompressobj(wbits=WITHOUT_HEADER if is_bare else WITH_HEADER)
            pieces.append(self._member.decompress(data, room))
            room -= len(pieces[-1])
            if self._member.unconsumed_tail or room <= 0:
                raise zlib.error("it becomes too large")
            data = self._member.unused_data
            if self._member.eof:
                self._member = None
        return b"".join(pieces)
