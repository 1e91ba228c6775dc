"""Large bodies are read beside the event loop and within bounds, as small ones are read, and pass unchanged."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import read_json_body
from proxyapi.bodies.json_members import decode, encode, read_object
from proxyapi.bodies.large_bodies import LARGE_BYTES, MAX_MARKS, MAX_VALUES, check_bounds, outside_strings
from proxyapi.bodies.received_object import edited, parse_object
from proxyapi.exceptions import BadJSON, BodyTooLarge, ProxyError
from tests.simulator.server import Simulator
from tests.support.inputs.json_texts import Pairs, documents, write
from tests.support.servers.gateway import SECURITY_KEY, Gateway

chances = st.randoms(use_true_random=False)
HEADERS = {"authorization": f"Bearer {SECURITY_KEY}", "content-type": "application/json"}
BIG = 4 * LARGE_BYTES
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


@contextmanager
def large_from(size: int) -> Iterator[None]:
    """Every body of more than `size` bytes is read as a large one, in slices of a few bytes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large_bodies, "LARGE_BYTES", size)
        patched.setattr(large_bodies, "SLICE_BYTES", 3)
        yield


def outcome(body: bytes) -> Any:
    try:
        parsed = parse_object(body)
    except ProxyError as error:
        return error.words
    return repr(parsed), json.loads(edited(parsed, parsed).raw)


@given(documents, chances, st.integers(0), st.sampled_from(["", "", ",", "}", '"', " ", "x", "\ufeff", "\\", "NaN"]),
       st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-32-le"]))  # fmt: skip
@example(Pairs([("a", "\ud83d")]), Random(0), 0, "", "utf-8")
@example(Pairs([("a", 1), ("b", 2), ("a", [3])]), Random(0), 0, "", "utf-8-sig")
def test_the_reader_of_large_bodies_agrees_with_that_of_small_ones(
    pairs: Pairs, chance: Random, place: int, put: str, encoding: str
) -> None:
    text = write(pairs, chance)
    place %= len(text) + 1
    body = (text[:place] + put + text[place + (not put) :]).encode(encoding, "surrogatepass")
    small = outcome(body)
    with large_from(-1):
        large = outcome(body)

    assert isinstance(large, str) == isinstance(small, str)
    assert isinstance(large, str) or large == small


@given(documents, chances)
def test_members_of_a_large_body_have_exact_places(pairs: Pairs, chance: Random) -> None:
    text = write(pairs, chance)
    with large_from(-1):
        members = read_object(text)

    assert [(member.name, member.value) for member in members] == [
        (name, json.loads(json.dumps(value)) if not isinstance(value, Pairs) else member.value)
        for (name, value), member in zip(pairs, members, strict=True)
    ]
    for member in members:
        assert json.loads(text[member.value_start : member.end], strict=False) == member.value


@given(st.binary())
@example(b"\xed\xa0\xbd\xff\xc0\xaf\xf0\x9f")
def test_any_bytes_come_back(data: bytes) -> None:
    with large_from(-1):
        text = decode(data)

    assert text == data.decode("utf-8", "surrogateescape")
    assert encode(text) == data


@given(documents, chances, st.integers(1, 9))
def test_marks_are_counted_outside_of_strings_only(pairs: Pairs, chance: Random, size: int) -> None:
    text = write(pairs, chance).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(large_bodies, "SLICE_BYTES", size)

        assert b"".join(outside_strings(text)).replace(b'"', b"") == STRING.sub(b"", text)


WITHIN = {
    "tokens to embed": b'{"input": [[%s]]}' % b",".join([b"100257"] * 300_000),
    "a table in a string": b'{"input": "%s"}' % (b"1,2:[3]{," * 400_000),
    "as many values": b'{"input": [%s]}' % b",".join([b"1"] * MAX_VALUES),
    "a picture": b'{"image": "%s"}' % (b"QUJD" * 2_000_000),
    "a picture as PHP writes it": b'{"image": "%s"}' % (rb"QU\/D" * 1_500_000),
    "not UTF-8": b'{"input": "%s"}' % (b"\xff" * BIG),
}
BEYOND = {
    "values": (b'{"input": [%s]}' % b",".join([b"1"] * (MAX_VALUES + 2)), "1,000,000 JSON values"),
    "strings": (b'{"input": [%s]}' % b",".join([b'""'] * MAX_MARKS), "400,000 JSON strings"),
    "arrays": (b'{"input": [%s]}' % b",".join([b"[]"] * MAX_MARKS), "400,000 JSON strings"),
    "objects": (b'{"input": [%s]}' % b",".join([b"{}"] * MAX_MARKS), "400,000 JSON strings"),
    "members": (b'{"input": {%s}}' % b",".join([b'"a":1'] * MAX_MARKS), "400,000 JSON strings"),
    "levels": (b'{"input": %s' % (b"[" * 25_000_000), "400,000 JSON strings"),
    "escapes": (b'{"input": "%s"}' % (rb"\n" * 2_000_001), "2,000,000 escapes"),
    "in UTF-16": (b'{"input": [%s]}'.decode().replace("%s", "[]," * MAX_MARKS + '"∢"').encode("utf-16"), "members"),
}  # fmt: skip


@pytest.mark.parametrize("body", WITHIN.values(), ids=WITHIN)
def test_an_honest_body_is_within_the_bounds(body: bytes) -> None:
    check_bounds(body)


@pytest.mark.parametrize(("body", "words"), BEYOND.values(), ids=BEYOND)
def test_a_body_beyond_the_bounds_is_refused_before_it_is_parsed(body: bytes, words: str) -> None:
    with pytest.raises(BodyTooLarge, match=words):
        parse_object(body)


@pytest.mark.parametrize("number", [b"9" * 4299, b"1." + b"9" * 4000])
def test_long_numbers_have_a_bound_together(number: bytes) -> None:
    few, many = (b'{"a": [%s]}' % b",".join([number] * count) for count in (100, 3000))

    assert parse_object(few)["a"] == [json.loads(number)] * 100
    with pytest.raises(BadJSON, match="a number is out of range"):
        parse_object(many)


async def test_a_large_body_is_read_beside_the_event_loop() -> None:
    threads: list[threading.Thread] = []
    sizes = [LARGE_BYTES, LARGE_BYTES + 1]
    for size in sizes:
        threads.append(await large_bodies.run(size, threading.current_thread))

    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


async def test_what_was_begun_is_known_even_if_the_caller_leaves() -> None:
    may_end, has_begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    known: list[str] = []

    def work() -> str:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait()
        return "usage"

    call = asyncio.create_task(large_bodies.run_to_the_end(BIG, work, then=known.append))
    await has_begun.wait()
    call.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert known == ["usage"]


async def test_policy_reads_a_large_body_of_any_spacing() -> None:
    body = b'{"model": %s"m", "n": 1}' % (b" " * BIG)
    read = await read_json_body(body, "application/json")

    assert read.values("model") == ["m"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai", "/v1/responses", "/openai2", "/v1/embeddings",
                                  "/embeddings"])  # fmt: skip
def test_very_many_values_are_refused_on_both_apis(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.http.post(path, content=b'{"input":[%s[]]}' % (b"[]," * 2_000_000), headers=HEADERS)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert "400,000 JSON strings, members, objects and arrays" in answer.json()["error"]["message"]
    assert simulator.requests == []


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_a_large_body_reaches_upstream_as_it_was_sent(gateway: Gateway, simulator: Simulator, path: str) -> None:
    tokens = b"[%s ]" % b", ".join([b"100257"] * 60_000)
    more = rb'"user": "\u00e9\/ 1e5", "dimensions": 8, "x": 1E2'
    body = b'{"model": "text-embedding-3-small", "input": %s, %s}' % (tokens, more)
    assert len(body) > LARGE_BYTES

    gateway.http.post(path, content=body, headers=HEADERS)

    [sent] = simulator.requests
    assert tokens in sent.body
    assert rb"\u00e9\/ 1e5" in sent.body
    assert json.loads(sent.body) == json.loads(body)
    assert path == "/embeddings" or sent.body == body
