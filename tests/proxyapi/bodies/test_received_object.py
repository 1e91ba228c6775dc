"""What the simple API takes out of a JSON body, or puts into it, leaves every other byte as its caller wrote it."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxyapi.bodies import large_bodies
from proxyapi.bodies.received_object import edited, parse_object
from proxyapi.exceptions import BadJSON
from tests.support.inputs.json_texts import Pairs, documents, write

chances = st.randoms(use_true_random=False)
CHANGED: list[object] = ["made here"]


def cut(text: str, *names: str, **put: object) -> str:
    """The body that goes upstream without these members, and with others."""
    received = parse_object(text.encode())
    wanted = {name: value for name, value in received.items() if name not in names} | put
    return edited(received, wanted).raw.decode()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{"k": 1, "a": 2, "b": 3}', '{"a": 2, "b": 3}'),
        ('{"a": 2, "k": 1,\n "b": 3}', '{"a": 2, "b": 3}'),
        ('{"a": 2, "b": 3, "k": 1 }', '{"a": 2, "b": 3 }'),
        ('{"k": 1, "k": 2, "a": 2 , "k": 3,"b":3,"k":4}', '{"a": 2 , "b":3}'),
        ('{ "k": 1 }', "{  }"),
        (' {"k": {"k": [1, "}"]}, "a": {"k": 1}} ', ' {"a": {"k": 1}} '),
        (r'{"\u006b": 1, "a": "k"}', '{"a": "k"}'),
        ('{"é": 1, "k": "ü", "a": "✓ 🦄"}', '{"é": 1, "a": "✓ 🦄"}'),
    ],
)
def test_a_member_goes_with_one_comma(text: str, left: str) -> None:
    assert cut(text, "k") == left


@pytest.mark.parametrize(
    ("text", "names", "put", "left"),
    [
        ("{}", (), {"a": 1}, '{"a":1}'),
        (' {"k": 1} ', ("k",), {"a": 1, "b": "é"}, ' {"a":1,"b":"\\u00e9"} '),
        ('{"b": 1e2, "k": 1}', ("k",), {"a": [1]}, '{"a":[1],"b": 1e2}'),
        ('{"a": 1, "b": 2}', (), {"a": None}, '{"a": null, "b": 2}'),
        ('{"a" : 1, "a": 2 , "b": 2}', (), {"a": {"c": 0.5}}, '{"a": {"c":0.5} , "b": 2}'),
    ],
)
def test_a_member_is_put_in_its_place(text: str, names: tuple[str, ...], put: dict[str, Any], left: str) -> None:
    assert cut(text, *names, **put) == left


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1E2, "b":-0.0,"c": 12345678901234567890123, "d": 1.10}',
        r'{"a": "\u00e9\/\ud83d", "b": "é ✓"}',
        '{"tools": [{"type": "a", "type": "b"}]}',
        '\n{ "a"\t: [ ] }\n',
    ],
)
def test_what_has_nothing_of_ours_is_not_copied(text: str) -> None:
    body = text.encode()
    received = parse_object(body)

    assert edited(received, received).raw is body


def test_of_a_name_given_twice_the_value_that_was_checked_goes_up() -> None:
    received = parse_object(b'{"model": "dear", "n": 1, "model": "cheap"}')

    assert received["model"] == "cheap"
    assert edited(received, received).raw == b'{"n": 1, "model": "cheap"}'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-le"])
def test_another_encoding_goes_up_as_utf_8(encoding: str) -> None:
    received = parse_object('{"k": 1, "a": "é🦄"}'.encode(encoding))

    assert edited(received, received).raw.decode() == '{"k": 1, "a": "é🦄"}'
    assert edited(received, {"a": received["a"]}).raw.decode() == '{"a": "é🦄"}'


def test_a_surrogate_that_is_not_utf_8_goes_up_as_an_escape() -> None:
    received = parse_object(b'{"k": 1, "a": "\xed\xa0\xbd\xed\xb8\x80 \xc3\xa9 \xed\xa0\x80"}')
    escaped = b'"a": "\\ud83d\\ude00 \xc3\xa9 \\ud800"}'

    assert edited(received, received).raw == b'{"k": 1, ' + escaped
    assert edited(received, {"a": received["a"]}).raw == b"{" + escaped


@pytest.mark.parametrize(
    "body", [b"\xff", b'{"a": "\xe9"}', '{"a": 1}'.encode("utf-16")[:-1], b'{"a": "\\\xed\xa0\x80"}']
)
def test_what_no_reader_understands_is_refused(body: bytes) -> None:
    with pytest.raises(BadJSON):
        parse_object(body)


@given(documents, chances, st.sets(st.sampled_from(["model", "stream", "usage", "", "a\nb"])), st.booleans())
@example(Pairs([("a", "\ud83d"), ("model", "é")]), Random(0), {"model"}, True)
def test_all_that_stays_is_as_its_caller_wrote_it(
    pairs: Pairs, chance: Random, names: set[str], is_large: bool
) -> None:
    """Whatever is cut, changed and added: the same members are left, in the same words."""
    text = write(pairs, chance)
    with pytest.MonkeyPatch.context() as patched:
        if is_large:
            patched.setattr(large_bodies, "LARGE_BYTES", -1)
            patched.setattr(large_bodies, "SLICE_BYTES", 3)
        try:
            received = parse_object(text.encode("utf-8", "surrogatepass"))
        except BadJSON:  # a control character in a string
            assume(False)
        written = {member.name: received.text[member.start : member.end] for member in received.members}
        wanted = {name: value for name, value in received.items() if name not in names}
        if wanted and chance.random() < 0.5:
            wanted[next(iter(wanted))] = CHANGED
        wanted |= {"added": 1} if chance.random() < 0.5 else {}
        result = edited(received, wanted)

    sent = result.raw.decode()
    assert json.loads(sent) == wanted
    assert {name: [value] for name, value in wanted.items()} == result.by_name
    for name, value in wanted.items():
        if value is not CHANGED and name in written:
            assert written[name].encode("utf-8", "backslashreplace").decode() in sent
