"""The excerpt of a form: a line for each part, without secrets and files, and nothing of a form that cannot be read."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.support.inputs.kept_bodies import FORM, LIMIT, PNG_BASE64, form
from tests.support.inputs.secrets import TOKENS
from tests.support.ledger.excerpts import body_excerpt
from usage.kept_bodies.body_excerpts import MAX_NOTE_BYTES
from usage.kept_bodies.redaction import REDACTED

PNG_KEPT = "<base64 image/png, 34,560 bytes>"


def test_a_form_is_kept_as_lines() -> None:
    audio = b"ID3" + bytes(120)
    body = form(
        ('name="file"; filename="a b.mp3"\r\nContent-Type: audio/mpeg', audio),
        ('name="prompt"', "два\r\nlines".encode()),
        ('name="empty"', b""),
        ("name=bare", b"x"),
        ('name="f2"; filename=""', b""),
    )

    assert body_excerpt(body, FORM.replace("XbX", '"XbX"'), LIMIT).splitlines() == [
        "file: <a b.mp3, audio/mpeg, 123 bytes>",
        "prompt: два",
        "lines",
        "empty: ",
        "bare: x",
        "f2: <, application/octet-stream, 0 bytes>",
    ]


def test_a_secret_in_a_form_is_found_anywhere() -> None:
    body = form(
        (f'name="file"; filename="{TOKENS[0]}.mp3"', b"x"), (f'name="{TOKENS[1]}"', f"a {TOKENS[3]} b".encode())
    )

    kept = body_excerpt(body, FORM, LIMIT)
    assert kept == f"file: <{REDACTED}.mp3, application/octet-stream, 1 bytes>\n{REDACTED}: a {REDACTED} b"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_secret_in_a_field_of_another_encoding_is_not_kept(encoding: str) -> None:
    """Between its letters there is a NUL each, so it would be read by people, and not found."""
    body = form(('name="prompt"', TOKENS[0].encode(encoding)), ('name="last"', b"x"))

    size = len(TOKENS[0].encode(encoding))
    assert body_excerpt(body, FORM, LIMIT).splitlines() == [f"prompt: <binary, {size:,} bytes>", "last: x"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--XbX\r\n...security_key=hunter2", "multipart/form-data"),
        (b"--other\r\n\r\nsecurity_key=hunter2", FORM),
        (form(('name="security_key"', b"hunter2")), "multipart/form-data; boundary=other"),
    ],
)
def test_a_form_that_cannot_be_read_is_not_kept(body: bytes, content_type: str) -> None:
    assert body_excerpt(body, content_type, LIMIT) == f"<multipart/form-data, {len(body)} bytes>"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (form(('name="a"', b"b"), end=b""), "a: b"),
        (form(('name="a"', b"b"), end=b"\r\n--XbX\r\nhalf a head"), "a: b\n<not a part, 11 bytes>"),
        (b"--XbX\r\n\r\nno head\r\n--XbX--", "?: no head"),
        (form(('name="a"', b"b"), end=b"\r\n--XbX\r\nX: y\r\n\r\nc\r\n--XbX--"), "a: b\n?: c"),
    ],
)
def test_an_odd_form_is_kept_as_far_as_it_goes(body: bytes, kept: str) -> None:
    assert body_excerpt(body, FORM, LIMIT) == kept


def test_a_long_form_is_cut() -> None:
    body = form(('name="a"', b"x y " * 5000), ('name="security_key"', b"hunter2"), ('name="b"', b"y"))

    kept = body_excerpt(body, FORM, 100)
    assert kept.startswith("a: x y x y ")
    assert kept.endswith(" bytes cut>")
    assert len(kept.encode()) < 100 + MAX_NOTE_BYTES
    assert (
        body_excerpt(form(('name="a"', PNG_BASE64.encode()), ('name="b"', b"y")), FORM, 100) == f"a: {PNG_KEPT}\nb: y"
    )


@pytest.mark.parametrize("name", ["security_key", "openai_api_key", "API_KEY", "x[access_token]", "security%5Fkey"])
@pytest.mark.parametrize("value", ["hunter2", 'a "b" c', "a\r\nb"])
def test_no_secret_is_kept_of_a_form(name: str, value: str) -> None:
    body = form(('name="model"', b"whisper-1"), (f'name="{name}"', value.encode()), ('name="a"', b"b"))

    assert body_excerpt(body, FORM, LIMIT) == f"model: whisper-1\n{name}: {REDACTED}\na: b"
    fields = urlencode({"model": "x", name: value, "a": "b"}).encode()
    assert REDACTED in (kept := body_excerpt(fields, "application/x-www-form-urlencoded", LIMIT))
    assert value[:3] not in kept
    raw = f'model=x&security_key={value}"<>&a=b'.encode()
    kept = body_excerpt(raw, "application/x-www-form-urlencoded", LIMIT)
    assert kept == f"model=x&security_key={REDACTED}&a=b"
