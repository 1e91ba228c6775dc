"""The excerpt of a body: its text, short, without secrets and base64, fit for PostgreSQL."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.inputs.kept_bodies import FORM, JSON, LIMIT, PNG, PNG_BASE64, form
from tests.support.inputs.secrets import EXTRA, SECURITY_KEY, TOKENS, as_unicode_escapes, surroundings
from tests.support.ledger.excerpts import body_excerpt
from usage.kept_bodies.body_excerpts import MARGIN, MAX_NOTE_BYTES, SLACK
from usage.kept_bodies.elision import elide

PNG_KEPT = "<base64 image/png, 34,560 bytes>"


def keep(body: object, limit: int = LIMIT) -> str:
    return body_excerpt(json.dumps(body).encode(), JSON, limit, EXTRA)


# As it came


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"model": "gpt-4o",  "temperature":1.0, "a":1e400, "b":NaN, "a":2}', JSON),
        (b'{"a":"\\ud83d\\ude00 \\ud800 \\u0000 \\u00e9"}', JSON),
        ('{"a":"ключ 日本"}'.encode(), "application/json; charset=utf-8"),
        (b"{not json", JSON),
        (b"1\n00:00:01,000 --> 00:00:02,000\nHello\n", "text/plain; charset=utf-8"),
        (b"hello", ""),
        (b"hello", "what is this"),
        (b"hello", "image/svg+xml"),
        (b"a=b&c=%20d", "application/x-www-form-urlencoded"),
        (b'{"data":"' + b"A" * 100 + b'","embedding":[1,2,3],"base64":"no, not", "b64_json":null}', JSON),
        (b"-" * 600 + b"\n" + b"=" * 600 + b"_" * 600, "text/plain"),
        (b'{"a":"' + b"\\u4e2d\\u6587" * 200 + b"\\n" * 600 + b'"}', JSON),
        (b"A" * 511, "text/plain"),
        (b'{"embedding":[' + b'"a",' * 30 + b'"b"]}', JSON),
        (b'{"embedding":[' + b"1," * 30, JSON),
    ],
)
def test_it_is_kept_as_it_came(body: bytes, content_type: str) -> None:
    assert body_excerpt(body, content_type, LIMIT, EXTRA) == body.decode()


@pytest.mark.parametrize(("body", "limit"), [(b"", LIMIT), (b"abc", 0), (b"abc", -1)])
def test_nothing_is_kept_of_nothing(body: bytes, limit: int) -> None:
    assert body_excerpt(body, JSON, limit) == ""


def test_nul_and_bad_utf8_do_not_reach_postgresql() -> None:
    body = b"a long enough text with \0 and \xff and \xed\xa0\x80 in it"

    kept = body_excerpt(body, "text/plain", LIMIT)
    assert kept == "a long enough text with \ufffd and \ufffd and \ufffd\ufffd\ufffd in it"


@pytest.mark.parametrize(
    ("body", "content_type", "kept"),
    [
        (b"x" * 123, "audio/mpeg", "<audio/mpeg, 123 bytes>"),
        (b"x" * 123, "Image/PNG; a=b", "<image/png, 123 bytes>"),
        (b"x" * 1234, "application/octet-stream", "<application/octet-stream, 1,234 bytes>"),
        (b"\x1f\x8b\x08\0\0\0\0\0" * 9, JSON, "<application/json, 72 bytes>"),
        ("api_key=abc".encode("utf-16"), "text/plain", "<text/plain, 24 bytes>"),
        (bytes(range(256)), "", "<binary, 256 bytes>"),
        (b"x", f"audio/{TOKENS[0]}", "<audio/[redacted], 1 bytes>"),
    ],
)
def test_binary_is_told_by_type_and_size(body: bytes, content_type: str, kept: str) -> None:
    assert body_excerpt(body, content_type, LIMIT) == kept


# Base64 and vectors


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ({"url": f"data:image/png;base64,{PNG_BASE64}"}, {"url": PNG_KEPT}),
        ({"url": f"data:image/png;charset=x;base64,{PNG_BASE64}", "z": 1}, {"url": PNG_KEPT, "z": 1}),
        ({"text": f"See data:image/png;base64,{PNG_BASE64} there"}, {"text": f"See {PNG_KEPT} there"}),
        ({"text": f"![x](data:image/png;base64,{PNG_BASE64})"}, {"text": f"![x]({PNG_KEPT})"}),
        ({"url": "data:text/plain;base64,aGVsbG8="}, {"url": "<base64 text/plain, 5 bytes>"}),
        ({"url": "data:;base64,aGVsbG8="}, {"url": "<base64, 5 bytes>"}),
        ({"data": [{"b64_json": PNG_BASE64}] * 2}, {"data": [{"b64_json": PNG_KEPT}] * 2}),
        ({"image": {"base64": PNG_BASE64}}, {"image": {"base64": PNG_KEPT}}),
        ({"image": {"base64": "aGVsbG8="}}, {"image": {"base64": "<base64, 5 bytes>"}}),
        (
            {"input_audio": {"data": "UklGRg==", "format": "wav"}},
            {"input_audio": {"data": "<base64, 4 bytes>", "format": "wav"}},
        ),
        (
            {"input_audio": {"format": "wav", "data": "UklGRg=="}},
            {"input_audio": {"format": "wav", "data": "<base64, 4 bytes>"}},
        ),
        ({"audio": {"data": "A" * 128}}, {"audio": {"data": "<base64, 96 bytes>"}}),
        ({"embedding": "AACAPwAAgD8="}, {"embedding": "<base64, 8 bytes>"}),
        ({"result": PNG_BASE64}, {"result": PNG_KEPT}),
        ({"result": [PNG_BASE64, PNG_BASE64]}, {"result": [PNG_KEPT, PNG_KEPT]}),
        ({"x": base64.urlsafe_b64encode(PNG).decode()}, {"x": PNG_KEPT}),
        ({"x": "A" * 512}, {"x": "<base64, 384 bytes>"}),
        ({"a": "b" * 300, "x": "C" * 700}, {"a": "b" * 300, "x": "<base64, 525 bytes>"}),
        ({"embedding": [0.1, -2e-5] * 768, "index": 0}, {"embedding": ["<1536 numbers>"], "index": 0}),
        ([{"embedding": [1.5] * 20}] * 3, [{"embedding": ["<20 numbers>"]}] * 3),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_base64_and_vectors_are_told_by_type_and_size(body: Any, kept: Any, indent: int | None) -> None:
    told = body_excerpt(json.dumps(body, indent=indent).encode(), JSON, LIMIT)

    told = told.replace("numbers>]", 'numbers>"]').replace("[<", '["<')
    assert json.loads(told) == kept


def test_base64_in_nested_json() -> None:
    body = {"arguments": json.dumps({"b64_json": PNG_BASE64, "url": "data:image/png;base64," + PNG_BASE64})}

    assert json.loads(json.loads(keep(body))["arguments"]) == {"b64_json": PNG_KEPT, "url": PNG_KEPT}


@pytest.mark.parametrize(("slash", "plus"), [(r"\/", "+"), (r"\/", r"\u002B")])
@pytest.mark.parametrize("before", ['{"b64_json":"', '{"url":"data:image\\/png;base64,'])
def test_base64_with_escapes(before: str, slash: str, plus: str) -> None:
    body = before + PNG_BASE64.replace("/", slash).replace("+", plus) + '","model":"x"}'

    kept = body_excerpt(body.encode(), JSON, LIMIT)
    assert kept.replace("data:", "").startswith(before.partition("data:")[0] + "<base64 image/png, 34,5")
    assert kept.endswith('bytes>","model":"x"}')
    assert len(kept) < 100


def test_base64_in_lines() -> None:
    body = json.dumps({"base64": base64.encodebytes(PNG).decode(), "model": "x"})

    kept = body_excerpt(body.encode(), JSON, LIMIT)
    assert kept.startswith('{"base64": "<base64 image/png, 34,')
    assert kept.endswith('", "model": "x"}')
    assert len(kept) < 140


@given(st.integers(512, 40_000), surroundings, surroundings)
def test_long_base64_never_stays(size: int, before: str, after: str) -> None:
    body = f"{before} {'Ab1+' * 10_000}"[: len(before) + 1 + size] + f" {after}"

    assert "Ab1+" * 128 not in body_excerpt(body.encode("utf-8", "replace"), "text/plain", LIMIT)


def test_text_around_base64_stays() -> None:
    texts = ["first ", " second ", " third, the last"]
    body = PNG_BASE64.join(texts)

    assert body_excerpt(body.encode(), "text/plain", LIMIT) == PNG_KEPT.join(texts)


def test_text_after_very_long_base64_stays() -> None:
    """It is too long to be read whole."""
    kept = body_excerpt(f"first {PNG_BASE64 * 10}, the last words".encode(), "text/plain", LIMIT)

    assert kept.startswith("first <base64 image/png, 345,6")
    assert kept.endswith(" bytes>, the last words")


def test_base64_where_one_look_ends_and_the_next_begins() -> None:
    url = b"data:text/plain;base64,aGVsbG8="
    for size in range(60, 110):
        kept, _ = elide(b"A" * 600 + b" " * size + url + b" " * 500, 100 + 600)
        assert b"<base64 text/plain, 5 bytes>" in kept


# The cut


def test_a_long_body_is_cut_and_says_so() -> None:
    assert body_excerpt(b"a b " * 10_000, "text/plain", 100) == "a b " * 25 + "… <39,900 bytes cut>"


def test_it_is_cut_between_characters() -> None:
    kept = body_excerpt("日本".encode() * 5000, "text/plain", 100)

    assert kept.startswith("日本" * 16 + "日… <")
    assert "\ufffd" not in kept


def test_the_limit_counts_what_is_kept_not_what_came() -> None:
    assert "whole" in keep([{"b64_json": PNG_BASE64}, "the text is whole"], 100)


@pytest.mark.parametrize("secret", [*TOKENS, SECURITY_KEY])
@pytest.mark.parametrize("where", [0, 1, 3, 10, 30])
@pytest.mark.parametrize("after", ["", " and more" * 5, " and more" * 5000])
def test_a_secret_at_the_cut_is_taken_out_whole(secret: str, where: int, after: str) -> None:
    before = "some words " * 50
    kept = body_excerpt(f"{before}{secret}{after}".encode(), "text/plain", len(before) + where, EXTRA)

    assert kept.startswith(before)
    assert secret[:6] not in kept


@pytest.mark.parametrize("content_type", [JSON, FORM])
def test_nothing_of_a_secret_that_the_margin_halves_comes_out(content_type: str) -> None:
    """Redaction shortens: what was far behind the cut must not move before it."""
    looked_at = 1000 + SLACK + max(MARGIN, 16 * max(map(len, EXTRA)))
    for size in range(looked_at - 60, looked_at + 5):
        body = f'{{"api_key":"{("x " * size)[:size]}","a":"{SECURITY_KEY}", "b":"{"y " * 5000}"}}'.encode()
        if content_type == FORM:
            body = form(('name="a"', body), end=b"")
        kept = body_excerpt(body, content_type, 1000, EXTRA)
        assert SECURITY_KEY[:6] not in kept
        assert kept.endswith(" bytes cut>")


@given(st.binary(max_size=300) | surroundings.map(lambda text: text.encode("utf-8", "replace")), st.integers(0, 400))
@pytest.mark.parametrize("content_type", [JSON, FORM, "text/plain", "", "application/x-www-form-urlencoded"])
def test_anything_is_kept_bounded_and_storable(content_type: str, body: bytes, limit: int) -> None:
    kept = body_excerpt(body, content_type, limit, EXTRA)

    assert "\0" not in kept
    assert len(kept.encode()) <= limit + MAX_NOTE_BYTES


@given(st.text(), st.binary(), st.integers(-1, 100))
def test_any_content_type_will_do(content_type: str, body: bytes, limit: int) -> None:
    body_excerpt(body, content_type, limit)
    body_excerpt(b"--XbX\r\n" + body, f"{FORM}; {content_type}", limit)


# Secrets

PLACES = [
    lambda secret: {"prompt": f"My key is {secret}."},
    lambda secret: {"prompt": f"See https://x.test/?security_key={secret}&a=b"},
    lambda secret: {"prompt": f"line\n{secret}\tline"},
    lambda secret: {"a": [{"b": {"c": secret}}]},
    lambda secret: {"arguments": json.dumps({"arguments": json.dumps({"key": secret})})},
    lambda secret: {"url": f"data:image/png;base64,{PNG_BASE64} {secret}"},
    lambda secret: {"text": f"{PNG_BASE64}{secret}{PNG_BASE64}"},
    lambda secret: {"text": f"{PNG_BASE64}\n{secret}\n{PNG_BASE64}"},
    lambda secret: {secret: 1},
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("secret", [*TOKENS, SECURITY_KEY])
@pytest.mark.parametrize("escape", [str, as_unicode_escapes, quote])
def test_no_secret_is_kept_in_json(secret: str, place: Any, escape: Any) -> None:
    body = json.dumps(place("SECRET")).replace("SECRET", escape(secret))
    kept = body_excerpt(body.encode(), JSON, LIMIT, EXTRA)

    assert escape(secret) not in kept
    assert secret[-12:] not in kept


@given(surroundings, st.sampled_from([*TOKENS, SECURITY_KEY]), surroundings, st.integers(1, 600))
@pytest.mark.parametrize("content_type", [JSON, FORM, "application/x-www-form-urlencoded"])
def test_a_planted_secret_is_never_kept(content_type: str, before: str, secret: str, after: str, limit: int) -> None:
    content = f"{before}{secret}{after}".encode("utf-8", "replace")
    body = form(('name="prompt"', content), ('name="model"', b"x")) if content_type == FORM else content

    assert secret not in body_excerpt(body, content_type, limit, EXTRA)


@given(st.text(st.characters(exclude_characters="=:%\\-", exclude_categories=["Cs"]), max_size=200))
def test_a_prompt_without_secrets_is_kept_whole(prompt: str) -> None:
    kept = keep({"messages": [{"role": "user", "content": prompt}]})

    if "bearer" not in prompt.lower():
        assert json.loads(kept)["messages"][0]["content"] == prompt
