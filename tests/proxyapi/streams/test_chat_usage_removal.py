"""The usage that the gateway asked for is taken out of streamed chat completions; no other byte changes."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.streams import chat_usage_removal
from proxyapi.streams.chat_usage_removal import remove_usage
from proxyapi.streams.sse import DONE, EventFramer
from tests.support.inputs.json_texts import scalars, values
from usage.answers import event_stream

# A stream as upstream would have sent it, and as it sends it with usage.

names = st.sampled_from(["id", "object", "created", "model", "service_tier", "system_fingerprint", "x", "größe"])
layouts = st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")])
ends = st.sampled_from(["\n", "\r\n"])
befores = st.sampled_from(["", "event: chunk{end}", ": a comment{end}", "id: 1{end}retry: 5{end}", 'id: "usage"{end}'])
spaces = st.sampled_from(["", " "])
choices = st.lists(values.map(str).map(lambda text: {"index": 0, "delta": {"content": text}}), min_size=1, max_size=2)
texts = st.sampled_from(["", ',"usage":null}', '"usage": null', '{"choices":[],"usage":{}}', "data: [DONE]"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, bytes]:
    layout, end, space = draw(layouts), draw(ends), draw(spaces)
    without, with_ = [], []

    def event(before: str, pairs: list[tuple[str, Any]]) -> bytes:
        written = json.dumps(dict(pairs), ensure_ascii=False, separators=layout)
        return f"{before.format(end=end)}data:{space}{written}{end}{end}".encode()

    for _ in range(draw(st.integers(0, 4))):
        before = draw(befores)
        delta = {"index": 0, "delta": {"content": draw(texts)}}
        pairs = [*draw(st.dictionaries(names, scalars_in_utf8, max_size=4)).items(), ("choices", [delta])]
        if draw(st.booleans()):
            pairs.append(("obfuscation", draw(st.sampled_from(["", "aB3", 'q"\\']))))
        pairs = draw(st.permutations(pairs))
        without.append(event(before, pairs))
        at = draw(st.integers(0, len(pairs)))
        with_.append(event(before, [*pairs[:at], ("usage", None), *pairs[at:]]))
    if draw(st.booleans()):
        usage: list[tuple[str, Any]] = [("choices", []), ("usage", {"prompt_tokens": 1, "usage": None}), ("id", "x")]
        with_.append(event(draw(befores), draw(st.permutations(usage))))
    done = DONE.replace(b"\n", end.encode()).replace(b" ", space.encode())
    return b"".join([*with_, done]), b"".join([*without, done])


scalars_in_utf8 = scalars.filter(lambda value: not isinstance(value, str) or value.isprintable())


@given(streams())
def test_the_caller_sees_what_it_would_have_seen(both: tuple[bytes, bytes]) -> None:
    with_, without = both

    assert remove_usage(with_) == without
    assert remove_usage(without) == without


@pytest.mark.parametrize("layout", [(",", ":"), (", ", ": "), (",\t", " :  ")])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("place", range(6))
def test_spaces_and_the_order_of_members_cost_nothing(place: int, end: bytes, layout: tuple[str, str]) -> None:
    """One search finds the field in events of one line; splitting and parsing them would take four times as long."""
    logprobs = {"content": [{"token": "}", "top_logprobs": [{"token": '"{', "bytes": [1, 2]}]}]}
    choice = {"index": 0, "delta": {"content": '[{"'}, "logprobs": logprobs, "finish_reason": None}
    members = [("id", "x"), ("created", 1), ("choices", [choice, choice]), ("timings", {"a": {}}), ("obfuscation", "{")]

    def event(pairs: list[tuple[str, Any]]) -> bytes:
        return b"data: " + json.dumps(dict(pairs), separators=layout).encode() + end + end

    asked = event([*members[:place], ("usage", None), *members[place:]])
    with patch.object(event_stream, "split", side_effect=AssertionError("the events were split")):
        assert remove_usage(asked * 3) == event(members) * 3


@given(streams())
def test_all_ways_to_remove_it_agree(both: tuple[bytes, bytes]) -> None:
    each = [chunk + b"\n\n" for chunk in both[0].split(b"\n\n")] if b"\r" not in both[0] else [both[0]]
    quickly = [remove_usage(chunk) for chunk in each]
    with patch.object(chat_usage_removal, "_SPELLINGS", ()):
        by_a_search = [remove_usage(chunk) for chunk in each]
        with patch.object(chat_usage_removal, "_USUAL", re.compile(b"nothing is usual")):
            slowly = [remove_usage(chunk) for chunk in each]

    assert quickly == slowly
    assert by_a_search == slowly


@pytest.mark.parametrize("field", [b',"usage":null', b', "usage": null'])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b'data: {"id":"x"', b"}\n\n"),
        (b'data: {"id":"x"', b',"obfuscation":"a{["}\n\n'),
        (b'data: {"id":"x"', b"\n}\n\n"),
        (b'data: {"id":"x"', b"}\nx\n"),
        (b'data: {"id":"x"', b"}\n\r"),
        (b'data: {"id":"x"', b"}\r\n"),
        (b'data: {"id":"x" ', b"}\n\n"),
        (b'data: {"a":{"id":"x"', b"}}\n\n"),
        (b'data: {"a":{"id":"x"', b',"b":"}"}}\n\n'),
        (b'id: 1\ndata: {"id":"x"', b"}\n\n"),
        (b'data:{"id":"x"', b"}\n\n"),
        (b'data: ["x"', b"]\n\n"),
    ],
)
def test_only_what_is_plain_is_found_without_a_pattern(before: bytes, field: bytes, behind: bytes) -> None:
    chunk = before + field + behind
    quickly = remove_usage(chunk)
    with patch.object(chat_usage_removal, "_SPELLINGS", ()):
        assert quickly == remove_usage(chunk)


def test_very_many_such_fields_are_read_in_one_go() -> None:
    """If each were followed by a search to the end of the event, this would take minutes."""
    event = b'data: {"a":[' + b'{"b":1,"usage":null},' * 40_000 + b"\n\n"

    assert remove_usage(event) == event


@given(streams(), st.randoms(use_true_random=False))
def test_it_does_so_however_the_stream_arrives(both: tuple[bytes, bytes], chance: Random) -> None:
    with_, without = both
    framer, shown = EventFramer(), b""
    while with_:
        size = chance.randint(1, 40)
        shown += remove_usage(framer.feed(with_[:size]))
        with_ = with_[size:]

    assert shown + remove_usage(framer.flush()) == without


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"index":0}],"usage":{"total_tokens":3}}\n\n',  # as other servers say it
        b'data: {"usage":null\n\n',
        b'data: {"error":{"message":"m","usage":null}}\n\n',
        b'data: {"error":{"message":"m"},"x":{"a":1,"usage":null}}\n\n',
        b'data: ["usage",null]\n\n',
        b': ,"usage": null}\n\n',
        b'data: {"choices":[],"prompt_filter_results":[{"usage":1}]}\n\n',
        b'data: {"choices":[],"usage":3}\n\n',
        b'data: {"usage":' + b"[" * 100_000 + b"\n\n",
        b'data: \xff{"usage":null}\n\n',
    ],
)
def test_what_we_did_not_ask_for_stays(event: bytes) -> None:
    assert remove_usage(event) == event


def test_a_field_of_bytes_that_are_no_text_goes_too() -> None:
    assert remove_usage(b'data: {"a":"\xff\xed\xa0\xbd","usage": null, "b":"\xfe"}\n\n') == (
        b'data: {"a":"\xff\xed\xa0\xbd", "b":"\xfe"}\n\n'
    )
    assert remove_usage(b'data: {"usage":null}\n\n') == b"data: {}\n\n"
