"""A form that loses parts on its way is a form as before, however it arrives, and all its other bytes are the same."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies.form_cutter import FormCutter, FormEdits, text_field
from proxyapi.bodies.form_reader import FormReader
from proxyapi.exceptions import BadForm
from tests.support.inputs.client_forms import form
from usage.kept_bodies.body_excerpts import PartExcerpt

FIELD = b'Content-Disposition: form-data; name="%b"\r\n\r\n%b'
OURS = FIELD % (b"ours", b"secret\r\n--")
LATE = FIELD % (b"late", b"")  # goes if it is empty, which its head does not say
OTHER = FIELD % (b"other", b"--b")
FILE = b'Content-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"sound\r\n--" * 3
HEADERS = [(b"content-type", b"multipart/form-data; boundary=bound")]
LAST = b"\r\n--bound--"


class Edits(FormEdits):
    def __init__(self, *added: PartExcerpt, header: bytes = b"") -> None:
        self._added = list(added)
        self._header = header

    def is_cut(self, part: PartExcerpt, *, is_whole: bool) -> bool | None:
        if part.name == b"late":
            return part.size == 0 if part.size or is_whole else None
        return part.name == b"ours"

    def added_header(self, part: PartExcerpt) -> bytes:
        return self._header if part.file_name is not None else b""

    def added_fields(self, parts: Sequence[PartExcerpt]) -> list[PartExcerpt]:
        return self._added


def passed(body: bytes, edits: FormEdits | None, cuts: Sequence[int] = ()) -> tuple[bytes, bytes]:
    """What goes upstream before the form's end, and then."""
    cutter = FormCutter(FormReader(HEADERS), edits)
    places = sorted({place % (len(body) + 1) for place in cuts} | {0, len(body)})
    gone = b"".join(cutter.feed(body[start:end], may_be_last=end == len(body)) for start, end in pairwise(places))
    return gone, cutter.end()


def built(*parts: bytes) -> bytes:
    return form(b"bound", *parts).body


parts = st.lists(st.sampled_from([OURS, LATE, OTHER, FILE, LATE + b"x"]), min_size=1, max_size=5)


@given(parts, st.lists(st.integers(0, 10_000), max_size=30), st.booleans(), st.booleans())
def test_other_parts_stay_as_they_are(sent: list[bytes], cuts: list[int], adds: bool, heads: bool) -> None:
    field, header = text_field("model", "m"), b"Content-Type: audio/x"
    edits = Edits(*([field] if adds else []), header=header if heads else b"")
    left = [part for part in sent if part not in (OURS, LATE)] + [FIELD % (b"model", b"m")] * adds
    if heads:
        left = [part.replace(b'filename="a"', b'filename="a"\r\n' + header) for part in left]
    gone, end = passed(built(*sent), edits, cuts)

    assert gone + end == (built(*left) if left else b"--bound--\r\n")
    assert LAST not in gone


@given(parts, st.lists(st.integers(0, 10_000), max_size=30))
def test_without_edits_nothing_changes_and_the_end_waits(sent: list[bytes], cuts: list[int]) -> None:
    gone, end = passed(built(*sent), None, cuts)

    assert gone + end == built(*sent)
    assert LAST not in gone


def test_a_large_piece_of_a_file_passes_without_a_copy() -> None:
    cutter = FormCutter(FormReader(HEADERS), Edits())
    piece = b"x" * 100_000
    cutter.feed(built(FILE).partition(LAST)[0], may_be_last=False)

    assert cutter.feed(piece, may_be_last=False) is piece


@pytest.mark.parametrize("edits", [None, Edits()])
def test_a_form_without_an_end_keeps_its_last_byte(edits: FormEdits | None) -> None:
    cutter = FormCutter(FormReader(HEADERS), edits)
    body = built(FILE).partition(LAST)[0]

    assert cutter.feed(body, may_be_last=True) == body[:-1]
    with pytest.raises(BadForm):
        cutter.end()
