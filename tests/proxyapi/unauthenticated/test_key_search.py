"""A key in a body is found without a parser: only where one can be, however it is cut and spelled, at few places."""

from __future__ import annotations

import json

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys.callers import Caller
from proxyapi.keys.keyring import keyring
from proxyapi.unauthenticated.key_search import MAX_PLACES, KeySearch

KEY = 'cp-a/b"c\\d<e>&f+g=h'
LOOKED_UP: list[str] = []


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `KEY` is one; `LOOKED_UP` has the texts that were asked for."""

    def find(text: str) -> Caller | None:
        LOOKED_UP.append(text)
        return Caller("somebody") if text == KEY else None

    LOOKED_UP.clear()
    monkeypatch.setattr(keyring, "find", find)


def finds(body: bytes, *, is_form: bool = False) -> bool:
    return KeySearch(is_form=is_form).finds_key(body, is_last=True)


def form(field: str) -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {field}\r\n--b--\r\n".encode()


PLAIN = json.dumps(KEY)
SPELLINGS = {
    "Python": PLAIN,
    "PHP": PLAIN.replace("/", "\\/"),
    "Go": PLAIN.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
    ".NET": PLAIN.replace('\\"', "\\u0022").replace("<", "\\u003C").replace("+", "\\u002B"),
    "Gson": PLAIN.replace("=", "\\u003d").replace("&", "\\u0026"),
    "all": '"' + "".join(f"\\u{ord(character):04x}" for character in KEY) + '"',
}


@pytest.mark.parametrize("writer", SPELLINGS)
@pytest.mark.parametrize("colon", [":", ": ", " :\n\t"])
def test_a_member_is_found_however_it_is_written(writer: str, colon: str) -> None:
    body = '{"a":[1],"security_key"' + colon + SPELLINGS[writer] + "}"

    assert json.loads(body)["security_key"] == KEY
    assert finds(body.encode())
    assert len(LOOKED_UP) == 1


@pytest.mark.parametrize(
    "field",
    [
        f'name="security_key"\r\n\r\n{KEY}',
        f"name=security_key\r\n\r\n{KEY}",
        f'name="security_key"\r\nContent-Type: text/plain; charset=utf-8\r\nX: y\r\n\r\n{KEY}',
        f'name="security_key"; x=y\r\n\r\n{KEY}',
    ],
    ids=["usual", "unquoted", "with-headers", "with-parameters"],
)
def test_a_field_is_found(field: str) -> None:
    assert finds(form(field), is_form=True)
    assert len(LOOKED_UP) == 1


def test_a_file_of_that_name_is_no_field() -> None:
    assert not finds(form(f'name="security_key"; filename="key.txt"\r\n\r\n{KEY}'), is_form=True)
    assert LOOKED_UP == []


@given(st.data(), st.binary(max_size=50), st.booleans())
def test_it_is_found_wherever_the_body_is_cut(data: st.DataObject, before: bytes, is_form: bool) -> None:
    body = before + (form(f'name="security_key"\r\n\r\n{KEY}') if is_form else b'"security_key": ' + PLAIN.encode())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    search = KeySearch(is_form=is_form)

    assert any(search.finds_key(piece, is_last=number == len(cuts)) for number, piece in enumerate(pieces))


@pytest.mark.parametrize(
    "body",
    [
        f'{{"prompt": "my key is {KEY}"}}',
        json.dumps({"prompt": json.dumps({"security_key": KEY})}),
        json.dumps({"prompt": f"security_key: {KEY}"}),
        json.dumps({"security_key": None}),
        json.dumps({"security_key": [KEY]}),
        '{"security_key": "cp-a',
        f"--b\r\nContent-Disposition: form-data; name=security_key\r\n\r\n{KEY}\r\n--b--",
    ],
)
def test_it_is_not_looked_for_elsewhere(body: str) -> None:
    assert not finds(body.encode())
    assert KEY not in LOOKED_UP


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
@pytest.mark.parametrize(
    ("place", "is_form"),
    [
        (b'"security_key":"cp-x",', False),
        (b'"security_key"', False),
        (b'"security_key":"' + b"\\\\" * 400, False),
        (form('name="security_key"\r\n\r\ncp-x'), True),
        (b'name="security_key"', True),
        (b"cp-" + b"x" * 43, False),
    ],
)
def test_a_flood_costs_a_few_digests(place: bytes, is_form: bool, size: int) -> None:
    flood = place * max(1, 20_000 // len(place))
    search = KeySearch(is_form=is_form)
    for start in range(0, len(flood), size):
        assert not search.finds_key(flood[start : start + size], is_last=start + size >= len(flood))
        assert len(search._kept) <= search._longest

    assert len(LOOKED_UP) <= MAX_PLACES


@given(st.binary(max_size=500), st.booleans())
def test_any_bytes_can_be_searched(body: bytes, is_form: bool) -> None:
    assert not KeySearch(is_form=is_form).finds_key(body, is_last=True)


def test_the_longest_key_is_found_when_all_of_it_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "k" * 200
    monkeypatch.setattr(settings, "SECURITY_KEY", key)
    monkeypatch.setattr(keyring, "find", {key: Caller(SECURITY_KEY_NAME)}.get)
    body = '{"security_key":"' + "".join(f"\\u{ord(character):04x}" for character in key) + '"}'

    assert finds(body.encode())
