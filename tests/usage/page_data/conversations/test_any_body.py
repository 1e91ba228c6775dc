"""Whatever stands in a body: reading it as a conversation never fails, and none of its text is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.growth import wait_until_linear
from tests.support.inputs.odd_json import DEEP, ODD
from tests.support.ledger.logged_conversations import ANSWERED, ASKED, RESPONSE, RESPONSE_ASKED
from usage.page_data.conversations.cut_json import MAX_REPEATS, NotJSONError, read_json
from usage.page_data.conversations.message_parts import indented
from usage.page_data.conversations.reader import conversation_of
from usage.page_data.conversations.turns import BodyRemains, Conversation, Part, Turn

NAMES = [
    "messages", "input", "prompt", "instructions", "role", "content", "type", "text", "tool_calls", "function", "name",
    "arguments", "output", "choices", "message", "refusal", "annotations", "url_citation", "url", "title", "summary",
    "image_url", "image", "data", "action", "queries", "results", "code", "outputs", "logs", "audio", "transcript",
    "error", "call_id", "tool_call_id", "function_call", "conversation", "reasoning", "b64_json", "other",
]  # fmt: skip
KINDS = [
    "message", "function_call", "function_call_output", "reasoning", "web_search_call", "file_search_call", "refusal",
    "code_interpreter_call", "image_generation_call", "mcp_call", "text", "input_image", "input_audio", "url_citation",
]  # fmt: skip
# Each text is found again by its number; whatever is short enough to be an id is not what anybody would miss.
WORDS = st.integers(10**9, 10**10).map(lambda number: f"word {number} " + "." * 100)
LEAVES = WORDS | st.none() | st.booleans() | st.integers() | st.sampled_from([*KINDS, "", "user", "assistant", "tool"])
NAMED = st.sampled_from(NAMES) | st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMED, inner, max_size=5))
MESSAGES = st.dictionaries(NAMED, VALUES, max_size=6)
BODIES = VALUES | st.dictionaries(st.sampled_from(["messages", "input", "choices", "output", "data"]),
                                  st.lists(MESSAGES, max_size=4), max_size=3)  # fmt: skip
ROUTES = st.sampled_from(["/v1/chat/completions", "/v1/responses", "/chatgpt", "/v1/audio/transcriptions", "/v1/x"])


def words_in(value: object) -> Iterator[str]:
    if isinstance(value, str) and value.startswith("word "):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from words_in(inner)


def all_text(found: Conversation) -> str:
    """Returns all that a page can show of a conversation, as one text."""
    texts = [repr([turn.role, turn.name, turn.badges]) for turn in turns_of(found)]
    parts = [part for turn in turns_of(found) for part in turn.parts]
    texts += [text for part in parts for text in texts_of(part)]
    for remains in (found.request, found.response):
        texts += [*texts_of_remains(remains)]
    return "\n".join(texts)


def turns_of(found: Conversation) -> Iterator[Turn]:
    yield from (*found.earlier, *found.asked, *found.answered)


def texts_of(part: Part) -> Iterator[str]:
    yield from (part.text, part.title, part.call_id)
    yield from (f"{link.text} {link.url}" for link in part.links)
    for result in part.results:
        yield from texts_of(result)


def texts_of_remains(remains: BodyRemains) -> Iterator[str]:
    yield remains.rest
    yield from (f"{name} {value}" for name, value in remains.parameters)


@given(ROUTES, BODIES, BODIES, st.booleans())
def test_no_text_is_lost(route: str, request_body: object, response: object, is_streamed: bool) -> None:
    found = conversation_of(route, json.dumps(request_body), json.dumps(response), is_streamed=is_streamed)

    assert found is not None
    text = all_text(found)
    lost = [word for word in (*words_in(request_body), *words_in(response)) if word not in text]
    assert not lost


@given(ROUTES, BODIES, st.data(), st.booleans())
def test_a_body_that_is_cut_anywhere_is_read(route: str, body: object, data: st.DataObject, is_streamed: bool) -> None:
    whole = json.dumps(body)
    cut = f"{whole[: data.draw(st.integers(1, len(whole)))]}… <12 bytes cut>"

    assert conversation_of(route, cut, cut, is_streamed=is_streamed) is not None


@given(ROUTES, st.text() | st.binary().map(lambda data: data.decode("utf-8", "replace")))
def test_a_body_that_is_no_json_is_shown_as_it_is(route: str, text: str) -> None:
    found = conversation_of(route, text, text, is_streamed=True)

    assert (found is None) == (not text)


@pytest.mark.parametrize("body", [ASKED, ANSWERED, RESPONSE_ASKED, RESPONSE])
def test_what_stands_before_a_cut_is_read_wherever_it_is(body: dict[str, object]) -> None:
    whole = json.dumps(body)
    for end in range(1, len(whole), 3):
        found = read_json(f"{whole[:end]}… <{len(whole) - end:,} bytes cut>")
        assert isinstance(found, dict)
        assert json.dumps(found, ensure_ascii=False)


@pytest.mark.parametrize(
    ("start", "found"),
    [
        ('{"a": "b', {"a": "b… <1 bytes cut>"}),
        (r'{"a": "b\u00', {"a": "b… <1 bytes cut>"}),
        (r'{"a": "b\\', {"a": "b\\… <1 bytes cut>"}),
        ('{"a": "b\\', {"a": "b… <1 bytes cut>"}),
        ('{"a": 12', {}),
        ('{"a": 12, "b": [1, "c"', {"a": 12, "b": [1, "c"]}),
        ('{"a": 12, "b', {"a": 12}),
        ('{"a": 12, "b": ', {"a": 12}),
        ('[{"a": {"b": tru', [{"a": {}}]),
    ],
)
def test_a_cut(start: str, found: object) -> None:
    assert read_json(f"{start}… <1 bytes cut>") == found


def test_a_member_that_is_given_twice_is_there_twice() -> None:
    assert read_json('{"a": 1, "a": 2, "a": 3}') == {
        "a": 3,
        "a (given earlier)": 1,
        "a (given earlier) (given earlier)": 2,
    }


def test_many_names_that_are_given_twice_are_shown_as_text_at_once() -> None:
    twice = '{"a": 1, "a": 2}'

    assert len(cast(list[object], read_json(f"[{', '.join([twice] * MAX_REPEATS)}]"))) == MAX_REPEATS
    with pytest.raises(NotJSONError):
        read_json(f"[{', '.join([twice] * (MAX_REPEATS + 1))}]")
    with pytest.raises(NotJSONError):
        read_json("{" + ", ".join(['"a": 1'] * 1000) + "}")


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_have_a_conversation(name: str) -> None:
    body = "{" + ODD[name].decode("utf-8", "replace") + '"object": "chat.completion"}'
    assert conversation_of("/openai", body, body, is_streamed=False) is not None


def test_what_is_too_deep_is_no_json() -> None:
    with pytest.raises(NotJSONError):
        read_json(DEEP)


def test_indentation_makes_a_deep_body_no_longer() -> None:
    deep = "[" * 90 + "1," * 1000 + "1" + "]" * 90

    assert len(indented(deep)) < 2 * len(deep)
    assert indented('{"a": [1]}') == '{\n  "a": [\n    1\n  ]\n}'


def test_a_cut_body_that_is_too_deep_takes_no_longer_than_its_length() -> None:
    def run(length: int) -> None:
        with pytest.raises(NotJSONError):
            read_json("[" * length + "… <5 bytes cut>")

    wait_until_linear(run, 30_000)
