"""A form is read as it passes: the same however it is cut, checked before its end, and never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.exceptions import NotFound
from proxyapi.uploads import KEPT_OF_A_FIELD, MOST_PARTS, FormUpload
from tests.varied_forms import BOUNDARY, FILE, FORMS, MODEL, SOUND, WHISPER, field, write

TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"
END = b"--%b--" % BOUNDARY


class Body:
    """A request's body in the pieces given."""

    complete = True

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Passed:
    """A form on its way: what has gone, and what had gone when it was checked."""

    def __init__(self, *pieces: bytes, content_type: str = TYPE) -> None:
        self.gone: list[bytes] = []
        self.gone_when_checked: list[bytes] = []
        body: Any = Body(*pieces)
        self.form = FormUpload(body, content_type, self._check)

    async def _check(self, form: FormUpload) -> None:
        self.gone_when_checked.append(b"".join(self.gone))

    async def run(self) -> Passed:
        self.gone += [piece async for piece in self.form.pieces()]
        return self

    @property
    def seen(self) -> list[tuple[bytes, bytes | None, bytes, int]]:
        return [(part.name, part.file_name, bytes(part.content), part.size) for part in self.form.parts]


def cut(body: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({place % (len(body) + 1) for place in places})
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [piece for piece in pieces if piece]


@given(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 2**20), max_size=20))
async def test_it_reads_the_same_however_it_is_cut(name: str, places: list[int]) -> None:
    [sent] = FORMS[name]
    body = (sent.body or b"")[:20_000]
    whole, pieces = await Passed(*([body] if body else [])).run(), await Passed(*cut(body, places)).run()

    assert b"".join(pieces.gone) == body
    assert pieces.seen == whole.seen
    assert len(pieces.gone_when_checked) == 1
    assert END not in pieces.gone_when_checked[0]
    assert pieces.gone_when_checked[0] != body or not body


async def test_what_comes_goes_but_for_a_byte() -> None:
    body = write([MODEL, FILE])
    passed = Passed(body[:100], body[100:101], body[101:])
    pieces = passed.form.pieces()

    assert await anext(pieces) == body[:99]
    assert await anext(pieces) == body[99:100]


async def test_parts_are_seen() -> None:
    passed = await Passed(write([FILE, MODEL, field(b"prompt", "grün".encode())])).run()

    assert passed.seen == [
        (b"file", b"speech.mp3", b"", len(SOUND)),
        (b"model", None, b"gpt-4o-mini-transcribe", 22),
        (b"prompt", None, "grün".encode(), 5),
    ]
    assert passed.form.field("model") == ["gpt-4o-mini-transcribe"]
    assert passed.form.readable


async def test_an_end_with_more_behind_it_is_an_end() -> None:
    """A server may act on a form at its last boundary, whatever follows."""
    body = write([WHISPER])
    passed = await Passed(body, b"more", b"and more").run()

    assert passed.gone_when_checked == [b""]
    assert passed.form.field("model") == ["whisper-1"]


async def test_a_form_that_is_refused_does_not_go() -> None:
    async def refuse(form: FormUpload) -> None:
        raise NotFound

    body: Any = Body(write([FILE]), write([MODEL]))
    pieces = FormUpload(body, TYPE, refuse).pieces()

    with pytest.raises(NotFound):
        await anext(pieces)


async def test_a_long_field_is_kept_in_part() -> None:
    passed = await Passed(write([field(b"prompt", b"x" * KEPT_OF_A_FIELD * 2)])).run()

    assert passed.form.parts[0].content == b"x" * KEPT_OF_A_FIELD
    assert passed.form.parts[0].size == KEPT_OF_A_FIELD * 2


async def test_too_many_parts_are_not_read() -> None:
    parts = [field(b"x", b"%d" % number) for number in range(MOST_PARTS)]
    passed = await Passed(write([*parts, field(b"model", b"late"), field(b"y", b"later")])).run()

    assert not passed.form.readable
    assert len(passed.form.parts) == MOST_PARTS
    assert passed.form.parts[-1].content == b"%d" % (MOST_PARTS - 1)
    assert len(passed.gone_when_checked) == 1


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/;;;="])
async def test_a_form_without_a_boundary_passes_unread(content_type: str) -> None:
    passed = await Passed(write([MODEL]), content_type=content_type).run()

    assert b"".join(passed.gone) == write([MODEL])
    assert not passed.form.readable
    assert passed.form.parts == []
    assert len(passed.gone_when_checked) == 1
