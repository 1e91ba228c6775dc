"""A form is read as it passes: the same however it is cut, checked before its end, and never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.call.uploads import FormUpload
from proxyapi.exceptions import BadForm, NotFound
from tests.support.inputs.ambiguous_forms import AMBIGUOUS
from tests.support.inputs.varied_forms import BOUNDARY, FILE, FORMS, MODEL, SOUND, WHISPER, field, write

HEADERS = [(b"content-type", b"multipart/form-data; boundary=" + BOUNDARY)]
LAST = b"\r\n--%b--" % BOUNDARY


class Body:
    """A request's body in the pieces given."""

    complete = True

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    async def pieces_in_time(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Passed:
    """A form on its way: what has gone, and what had gone when it was checked."""

    def __init__(self, *pieces: bytes, headers: list[tuple[bytes, bytes]] = HEADERS) -> None:
        self.gone: list[bytes] = []
        self.gone_when_checked: list[bytes] = []
        body: Any = Body(*pieces)
        self.form = FormUpload(body, headers, self._check)

    async def _check(self, form: FormUpload) -> None:
        self.gone_when_checked.append(b"".join(self.gone))

    async def run(self) -> Passed:
        async for piece in self.form.pieces():
            self.gone.append(piece)
        return self

    @property
    def seen(self) -> list[tuple[bytes, bytes | None, bytes, int]]:
        return [(part.name, part.file_name, bytes(part.content), part.size) for part in self.form.parts]


def cut(body: bytes, places: list[int]) -> list[bytes]:
    cuts = sorted({place % (len(body) + 1) for place in places})
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    return [piece for piece in pieces if piece]


@given(
    st.sampled_from(sorted(name for name in FORMS if name != "on a get")), st.lists(st.integers(0, 2**20), max_size=20)
)
async def test_it_reads_the_same_however_it_is_cut(name: str, places: list[int]) -> None:
    [sent] = FORMS[name]
    body = (sent.body or b"")[-20_000:]
    start = body.find(b"\r\n--the-boundary") + 2 if len(body) == 20_000 else 0
    headers = [(b"content-type", line.partition(b": ")[2]) for line in sent.headers]
    whole = await Passed(body[start:], headers=headers).run()
    pieces = await Passed(*cut(body[start:], places), headers=headers).run()

    assert b"".join(pieces.gone) == body[start:]
    assert pieces.seen == whole.seen
    assert len(pieces.gone_when_checked) == 1
    assert body[start:].startswith(pieces.gone_when_checked[0])
    assert body.rstrip(b"\r\n").rpartition(b"\r\n")[2] not in pieces.gone_when_checked[0]  # the last boundary


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


async def test_nothing_goes_from_the_last_boundary_on_before_all_is_checked() -> None:
    """A server may act on a form at its last boundary, whatever follows."""
    start, end = write([WHISPER]).split(LAST)
    passed = await Passed(start + LAST[:-1], LAST[-1:], end[:1], end[1:]).run()

    assert passed.gone_when_checked == [start + LAST[:-2]]
    assert passed.form.field("model") == ["whisper-1"]


async def test_what_comes_with_the_last_boundary_goes_up_to_it() -> None:
    start, end = write([FILE, WHISPER]).split(LAST)
    passed = Passed(start + LAST + end[:1], end[1:])
    pieces = passed.form.pieces()

    assert await anext(pieces) == start
    assert await anext(pieces) == LAST + end


async def test_a_form_that_is_refused_does_not_go() -> None:
    async def refuse(form: FormUpload) -> None:
        raise NotFound

    body: Any = Body(write([FILE]))
    pieces = FormUpload(body, HEADERS, refuse).pieces()

    assert LAST not in await anext(pieces)
    with pytest.raises(NotFound):
        await anext(pieces)


@pytest.mark.parametrize("piece", [1, 10, 100_000])
@pytest.mark.parametrize("name", [name for name, form in AMBIGUOUS.items() if len(form.content_types) == 1])
async def test_an_ambiguous_form_never_goes_to_its_end(name: str, piece: int) -> None:
    """Not even to what another reader may take for its end."""
    sent = AMBIGUOUS[name]
    headers = [(b"content-type", sent.content_types[0])]
    pieces = [sent.body[at : at + piece] for at in range(0, len(sent.body), piece)]
    try:
        passed = Passed(*pieces, headers=headers)
    except BadForm:
        return
    with pytest.raises(BadForm):
        await passed.run()

    gone = b"".join(passed.gone)
    assert b"--bound--" not in gone
    assert len(gone) < len(sent.body) or not sent.body
    assert passed.gone_when_checked == []


async def test_a_forms_fields_and_sizes_are_known_when_it_is_checked() -> None:
    passed = await Passed(write([FILE, MODEL, field(b"n", b"2"), field(b"a[]", b"1"), field(b"a[]", b"2")])).run()

    assert passed.form.sizes().fields == {"model": ["gpt-4o-mini-transcribe"], "n": ["2"], "a": ["1", "2"]}
    assert passed.form.sizes().files == [len(SOUND)]
    assert passed.form.sizes().left_out_bytes == 0


async def test_a_long_text_counts_whole() -> None:
    passed = await Passed(write([MODEL, field(b"prompt", b"a" * 200_000)])).run()
    assert passed.form.sizes().size == 200_000 + len("gpt-4o-mini-transcribe")
