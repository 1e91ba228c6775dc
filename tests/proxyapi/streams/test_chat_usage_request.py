"""Usage is asked for in streamed chat completions; no other byte of their bodies changes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from proxyapi.bodies.json_body import JSONBody
from proxyapi.bodies.json_members import MAX_MEMBERS
from proxyapi.streams.chat_usage_request import ask_for_usage
from tests.support.inputs.json_texts import Pairs, documents, scalars, values, write

ASKED = '"include_usage":true'


def asked(text: str) -> str | None:
    longer = ask_for_usage(JSONBody.parse(text.encode("utf-8", "surrogatepass")))
    return None if longer is None else longer.raw.decode("utf-8", "surrogatepass")


@st.composite
def bodies(draw: st.DrawFn) -> str:
    """Bodies with `stream_options` of any kind, often twice."""
    flags = st.lists(st.tuples(st.sampled_from(["include_usage", "include_obfuscation", "x"]), scalars), max_size=3)
    options = st.one_of(st.none(), flags.map(Pairs), st.just(Pairs([("include_usage", False)])), values)
    given = draw(st.lists(st.tuples(st.just("stream_options"), options), max_size=2))
    pairs = [*draw(documents), *given]
    return write(Pairs(draw(st.permutations(pairs))), draw(st.randoms(use_true_random=False)))


@given(bodies())
def test_only_the_wish_is_added(text: str) -> None:
    before = json.loads(text, strict=False)
    options = before.get("stream_options")
    longer = asked(text)

    if options is not None and not isinstance(options, dict):
        assert longer is None
        return
    wanted = (options or {}).get("include_usage")
    if wanted is not None and wanted is not False:
        assert longer is None
        return
    assert longer is not None
    after = json.loads(longer, strict=False)
    assert after == {**before, "stream_options": {**(options or {}), "include_usage": True}}


@given(bodies())
def test_every_other_byte_of_the_body_stays(text: str) -> None:
    longer = asked(text)
    if longer is None:
        return
    start = common_start(text, longer)
    end = common_start(text[start:][::-1], longer[start:][::-1])

    assert text[start : len(text) - end] in {"", "null", "fals"}  # `false` and `true` have a letter in common


def test_options_with_too_many_members_stay() -> None:
    members = ",".join(['"a":1'] * (MAX_MEMBERS + 1))

    assert asked('{"stream_options":{' + members + "}}") is None


def common_start(one: str, other: str) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
