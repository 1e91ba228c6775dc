"""An answer that no strict parser reads, or that is too large to parse, is read all the same as far as it goes."""

from __future__ import annotations

import json
import re
from random import Random

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tests.support.inputs.json_texts import Pairs, documents, write
from tests.support.inputs.odd_json import ODD
from usage.answers import event_stream, json_outline
from usage.answers.json_outline import read_end, read_outline
from usage.answers.reader import MAX_PARSED_BYTES, READ_MEMBERS, AnswerReader, parse_body

SURROGATE = re.compile("[\ud800-\udfff]")
chances = st.randoms(use_true_random=False)
USAGE = '{"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}'
CHAT = '{"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", %s"usage": ' + USAGE + "}"


def test_it_works() -> None:
    assert read_outline(b' {"a": 1, "b": [true, "c"], "d": {"e": null}} ') == {
        "a": 1,
        "b": [True, "c"],
        "d": {"e": None},
    }


@given(documents, chances)
def test_the_outline_of_a_small_object_is_the_object(pairs: Pairs, chance: Random) -> None:
    text = write(pairs, chance)
    assume(not SURROGATE.search(text))  # it has no bytes

    assert read_outline(text.encode()) == json.loads(text, strict=False)


@given(documents, chances, st.integers(0, 1000))
def test_what_is_cut_off_is_read_up_to_there(pairs: Pairs, chance: Random, cut: int) -> None:
    text = write(pairs, chance).encode("utf-8", "surrogatepass")
    part = read_outline(text[:cut])

    names = [json.loads(json.dumps(name)) for name, _ in pairs]
    assert set(part) <= {name.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for name in names}


@given(documents, chances, chances)
def test_the_end_of_an_object_has_its_last_members(pairs: Pairs, chance: Random, choice: Random) -> None:
    text = write(pairs, chance)
    assume(not SURROGATE.search(text))
    whole = json.loads(text, strict=False)
    name = choice.choice([*whole, "a", "usage"])

    assert read_end(text.encode(), name).items() <= whole.items()
    assert read_end(b'{"x": [%b], "usage": 1}' % text.encode(), "usage") == {"usage": 1}
    assert read_end(b'{"x": [%b, {"usage": 1}]}' % text.encode(), "usage") == {}


def test_a_name_with_a_quotation_mark_in_it_is_another_one() -> None:
    assert read_end(rb'{"a": 1, "a\"usage": 2}', "usage") == {}
    assert read_end(rb'{"a": 1, "usage": 2}', "usage") == {"usage": 2}


def test_a_usage_behind_too_many_values_is_read() -> None:
    """Of an answer with `logprobs`, a thousand tokens have some three hundred thousand values."""
    token = {"token": " the", "logprob": -0.01, "bytes": [32, 116]}
    choice = {"index": 0, "logprobs": {"content": [{**token, "top_logprobs": [token] * 20}] * 4000}}
    facts = {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "choices": [choice]}
    answer = AnswerReader()
    answer.read_body(json.dumps({**facts, "usage": json.loads(USAGE), "service_tier": "flex"}).encode())

    assert answer.counts == {"input_tokens": 19, "output_tokens": 10}
    assert (answer.model, answer.service_tier) == ("gpt-4o", "flex")


@given(st.binary(), st.sampled_from([b"", b"{", b'{"a":', b'{"a":[{', b'{"a":"', b'{"a":"\\']))
@example(b"", b'{"a":"\\')
@example(b"}" * 10, b'{"a":1')
def test_nothing_is_a_fault(data: bytes, before: bytes) -> None:
    assert isinstance(read_outline(before + data), dict)


@given(documents, chances)
def test_small_steps_find_the_same(pairs: Pairs, chance: Random) -> None:
    text = write(pairs, chance).encode("utf-8", "surrogatepass")
    whole = read_outline(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_outline, "_STEP_BYTES", 2)

        assert read_outline(text) == whole


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_answer_is_read(odd: bytes) -> None:
    body = CHAT.encode().replace(b"%s", odd)
    answer = AnswerReader()
    answer.read_body(body)

    assert (answer.response_id, answer.model) == ("chatcmpl-1", "gpt-4o")
    assert answer.counts == {"input_tokens": 19, "output_tokens": 10}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_event_is_read_as_an_odd_answer(odd: bytes) -> None:
    body = CHAT.encode().replace(b"%s", odd.replace(b"\n", b"\\n"))
    answer = AnswerReader()
    answer.read_events(b"data: " + body + b"\n\n")

    assert (answer.response_id, answer.model) == ("chatcmpl-1", "gpt-4o")
    assert answer.counts == {"input_tokens": 19, "output_tokens": 10}
    assert event_stream.parse(body)["usage"] == parse_body(body)["usage"]


@pytest.mark.parametrize("odd", [*ODD.values(), b""], ids=[*ODD, "orderly"])
@pytest.mark.parametrize("large", ["array of numbers", "long string", "objects"])
def test_a_large_answer_is_read_without_what_is_large(odd: bytes, large: str) -> None:
    filler = {
        "array of numbers": b'"data": [{"embedding": [%s]}], ' % b",".join([b"-0.0123"] * 100_000),
        "long string": b'"data": [{"b64_json": "%s"}], ' % (b"QUJD" * 200_000),
        "objects": b'"data": [%s], ' % b",".join([b'{"a": [1, "]\\"}"]}'] * 50_000),
    }[large]
    body = CHAT.encode().replace(b"%s", filler + odd)
    parsed = parse_body(body, READ_MEMBERS)

    assert len(body) > MAX_PARSED_BYTES
    assert "data" not in parsed
    assert (parsed["id"], parsed["model"], parsed["usage"]) == ("chatcmpl-1", "gpt-4o", json.loads(USAGE))


def test_the_items_of_a_large_response_are_read() -> None:
    """Searches are counted, and items belong to their maker, also beside a picture of many megabytes."""
    picture = {"type": "image_generation_call", "id": "ig_1", "result": "QUJD" * 500_000}
    search = {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}
    body = {"id": "resp_1", "object": "response", "output": [search, picture, search]}
    answer = AnswerReader()
    parsed = parse_body(json.dumps(body).encode())
    answer.read(parsed)

    assert answer.response_id == "resp_1"
    assert answer.counts == {"web_searches": 2}
    assert isinstance(output := parsed["output"], list)
    assert [item["id"] for item in output] == ["ws_1", "ig_1", "ws_1"]
    assert output[1]["result"] is None


def test_an_answer_that_takes_too_many_steps_is_given_up() -> None:
    body = b'{"id": "resp_1", "output": [%s], "usage": {}}' % (b"[]," * json_outline.MAX_STEPS + b"1")

    assert read_outline(body) == {"id": "resp_1"}
