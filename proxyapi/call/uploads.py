"""Passes a multipart form to upstream while it arrives, and reads it meanwhile.

Only one piece of a file is in memory at a time. The end of the form, from its last boundary on, is held until the whole
form has been read and checked. So upstream cannot act on a form that is ambiguous (`proxyapi.bodies.form_reader`) or
forbidden to the caller's key.

The gateway's own fields are cut out of a form of the simple API (`proxyapi.bodies.form_cutter`). The beginning of such
a form is received before anything goes upstream (`FormUpload.receive`), since the key may be in it.
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
from proxyapi.limits.cost_ceiling import sound_size
from proxyapi.limits.request_content import Form
from usage.kept_bodies.body_excerpts import PartExcerpt

STEPS_AT_ONCE = 8  # steps of decoding or reading, of 64 KiB each, before the event loop runs again
STEP_BYTES = 64 * 1024


class FormUpload:
    """A multipart form that goes upstream while it arrives from the caller; it is parsed and checked on the way.

    * `headers`: the request's headers, with names in lower case. `content_type` is the value of its Content-Type.
    * `encoding`: the form's Content-Encoding, or an empty text.
    * `check`: a function that is called once, with the whole form. If it raises an error, upstream never gets the end
      of the form.
    * `edits`: changes to make in the form, or None. An edited form goes upstream decoded.
    * `received`: the whole decoded form, if it has arrived already.
    * `is_whole`: true if the form was read to its end before anything goes upstream.

    Raises:
        BadForm: the Content-Type states no boundary, or states it ambiguously.
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
        """The number of bytes that go upstream, or None while it is unknown.

        The size of an unedited form is its Content-Length. The size of an edited form is known only if the whole form
        was read before anything went upstream.
        """
        if not self._is_edited:
            return self._body.announced
        return sum(map(len, self._ready)) if self.is_whole else None

    @property
    def parts(self) -> list[PartExcerpt]:
        """The fields and files of the form that have arrived until now, including those that are not sent upstream.

        A field's `content` is the beginning of its text; a file's is empty. `size` is the number of bytes that have
        arrived.
        """
        return self._reader.parts

    @property
    def passing_parts(self) -> list[PartExcerpt]:
        """The form's fields and files that upstream gets, after the edits; use it once the whole form has arrived."""
        return self._cutter.passing_parts()

    def received_fields(self) -> dict[str, str]:
        """Returns the text fields of the form that have arrived whole until now, as a dict from name to text.

        The dict includes the fields that do not go upstream.
        """
        return dict(fields_of(self._reader.parts[: len(self._reader.boundaries) - 1]))

    def fields(self) -> list[tuple[str, str]]:
        """Returns the text fields of the form that upstream gets, as pairs of name and value, in order.

        A long value is cut. Call this only after the whole form has arrived.
        """
        return fields_of(self.passing_parts)

    def field(self, name: str) -> list[str]:
        """Returns all values of the text field `name` that upstream gets, in order; a long value is cut.

        Call this only after the whole form has arrived.
        """
        return [value for other, value in self.fields() if other == name]

    def sizes(self) -> Form:
        """Returns the facts about the form that decide the call's price: field texts, and file sizes in bytes.

        A sound file that is very small for the length that it states counts as large as usual for this length.
        """
        files = [sound_size(part.head, part.size) for part in self.parts if part.file_name is not None]
        left_out = sum(part.size - len(part.content) for part in self.passing_parts if part.file_name is None)
        return Form.of(self.fields(), files, left_out)

    async def receive(self, size: int) -> None:
        """Receives and parses at least `size` bytes of the form, before anything goes upstream.

        If the form has fewer bytes, or has arrived already, the whole form is read. The function `check` is not called
        yet. Raises the errors that `pieces` lists.
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
        """Checks the whole form with the function `check` that the constructor got; does nothing when called again.

        Call this after the whole form has been read. Raises the errors of that function.
        """
        if not self._is_checked:
            self._is_checked = True
            await self._check(self)

    def forget(self) -> None:
        """Frees the memory of the form's bytes that were not sent upstream, when the call ends."""
        self._ready.clear()
        self._received = b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yields the bytes to send upstream while the form arrives; the last ones only after the form was checked.

        Raises:
            BadForm: the form breaks the grammar of `proxyapi.bodies.form_headers` and `form_reader`.
            BadRequest: the form is not valid data of its Content-Encoding.
            BodyTooLarge: a file or the decoded form is over its size limit.
            RequestTimeout, CallerGone: the caller sends too slowly, or has hung up.

        The errors of the constructor's function `check` are raised, too.
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
        """Parses `piece`, the next bytes of the form, and returns the bytes that may go upstream now.

        Raises `BadForm` and `BodyTooLarge`.
        """
        body = self._body
        may_be_last = body.complete or (body.announced is not None and body.size >= body.announced)
        passing = self._cutter.feed(piece, may_be_last=may_be_last)
        self._check_files()
        return passing

    async def _decoded(self) -> AsyncGenerator[bytes, None]:
        """Yields the form's bytes without their Content-Encoding: first those received already, then new ones.

        Raises `BodyTooLarge`, `BadRequest`, `RequestTimeout` and `CallerGone`.
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
        """Decodes a piece of a form from its Content-Encoding, and yields the result in small pieces.

        Raises `BodyTooLarge` and `BadRequest`.
        """
        try:
            # A small piece may become very large by decoding: the event loop runs between the steps.
            for number, decoded in enumerate(decoder.steps(piece), 1):
                yield decoded
                if number % STEPS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except TooLarge:
            raise self._body.too_large("The form, decoded,") from None

    async def _encoded_pieces(self, decoder: BodyDecoder) -> AsyncIterator[bytes]:
        """Yields the bytes of a compressed form as they arrived, for upstream; decodes them only to check the form.

        The last bytes are yielded after the whole form has been checked. Raises the errors that `pieces` lists;
        `BadForm` also if the compressed data has more than one gzip member.
        """
        held: deque[tuple[bytes, int]] = deque()  # pieces, and the decoded size of the form up to the end of each
        async for piece in self._body.pieces_in_time():
            async for decoded in self._steps(decoder, piece):
                self._reader.feed(decoded)
                self._check_files()
            held.append((piece, decoder.size))
            stays = self._reader.end_size or 1
            # A piece stays here while the bytes decoded from it may belong to the form's end.
            while held[0][1] <= decoder.size - stays:
                yield held.popleft()[0]
        decoder.end()
        if decoder.members > 1:
            raise BadForm("it is encoded in more than one piece")
        self._reader.end()
        await self.check()
        yield b"".join(piece for piece, _ in held)

    def _check_files(self) -> None:
        """Checks the sizes of the files that have arrived since the last check, and of the file that is still arriving.

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
