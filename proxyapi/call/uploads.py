"""Passes a multipart form to upstream while it arrives, and reads it meanwhile.

Only one piece of a file is in memory at a time. The end of the form, from its last boundary on, is held until the whole
form has been read and checked. So upstream cannot act on a form that is ambiguous (`proxyapi.bodies.form_reader`), or
that the caller's key may not send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from django.conf import settings

from proxyapi.bodies.form_reader import FormReader
from proxyapi.bodies.request_encoding import BodyDecoder, TooLarge
from proxyapi.call.request_body import IncomingBody
from proxyapi.exceptions import BadForm, BodyTooLarge
from proxyapi.limits.cost_ceiling import Form
from usage.kept_bodies.excerpts import PartExcerpt

STEPS_AT_ONCE = 8  # of 64 KiB


class FormUpload:
    """A form on its way to upstream.

    `check` is called once, when all of the form has been read; an error that it raises stops the form. `encoding` is
    the Content-Encoding of its bytes. Names in `headers` are in lower case. Raises `BadForm` if the headers give no
    clear boundary.
    """

    def __init__(
        self,
        body: IncomingBody,
        headers: Iterable[tuple[bytes, bytes]],
        check: Callable[[FormUpload], Awaitable[None]],
        encoding: str = "",
    ) -> None:
        self._body = body
        self._encoding = encoding
        self._check = check
        self._reader = FormReader(headers)
        self._checked = 0  # parts

    @property
    def complete(self) -> bool:
        """True once all of the form has arrived."""
        return self._body.complete

    @property
    def parts(self) -> list[PartExcerpt]:
        """The parts that have arrived so far; of a field, the beginning of its text."""
        return self._reader.parts

    def fields(self) -> list[tuple[str, str]]:
        """Returns the text fields, by name and value, in their order; of a long value the beginning."""
        return self._reader.fields()

    def field(self, name: str) -> list[str]:
        """Returns the values of a field, in their order."""
        return [value for other, value in self.fields() if other == name]

    def sizes(self) -> Form:
        """Returns what the price depends on in a form: the values of its fields, and the sizes of its files."""
        return Form.of(self.fields(), [part.size for part in self.parts if part.file_name is not None])

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the form's bytes as they may go upstream.

        Raises `BadForm`, `BodyTooLarge` for a file, and what `check` and `IncomingBody.pieces_in_time` raise.
        """
        if self._encoding:
            async for piece in self._encoded_pieces():
                yield piece
            return
        held = b""
        async for piece in self._body.pieces_in_time():
            self._reader.feed(piece)
            self._check_files()
            stays = self._reader.end_size or 1
            if stays < len(piece):
                yield b"".join((held, memoryview(piece)[:-stays]))  # copied once
                held = piece[-stays:]
            else:
                held += piece
                if stays < len(held):
                    yield held[:-stays]
                    held = held[-stays:]
        self._reader.end()
        await self._check(self)
        yield held

    async def _encoded_pieces(self) -> AsyncIterator[bytes]:
        """Yields the bytes of a form that came encoded, as they came.

        A piece is held while it contains bytes that would be held of the decoded form.
        """
        decoder = BodyDecoder(self._encoding, self._body.limit)
        held: deque[tuple[bytes, int]] = deque()  # pieces, and the decoded size of the form up to the end of each
        async for piece in self._body.pieces_in_time():
            await self._feed_decoded(decoder, piece)
            held.append((piece, decoder.size))
            stays = self._reader.end_size or 1
            while held[0][1] <= decoder.size - stays:
                yield held.popleft()[0]
        decoder.end()
        if decoder.members > 1:
            raise BadForm("it is encoded in more than one piece")
        self._reader.end()
        await self._check(self)
        yield b"".join(piece for piece, _ in held)

    async def _feed_decoded(self, decoder: BodyDecoder, piece: bytes) -> None:
        """Decodes a piece and reads the result, in steps between which the event loop runs."""
        try:
            for number, decoded in enumerate(decoder.steps(piece), 1):
                self._reader.feed(decoded)
                self._check_files()
                if number % STEPS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # a small piece may become much
        except TooLarge:
            raise self._body.too_large("The form, decoded,") from None

    def _check_files(self) -> None:
        """Checks the sizes of the files that have arrived since the last check; the newest one may still grow."""
        parts = self._reader.parts
        for part in parts[max(0, self._checked - 1) :]:
            check_file(part)
        self._checked = len(parts)


def check_file(part: PartExcerpt) -> None:
    """Raises `BodyTooLarge` for a file over `MAX_UPLOAD_BYTES`, as soon as so much of it has arrived."""
    if part.file_name is not None and part.size > settings.MAX_UPLOAD_BYTES:
        name = part.name.decode("utf-8", "replace")[:64]
        raise BodyTooLarge(
            f"The file in '{name}' is larger than {settings.MAX_UPLOAD_BYTES} bytes; the gateway's setting"
            " MAX_UPLOAD_BYTES limits each file.",
            param=name,
        )
