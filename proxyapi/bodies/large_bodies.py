"""Runs the work on large bodies in one thread beside the event loop, and bounds the size and complexity of large JSON.

The standard library's JSON scanner keeps the interpreter's lock until it has read the whole text, so even a thread
would stop the event loop. Therefore `check_bounds` limits the scanner's work on one text, and `Numbers` parses numbers
in Python, where the lock can change hands. With only one thread, the event loop waits for one scanner at most.
"""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from proxyapi.exceptions import BodyTooLarge

T = TypeVar("T")

LARGE_BYTES = 256 * 1024  # the scanner takes 10 ms at most for a body of this size
SLICE_BYTES = 256 * 1024

# Together these bounds keep the scanner below 0.1 s, on a slow core. The largest legitimate bodies have 300,000 tokens
# to embed, each a number (OpenAI's limit for one request), or a million tokens of non-Latin text, each letter an
# escape.
MAX_VALUES = 1_000_000
MAX_MARKS = 400_000  # strings, colons, objects and arrays: the scanner builds something for each, and keeps the lock
MAX_ESCAPES = 2_000_000
MAX_LONG_DIGITS = 1_000_000
LONG_NUMBER = 100  # digits; no double and no 64-bit integer has so many

_one_thread = ThreadPoolExecutor(1, thread_name_prefix="large body")


async def run(size: int, work: Callable[..., T], *arguments: object) -> T:
    """Calls `work` with the arguments and returns its result; for a large body, in a thread.

    `size` is the size of the body in bytes; above `LARGE_BYTES`, the body is large. All large bodies share one thread,
    so they are processed one after the other.
    """
    if size <= LARGE_BYTES:
        return work(*arguments)
    return await asyncio.get_running_loop().run_in_executor(_one_thread, work, *arguments)


async def run_to_the_end(size: int, work: Callable[..., T], *arguments: object, then: Callable[[T], None]) -> None:
    """Calls `work` with the arguments, then `then` with the result, even if the task that waits for it is cancelled.

    If the task was cancelled, `asyncio.CancelledError` is raised at the end. `size` is the size of the body in bytes;
    above `LARGE_BYTES`, `work` runs in a thread.
    """
    if size <= LARGE_BYTES:
        then(work(*arguments))
        return
    future = asyncio.get_running_loop().run_in_executor(_one_thread, work, *arguments)
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
    then(future.result())
    if cancelled is not None:
        raise cancelled


def check_bounds(body: bytes) -> None:
    """Checks that a JSON body, in UTF-8, is simple enough to be parsed without blocking the event loop.

    Raises:
        BodyTooLarge: the body has too many values, escapes, strings, members, objects or arrays.
    """
    # The body is counted, not parsed.
    if _count(body, b"\\") > MAX_ESCAPES:
        raise BodyTooLarge(f"The request body has more than {MAX_ESCAPES:,} escapes in its strings.")
    marks = _count(body, b'"') // 2 + sum(_count(body, mark) for mark in (b":", b"[", b"{"))
    if marks <= MAX_MARKS and _count(body, b",") <= MAX_VALUES:
        return  # nearly all bodies are below the bounds, even with the marks inside strings counted
    commas = marks = 0
    for text in outside_strings(body):
        commas += text.count(b",")
        marks += text.count(b'"') + text.count(b":") + text.count(b"[") + text.count(b"{")
        if marks > MAX_MARKS:
            raise BodyTooLarge(
                f"The request body has more than {MAX_MARKS:,} JSON strings, members, objects and arrays."
            )
        if commas > MAX_VALUES:
            raise BodyTooLarge(f"The request body has more than {MAX_VALUES:,} JSON values.")


def outside_strings(body: bytes) -> Iterator[bytes]:
    """Yields the bytes of a JSON body, piece by piece, with each string replaced by one quote: `["a"]` gives `["]`."""
    is_inside, held = False, b""
    for piece in _slices(body):
        text = (held + piece).replace(rb"\\", b"")
        held = text[-1:] if text.endswith(b"\\") else b""  # half of an escape; the other half is in the next slice
        parts = text[: len(text) - len(held)].replace(b'\\"', b"").split(b'"')
        yield b'"'.join(parts[is_inside::2])
        is_inside ^= len(parts) % 2 == 0


def decode(data: bytes, errors: str) -> str:
    """Decodes UTF-8 bytes to text as `data.decode("utf-8", errors)` does, but lets other threads run in between."""
    if len(data) <= LARGE_BYTES or data.isascii():  # ASCII is decoded as fast as it is copied
        return data.decode("utf-8", errors)
    # A large body is decoded slice by slice, so that the event loop may run in between.
    decoder = codecs.getincrementaldecoder("utf-8")(errors)
    return "".join([*map(decoder.decode, _slices(data)), decoder.decode(b"", final=True)])


def in_utf_8(body: bytes) -> bytes:
    """Converts a JSON body from UTF-16 or UTF-32 to UTF-8, and removes a byte order mark, if there is one.

    Raises `UnicodeDecodeError` for bytes that are invalid in the encoding of the body.
    """
    # `json.loads` accepts these encodings, too.
    encoding = json.detect_encoding(body)
    return body if encoding == "utf-8" else body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")


class Numbers:
    """Parser of the numbers in one large JSON text, which limits the digits of all its long numbers together.

    A number of more than `LONG_NUMBER` characters is long. Once the long numbers have more than `MAX_LONG_DIGITS`
    characters in total, the methods raise `ValueError`. `read_float` is the function that converts the text of a number
    to a float.
    """

    def __init__(self, read_float: Callable[[str], float] = float) -> None:
        self._read_float = read_float
        self._digits_left = MAX_LONG_DIGITS

    def parse_int(self, digits: str) -> int:
        """Parses the digits of a JSON integer; passed to `json.JSONDecoder` as the argument `parse_int`.

        Raises `ValueError` if the integer has too many digits for Python's `int`, or if the long numbers of the JSON
        text so far have more than `MAX_LONG_DIGITS` characters in total.
        """
        if len(digits) > LONG_NUMBER:
            self._count(digits)
        return int(digits)

    def parse_float(self, digits: str) -> float:
        """Parses a JSON number such as `1.5` or `1e3`; passed to `json.JSONDecoder` as the argument `parse_float`.

        Raises `ValueError` if the long numbers of the JSON text so far have more than `MAX_LONG_DIGITS` characters in
        total.
        """
        if len(digits) > LONG_NUMBER:
            self._count(digits)
        return self._read_float(digits)

    def _count(self, digits: str) -> None:
        self._digits_left -= len(digits)
        if self._digits_left < 0:
            raise ValueError("its long numbers have too many digits")


def _count(body: bytes, mark: bytes) -> int:
    """Counts how often the byte `mark`, such as `{`, occurs in a body."""
    # Slice by slice, so that the event loop may run in between. Each slice is searched before it is counted: base64 has
    # none of the marks, and a search takes a twentieth of the time of counting.
    places = range(0, len(body), SLICE_BYTES)
    return sum(body.count(mark, at, at + SLICE_BYTES) for at in places if body.find(mark, at, at + SLICE_BYTES) >= 0)


def _slices(body: bytes) -> Iterator[bytes]:
    """Yields a body in slices of `SLICE_BYTES` bytes; between two slices, the thread of the event loop may run."""
    return (body[at : at + SLICE_BYTES] for at in range(0, len(body), SLICE_BYTES))
