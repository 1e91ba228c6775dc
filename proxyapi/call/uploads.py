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
from proxyapi.limits.request_content import Form
from usage.kept_bodies.excerpts import PartExcerpt

STEPS_AT_ONCE = 8  # steps of decoding, of 64 KiB each, before the event loop runs again


class FormUpload:
    """A multipart form that is passed upstream while it arrives from the caller, and is read and checked meanwhile.

    `check` is called once, when the whole form has been read; an error that it raises stops the form, so that upstream
    never gets the form's end. `encoding` is the Content-Encoding of the form's bytes. `headers` are those of the
    request, with their names in lower case. Raises `BadForm` if the headers give no clear boundary.
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
        self._checked = 0  # how many of the parts `_check_files` has seen

    @property
    def complete(self) -> bool:
        """True once the whole form has arrived from the caller."""
        return self._body.complete

    @property
    def parts(self) -> list[PartExcerpt]:
        """The parts of the form that have arrived so far.

        The content of a field is the beginning of its text, and a file has no content here. The `size` of each part
        counts all of its bytes that have arrived.
        """
        return self._reader.parts

    def fields(self) -> list[tuple[str, str]]:
        """Returns the names and values of the form's text fields that have arrived so far, in their order.

        Of a long value only the beginning is returned.
        """
        return self._reader.fields()

    def field(self, name: str) -> list[str]:
        """Returns all values that the form gives so far for the text field `name`, in their order."""
        return [value for other, value in self.fields() if other == name]

    def sizes(self) -> Form:
        """Returns what the call's price depends on: the values of the form's fields and the sizes of its files."""
        return Form.of(self.fields(), [part.size for part in self.parts if part.file_name is not None])

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the form's bytes for upstream as they arrive.

        The end is yielded only once the whole form has been checked.

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
                yield b"".join((held, memoryview(piece)[:-stays]))  # copies the piece only once
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
        """Yields the bytes of a compressed form for upstream, as they came, and decodes the form to check it meanwhile.

        A piece is kept back while the bytes decoded from it may belong to the form's end, which goes upstream only once
        the whole form has been checked.
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
        """Decodes a piece of a compressed form and gives the result to the form's reader, which checks it.

        The event loop runs between steps of this, because a small piece may become large. Raises `BodyTooLarge`.
        """
        try:
            for number, decoded in enumerate(decoder.steps(piece), 1):
                self._reader.feed(decoded)
                self._check_files()
                if number % STEPS_AT_ONCE == 0:
                    await asyncio.sleep(0)  # a small piece may decode to very much
        except TooLarge:
            raise self._body.too_large("The form, decoded,") from None

    def _check_files(self) -> None:
        """Checks the sizes of the files that have arrived since the last check, and of the one that is still arriving.

        Raises `BodyTooLarge` for a file that is too large.
        """
        parts = self._reader.parts
        for part in parts[max(0, self._checked - 1) :]:
            check_file(part)
        self._checked = len(parts)


def check_file(part: PartExcerpt) -> None:
    """Checks the size of a form's file: raises `BodyTooLarge` once more than `MAX_UPLOAD_BYTES` of it are here."""
    if part.file_name is not None and part.size > settings.MAX_UPLOAD_BYTES:
        name = part.name.decode("utf-8", "replace")[:64]
        raise BodyTooLarge(
            f"The file in '{name}' is larger than {settings.MAX_UPLOAD_BYTES} bytes; the gateway's setting"
            " MAX_UPLOAD_BYTES limits each file.",
            param=name,
        )
