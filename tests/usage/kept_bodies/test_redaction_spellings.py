"""A secret is taken out of all that the ledger keeps, in whichever of its usual spellings it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.inputs.spellings import SPELLINGS, in_base64, is_gone
from tests.support.ledger.excerpts import answer_columns, body_excerpt
from usage.answers.reader import AnswerReader
from usage.answers.row_texts import MAX_USAGE_BYTES, column_text
from usage.answers.streamed_text import StreamedText
from usage.kept_bodies.redaction import REDACTED, redact, redact_answer, redact_each

OWN = ("the-security-key.of-the_gateway42", "correct_horse_battery_staple", "sk-proj-" + "xY9-aB3_" * 19)
TOKENS = ("sk-Ab1cD2eF3gH4iJ5kL6mN", "cp-" + "Qw3_rT5-" * 5 + "yU7", "sess-" + "Zz0aB3c" * 6)
CAPPED = 2000

spellings = st.sampled_from(sorted(SPELLINGS))
words = st.text(st.sampled_from("abcXYZ 019,.:;é中\n\t()"), max_size=30)


def test_it_works() -> None:
    assert redact(f"a {in_base64(OWN[1])} b", OWN) == f"a {REDACTED} b"
    assert redact(f"a {OWN[1].encode().hex()} b", OWN) == f"a {REDACTED} b"
    assert redact(f"a Basic {in_base64('user:pass')} b") == f"a Basic {REDACTED} b"


@given(st.sampled_from(OWN), spellings, words, words)
def test_a_configured_secret_is_found(secret: str, spelling: str, before: str, after: str) -> None:
    written = SPELLINGS[spelling](secret)
    redacted = redact(f"{before} {written} {after}", OWN)

    assert REDACTED in redacted
    assert is_gone(written, redacted)
    assert redacted.startswith(before)
    assert redacted.endswith(after)


@given(st.sampled_from(TOKENS), spellings, words, words)
def test_a_token_is_found(token: str, spelling: str, before: str, after: str) -> None:
    written = SPELLINGS[spelling](token)

    assert is_gone(written, redact(f"{before} {written} {after}"))


@given(st.sampled_from([*OWN, *TOKENS]), spellings, words)
def test_no_part_of_a_row_or_a_body_keeps_it(secret: str, spelling: str, more: str) -> None:
    written = SPELLINGS[spelling](secret)
    said = f"{more} {written}"
    answer = AnswerReader()
    answer.read(
        {"id": said, "object": "response", "service_tier": said, "usage": {"input_tokens": 1, "note": [{said: said}]}}
    )
    text = StreamedText(CAPPED, OWN)
    text.feed({"type": "response.output_text.delta", "output_index": 0, "delta": said})
    body = json.dumps({"a": said, "b": more}).encode()
    kept: list[Any] = [
        answer_columns(answer, said, OWN),
        text.text(),
        body_excerpt(body, "application/json", CAPPED, OWN),
        body_excerpt(body, "text/html", len(body) - len(more) // 2, OWN),
        body_excerpt(f"a={written}&b={more}".encode(), "application/x-www-form-urlencoded", CAPPED, OWN),
        redact_answer(body, OWN).decode() if secret in OWN else "",
        redact_answer(said.encode("utf-16-le"), OWN).decode("utf-16-le") if written == secret in OWN else "",
    ]

    for one in kept:
        assert is_gone(written, one if isinstance(one, str) else json.dumps(one, ensure_ascii=False))
    assert answer.counts == {"input_tokens": 1}


@given(st.lists(st.one_of(words, st.sampled_from(OWN), st.sampled_from(TOKENS)), max_size=5))
def test_texts_that_are_looked_at_together_are_redacted_as_each_alone(texts: list[str]) -> None:
    assert redact_each(texts, OWN) == [redact(text, OWN) for text in texts]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_an_answer_keeps_every_other_byte(before: bytes, after: bytes) -> None:
    quoted = before + b" " + OWN[1].encode() + b" " + after

    assert redact_answer(quoted, OWN) == before + b" " + REDACTED.encode() + b" " + after
    assert redact_answer(before + after, ()) == before + after


@pytest.mark.parametrize(
    "text",
    [
        "AT&T &amp; co; R&D; &#233; &nope; &#0; &#x; 100% \\x4 \\xzz &lt;b&gt;",
        "basic authentication, Basic knowledge, basic: dXNlcg==",
        "Basic \u0130",  # one letter, and of base64 in lower case
        "crazay NrL c2stzzzzzzzzzzzzzzzzzzzz 736b2d736b2d736b2d736b2d",
        "dGhpcyBpcyBub3RoaW5nIGJ1dCBhIHNlbnRlbmNlIGluIGJhc2U2NA==",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, OWN) == text


def test_a_number_that_is_redacted_costs_the_usage_only() -> None:
    answer = AnswerReader()
    answer.read({"id": "resp_1", "object": "response", "usage": {"api_key": 5, "input_tokens": 7}})
    facts = answer_columns(answer, "req_1", OWN)

    assert facts["response_id"] == "resp_1"
    assert "5" not in json.dumps(facts["usage"])
    assert answer.counts == {"input_tokens": 7}


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=b"])
def test_a_form_of_very_many_fields_is_cut(content_type: str) -> None:
    """Looking at a field takes microseconds, and a field two bytes."""
    body = b"=&" * 5000 if "urlencoded" in content_type else b"--b\r\n\r\n\r\n" * 5000
    kept = body_excerpt(body, content_type, 1_000_000, OWN)

    assert kept.endswith("bytes cut>")
    assert len(kept) < len(body) / 2


@given(st.sampled_from([*OWN, *TOKENS]), spellings, st.integers(0, 400))
def test_a_long_text_is_cut_without_half_a_secret(secret: str, spelling: str, place: int) -> None:
    written = SPELLINGS[spelling](secret)
    kept = column_text("a b " * 50 + "x" * place + " " + written + " c d" * 5000, 500, OWN)

    assert len(kept) <= 500
    assert is_gone(written, kept)
    assert kept[:200] == ("a b " * 50)[: len(kept)]


def test_an_endless_usage_is_not_kept_but_counted() -> None:
    answer = AnswerReader()
    answer.read({"usage": {"input_tokens": 7, "note": "x" * MAX_USAGE_BYTES}})

    assert answer_columns(answer, "r" * 100_000, OWN)["usage"] is None
    assert answer.counts == {"input_tokens": 7}
