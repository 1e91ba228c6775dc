"""The text of a streamed answer, put together from its events: bounded, without secrets, fit for PostgreSQL.

Over 300 lines, since each kind of event has a test.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.inputs.kept_bodies import LIMIT, PNG_BASE64
from tests.support.inputs.secrets import EXTRA, SECURITY_KEY, TOKENS, surroundings
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText
from usage.kept_bodies.body_excerpts import MARGIN, MAX_NOTE_BYTES, SLACK
from usage.kept_bodies.redaction import REDACTED, redact


def feed(answer: StreamedText, *events: bytes) -> None:
    reader = AnswerReader()
    reader.text = answer
    for event in events:
        reader.read_events(b"data: " + event + b"\n\n")


def chat(index: int = 0, **delta: Any) -> bytes:
    return json.dumps({"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}).encode()


def tool(index: int, name: str | None, arguments: str | None) -> dict[str, Any]:
    return {"index": index, "type": "function", "function": {"name": name, "arguments": arguments}}


def typed(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, **fields}).encode()


def read(*events: bytes, limit: int = LIMIT) -> str:
    answer = StreamedText(limit, EXTRA)
    feed(answer, *events)
    return answer.text()


def test_the_text_of_a_chat() -> None:
    usage = b'{"object":"chat.completion.chunk","choices":[],"usage":{"total_tokens":3}}'
    assert (
        read(chat(role="assistant", content=""), chat(content="Hel"), chat(content="lo"), chat(), usage, b"[DONE]")
        == "Hello"
    )


def test_the_text_of_an_older_completion() -> None:
    assert read(b'{"choices":[{"index":0,"text":"Hel"}]}', b'{"choices":[{"index":0,"text":"lo"}]}') == "Hello"


def test_the_tool_calls_of_a_chat() -> None:
    events = [
        chat(content="Let me see."),
        chat(tool_calls=[tool(0, "get_weather", "")]),
        chat(tool_calls=[tool(0, None, '{"city":')]),
        chat(tool_calls=[tool(1, "get_time", "{}"), tool(0, None, '"Oslo"}')]),
        chat(tool_calls=[{"index": 2, "type": "custom", "custom": {"name": "run", "input": "ls"}}]),
    ]

    assert read(*events).split("\n\n") == [
        "[text]\nLet me see.",
        '[tool call get_weather]\n{"city":"Oslo"}',
        "[tool call get_time]\n{}",
        "[tool call run]\nls",
    ]


def test_the_choices_of_a_chat_are_kept_apart() -> None:
    events = [
        chat(0, content="a"),
        chat(1, content="x"),
        chat(0, content="b"),
        chat(1, refusal="no"),
        chat(2, audio={"transcript": "t", "data": "AAAA"}),
    ]

    assert read(*events).split("\n\n") == [
        "[choice 0: text]\nab",
        "[choice 1: text]\nx",
        "[choice 1: refusal]\nno",
        "[choice 2: audio transcript]\nt",
    ]


def test_the_text_of_a_response() -> None:
    events = [
        typed("response.created", response={"output": []}),
        typed("response.output_text.delta", output_index=0, content_index=0, delta="Hel"),
        typed("response.output_text.delta", output_index=0, content_index=0, delta="lo"),
        typed("response.output_text.done", output_index=0, content_index=0, text="Hello"),
        typed(
            "response.completed",
            response={"output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}]},
        ),
    ]

    assert read(*events) == "Hello"
    assert read(events[-1]) == "Hello"


RESPONSE_ITEMS = [
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Think."}]},
    {"type": "message", "content": [{"type": "output_text", "text": "Hi"}, {"type": "refusal", "refusal": "no"}]},
    {"type": "function_call", "name": "get_weather", "arguments": '{"city":"Oslo"}'},
    {"type": "image_generation_call", "result": PNG_BASE64},
]
RESPONSE_KEPT = [
    "[output 0: reasoning summary]\nThink.",
    "[output 1: text]\nHi",
    "[output 1: refusal]\nno",
    '[output 2: function call get_weather]\n{"city":"Oslo"}',
]


def test_the_outputs_of_a_response_are_kept_apart() -> None:
    events = [
        typed("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="Think."),
        typed("response.output_text.delta", output_index=1, content_index=0, delta="Hi"),
        typed("response.refusal.delta", output_index=1, content_index=1, delta="no"),
        typed("response.output_item.added", output_index=2, item={"type": "function_call", "name": "get_weather"}),
        typed("response.function_call_arguments.delta", output_index=2, delta='{"city":'),
        typed("response.function_call_arguments.delta", output_index=2, delta='"Oslo"}'),
        typed("response.image_generation_call.partial_image", output_index=3, partial_image_b64=PNG_BASE64),
    ]

    assert read(*events).split("\n\n") == RESPONSE_KEPT
    completed = typed("response.completed", response={"output": RESPONSE_ITEMS})
    assert read(*events, completed).split("\n\n") == RESPONSE_KEPT
    assert read(completed).split("\n\n") == RESPONSE_KEPT


def test_the_text_of_a_transcript() -> None:
    done = typed("transcript.text.done", text="Hello")
    assert (
        read(typed("transcript.text.delta", delta="Hel"), typed("transcript.text.delta", delta="lo"), done) == "Hello"
    )
    assert read(done) == "Hello"


@pytest.mark.parametrize(
    "event",
    [
        b'{"error":{"message":"Too slow"}}',
        typed("error", message="Too slow"),
        typed("response.failed", response={"output": [], "error": {"message": "Too slow"}}),
    ],
)
def test_an_error_ends_the_text(event: bytes) -> None:
    assert read(event) == "[error]\nToo slow"
    assert read(chat(content="Hel"), event) == "[choice 0: text]\nHel\n\n[error]\nToo slow"


def test_a_long_answer_is_cut_and_takes_little_memory() -> None:
    answer = StreamedText(100)
    for _ in range(10_000):
        feed(answer, chat(content="a b "))

    assert answer.text() == "a b " * 25 + "… <39,900 bytes cut>"
    assert answer.text(8) == "a b a b … <39,992 bytes cut>"
    assert sum(len(piece) for part in answer._parts.values() for piece in part.pieces) <= 100 + SLACK + MARGIN


def test_many_parts_take_little_memory() -> None:
    answer = StreamedText(100)
    for index in range(1000):
        feed(answer, chat(index, content="a b " * 1000))
        feed(answer, typed("response.output_item.added", output_index=index, item={"name": "x" * 1000}))

    assert len(answer._parts) == 64
    assert len(answer._names) == 64
    assert len(answer.text().encode()) <= 100 + MAX_NOTE_BYTES
    assert sum(len(piece) for part in answer._parts.values() for piece in part.pieces) <= 100 + SLACK + 64 * MARGIN


@pytest.mark.parametrize("secret", [*TOKENS, SECURITY_KEY])
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_secret_in_pieces_is_taken_out(secret: str, size: int) -> None:
    text = f"The key: {secret} it is"
    events = [chat(content=text[at : at + size]) for at in range(0, len(text), size)]

    assert read(*events) == f"The key: {REDACTED} it is"
    for limit in range(10, 30):
        assert secret[:6] not in read(*events, *[chat(content="and more ")] * 2000, limit=limit)


def test_a_secret_that_stops_being_collected_is_taken_out() -> None:
    room = 100 + SLACK + max(MARGIN, 16 * max(map(len, EXTRA)))
    for before in range(room - 30, room + 5):
        text = read(chat(content="a" * before), chat(content=SECURITY_KEY), chat(content=" b" * 100), limit=100)
        assert SECURITY_KEY[:4] not in text


def test_a_lone_surrogate_does_not_reach_postgresql() -> None:
    assert read(b'{"choices":[{"index":0,"delta":{"content":"a\\ud83d\\u0000"}}]}') == "a\ufffd\ufffd"


@pytest.mark.parametrize("size", [0, 5000])
def test_large_events_that_say_nothing_are_not_read(size: int) -> None:
    assert read(typed("response.output_text.done", text="x" * size), chat(content="y" * 5000)) == "y" * 5000
    assert read(chat(content="a"), typed("response.completed", response={"output": ["x" * size]})) == "a"
    assert read(chat(content="a"), b'{"choices":[{"delta":{"content":"' + b"b" * 5_000_000 + b'"}}]}') == "a"


FIELDS = [
    "type",
    "choices",
    "delta",
    "content",
    "index",
    "text",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "custom",
    "input",
    "audio",
    "transcript",
    "output_index",
    "content_index",
    "item",
    "response",
    "output",
    "error",
    "message",
    "summary",
    "code",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS) | st.text(max_size=3),
            values,
            max_size=4,
        )
    ),
    max_leaves=20,
)
KINDS = st.sampled_from(
    ["response.output_text.delta", "response.completed", "response.failed", "response.output_item.added", "error"]
)


@given(
    st.lists(st.binary(max_size=50) | VALUES.map(lambda value: json.dumps(value).encode()), max_size=5), KINDS, VALUES
)
def test_no_event_is_too_odd(events: list[bytes], kind: str, value: Any) -> None:
    odd = [typed(kind, delta=value, response=value, item=value, output_index=value, content_index=value)]
    odd += [typed(kind, response={"output": value, "error": value}), json.dumps({"choices": value}).encode()]
    odd += [json.dumps({"choices": [{"index": value, "delta": {"tool_calls": value, "content": value}}]}).encode()]

    text = read(*events, *odd, b"[" * 100_000, b'{"a":"\\ud800"' + b"[" * 100_000, limit=50)
    assert "\0" not in text
    assert len(text.encode()) <= 50 + MAX_NOTE_BYTES


@given(
    surroundings,
    st.sampled_from([*TOKENS, SECURITY_KEY]),
    surroundings,
    st.lists(st.integers(0, 300)),
    st.integers(1, 300),
)
def test_a_planted_secret_is_never_in_an_answers_text(
    before: str, secret: str, after: str, places: list[int], limit: int
) -> None:
    text = before + secret + after
    cuts = sorted({min(place, len(text)) for place in places})
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    kept = read(*(chat(content=piece) for piece in pieces), limit=limit)
    assert secret not in kept
    if len(text) * 4 < limit:
        assert kept == redact(text, EXTRA).replace("\0", "\ufffd").replace("\ud800", "\ufffd")


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "shell_call", "action": {"commands": ["ls -l"]}}, "ls -l"),
        ({"type": "local_shell_call", "action": {"command": ["ls", "-l"]}}, '["ls", "-l"]'),
        ({"type": "apply_patch_call", "operation": {"type": "update_file", "diff": "+hello"}}, "+hello"),
        ({"type": "computer_call", "actions": [{"type": "type", "text": "hello"}]}, "hello"),
        ({"type": "program", "code": "1 + 1"}, "1 + 1"),
        ({"type": "message", "content": [{"type": "output_text", "text": "hello"}]}, "hello"),
    ],
)
def test_an_item_that_comes_whole_counts(item: dict[str, Any], text: str) -> None:
    assert text in read(typed("response.output_item.done", output_index=0, item=item))


def test_an_item_counts_once() -> None:
    """By its pieces, if these have come, and else as a whole."""
    commands = {"type": "shell_call", "action": {"commands": ["ls -l"]}}
    pieces = [
        typed("response.shell_call_command.delta", output_index=1, command_index=at, delta=piece)
        for at, piece in ((0, "ls "), (0, "-l"), (1, "pwd"))
    ]
    done = typed("response.output_item.done", output_index=1, item=commands)
    assert read(*pieces, done) == "[shell command]\nls -l\n\n[shell command]\npwd"


def test_a_piece_of_an_unknown_kind_counts_unless_it_is_sound() -> None:
    answer = StreamedText(LIMIT)
    feed(answer, typed("response.new_thing.delta", delta="12345"), typed("response.new_audio.delta", delta="AAAA"))
    assert answer.size == 5
