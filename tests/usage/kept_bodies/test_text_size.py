"""How much text a body has, for an estimate of its tokens: quickly, whatever the body."""

from __future__ import annotations

import pytest

from tests.support.inputs.kept_bodies import FORM, JSON, PNG_BASE64, form
from usage.kept_bodies.body_excerpts import MEASURED_BYTES, PartExcerpt, text_size, text_size_of_parts
from usage.kept_bodies.elision import elide


@pytest.mark.parametrize("size", [0, 1, 1000, MEASURED_BYTES, MEASURED_BYTES + 1, 5_000_000])
def test_text_is_measured_whatever_its_size(size: int) -> None:
    body = b"a word. " * (size // 8) + b"x" * (size % 8)
    assert text_size(body, JSON) == size


def test_what_is_no_text_is_not_measured() -> None:
    said = b'{"text":"%s","image":"data:image/png;base64,%s"}'
    assert text_size(said % (b"word " * 1000, PNG_BASE64.encode() * 40), JSON) < 5200
    assert text_size(b"\x00\x01\x02" * 100_000, "audio/mpeg") < 50
    assert text_size(form(('name="prompt"', b"hi"), ('name="f"; filename="a.mp3"', bytes(1_000_000))), FORM) < 100
    parts = [PartExcerpt(b"prompt", content=b"hi", size=2), PartExcerpt(b"file", file_name=b"a.mp3", size=1_000_000)]
    assert 0 < text_size_of_parts(parts) < 100


def test_no_more_of_a_body_is_read_than_an_estimate_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets: list[int] = []

    def measured(body: bytes, budget: int) -> tuple[bytes, int]:
        budgets.append(budget)
        return elide(body, budget)

    monkeypatch.setattr("usage.kept_bodies.body_excerpts.elide", measured)
    text_size(b"word " * 1_000_000, JSON)
    text_size_of_parts([PartExcerpt(b"prompt", content=b"word " * 200_000, size=1_000_000)])
    assert budgets == [MEASURED_BYTES] * 2
