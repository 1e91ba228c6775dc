"""Passes a multipart form to upstream while it arrives, and reads it meanwhile.

Only one piece of a file is in memory at a time. The end of the form, from its last boundary on, is held until the whole
form has been read and checked. So upstream cannot act on a form that is ambiguous (`proxyapi.bodies.form_reader`), or
that the caller's key may not send.

A form of the simple API loses its fields for the gateway on the way (`proxyapi.bodies.form_cutter`). Its beginning is
received before anything goes upstream (`FormUpload.receive`), since these fields say whose call it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing

from proxyapi.bodies.form_cutter import FormCutter, FormEdits
from proxyapi.bodies.form_reader import FormReader, fields_of
from proxyapi.bodies.request_encoding import BodyDecoder, TooLarge
from proxyapi.cached_settings import call_settings
from proxyapi.call.request_body import IncomingBody
from proxyapi.exceptions import BadForm, BodyTooLarge
from proxyapi.limits.request_content import Form
from usage.kept_bodies.excerpts import PartExcerpt

STEPS_AT_ONCE = 8  # steps of decoding or reading, of 64 KiB each, before the event loop runs again
STEP_BYTES = 64 * 1024


class FormUpload:
    """A multipart form that is sent upstream while it arrives from the caller, and is read and checked meanwhile.

    `headers` are those of the request, with their names in lower case; `encoding` is the Content-Encoding of the form.
    `check` is called once, when the whole form has been read. If it raises an error, upstream never gets the form's
    end. `edits` are changes to the form; an edited form goes upstream decoded. `received` is the decoded form, if it
    has been received already.

    `content_type` is the Content-Type of the request. `is_whole` is true if all of the form has been received and read
    before anything goes upstream.

    Raises:
        BadForm: the Content-Type states no boundary between the form's parts, or not clearly.
    """

    def __init__(
        self,
        body: IncomingBody,
        headers: Iterable[tuple[bytes, bytes]],
        check: Callable[[FormUpload], Awaitable[None]],
        encoding: str = "",
        *,
        edits: FormEdits | None = None,
        received: bytes = b"",
    ) -> None:
        self.is_whole = False
        headers = tuple(headers)
        self._body = body
        self._check = check
        self._reader = FormReader(headers)
        self._cutter = FormCutter(self._reader, edits)
        self.content_type = next(value.decode("latin-1") for name, value in headers if name == b"content-type")
        self._decoder = BodyDecoder(encoding, body.limit) if encoding else None
        self._is_edited = edits is not None
        self._received = received
        self._ready: deque[bytes] = deque()  # what may pass of that which `receive` has read
        self._is_checked = False
        self._checked = 0  # how many of the parts `_check_files` has seen

    @property
    def complete(self) -> bool:
        """True once the whole form has arrived from the caller."""
        return self._body.complete

    @property
    def size(self) -> int | None:
        """The number of bytes that go upstream; None if the number is known only after the whole form has been read."""
        if not self._is_edited:
            return self._body.announced
        return sum(map(len, self._ready)) if self.is_whole else None

    @property
    def parts(self) -> list[PartExcerpt]:
        """The parts of the form (fields and files) that have arrived so far, whether or not they go upstream.

        A field's `content` is the beginning of its text; a file's is empty. The `size` of a part is the number of its
        bytes that have arrived.
        """
        return self._reader.parts

    @property
    def passing_parts(self) -> list[PartExcerpt]:
        """The form's fields and files as upstream gets them, after the edits; the whole form must have arrived."""
        return self._cutter.passing_parts()

    def received_fields(self) -> dict[str, str]:
        """Returns the text fields of the form that have arrived whole so far, as a dict from names to texts.

        The dict has all of these fields, also those that do not go upstream.
        """
        return dict(fields_of(self._reader.parts[: len(self._reader.boundaries) - 1]))

    def fields(self) -> list[tuple[str, str]]:
        """Returns the text fields that upstream gets, as pairs of name and value, in their order.

        Of a long value only the beginning is returned.
        """
        return fields_of(self.passing_parts)

    def field(self, name: str) -> list[str]:
        """Returns all values of the text field `name` that upstream gets, in their order."""
        return [value for other, value in self.fields() if other == name]

    def sizes(self) -> Form:
        """Returns what the call's price depends on: the texts of the form's fields, and its files' sizes in bytes."""
        return Form.of(self.fields(), [part.size for part in self.parts if part.file_name is not None])

    async def receive(self, size: int) -> None:
        """Receives and reads the first bytes of the form, about `size` of them, before anything goes upstream.

        The form is read whole if it is shorter, or if all of it has arrived already. Raises what `pieces` raises, but
        not the errors of `check`.
        """
        async with aclosing(self._decoded()) as arriving:
            async for piece in arriving:
                if passing := self._read(piece):
                    self._ready.append(passing)
                is_between = self._decoder is None or not self._decoder.has_more
                if self._reader.size > size and is_between and not self._body.complete:
                    return
        self._ready.append(self._cutter.end())
        self.is_whole = True

    async def check(self) -> None:
        """Runs the function `check`, with which this object was made, on the whole form; only the first call does so.

        The whole form must have been read. Raises what that function raises.
        """
        if not self._is_checked:
            self._is_checked = True
            await self._check(self)

    def forget(self) -> None:
        """Frees the memory of bytes that were read but not sent upstream; called when the call ends."""
        self._ready.clear()
        self._received = b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the bytes to send upstream while the form arrives; the last ones only after all of it was checked.

        Raises `BadForm`, `BodyTooLarge` for a file, and what `check` and `IncomingBody.pieces_in_time` raise.
        """
        if self.is_whole:
            await self.check()
        while self._ready:
            yield self._ready.popleft()
        if self.is_whole:
            return
        if self._decoder is not None and not self._is_edited:
            async for piece in self._encoded_pieces(self._decoder):
                yield piece
            return
        async for piece in self._decoded():
            if passing := self._read(piece):
                yield passing
        last = self._cutter.end()
        await self.check()
        yield last

    def _read(self, piece: bytes) -> bytes:
        """Reads the next bytes of the form, and returns those bytes that may go upstream now.

        Raises `BadForm` and `BodyTooLarge`.
        """
        body = self._body
        may_be_last = body.complete or (body.announced is not None and body.size >= body.announced)
        passing = self._cutter.feed(piece, may_be_last=may_be_last)
        self._check_files()
        return passing

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        """Yields the form's bytes without their Content-Encoding: first those received earlier, then those that arrive.

        A small piece may become very large by decoding. So the piece is decoded in steps, between which the event loop
        runs. Raises `BodyTooLarge`, `BadRequest`, and the errors of `IncomingBody.pieces_in_time`.
        """
        received, self._received = self._received, b""
        for number, at in enumerate(range(0, len(received), STEP_BYTES), 1):
            yield received[at : at + STEP_BYTES]
            if number % STEPS_AT_ONCE == 0:
                await asyncio.sleep(0)
        async for piece in self._body.pieces_in_time():
            if self._decoder is None:
                yield piece
            else:
                async for decoded in self._steps(self._decoder, piece):
                    yield decoded
        if self._decoder is not None:
            self._decoder.end()

    async def _steps(self, decoder: BodyDecoder, piece: bytes) -> AsyncIterator[bytes]:
        """Decodes a piece of an encoded form, and yields the result in small steps, so that the event loop can run."""
        try:
            for number, decoded in enumerate(decoder.steps(piece), 1):
                yield decoded
                if number % STEPS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except TooLarge:
            raise self._body.too_large("The form, decoded,") from None

    async def _encoded_pieces(self, decoder: BodyDecoder) -> AsyncIterator[bytes]:
        """Yields the bytes of a compressed form for upstream, still compressed; decodes them only to check the form.

        A piece is kept back while the bytes decoded from it may belong to the form's end, which goes upstream only once
        the whole form has been checked.
        """
        held: deque[tuple[bytes, int]] = deque()  # pieces, and the decoded size of the form up to the end of each
        async for piece in self._body.pieces_in_time():
            async for decoded in self._steps(decoder, piece):
                self._reader.feed(decoded)
                self._check_files()
            held.append((piece, decoder.size))
            stays = self._reader.end_size or 1
            while held[0][1] <= decoder.size - stays:
                yield held.popleft()[0]
        decoder.end()
        if decoder.members > 1:
            raise BadForm("it is encoded in more than one piece")
        self._reader.end()
        await self.check()
        yield b"".join(piece for piece, _ in held)

    def _check_files(self) -> None:
        """Checks the sizes of the files that have arrived since the last check, and of the file that is arriving.

        Raises:
            BodyTooLarge: a file is larger than `MAX_UPLOAD_BYTES`.
        """
        parts, limit = self._reader.parts, call_settings().MAX_UPLOAD_BYTES
        for part in parts[max(0, self._checked - 1) :]:
            if part.file_name is not None and part.size > limit:
                name = part.name.decode("utf-8", "replace")[:64]
                raise BodyTooLarge(
                    f"The file in '{name}' is larger than {limit} bytes; the gateway's setting MAX_UPLOAD_BYTES limits"
                    " each file.",
                    param=name,
                )
        self._checked = len(parts)
