"""Removes parts (fields and files) from a multipart form, and adds some, while the form passes through the gateway.

All other bytes stay as they came. With a part, the boundary behind it is removed too, so the rest is a valid form.
"""

from __future__ import annotations

from collections.abc import Sequence

from proxyapi.bodies.form_reader import CRLF, FormReader
from usage.kept_bodies.body_excerpts import PartExcerpt


class FormEdits:
    """Base class of the changes that the gateway makes in a multipart form for upstream; this class changes nothing."""

    def is_cut(self, part: PartExcerpt, *, is_whole: bool) -> bool | None:
        """Returns whether to remove the part (a field or a file) from the form that goes upstream.

        Returns None if more bytes of the part are needed for the decision. `is_whole` says that the whole part has
        arrived.
        """
        return False

    def added_header(self, part: PartExcerpt) -> bytes:
        """Returns the header line to add to a part of the form, without its line end; empty to add none."""
        return b""

    def added_fields(self, parts: Sequence[PartExcerpt]) -> list[PartExcerpt]:
        """Returns the text fields to add at the end of the form that goes upstream.

        `parts` are the parts that stay in the form, without those removed by `is_cut`.
        """
        return []


class FormCutter:
    """Editor of a multipart form on its way upstream: `feed` takes the bytes that arrive, and returns those to send on.

    `reader` parses the form. `edits` are the changes to make; None means that the form is sent unchanged. After the
    last bytes, call `end`: it checks the form, and returns the bytes that were held back.
    """

    def __init__(self, reader: FormReader, edits: FormEdits | None = None) -> None:
        self._reader = reader
        self._edits = edits
        self._held = b""  # the last bytes that have arrived, which may not pass yet
        self._at = 0  # the place in the form of the first byte that has neither passed nor been taken out
        self._number = -1  # of the part at that place; -1 in front of the first boundary

    def feed(self, piece: bytes, *, may_be_last: bool) -> bytes:
        """Takes the next bytes of the form, and returns the bytes that may go upstream now, possibly none.

        With `may_be_last`, the form may end with `piece`: then the last byte is held back until `end` has checked the
        form. Raises `BadForm` if the form is invalid.
        """
        self._reader.feed(piece)
        self._held += piece  # copies nothing if nothing is held
        # Upstream must not get the whole form before `end` is called.
        return self._take(self._reader.size - (self._reader.end_size or self._reader.behind_mark or may_be_last))

    def end(self) -> bytes:
        """Checks that the whole form has arrived; returns the last bytes for upstream, which include the added fields.

        Raises `BadForm` if the form is incomplete.
        """
        self._reader.end()
        staying = self._take(self._reader.boundaries[-1])
        added = map(self._encode_field, self._added())
        return b"".join((staying, *added, self._release(self._reader.size)))

    def passing_parts(self) -> list[PartExcerpt]:
        """Returns the parts of the form for upstream: those that are not removed, then those that the gateway adds.

        A long content is cut to its beginning. Call this only after the whole form has arrived.
        """
        return [*self._staying(), *self._added()]

    def _staying(self) -> list[PartExcerpt]:
        edits, parts = self._edits, self._reader.parts
        return parts if edits is None else [part for part in parts if not edits.is_cut(part, is_whole=True)]

    def _added(self) -> list[PartExcerpt]:
        return [] if self._edits is None else self._edits.added_fields(self._staying())

    def _encode_field(self, field: PartExcerpt) -> bytes:
        """Encodes a text field as the bytes to insert into the form: the field's header, its value, and a boundary."""
        head = b'Content-Disposition: form-data; name="%b"' % field.name
        return b"".join((CRLF, head, CRLF * 2, field.content, CRLF, self._reader.mark))

    def _take(self, most: int) -> bytes:
        """Returns the next bytes to send upstream, edited: those made from the received form before position `most`.

        If `edits` cannot decide yet whether to remove a part, this part and all bytes after it are held back.
        """
        if self._edits is None:
            return self._release(most)
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
                self._release(min(end, most))
            else:
                if part is not None and self._at < (end_of_head := reader.head_ends[self._number]):
                    header = edits.added_header(part)
                    taken += (self._release(end_of_head), CRLF + header) if header else ()
                taken.append(self._release(min(end, most)))
            if self._at < end or not is_whole:
                break
            self._number += 1
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _release(self, end: int) -> bytes:
        """Takes the bytes before position `end` of the form out of the held-back bytes, and returns them unchanged."""
        size = max(0, end - self._at)
        moved, self._held = self._held[:size], self._held[size:]  # copies nothing if all is moved
        self._at += size
        return moved


def text_field(name: str, value: str) -> PartExcerpt:
    """Creates a text field with this name and value, to be added to a multipart form."""
    return PartExcerpt(name=name.encode(), media_type=b"", content=value.encode(), size=len(value.encode()))
