"""Request bodies in the content encodings that the gateway accepts, as different clients make them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable


def bare(text: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(text) + packer.flush()


def members(text: bytes) -> bytes:
    return b"".join(gzip.compress(text[at : at + 7], mtime=0) for at in range(0, len(text), 7))


# By a name for the test: the value of `Content-Encoding`, and what packs.
ENCODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip, stored": ("gzip", lambda text: gzip.compress(text, 0, mtime=0)),
    "gzip of many members": ("gzip", members),
    "GZIP": ("GZIP", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip with spaces": (" gzip\t", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "deflate, stored": ("deflate", lambda text: zlib.compress(text, 0)),
    "deflate without its wrapper": ("Deflate", bare),
    "identity": ("identity", bytes),
    "Identity": ("Identity", bytes),
    "none": ("", bytes),
}


def two_readings(wrapped: bytes, unwrapped: bytes) -> bytes:
    """Makes bytes in the content coding `deflate` that readers decode differently, with a wrapper or without one.

    A reader that expects a wrapper (RFC 1950) reads a text that ends with `wrapped`: byte 2 begins a stored block (RFC
    1951, 3.2.4), whose length and its complement are bytes 3 to 6. A reader that expects no wrapper reads a text that
    ends with `unwrapped`: the first byte begins a stored block, whose length and complement are bytes 1 to 4.
    """
    flags = next(flags for flags in range(3, 256) if (0x78 << 8 | flags) % 31 == 0 and not flags & 0x20)
    short, long = flags, 0xFFFF ^ flags
    content = b" " * (short - 2) + bare(unwrapped)
    content += b" " * (long - len(content))
    head = bytes([0x78, flags, 0]) + long.to_bytes(2, "little") + short.to_bytes(2, "little")
    return head + content + bare(wrapped) + zlib.adler32(content + wrapped).to_bytes(4, "big")
