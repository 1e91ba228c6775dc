"""What the ledger reads of hosted tools and of pictures: whole, streamed, cut, several of them, and garbage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger.excerpts import answer_columns
from usage.answers.reader import MAX_PARSED_BYTES, AnswerReader
from usage.answers.tool_use import MOST_MADE_TOKENS, tokens_of_picture

TOOLS = [
    {"type": "web_search_preview", "search_context_size": "low"},
    {"type": "image_generation", "model": "gpt-image-2"},
    {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
]
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}
OPENED = {"type": "web_search_call", "id": "ws_2", "status": "completed", "action": {"type": "open_page", "url": "x"}}
FILES = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["x"]}
CODE = {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "container_id": "cntr_1"}
PICTURE = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGVsbG8="}
IMAGE_GEN = {"input_tokens": 50, "output_tokens": 1000, "input_tokens_details": {"text_tokens": 50, "image_tokens": 0}}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-4.1",
    "tools": TOOLS,
    "output": [SEARCH, OPENED, FILES, CODE, CODE, {**PICTURE, "quality": "low", "size": "1024x1024"}],
    "usage": {"input_tokens": 10, "output_tokens": 5},
}
USED = {
    "search_tool": "web_search_preview",
    "file_searches": 1,
    "containers": ["4g"],
    "image_model": "gpt-image-2",
}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def read(body: dict[str, Any]) -> AnswerReader:
    answer = AnswerReader()
    answer.read_body(json.dumps(body).encode())
    return answer


def read_events(*events: dict[str, Any], expected_pictures: int = 1) -> AnswerReader:
    answer = AnswerReader()
    answer.expected_pictures = expected_pictures
    for event in events:
        answer.read_events(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    return answer


def test_a_whole_response() -> None:
    stated = read({**RESPONSE, "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 3}}})
    assert stated.counts["web_searches"] == 3
    assert stated.other_usage == {**USED, "image_tokens": IMAGE_GEN}
    counted = read(RESPONSE)
    assert counted.counts["web_searches"] == 1
    assert counted.other_usage == {**USED, "image_tokens": {"output_tokens": 196}, "image_tokens_estimated": True}


def test_a_response_that_is_too_large_to_be_parsed_says_the_same() -> None:
    stated = {**RESPONSE, "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 3}}}
    large = read({**stated, "output": [*RESPONSE["output"], {**PICTURE, "result": "A" * MAX_PARSED_BYTES}]})
    assert large.counts["web_searches"] == 3
    assert large.other_usage == {**USED, "image_tokens": IMAGE_GEN}


def test_a_response_without_tools_says_nothing() -> None:
    assert read({**RESPONSE, "output": [], "tools": []}).other_usage == {}
    none = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    unused = {"image_gen": none, "web_search": {"num_requests": 0}}
    assert read({**RESPONSE, "output": [], "tool_usage": unused}).other_usage == {}
    assert "other_usage" not in answer_columns(read({"model": "gpt-4o", "choices": []}), "", ())


BEGUN = {"type": "response.created", "response": {**RESPONSE, "status": "in_progress", "output": [], "usage": None}}
DONE: list[dict[str, Any]] = [
    *({"type": "response.output_item.done", "output_index": 0, "item": item} for item in (SEARCH, OPENED, FILES, CODE)),
    {"type": "response.image_generation_call.completed", "item_id": "ig_1", "output_index": 4},
    {"type": "response.output_item.done", "output_index": 4, "item": {**PICTURE, "result": "A" * 10_000}},
    {"type": "response.output_item.done", "output_index": 4, "item": PICTURE},  # a small one counts once, too
]


def test_a_stream_that_is_cut_says_what_was_done_until_then() -> None:
    cut = read_events(BEGUN, *DONE)
    assert cut.counts["web_searches"] == 1
    # Nothing is known of the picture's quality: the dearest is supposed.
    assert cut.other_usage == {**USED, "image_tokens": {"output_tokens": 7024}, "image_tokens_estimated": True}


def test_the_end_of_a_stream_counts_instead_of_its_items() -> None:
    stated = {**RESPONSE, "tool_usage": {"image_gen": IMAGE_GEN, "web_search": {"num_requests": 3}}}
    answer = read_events(BEGUN, *DONE, {"type": "response.completed", "response": stated})
    assert answer.has_ended
    assert answer.counts["web_searches"] == 3
    assert answer.other_usage == {**USED, "image_tokens": IMAGE_GEN}


def picture(number: int) -> dict[str, Any]:
    usage = {"input_tokens": 50, "output_tokens": number, "total_tokens": 50 + number,
             "input_tokens_details": {"text_tokens": 40, "image_tokens": 10}}  # fmt: skip
    return {"type": "image_generation.completed", "b64_json": "A" * 10_000, "usage": usage}


@pytest.mark.parametrize(("expected", "sent"), [(1, 1), (3, 3), (3, 2), (1, 2)])
def test_the_pictures_of_a_stream_are_added_up(expected: int, sent: int) -> None:
    answer = read_events(*(picture(100 * number) for number in range(1, sent + 1)), expected_pictures=expected)
    assert answer.has_ended == (sent >= expected)
    assert not answer.lacks_end  # upstream may make fewer than it was asked for
    out = sum(100 * number for number in range(1, sent + 1))
    assert answer.counts == {"input_tokens": 50 * sent, "output_tokens": out}
    assert answer.usage == {
        "input_tokens": 50 * sent,
        "output_tokens": out,
        "total_tokens": 50 * sent + out,
        "input_tokens_details": {"text_tokens": 40 * sent, "image_tokens": 10 * sent},
    }


@pytest.mark.parametrize(
    ("model", "quality", "size", "tokens"),
    [
        ("gpt-image-1", "high", "1024x1024", 4160),
        ("gpt-image-1.5", "medium", "1536x1024", 1584),
        ("chatgpt-image-latest", "auto", "auto", 6240),
        # By the formula: 96 patches on the longer side, round(96 * shorter / longer) on the other
        ("gpt-image-2", "high", "1024x1024", 7024),  # 96 * 96 * 3,048,576 / 4,000,000
        ("gpt-image-2", "high", "1536x1024", 5488),  # 96 * 64 * 3,572,864 / 4,000,000
        ("gpt-image-2.5-flare", "low", "1024x1024", 196),  # 16 * 16
        ("gpt-image-2", "high", "2880x2880", 23_719),
        ("gpt-image-2", "max", "1024x1024", MOST_MADE_TOKENS),
        ("gpt-image-2.6-flare", "low", "1024x1024", 4 * 196),
        ("gpt-image-2.6-sunburst", "medium", "1024x1024", 4 * 1756),
        ("gpt-image-2.6-sunburst", "medium", "1536x1024", 5488),  # no more than in high quality
        ("", "", "", 7024),
        ("gpt-image-9", "odd", "9999x9999", MOST_MADE_TOKENS),
        ("gpt-image-9", "low", "many", 4 * 196),
        ("gpt-image-2", "high", "9999x16", 52),
    ],
)
def test_the_tokens_of_a_picture_without_a_usage(model: str, quality: str, size: str, tokens: int) -> None:
    assert tokens_of_picture(model, quality, size) == tokens


def test_names_of_models_are_stored_without_secrets_and_cut() -> None:
    secret = "sk-abcdefghijklmnopqrstuvwxyz012345"
    stated = {**RESPONSE, "tools": [{"type": "image_generation", "model": f"{secret}\0{'x' * 300}"}]}
    kept = answer_columns(read(stated), "", (secret,))["other_usage"]
    assert kept is not None
    assert secret not in kept["image_model"]
    assert "\0" not in kept["image_model"]
    assert len(kept["image_model"]) <= 200


@given(st.dictionaries(st.sampled_from(["tools", "output", "tool_usage", "svg_usage", "usage"]), JSON_VALUES))
def test_any_values_are_survived(members: dict[str, Any]) -> None:
    answer = read({"object": "response", **members})
    json.dumps(answer_columns(answer, "", ()).get("other_usage"))
    read_events({"type": "response.completed", "response": {"object": "response", **members}})


KINDS = st.sampled_from([
    "web_search_call", "file_search_call", "code_interpreter_call", "shell_call", "image_generation_call",
    "web_search", "image_generation", "code_interpreter", "shell",
])  # fmt: skip
NAMES = st.sampled_from([
    "action", "status", "container_id", "environment", "container", "quality", "size", "svg_usage", "memory_limit",
    "model", "image_gen", "web_search", "num_requests", "input_tokens", "cached_tokens_details",
])  # fmt: skip


@given(st.lists(st.builds(lambda kind, members: {"type": kind, **members}, KINDS, st.dictionaries(NAMES, JSON_VALUES))),
       st.dictionaries(NAMES, JSON_VALUES))  # fmt: skip
def test_any_items_and_tools_are_survived(items: list[Any], stated: dict[str, Any]) -> None:
    answer = read({"object": "response", "output": items, "tools": items, "tool_usage": stated, "svg_usage": stated})
    json.dumps(answer_columns(answer, "", ()).get("other_usage"))
    read_events(BEGUN, *({"type": "response.output_item.done", "item": item} for item in items))


@pytest.mark.parametrize(
    ("item", "end", "used", "used_after"),
    [
        (PICTURE, {"type": "response.image_generation_call.completed", "item_id": "ig_1", "quality": "low",
                   "size": "1024x1024"}, {"output_tokens": 7024}, {"output_tokens": 196}),
        (FILES, {"type": "response.output_item.done", "item": FILES}, 1, 1),
    ],
)  # fmt: skip
def test_what_a_cut_stream_has_begun_counts(
    item: dict[str, Any], end: dict[str, Any], used: object, used_after: object
) -> None:
    added = {"type": "response.output_item.added", "item": {**item, "status": "in_progress"}}
    name = "image_tokens" if item is PICTURE else "file_searches"
    assert read_events(BEGUN, added).other_usage[name] == used  # type: ignore[literal-required]  # one of two names
    assert read_events(BEGUN, added, end).other_usage[name] == used_after  # type: ignore[literal-required]  # one of two


@pytest.mark.parametrize(
    ("interpreter", "shell", "used", "sizes"),
    [
        ("1g", "64g", ("shell",), ["64g"]),
        ("64g", "1g", ("shell",), ["1g"]),
        ("1g", "64g", ("code", "shell"), ["1g", "64g"]),
        ("1g", "64g", ("code", "shell in it"), ["64g"]),
        (None, "16g", ("code", "shell"), ["1g", "16g"]),
    ],
)
def test_a_container_has_the_memory_that_its_own_tool_states(
    interpreter: str | None, shell: str, used: tuple[str, ...], sizes: list[str]
) -> None:
    place = {"type": "container_reference", "container_id": "cntr_2"}
    items = {
        "code": CODE,
        "shell": {"type": "shell_call", "id": "sh_1", "environment": place},
        "shell in it": {"type": "shell_call", "id": "sh_1", "environment": {**place, "container_id": "cntr_1"}},
    }
    container = {"type": "auto"} | ({} if interpreter is None else {"memory_limit": interpreter})
    tools = [
        {"type": "code_interpreter", "container": container},
        {"type": "shell", "environment": {"type": "container_auto", "memory_limit": shell}},
    ]
    answer = read({**RESPONSE, "tools": tools, "output": [items[name] for name in used]})
    assert answer.other_usage["containers"] == sizes


@pytest.mark.parametrize(
    "item",
    [
        CODE,
        {"type": "shell_call", "id": "sh_1", "environment": {"type": "container_reference", "container_id": "cntr_1"}},
    ],
)
def test_a_container_counts_when_a_tool_begins_to_run_in_it(item: dict[str, Any]) -> None:
    added = {"type": "response.output_item.added", "item": {**item, "status": "in_progress"}}
    done = {"type": "response.output_item.done", "item": item}
    assert read_events(BEGUN, added).other_usage["containers"] == ["4g"]
    assert read_events(BEGUN, added, done).other_usage["containers"] == ["4g"]


def test_a_search_that_was_begun_counts_until_it_proves_to_be_none() -> None:
    def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
        return {"type": f"response.output_item.{kind}", "item": item}

    begun = event("added", {**OPENED, "status": "in_progress", "action": None})
    assert read_events(BEGUN, begun).counts["web_searches"] == 1
    assert read_events(BEGUN, begun, event("done", OPENED)).counts["web_searches"] == 0
    assert read_events(BEGUN, begun, event("done", {**SEARCH, "id": "ws_2"})).counts["web_searches"] == 1
