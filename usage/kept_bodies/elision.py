"""Replaces inline base64 and vectors, which nobody reads in a log, by placeholders with their kind and size: `elide`.

It reads only as much of a body as it needs to reach the size limit of the copy. Of long base64, only the end (the next
quotation mark or white space) is looked for, and samples are read. Invariants: it never raises an error; its time is
linear in the body, and far below that for long base64.
"""

from __future__ import annotations

import binascii
import re

MIN_RUN = 512  # base64 characters; shorter runs are replaced only behind a name or `data:` that announces base64
MIN_DATA = 128  # base64 characters behind the name `"data"`, which is used for other values, too
MIN_VECTOR = 17  # numbers; a shorter list is not replaced

_BLOCK_BYTES = 256  # a run of 512 covers at least one whole block, wherever the blocks start
_STEP_BYTES = 4096
_MAX_HEAD_BYTES = 512
_MAX_COUNTED_BYTES = 65536  # in which escapes are counted; the size of longer base64 with escapes is an estimate
_ENDS = (b'"', b" ", b"\n")  # found much faster than the end of a match of `_BASE64`
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"

_HEAD = re.compile(
    rb"data:(?P<type>[\w.+-]{1,60}\\{0,15}/[\w.+-]{1,60})?(?:;[\w.=+-]{1,60}){0,5};base64,"
    rb'|"(?P<name>b64_json|base64|partial_image_b64|embedding|data)\\{0,15}"\s*+:\s*+(?:\\{0,15}"|(?P<vector>\[))'
)
_HEAD_MARKS = (b";base64,", b"b64_json", b'"base64', b"_image_b64", b'"embedding', b'"data')
_BASE64 = re.compile(
    rb"(?:[A-Za-z0-9+/=_-]++|\\{1,15}/|\\{1,15}u00(?:2[bBfF]|3[dD])"
    rb"|(?:\\{1,15}r)?\\{1,15}n(?=[A-Za-z0-9+/=_-]{57}))*+"  # wrapped lines
)
_BASE64_BLOCK = re.compile(rb"[A-Za-z0-9+/=_\\-]{%d}" % _BLOCK_BYTES)
_BASE64_SAMPLE = re.compile(rb"(?:[A-Za-z0-9+/=_-]|\\(?!u)|\\u00[23]){32}")
# The last, shorter line of wrapped base64, and the quote after it.
_LAST_LINE = re.compile(rb'((?:[A-Za-z0-9+/=_-]|\\{1,15}[rn]){0,90})\\{0,15}"')
_NUMBERS = re.compile(rb"[0-9eE+\-.,\s]{1,64}+")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"\xff\xfb", "audio/mpeg"),
    (b"\xff\xf3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"PK\x03\x04", "application/zip"),
)


def elide(body: bytes, budget: int) -> tuple[bytes, int]:
    """Copies the start of `body`; base64 and vectors become placeholders such as `<base64 image/png, 34 bytes>`.

    Returns the copy, of about `budget` bytes at most, and how many bytes of `body` were copied or replaced.
    """
    if len(body) <= budget and not _has_heads(body) and not _has_blocks(body):  # as of nearly all bodies
        return body, len(body)
    # Only the last placeholder may exceed the budget.
    return _Elision(body, budget).run()


def _has_heads(body: bytes) -> bool:
    """Returns whether `body` may have base64 or a vector behind a name such as `"b64_json"`, or behind `data:`.

    The check is fast: True may be wrong, but False is always right.
    """
    for mark in _HEAD_MARKS:  # noqa: SIM110  (half the time of `any`, for every call)
        if body.find(mark) >= 0:  # `in` takes four times as long: it tries a number first, and makes an error of it
            return True
    return False


def _has_blocks(body: bytes) -> bool:
    """Returns whether `body` may have a long run of base64 anywhere.

    The check is fast: True may be wrong, but False is always right.
    """
    if len(body) < MIN_RUN:
        return False
    for at in range(0, len(body) - _BLOCK_BYTES + 1, _BLOCK_BYTES):  # noqa: SIM110  (half the time of `any`, for every call)
        if _BASE64_BLOCK.match(body, at):
            return True
    return False


class _Elision:
    """State of copying one body with placeholders for base64 and vectors: how far it has been read, and the copy."""

    def __init__(self, body: bytes, budget: int) -> None:
        self._body = body
        self._room = budget
        self._kept: list[bytes] = []
        self._at = 0
        # Each of these positions only grows, so that no part of the body is searched twice.
        self._head: re.Match[bytes] | None = None
        self._no_head_before = 0
        self._next: dict[bytes, int] = {}

    def run(self) -> tuple[bytes, int]:
        """Copies the start of the body, with placeholders for base64 and vectors, up to the copy's size limit.

        Returns the copy, and how many bytes of the body were copied or replaced.
        """
        body = self._body
        first = body[: self._room]
        has_heads = len(body) > len(first) or _has_heads(first)
        while self._room > 0 and self._at < len(body):
            window = min(self._at + self._room, len(body))
            head = self._find_head(window) if has_heads else None
            stop = window if head is None else head.start()
            if self._keep_to(stop) or head is None:
                continue
            placeholder, end = self._placeholder_behind(head)
            if placeholder is None:
                self._keep(head.end())
            else:
                self._skip(placeholder, end)
        return b"".join(self._kept), self._at

    def _find_head(self, window: int) -> re.Match[bytes] | None:
        """Returns the next match of `_HEAD` that begins before position `window` of the body; None if there is none.

        `_HEAD` matches what base64 or a vector may follow: a name such as `"b64_json"`, or `data:`.
        """
        if self._head is None or self._head.start() < self._at:
            self._head = None
            if self._no_head_before < window:
                start = max(self._at, self._no_head_before - _MAX_HEAD_BYTES)
                self._head = _HEAD.search(self._body, start, window)
                self._no_head_before = window if self._head is None else self._head.start()
        return self._head if self._head is not None and self._head.start() < window else None

    def _keep_to(self, stop: int) -> bool:
        """Copies the body up to position `stop`; stops at a long run of base64, and copies a placeholder for it.

        Returns whether there was such a run.
        """
        body, start = self._body, self._at
        for at in range(start, stop - _BLOCK_BYTES + 1, _BLOCK_BYTES):
            if not _BASE64_BLOCK.match(body, at) or not _is_base64(body[at : at + _BLOCK_BYTES]):
                continue
            before = body[max(self._at, at - _BLOCK_BYTES) : at]
            run = at - len(before) + len(before.rstrip(_LETTERS))
            end = self._base64_end(run)
            if end - run >= MIN_RUN:
                self._keep(run)
                self._skip(_describe(body, run, end), end)
                return True
        self._keep(stop)
        return False

    def _keep(self, stop: int) -> None:
        """Adds the next bytes of the body, up to position `stop`, to the shortened copy."""
        self._kept.append(self._body[self._at : stop])
        self._room -= stop - self._at
        self._at = stop

    def _skip(self, placeholder: bytes, stop: int) -> None:
        """Adds `placeholder` to the shortened copy, in place of the body's next bytes up to position `stop`."""
        self._kept.append(placeholder)
        self._room -= len(placeholder)
        self._at = stop

    def _placeholder_behind(self, head: re.Match[bytes]) -> tuple[bytes | None, int]:
        """Returns a placeholder for the base64 or vector after `head`, and the position where this data ends.

        `head` is a match of `_HEAD`. If it ends with a member's name, the placeholder begins with this name, as in
        `"b64_json": "<base64 …>`. For a `data:` URL, the placeholder stands for the whole URL. If too little or nothing
        of the kind follows, the placeholder is None.
        """
        body, name, start = self._body, head["name"], head.end()
        if name is None:
            end = self._base64_end(start)
            return _describe(body, start, end, head["type"] or b""), end
        if head["vector"]:
            return self._read_vector(head)
        end = self._base64_end(start)
        least = 1
        if name == b"data" and b"input_audio" not in body[max(0, head.start() - 64) : head.start()]:
            least = MIN_DATA
        last_line = _LAST_LINE.match(body, end)
        if end - start < least or last_line is None:
            return None, start
        end = last_line.end(1)
        # The name that announces the base64 stays in the result, with the quotation mark behind it.
        return body[self._at : start] + _describe(body, start, end), end

    def _read_vector(self, head: re.Match[bytes]) -> tuple[bytes | None, int]:
        """Returns a placeholder for the vector (list of numbers) after the name `head`, and the position of its end.

        The placeholder begins with the name: `"embedding": [<1536 numbers>`. If no vector follows, or only a short one,
        the placeholder is None, and the position is the end of `head`.
        """
        body, start = self._body, head.end()
        # Samples at the start and in the middle, because reading all of a vector would take too long.
        sample = _NUMBERS.match(body, start)
        end = self._find(b"]", start)
        if head["name"] != b"embedding" or sample is None or end == len(body):
            return None, start
        middle = (start + end) // 2
        if sample.end() - start < min(64, end - start) or (middle < end and not _NUMBERS.match(body, middle)):
            return None, start
        count = body.count(b",", start, end) + 1
        if count < MIN_VECTOR:
            return None, start
        return body[self._at : start] + b"<%d numbers>" % count, end

    def _base64_end(self, start: int) -> int:
        """Returns the position where the base64 that begins at `start` ends."""
        body = self._body
        end = _BASE64.match(body, start, start + _STEP_BYTES).end()  # type: ignore[union-attr]  # always matches
        if end < start + _STEP_BYTES - 128:
            return end
        # Long base64 is read in steps, a sample each, because reading all of it would take too long. The exact end is
        # behind the last sample that is base64.
        stop = min(self._find(byte, start) for byte in _ENDS)
        step = max(_STEP_BYTES, (stop - start) // 256)
        at = end
        while at + step < stop and _BASE64_SAMPLE.match(body, at + step):
            at += step
        return _BASE64.match(body, at, min(at + step + _STEP_BYTES, stop)).end()  # type: ignore[union-attr]  # matches

    def _find(self, byte: bytes, start: int) -> int:
        """Returns the position of the first `byte` in the body from `start` on; the end of the body if there is none.

        `start` must not be lower than in earlier calls.
        """
        # All searches for a byte together read the body once.
        if self._next.get(byte, -1) < start:
            found = self._body.find(byte, start)
            self._next[byte] = len(self._body) if found < 0 else found
        return self._next[byte]


def _is_base64(block: bytes) -> bool:
    r"""Returns whether a block of base64 letters and backslashes really is base64, not text that only looks like it.

    Such text is escaped, as `\u4e2d`, or a line that is drawn with characters, as `-----`.
    """
    if b"\\" in block and b"\\" in block.replace(b"\\/", b"").rstrip(b"\\"):
        return False  # escaped letters such as \u4e2d
    return bool(block.strip(b"-_=+/\\"))  # empty for a ruled line


def _describe(body: bytes, start: int, end: int, media_type: bytes = b"") -> bytes:
    """Returns the placeholder for base64 between two positions of the body, such as `<base64 image/png, 34,560 bytes>`.

    The size is that of the decoded bytes. If `media_type` is empty, the type is found from the first bytes.
    """
    sampled = min(end, start + _MAX_COUNTED_BYTES)
    escapes = body.count(b"\\/", start, sampled)
    if b"\\" in body[start : start + 128] or escapes:
        escapes += 2 * body.count(b"\\n", start, sampled) + 2 * body.count(b"\\r", start, sampled)
        escapes += 5 * body.count(b"\\u00", start, sampled)
    size = (end - start) - escapes * (end - start) // max(1, sampled - start)
    tail = body[max(start, end - 2) : end]
    size = (size - len(tail) + len(tail.rstrip(b"="))) * 3 // 4
    name = media_type.replace(b"\\", b"").decode("ascii", "replace") or _sniff(body[start : min(start + 64, end)])
    return f"<base64 {name}, {size:,} bytes>".replace(" ,", ",").encode()


def _sniff(letters: bytes) -> str:
    """Returns the media type of a file by its first bytes, given in base64; an empty text for unknown types."""
    letters = letters.replace(b"\\", b"").replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    try:
        data = binascii.a2b_base64(letters[: len(letters) // 4 * 4])
    except binascii.Error:
        return ""
    if data[:4] == b"RIFF":
        return {b"WAVE": "audio/wav", b"WEBP": "image/webp"}.get(data[8:12], "")
    if data[4:8] == b"ftyp":
        return "video/mp4"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), "")
