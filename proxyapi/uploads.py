"""Owns a multipart form on its way to upstream: it passes as it arrives, and is read as it passes.

Never more than one piece of a file is in memory. The form is checked before its end goes up, which is the piece
with the last boundary in it, and in any case the last byte: so upstream cannot act on a form that the caller's key
may not send.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from proxyapi.cost_ceiling import Form
from proxyapi.receiving import RequestBody
from usage.bodies import Part

MOST_PARTS = 1000
KEPT_OF_A_FIELD = 64 * 1024


class FormUpload:
    """One form. `parts` are those seen so far; `readable` is false once it is no form that we understand."""

    def __init__(self, body: RequestBody, content_type: str, check: Callable[[FormUpload], Awaitable[None]]) -> None:
        self.parts: list[Part] = []
        self.readable = True
        self._body = body
        self._check = check
        self._known = self._checked = False  # whether all is known of it that ever will be, and has been checked
        self._head: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._parser = self._make_parser(content_type)

    @property
    def complete(self) -> bool:
        return self._body.complete

    def field(self, name: str) -> list[str]:
        """The values of a field, in their order."""
        return [part.content.decode("utf-8", "replace") for part in self.parts if part.name == name.encode()]

    def sizes(self) -> Form:
        """What its price depends on; nothing, if it is no form that we understand."""
        if not self.readable:
            return Form({}, [])
        names = {part.name.decode("utf-8", "replace") for part in self.parts if part.file_name is None}
        fields = {name: self.field(name) for name in names}
        return Form(fields, [part.size for part in self.parts if part.file_name is not None])

    async def pieces(self) -> AsyncIterator[bytes]:
        held = b""
        async for piece in self._body.pieces():
            self._read(piece)
            if self._known:
                await self._check_once()
            if going := held + piece[:-1]:
                yield going
            held = piece[-1:]
        await self._check_once()
        yield held

    def _read(self, piece: bytes) -> None:
        if self._parser is None:
            return
        try:
            self._parser.write(piece)
        except FormParserError:
            self._give_up()

    async def _check_once(self) -> None:
        if not self._checked:
            self._checked = True
            await self._check(self)

    def _give_up(self) -> None:
        self.readable = False
        self._parser = None
        self._end()

    def _end(self) -> None:
        self._known = True

    def _make_parser(self, content_type: str) -> MultipartParser | None:
        _, options = parse_options_header(content_type)
        callbacks: Any = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._read_header_name,
            "on_header_value": self._read_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_head,
            "on_part_data": self._read_content,
            "on_end": self._end,
        }
        try:
            return MultipartParser(options[b"boundary"], callbacks)
        except (KeyError, FormParserError):
            self.readable = False
            return None

    # What the parser calls.

    def _begin_part(self) -> None:
        self._head = {}
        self._name, self._value = b"", b""

    def _read_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _read_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._head[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _end_head(self) -> None:
        if len(self.parts) == MOST_PARTS:
            self._give_up()
            return
        _, about = parse_options_header(self._head.get(b"content-disposition", b""))
        self.parts.append(
            Part(
                name=about.get(b"name", b"?"),
                file_name=about.get(b"filename"),
                media_type=self._head.get(b"content-type", b"application/octet-stream"),
            )
        )

    def _read_content(self, data: bytes, start: int, end: int) -> None:
        if not self.readable:
            return
        part = self.parts[-1]
        part.size += end - start
        if part.file_name is None and (room := KEPT_OF_A_FIELD - len(part.content)) > 0:
            part.content += data[start : min(end, start + room)]
