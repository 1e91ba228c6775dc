"""Reads multipart forms by a strict grammar, for both APIs. All software finds the same parts in an accepted form.

    form      = [ CRLF ] "--" boundary *( CRLF part-headers CRLF content CRLF "--" boundary ) "--" *2CRLF
    content   = *OCTET    without "--" boundary anywhere in it, not even inside a line

The headers' grammar is in `proxyapi.bodies.form_headers`. Line ends are CRLF, no text stands before the first boundary
or behind the last one, and there are at most `MAX_PARTS` parts. Besides the grammar, there is one more rule: a field
that policy reads (`SINGLE_FIELDS`) may be given only once, as text; all its spellings that a server may accept count as
the same field (`field_path`). RFC 2046 allows more forms. Those refused here are read differently by Django, Go,
undici, Python's email or `multipart`.

The time for reading grows linearly with the form's size, whatever pieces it arrives in. At most the beginning of each
part's content is kept in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote, unquote_plus

from proxyapi.bodies.form_headers import MAX_HEAD_BYTES, PartHead, read_boundary, read_part_head
from proxyapi.exceptions import BadForm
from usage.answers.audio_duration import HEAD_BYTES
from usage.kept_bodies.body_excerpts import PartExcerpt

MAX_PARTS = 128  # an image edit has at most 16 images and some twenty fields; with MAX_KEPT_BYTES it bounds the memory
MAX_KEPT_BYTES = 64 * 1024  # of one field's value
LARGE_PIECE = 4096  # bytes; only for such pieces `_read_as_content` is worth its cost
CRLF = b"\r\n"

# Fields that decide who calls, whose account pays, which model runs or what it may cost.
SINGLE_FIELDS = frozenset({
    "model", "stream", "n", "service_tier", "stream_format", "partial_images", "size", "quality", "response_format",
    "security_key", "access_token", "openai_api_key", "project", "organization", "timeout", "_charset_",
})  # fmt: skip
_SEPARATORS = re.compile(r"[\[\].\s\x00-\x20]+")
_QUERY_SEPARATORS = re.compile("[&;]")
_CONTROLS = re.compile("[\x00-\x1f\x7f]")


class FormReader:
    """Reader and strict checker of one multipart form, which arrives in pieces.

    * `parts`: the parts whose headers have arrived.
    * `head_ends`: for each of these parts, the position in the form at which its headers end.
    * `boundaries`: the position after each boundary; part `n` is between `boundaries[n]` and `boundaries[n + 1]`.
    * `size`: the number of bytes that have arrived.

    After `feed` or `end` has raised `BadForm`, the reader must not be used.
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Reads the form's boundary from the headers of the request.

        Raises:
            BadForm: the boundary is missing or ambiguous.
        """
        self.parts: list[PartExcerpt] = []
        self.head_ends: list[int] = []
        self.boundaries: list[int] = []
        self.size = 0
        self.end_size = 0  # how many bytes have come from the line of the last boundary on; 0 before that line
        self.behind_mark = 0  # how many bytes have come behind a boundary whose line is not complete yet
        self.mark = b"--" + read_boundary(headers)
        self._rest = CRLF  # bytes not read yet; begins as if a line had ended before the first boundary
        self._start = 0  # the place in the form of the bytes that are being read
        self._before = b""  # bytes in front of the first boundary
        self._in_head = False
        self._head: PartHead | None = None  # of the current part
        self._seen: set[tuple[str, ...]] = set()

    def fields(self) -> list[tuple[str, str]]:
        """Returns the text fields that have arrived until now, as pairs of name and value, in order.

        A long value is cut after `MAX_KEPT_BYTES` bytes.
        """
        return fields_of(self.parts)

    def feed(self, piece: bytes) -> None:
        """Reads `piece`, the next bytes of the form, and adds the headers and the content in it to `parts`.

        Raises `BadForm` if the form is invalid.
        """
        self._start = self.size - len(self._rest)
        self.size += len(piece)
        self.behind_mark = 0
        if self._head is not None and self._read_as_content(piece):
            return
        data = self._rest + piece if self._rest else piece
        at = 0
        if self.end_size:
            self.end_size += len(piece)
        while True:
            if self.end_size:
                self._check_tail(data[at:])
                break
            after = self._read_part_headers(data, at) if self._in_head else self._read_content(data, at)
            if after is None:
                return
            at = after
        self._rest = data[at:]

    def end(self) -> None:
        """Checks, after the last piece, that the form ends there; raises `BadForm` if it is cut off or goes on."""
        if not self.end_size:
            raise BadForm("it ends before its last boundary")
        if self._rest not in (b"", CRLF, CRLF * 2):
            raise BadForm("there is text behind its last boundary")

    def _read_as_content(self, piece: bytes) -> bool:
        """Reads a large piece of the form without copying it, if the whole piece is content of one part.

        Returns False if the piece was not read, because it must be searched for boundaries and headers.
        """
        mark, rest = self.mark, self._rest
        stays = len(mark) + 1
        if self._in_head or self.end_size or len(piece) < LARGE_PIECE or mark in piece or mark in rest + piece[:stays]:
            return False
        self._keep(rest, 0, len(rest))
        self._keep(piece, 0, len(piece) - stays)
        self._rest = piece[-stays:]
        return True

    def _check_tail(self, tail: bytes) -> None:
        """Checks that at most two line ends follow the form's last boundary; raises `BadForm` for anything else."""
        if not (CRLF * 2).startswith(tail):
            raise BadForm("there is text behind its last boundary")

    def _read_part_headers(self, data: bytes, at: int) -> int | None:
        """Parses the headers of one part, which begin at position `at` of `data`, and adds the part to `parts`.

        Returns the position in `data` at which the part's content begins, or None if the headers have not arrived
        whole. Raises `BadForm` for invalid headers and for too many parts.
        """
        end = data.find(CRLF * 2, at, at + MAX_HEAD_BYTES + 4)
        block = data[at : end if end >= 0 else at + MAX_HEAD_BYTES + 4]
        if block.startswith(CRLF):
            raise BadForm("a part has no headers")
        if self.mark in block:
            raise BadForm("there is a boundary in a part's headers")
        if end < 0:
            if len(block) > MAX_HEAD_BYTES:
                raise BadForm(f"a part's headers have more than {MAX_HEAD_BYTES} bytes")
            self._rest = block
            return None
        if len(self.parts) == MAX_PARTS:
            raise BadForm(f"it has more than {MAX_PARTS} parts")
        self._head = read_part_head(block)
        self._check_name(self._head.part)
        self.parts.append(self._head.part)
        self.head_ends.append(self._start + end)
        self._in_head = False
        return end + 4

    def _read_content(self, data: bytes, at: int) -> int | None:
        """Reads the content of the form's current part, from position `at` of `data` on.

        If the boundary after the part has arrived whole, checks the part and returns the position after that boundary
        and its CRLF or `--`; otherwise returns None. Raises `BadForm` if the boundary or the part is invalid.
        """
        mark = self.mark
        found = data.find(mark, at)
        if found < 0:
            end = max(at, len(data) - len(mark) - 1)  # the bytes behind `end` may be the beginning of a boundary
            self._keep(data, at, end)
            self._rest = data[end:]
            return None
        end = found - 2
        if end < at or data[end:found] != CRLF:
            raise BadForm("its boundary is in the content of a part, or does not begin a line")
        after = found + len(mark)
        follows = data[after : after + 2]
        if len(follows) < 2:
            self._keep(data, at, end)
            self._rest = data[end:]
            self.behind_mark = len(follows)
            return None
        self._keep(data, at, end)
        self.boundaries.append(self._start + after)
        if follows == CRLF:
            self._in_head = True
        elif follows == b"--":
            self.end_size = len(data) - end
        else:
            raise BadForm("there is text in the line of a boundary")
        self._end_part()
        return after + 2

    def _keep(self, data: bytes, start: int, end: int) -> None:
        """Adds the bytes `data[start:end]` to the form's current part, which keeps only the beginning of its content.

        A text field keeps `MAX_KEPT_BYTES`, a file `HEAD_BYTES`; the part's size counts all bytes. Raises `BadForm` for
        text before the form's first boundary.
        """
        if self._head is None:
            self._before += data[start : min(end, start + 3)]
            if not CRLF.startswith(self._before):
                raise BadForm("there is text before its first boundary")
            return
        part = self._head.part
        part.size += end - start
        if part.file_name is None and (room := MAX_KEPT_BYTES - len(part.content)) > 0:
            part.content += data[start : min(end, start + room)]
        # The first bytes of a file show its format.
        elif part.file_name is not None and (room := HEAD_BYTES - len(part.head)) > 0:
            part.head += data[start : min(end, start + room)]

    def _end_part(self) -> None:
        """Checks the part of the form that has just ended: its size, charset and, for `SINGLE_FIELDS`, its value.

        Raises:
            BadForm: the size, the charset or the value is wrong.
        """
        if self._head is None:
            return
        part, size, is_ascii = self._head
        if size not in (None, part.size):
            raise BadForm("the Content-Length of a part is not its size")
        if is_ascii and not (part.content.isascii() and part.size == len(part.content)):
            raise BadForm("a field is not in the charset that every reader knows")
        name = part.name.decode()
        if field_path(name)[-1] in SINGLE_FIELDS:
            self._check_value(name, part)

    def _check_name(self, part: PartExcerpt) -> None:
        """Checks a part's name: a name in `SINGLE_FIELDS`, such as `model`, must belong to a text field and occur once.

        All other names are accepted. Raises `BadForm`.
        """
        name = part.name.decode()
        path = field_path(name)
        # These fields decide whose key is used, which account pays, which model runs and what it costs.
        if path[-1] not in SINGLE_FIELDS:
            return
        if part.file_name is not None:
            raise BadForm(f"'{path[-1]}' is a file, not a field", param=name[:200], code="invalid_type")
        kind = part.media_type.partition(b";")[0].strip().lower()
        if kind not in (b"", b"application/json") and not kind.startswith(b"text/"):
            raise BadForm(f"'{path[-1]}' has a Content-Type that is not text", param=name[:200])
        if path in self._seen:
            raise BadForm(f"'{path[-1]}' is given twice", param=name[:200])
        self._seen.add(path)

    def _check_value(self, name: str, part: PartExcerpt) -> None:
        """Checks the value of a field in `SINGLE_FIELDS`, such as `model`, so that all servers read the same text.

        Raises `BadForm` if the value is too long, is not UTF-8, or has control characters, and for a field `_charset_`
        that names another charset than UTF-8.
        """
        try:
            text = part.content.decode()
        except UnicodeDecodeError:
            text = "\0"
        if part.size > MAX_KEPT_BYTES or _CONTROLS.search(text):
            raise BadForm(f"'{name[:200]}' is too long, not UTF-8, or has control characters", param=name[:200])
        if name == "_charset_" and text.lower() != "utf-8":
            raise BadForm("it says that its charset is not UTF-8")


def fields_of(parts: Iterable[PartExcerpt]) -> list[tuple[str, str]]:
    """Returns the text fields among a form's `parts`, as pairs of name and value, in order.

    A long value is cut after `MAX_KEPT_BYTES` bytes.
    """
    return [(part.name.decode(), part.content.decode("utf-8", "replace")) for part in parts if part.file_name is None]


def query_fields(query: str) -> Iterator[tuple[str, str]]:
    """Yields each field of a query string as a pair of decoded name and value: `a=1&b=2;c=%20` has three fields."""
    # Some servers split a query at `;`, too.
    for field in _QUERY_SEPARATORS.split(query):
        name, _, value = field.partition("=")
        yield unquote_plus(name), unquote_plus(value)


def field_path(name: str) -> tuple[str, ...]:
    """Splits the name of a form's field into the parts of a path, in lower case.

    `A[b][]`, `a.b`, `a[0][b]` and `a%5Bb]` all give `("a", "b")`.
    """
    decoded = name
    for _ in range(3 if "%" in name else 0):
        decoded = unquote(decoded)
    # All spellings that some server reads as the same path must give the same result.
    steps = tuple(step for step in _SEPARATORS.split(decoded.casefold()) if step and not step.isdecimal())
    return steps or ("",)
