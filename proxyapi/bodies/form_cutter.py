"""Takes parts out of a multipart form, and adds some, while the form passes; every other byte stays as it came.

A part is taken out from behind the boundary before it to behind the boundary after it, so what stays is a form with the
same boundaries.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxyapi.bodies.form_reader import CRLF, FormReader
from usage.kept_bodies.excerpts import PartExcerpt


class FormEdits:
    """The changes to make in a multipart form on its way to upstream. This base class changes nothing."""

    def is_cut(self, part: PartExcerpt, *, is_whole: bool) -> bool | None:
        """Returns whether a part (a field or a file) must be taken out of the form before upstream gets it.

        Returns None if bytes that have not arrived yet decide this. With `is_whole`, all bytes of the part have
        arrived.
        """
        return False

    def added_header(self, part: PartExcerpt) -> bytes:
        """Returns a header line to add to this part of the form, without its line end; empty if none is to be added."""
        return b""

    def added_fields(self, parts: Sequence[PartExcerpt]) -> list[PartExcerpt]:
        """Returns the text fields to add at the end of the form.

        `parts` are the parts of the form that upstream gets. Parts that `is_cut` has taken out are not among them.
        """
        return []


class FormCutter:
    """Editor of one multipart form on its way to upstream: takes bytes as they arrive, and returns those to send on.

    Without `edits`, all bytes are sent on unchanged. The form's last boundary and all bytes behind it are sent on only
    at `end`.
    """

    def __init__(self, reader: FormReader, edits: FormEdits | None = None) -> None:
        self._reader = reader
        self._edits = edits
        self._held = b""  # the last bytes that have arrived, which may not pass yet
        self._at = 0  # the place in the form of the first byte that has neither passed nor been taken out
        self._number = -1  # of the part at that place; -1 in front of the first boundary

    def feed(self, piece: bytes, *, may_be_last: bool) -> bytes:
        """Reads the next piece of the form, and returns the bytes that may go upstream now.

        `may_be_last` is true if the body may end with this piece, even as an invalid form. Then the last byte is held
        back, so that upstream does not get the whole form before `end` is called. Raises `BadForm`.
        """
        self._reader.feed(piece)
        self._held += piece  # copies nothing if nothing is held
        return self._take(self._reader.size - (self._reader.end_size or self._reader.behind_mark or may_be_last))

    def end(self) -> bytes:
        """Checks that the form has arrived whole, and returns the rest of its bytes for upstream, with added fields.

        Raises `BadForm` if the form is cut off.
        """
        self._reader.end()
        staying = self._take(self._reader.boundaries[-1])
        added = map(self._written, self._added())
        return b"".join((staying, *added, self._move(self._reader.size)))

    def passing_parts(self) -> list[PartExcerpt]:
        """Returns the form's parts as upstream gets them: those that are not taken out, then the added fields.

        The form must have arrived whole.
        """
        return [*self._staying(), *self._added()]

    def _staying(self) -> list[PartExcerpt]:
        edits, parts = self._edits, self._reader.parts
        return parts if edits is None else [part for part in parts if not edits.is_cut(part, is_whole=True)]

    def _added(self) -> list[PartExcerpt]:
        return [] if self._edits is None else self._edits.added_fields(self._staying())

    def _written(self, field: PartExcerpt) -> bytes:
        """Encodes a text field as one more part of this form: the part's bytes and the boundary behind them."""
        head = b'Content-Disposition: form-data; name="%b"' % field.name
        return b"".join((CRLF, head, CRLF * 2, field.content, CRLF, self._reader.mark))

    def _take(self, most: int) -> bytes:
        """Removes bytes from those that wait here, up to position `most` of the form; returns those that go upstream.

        The bytes of a part that is taken out of the form are dropped. While it is not decided whether a part is taken
        out, the bytes of this part go on waiting, with all bytes behind them.
        """
        if self._edits is None:
            return self._move(most)
        reader, edits = self._reader, self._edits
        taken: list[bytes] = []
        while self._at < most and self._number < len(reader.parts) and reader.boundaries:
            is_whole = len(reader.boundaries) > self._number + 1
            end = reader.boundaries[self._number + 1] if is_whole else reader.size
            part = reader.parts[self._number] if self._number >= 0 else None
            is_cut = part is not None and edits.is_cut(part, is_whole=is_whole)
            if is_cut is None:
                break
            if is_cut:
                self._move(min(end, most))
            else:
                if part is not None and self._at < (end_of_head := reader.head_ends[self._number]):
                    header = edits.added_header(part)
                    taken += (self._move(end_of_head), CRLF + header) if header else ()
                taken.append(self._move(min(end, most)))
            if self._at < end or not is_whole:
                break
            self._number += 1
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _move(self, end: int) -> bytes:
        """Takes those bytes that wait here and stand before position `end` of the form, and returns them."""
        size = max(0, end - self._at)
        moved, self._held = self._held[:size], self._held[size:]  # copies nothing if all is moved
        self._at += size
        return moved


def text_field(name: str, value: str) -> PartExcerpt:
    """Creates a part for a form: a text field with this name and value."""
    return PartExcerpt(name=name.encode(), media_type=b"", content=value.encode(), size=len(value.encode()))
