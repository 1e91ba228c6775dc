"""Makes the excerpts of a call's bodies for the ledger; for streams, `usage.answers.streamed_text` makes them.

It runs on the event loop for every call. Invariants: it never raises an error. An excerpt has no secret that
`usage.kept_bodies.redaction` knows, no NUL and no lone surrogate (PostgreSQL refuses both), and at most `limit` bytes
plus a note of `MAX_NOTE_BYTES` about the bytes that were cut. Secrets are searched for in `limit` bytes and a margin
behind them, which is then dropped; so even a secret at the cut is seen whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from usage.kept_bodies.elision import elide
from usage.kept_bodies.redaction import REDACTED, is_secret_name

MAX_NOTE_BYTES = 64
MARGIN = 2048  # bytes; more than twice the shortest text that shows any secret, also when each letter is \u0041
MARGIN_PER_CHARACTER = 16  # bytes for each character of a configured secret
MAX_FORM_FIELDS = 1000  # of one form; each costs microseconds, and every two bytes of a body may be one
MAX_FORM_PARTS = 250
MEASURED_BYTES = 64 * 1024  # of a text are read to estimate its tokens, which takes a few milliseconds at most
SLACK = 1024  # bytes; redaction may shorten a cut body by so much before its excerpt has less than `limit` bytes

_BINARY = re.compile(r"(?:audio|image(?!/svg)|video|font)/|application/(?:octet-stream|pdf|zip|gzip)", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"\s*+([\w.+-]{1,60}/[\w.+-]{1,60})", re.ASCII)
_BOUNDARY = re.compile(r";\s*+boundary=(?:\"([^\"]{1,200})\"|([^\s;,\"]{1,200}))", re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:([^\r\n]{0,2000})", re.IGNORECASE | re.MULTILINE)
_PART_TYPE = re.compile(rb"^content-type:\s*+([\w.+/-]{1,100})", re.IGNORECASE | re.MULTILINE)
_FIELD_NAME = re.compile(rb"[;\s]name\*?=(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;]++))", re.IGNORECASE)
_FILE_NAME = re.compile(rb"[;\s]filename\*?=(?:\"((?:[^\"\\]|\\.)*+)\"|([^\s;]++))", re.IGNORECASE)
_MAX_PART_HEAD_BYTES = 4096
_SURROGATE = re.compile("[\ud800-\udfff]")


class Draft(NamedTuple):
    """The text of a body, or of its start, before its secrets are redacted; then `excerpt` makes the excerpt to store.

    `left_out` is the number of bytes of the body that come after `text` and were not read.
    """

    text: str = ""
    left_out: int = 0

    def excerpt(self, redacted: str, limit: int, secrets: Sequence[str]) -> str:
        """Returns the excerpt of the body to store: the text `redacted`, cut to `limit` bytes.

        `redacted` is the text of this draft (the part of the body that was kept) after its secrets were replaced. If
        bytes of the body are missing, a remark at the end says how many. If the draft has only the start of the body,
        the last bytes of the text are dropped as well, because they may be the beginning of one of `secrets`.
        """
        if not self.left_out and len(redacted) * 4 <= max(limit, 0):
            return redacted
        data = redacted.encode()
        # Of an incomplete draft, the end is dropped: half a secret may stand there.
        end = min(limit, max(0, len(data) - margin_for(secrets))) if self.left_out else limit
        return truncate(data, end, self.left_out)


def body_draft(
    body: bytes, content_type: str, limit: int, secrets: Sequence[str] = (), *, size: int | None = None
) -> Draft:
    """Makes a `Draft` of the body of a request or an answer: readable text, from which an excerpt is made later.

    JSON, text and urlencoded forms stay, except for base64, which becomes placeholders. A multipart form becomes lines
    of `name: value`. Secret fields of forms are redacted. A binary body becomes a placeholder: `<audio/mpeg, 123
    bytes>`.

    Args:
        body: the body, or its start.
        content_type: the body's Content-Type.
        limit: the size of the later excerpt in bytes.
        secrets: the secrets that will be redacted later. The draft is made longer than the excerpt by their length.
        size: the size of the whole body in bytes, if `body` is only its start.
    """
    size = len(body) if size is None else size
    if not body or limit <= 0:
        return Draft()
    kept, seen = _read_start(body, content_type, limit + margin_for(secrets) + SLACK, size)
    return Draft(storable(kept.decode("utf-8", "replace")), size - seen)


def text_size(body: bytes, content_type: str) -> int:
    """Estimates how many bytes of text a body has; files, base64 and vectors count as short placeholders."""
    if not body:
        return 0
    # The rest of a long body is taken to have the same share of text.
    kept, seen = _read_start(body, content_type, MEASURED_BYTES, len(body))
    return len(kept) + (len(body) - seen) * len(kept) // max(seen, 1)


def _read_start(body: bytes, content_type: str, budget: int, size: int) -> tuple[bytes, int]:
    """Makes readable text of about `budget` bytes from the start of a body; also returns how many bytes were read.

    Base64 becomes placeholders, a binary body one placeholder with its type and size. A multipart form becomes lines of
    `name: value`. Secret fields of forms become `[redacted]`.
    """
    media_type = _media_type(content_type)
    if media_type == "multipart/form-data":
        return _read_form(body, content_type, budget)
    if _is_binary(body, media_type):
        return _size_placeholder(media_type or "binary", size), size
    if media_type == "application/x-www-form-urlencoded":
        return _read_query(body, budget)
    return elide(body, budget)


@dataclass
class PartExcerpt:
    """What is known of one part of a multipart form that is passed on in pieces: a field, or a file.

    * `file_name`: None for a field.
    * `content`: the start of a field's content; empty for a file.
    * `size`: the size of the whole content in bytes.
    * `head`: the first bytes of a file, which show its format; they are not stored.
    """

    name: bytes
    file_name: bytes | None = None
    media_type: bytes = b"application/octet-stream"
    content: bytes = b""
    size: int = 0
    head: bytes = b""


def form_draft(parts: Iterable[PartExcerpt], limit: int, secrets: Sequence[str] = ()) -> Draft:
    """Makes the draft of an excerpt from the parts of a multipart form, as lines of `name: value`.

    It is the same draft as `body_draft` makes from a whole form: it is not cut yet, and only secret fields are
    redacted.
    """
    lines, left_out = _read_parts(parts if limit > 0 else (), limit + margin_for(secrets) + SLACK)
    return Draft(storable(b"\n".join(lines).decode("utf-8", "replace")), left_out)


def text_size_of_parts(parts: Iterable[PartExcerpt]) -> int:
    """Returns how many bytes of text the parts of a multipart form have; counts up to about `MEASURED_BYTES`."""
    lines, _ = _read_parts(parts, MEASURED_BYTES)
    return sum(map(len, lines))


def _read_parts(parts: Iterable[PartExcerpt], budget: int) -> tuple[list[bytes], int]:
    """Converts the parts of a multipart form to lines of text (`_part_line`), of about `budget` bytes together.

    Also returns how many bytes of content were left out: cut from a value, or in parts for which there was no room.
    """
    lines: list[bytes] = []
    left_out = 0
    for part in parts:
        if budget <= 0 or len(lines) == MAX_FORM_PARTS:
            left_out += part.size
            continue
        line, seen = _part_line(part, budget)
        lines.append(line)
        budget -= len(line)
        left_out += part.size - seen
    return lines, left_out


def truncate(data: bytes, end: int, left_out: int) -> str:
    """Returns the first `end` bytes of `data` as text; if bytes are cut, adds a remark such as `… <1,234 bytes cut>`.

    The number in the remark includes the `left_out` bytes, which were cut off earlier.
    """
    kept = data[:end].decode("utf-8", "ignore")
    left_out += max(0, len(data) - end)
    return f"{kept}… <{left_out:,} bytes cut>" if left_out else kept


def storable(text: str) -> str:
    """Returns `text` with U+FFFD for each character that PostgreSQL refuses: NUL, and lone surrogates."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def margin_for(secrets: Sequence[str]) -> int:
    """Returns how many bytes to drop at the end of a cut text, so that no part of a secret is left there.

    Enough are dropped for the longest of `secrets`, and for secrets of known forms, such as `sk-…`.
    """
    return _margin(tuple(secrets))


@lru_cache(maxsize=64)
def _margin(secrets: tuple[str, ...]) -> int:
    return max(MARGIN, MARGIN_PER_CHARACTER * max(map(len, secrets), default=0))


def _media_type(content_type: str) -> str:
    """Returns the media type in a `Content-Type` header: `text/html` for `Text/HTML; charset=utf-8`."""
    match = _MEDIA_TYPE.match(content_type)
    return match[1].lower() if match else ""


def _is_binary(body: bytes, media_type: str) -> bool:
    """Returns whether a body is binary: by its media type, or because more than an eighth of its start is no text."""
    if _BINARY.match(media_type):
        return True
    head = body[:256]
    if head.isascii() and 0 not in head:  # the number: `b"\0" in head` takes twenty times as long
        return False
    text = head.decode("utf-8", "replace")
    return (text.count("\ufffd") + text.count("\0")) * 8 > len(text)


def _size_placeholder(name: str, size: int) -> bytes:
    """Returns the placeholder for content that is not stored, with its type or kind: `<audio/mpeg, 123 bytes>`."""
    return f"<{name}, {size:,} bytes>".encode()


# Forms


def _read_query(body: bytes, budget: int) -> tuple[bytes, int]:
    """Returns the start of a urlencoded form, about `budget` bytes, with `[redacted]` as the value of secret fields.

    Also returns how many bytes of `body` were read.
    """
    kept, seen = elide(body, budget)
    fields = []
    given = kept.split(b"&", MAX_FORM_FIELDS)
    if len(given) > MAX_FORM_FIELDS:
        seen -= min(seen - 1, len(given.pop()))
    for field in given:
        name, equals, _ = field.partition(b"=")
        secret = equals and is_secret_name(name[:1000].decode("utf-8", "replace"))
        fields.append(name + equals + REDACTED.encode() if secret else field)
    return b"&".join(fields), seen


def _read_form(body: bytes, content_type: str, budget: int) -> tuple[bytes, int]:
    """Returns a multipart form as lines of `name: value`, about `budget` bytes, and how many of its bytes were read.

    A form that cannot be parsed becomes a placeholder with its size, because its secrets could not be found.
    """
    found = _BOUNDARY.search(content_type)
    boundary = b"--" + (found[1] or found[2]).encode("utf-8", "replace") if found else b""
    at = body.find(boundary, 0, _MAX_PART_HEAD_BYTES) if found else -1
    if at < 0:
        return _size_placeholder("multipart/form-data", len(body)), len(body)
    lines: list[bytes] = []
    while at >= 0:
        head_start = at + len(boundary)
        start = body.find(b"\r\n\r\n", head_start, head_start + _MAX_PART_HEAD_BYTES) + 4
        if start < 4:
            rest = body[head_start:].strip()
            lines += [_size_placeholder("not a part", len(rest))] if rest not in {b"", b"--"} else []
            break
        at = body.find(b"\r\n" + boundary, start)
        end = at if at >= 0 else len(body)
        line, seen = _read_part(body[head_start : start - 2], body, start, end, budget)
        lines.append(line)
        budget -= len(line)
        if budget <= 0 or len(lines) == MAX_FORM_PARTS:
            return b"\n".join(lines), min(start + seen, len(body) - 1)
        at += 2 if at >= 0 else 0
    return b"\n".join(lines), len(body)


def _read_part(head: bytes, body: bytes, start: int, end: int, budget: int) -> tuple[bytes, int]:
    """Returns a part of a multipart form as one line of text, and how many bytes of the part's content were read.

    `head` has the part's headers, and `body[start:end]` its content. The line has about `budget` bytes (`_part_line`).
    """
    disposition = _DISPOSITION.search(head)
    about = disposition[1] if disposition else b""
    file_name, part_type = _FILE_NAME.search(about), _PART_TYPE.search(head)
    part = PartExcerpt(
        name=_first_group(_FIELD_NAME.search(about)) or b"?",
        file_name=_first_group(file_name) if file_name else None,
        media_type=part_type[1] if part_type else b"application/octet-stream",
        content=body[start:end] if file_name is None else b"",
        size=end - start,
    )
    return _part_line(part, budget)


def _part_line(part: PartExcerpt, budget: int) -> tuple[bytes, int]:
    """Returns a part of a multipart form as one line of text, and how many bytes of the part's content were read.

    The line of a field is `name: value`, cut at about `budget` bytes, or `name: [redacted]` if the name is that of a
    secret. A binary value becomes a placeholder with its size. The line of a file is `name: <file name, type, size>`.
    """
    if is_secret_name(part.name.decode("utf-8", "replace")):
        return part.name + b": " + REDACTED.encode(), part.size
    if part.file_name is not None:
        kind = part.media_type[:100] or b"application/octet-stream"
        return b"%s: <%s, %s, %s bytes>" % (part.name, part.file_name, kind, f"{part.size:,}".encode()), part.size
    is_binary = _is_binary(part.content, "")  # such as UTF-16, in which no secret would be found
    value, seen = (_size_placeholder("binary", part.size), part.size) if is_binary else elide(part.content, budget)
    return part.name + b": " + value, seen


def _first_group(match: re.Match[bytes] | None) -> bytes:
    """Returns the first group that took part in a regular expression's match; empty bytes if none did."""
    return next((group for group in match.groups() if group is not None), b"") if match else b""
