"""Streams and answers in the shapes of other servers: errors, ends, numbers and labels that OpenAI does not send.

Over 300 lines, since it is a table of streams and of what becomes of each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.callers.wire import connect, json_call
from tests.support.calls.streamed_calls import CHAT, DONE, RESPONSE, answered, chunk, event
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream, whole
from usage.answers.errors import error_in_body
from usage.answers.reader import begins_object

RESPONSES_PATH = "/v1/responses"
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
COUNTS = (7, 5, "exact")
PLAIN = json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [], "usage": USAGE}).encode()


@pytest.fixture(scope="module")
def _upstream() -> Iterator[HeldUpstream]:
    with held_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: HeldUpstream) -> HeldUpstream:
    _upstream.start([])
    return _upstream


@pytest.fixture(scope="module")
def odd(_upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway(_upstream.url, gateway_database, tmp_path_factory.mktemp("odd")) as gateway:
        yield gateway


def choice(**members: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **members}]}).encode() + b"\n\n"


def streamed(upstream: HeldUpstream, *pieces: bytes) -> None:
    upstream.start([b"".join([*events(*pieces), LAST])], is_held=False)


def plain(gateway: Gateway, body: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    with connect(gateway) as wire:
        wire.send(json_call("/v1/chat/completions", body))
        answer = wire.read_answer()
    return answer, gateway.row(answer.headers["x-proxy-request-id"])


# Each is told in the middle of a stream with status 200; the words are "boom", the code is that behind it.
ERRORS: dict[str, tuple[bytes, str]] = {
    "detail (FastAPI)": (b'data: {"detail":"boom"}\n\n', ""),
    "findings (FastAPI)": (b'data: {"detail":[{"loc":["body","n"],"msg":"boom"}]}\n\n', ""),
    "message and code (SiliconFlow)": (b'data: {"code":20015,"message":"boom","data":null}\n\n', "20015"),
    "error_msg (Baidu)": (b'data: {"error_code":336,"error_msg":"boom"}\n\n', "336"),
    "base_resp (MiniMax)": (b'data: {"base_resp":{"status_code":1008,"status_msg":"boom"},"choices":null}\n\n', "1008"),
    "a list of errors (Cloudflare)": (b'data: {"errors":[{"message":"boom","code":3040}]}\n\n', "3040"),
    "a list around it (Gemini)": (b'data: [{"error":{"message":"boom","code":429}}]\n\n', "429"),
    "an error in an error": (b'data: {"error":{"error":{"message":"boom","code":"x"}}}\n\n', "x"),
    "a message that is an object": (b'data: {"error":{"message":{"detail":"boom"}}}\n\n', ""),
    "a true error": (b'data: {"error":true,"message":"boom"}\n\n', ""),
    "a type alone": (b'data: {"type":"BadRequestError","message":"boom","code":400}\n\n', "400"),
    "a status": (b'data: {"status":"error","message":"boom"}\n\n', "error"),
    "a text": (b"data: error: boom\n\n", ""),
    "a text in brackets": (b"data: [ERROR] boom\n\n", ""),
    "half of JSON": (b'data: {"error":{"message":"boom"\n\n', ""),
    "a name in capitals": (b"event: ERROR\ndata: boom\n\n", ""),
    "another name": (b'event: exception\ndata: {"message":"boom"}\n\n', ""),
    "a choice (OpenRouter)": (choice(delta={}, finish_reason="error", error={"code": 502, "message": "boom"}), "502"),
    "a choice without a reason": (choice(error={"code": 502, "message": "boom"}), "502"),
    "a choice and a chunk": (
        choice(delta={"content": ""}, finish_reason="error")[:-3] + b',"error":{"code":"c","message":"boom"}}\n\n',
        "c",
    ),
    "no field": (b'{"error":{"message":"boom","code":"c"}}\n\n', "c"),
    "no field, one line end": (b'{"detail":"boom"}\n', ""),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_of_any_shape_is_in_the_ledger(odd: Gateway, upstream: HeldUpstream, name: str) -> None:
    error, code = ERRORS[name]
    sent = chunk("half") + error + DONE
    streamed(upstream, chunk("half"), error, DONE)
    _, body, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert body == sent
    assert (row["outcome"], row["error_code"]) == ("upstream_error", code)
    assert "boom" in row["error_message"]
    assert row["usage_source"] == "estimated"


def test_a_choice_that_fails_without_words_is_an_error(odd: Gateway, upstream: HeldUpstream) -> None:
    streamed(upstream, chunk("half"), choice(delta={}, finish_reason="error"), DONE)
    _, _, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert (row["outcome"], row["error_code"]) == ("upstream_error", "error")


@pytest.mark.parametrize(
    "data",
    [
        {"type": "ping", "message": "still here"},
        {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": []},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}], "message": "x", "code": 0},
        {"object": "chat.completion.chunk", "choices": [], "message": "x"},
        {"base_resp": {"status_code": 0, "status_msg": ""}},
        {"usage": USAGE, "message": "all"},
        {"status": "queued", "message": "position 3"},
        {"id": "a", "model": "m", "title": "t"},
        {"base_resp": {"status_code": 0, "status_msg": "success"}},
        {"code": 0, "message": "success"},
        {"choices": [{"index": 0, "delta": {"content": "b"}, "error": None}]},
        {"choices": [{"index": 0, "delta": {"content": "b"}}], "error": {"code": None, "message": None}},
        {"choices": [{"index": 0, "delta": {"content": "b"}}], "error": {"code": 0, "message": ""}},
        {},
        [],
        "an error that is quoted",
    ],
)
def test_what_only_looks_like_an_error_is_none(odd: Gateway, upstream: HeldUpstream, data: Any) -> None:
    streamed(upstream, b"data: " + json.dumps(data).encode() + b"\n\n", chunk("a", "stop"), DONE)
    _, _, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert (row["outcome"], row["error_message"]) == ("success", "")


def test_words_of_an_error_are_no_tokens(odd: Gateway, upstream: HeldUpstream) -> None:
    streamed(upstream, b'data: {"error":{"message":"the model is not loaded"}}\n\n')
    _, _, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert (row["outcome"], row["usage_source"], row["output_tokens"]) == ("upstream_error", "unknown", None)


# Responses


def untyped(kind: str, **members: Any) -> bytes:
    """An event whose type is in its name only."""
    return f"event: {kind}\ndata: {json.dumps(members)}\n\n".encode()


def done_response(number: int, **members: Any) -> dict[str, Any]:
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    facts = {"id": f"resp_{number}", "object": "response", "model": "m", "status": "completed", "output": []}
    return {**facts, "usage": usage, **members}


ENDS = {
    "typed": event("response.completed", response=done_response(1)),
    "typed by its name": untyped("response.completed", response=done_response(2)),
    "done": event("response.done", response=done_response(3)),
    "cancelled": event("response.cancelled", response=done_response(4, status="cancelled")),
    "completed and [DONE]": event("response.completed", response=done_response(5)) + DONE,
    "without an object around it": event("response.completed", **done_response(6)),
    "large and done": event("response.done", response=done_response(11, instructions="x" * 5000)),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_response_ends_with_any_terminal_event(odd: Gateway, upstream: HeldUpstream, name: str) -> None:
    streamed(upstream, event("response.created", response={"id": "r", "status": "queued"}), ENDS[name])
    _, body, row, is_cut = answered(odd, RESPONSES_PATH, RESPONSE)

    assert body.endswith(ENDS[name])
    assert (row["outcome"], is_cut) == ("success", False)
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == COUNTS


@pytest.mark.parametrize("last", [b"", DONE, untyped("response.output_text.delta", delta="more")])
@pytest.mark.parametrize("make", [event, untyped])
def test_a_response_without_a_terminal_event_is_truncated(
    odd: Gateway, upstream: HeldUpstream, make: Any, last: bytes
) -> None:
    begun = make("response.created", response={"id": "r", "model": "m", "status": "in_progress"})
    streamed(upstream, begun, make("response.output_text.delta", delta="hi"), last)
    _, body, row, is_cut = answered(odd, RESPONSES_PATH, RESPONSE)

    assert (row["outcome"], row["error_code"], is_cut) == ("upstream_error", "truncated", True)
    assert row["usage_source"] == "estimated"
    assert b"event: error\n" in body


def test_a_response_that_fails_with_a_text_has_its_words(odd: Gateway, upstream: HeldUpstream) -> None:
    streamed(upstream, event("response.failed", response=done_response(9, status="failed", error="boom")))
    _, _, row, _ = answered(odd, RESPONSES_PATH, RESPONSE)

    assert (row["outcome"], row["error_message"]) == ("upstream_error", "boom")


@pytest.mark.parametrize("done", [b"", b"data:[DONE]\n\n", b"event: done\ndata: [DONE]\r\n\r\n", b"data:  [DONE] \n\n"])
def test_the_simple_api_ends_with_one_done(odd: Gateway, upstream: HeldUpstream, done: bytes) -> None:
    streamed(upstream, event("response.completed", response=done_response(10)), done)
    _, body, _, _ = answered(odd, "/openai2", {**RESPONSE, "security_key": SECURITY_KEY})

    assert body.count(b"[DONE]") == 1


# What an answer without usage is estimated from

TEXTS = {
    "reasoning_content (DeepSeek)": {"reasoning_content": "x" * 400},
    "reasoning (OpenRouter)": {"reasoning": "x" * 400},
    "both (vLLM)": {"reasoning_content": "x" * 400, "reasoning": "x" * 400},
    "a function call": {"function_call": {"name": "f", "arguments": "x" * 400}},
}


@pytest.mark.parametrize("name", TEXTS)
def test_an_estimate_counts_everything_that_was_written(odd: Gateway, upstream: HeldUpstream, name: str) -> None:
    streamed(upstream, choice(delta=TEXTS[name], finish_reason=None), choice(delta={}, finish_reason="stop"), DONE)
    _, _, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert (row["usage_source"], row["output_tokens"]) == ("estimated", 100)


# Labels


@pytest.mark.parametrize(
    "label",
    [b"application/octet-stream", b"application/problem+json", b"application/vnd.api+json", b"audio/mpeg", b"x", None],
)
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("start", [b"", b"\n  ", b"\xef\xbb\xbf\r\n"], ids=["", "space", "BOM"])
def test_a_plain_answer_has_its_usage_whatever_its_label(
    odd: Gateway, upstream: HeldUpstream, label: bytes | None, stream: bool, start: bytes
) -> None:
    headers = [] if label is None else [b"content-type: " + label]
    upstream.start([whole(b"200 OK", start + PLAIN, *headers)], is_held=False)
    answer, row = plain(odd, {**CHAT, "stream": stream})

    assert answer.body == start + PLAIN
    assert answer.headers.get("content-type") == (label.decode() if label else None)
    assert (row["outcome"], row["input_tokens"], row["output_tokens"], row["usage_source"]) == ("success", *COUNTS)


@pytest.mark.parametrize("start", [b"", b" \n", b"\xef\xbb\xbf"], ids=["", "space", "BOM"])
def test_a_plain_answer_may_be_called_a_stream(odd: Gateway, upstream: HeldUpstream, start: bytes) -> None:
    upstream.start([whole(b"200 OK", start + PLAIN, b"content-type: text/event-stream")], is_held=False)
    _, body, row, is_cut = answered(odd, "/v1/chat/completions", CHAT)

    assert (body, is_cut) == (start + PLAIN, False)
    assert (row["outcome"], row["input_tokens"], row["output_tokens"], row["usage_source"]) == ("success", *COUNTS)


@pytest.mark.parametrize("status", [b"200 OK", b"201 Created", b"202 Accepted", b"206 Partial"])
@pytest.mark.parametrize("label", [b"content-type: application/json\r\n", b""], ids=["JSON", "no label"])
def test_events_arrive_one_by_one_with_any_status_of_success(
    odd: Gateway, upstream: HeldUpstream, status: bytes, label: bytes
) -> None:
    head = b"HTTP/1.1 " + status + b"\r\n" + label + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    first, second = chunk("one "), chunk("two", "stop")
    upstream.start([head, *events(first, second)[1:], LAST])
    with connect(odd) as wire:
        wire.send(json_call("/v1/chat/completions", CHAT))
        upstream.release()
        upstream.release()
        answer = wire.read_head()
        chunks = wire.read_chunks()
        assert next(chunks) == first
        upstream.release()
        assert next(chunks) == second
        upstream.release()
        list(chunks)

    assert str(answer.status).encode() == status[:3]
    assert answer.headers.get("content-type") == ("application/json" if label else None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "boom", "type": "t", "code": "c"}},
        {"error": "boom"},
        {"object": "error", "message": "boom", "code": 40303},
        [{"error": {"message": "boom"}}][0],
    ],
)
def test_an_error_with_status_200_is_one(odd: Gateway, upstream: HeldUpstream, body: Any, stream: bool) -> None:
    sent = json.dumps(body).encode()
    upstream.start([whole(b"200 OK", sent, b"content-type: application/json")], is_held=False)
    answer, row = plain(odd, {**CHAT, "stream": stream})

    assert (answer.status, answer.body) == (200, sent)
    assert (row["outcome"], row["error_message"], row["status"]) == ("upstream_error", "boom", 200)


@pytest.mark.parametrize(
    ("body", "words", "code"),
    [
        (b'data: {"error":{"message":"boom","code":"rl"}}\n\n', "boom", "rl"),
        (b'event: error\ndata: {"message":"boom"}\n\n', "boom", "http_429"),
        (b": busy\n\ndata: boom\n\n", "boom", "http_429"),
        (
            b'{"object":"error","message":{"detail":[{"type":"x","loc":["body","stream_options"],"msg":"boom"}]}}',
            "body.stream_options: boom",
            "http_429",
        ),
        (b'{"errorCode":"E1","errorMessage":"boom"}', "boom", "E1"),
        (b'{"err":"boom"}', "boom", "http_429"),
    ],
)
def test_more_shapes_of_errors_have_their_words(body: bytes, words: str, code: str) -> None:
    facts = error_in_body(body, 429)

    assert (facts["message"], facts["code"]) == (words, code)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"", None), (b" \n", None), (b"{", None), (b"{ ", None), (b"\xef\xbb", None), (b"\xef\xbb\xbf ", None),
        (b'{"', True), (b"{}", True), (b'\xef\xbb\xbf { "', True),
        (b"{a", False), (b"RIFF", False), (b"\xff\xfb", False), (b"\xef\xff", False), (b"ID3", False), (b"[", False),
    ],
)  # fmt: skip
def test_what_begins_a_json_object(start: bytes, expected: bool | None) -> None:
    assert begins_object(start) is expected


@pytest.mark.parametrize("status", [b"301 Moved", b"307 Temporary Redirect", b"308 Permanent Redirect"])
def test_a_redirect_has_its_words(odd: Gateway, upstream: HeldUpstream, status: bytes) -> None:
    """A base URL with http:// for https:// gets these; they are not followed."""
    upstream.start([whole(status, b"", b"location: https://elsewhere/")], is_held=False)
    answer, row = plain(odd, {**CHAT, "stream": False})

    assert answer.status == row["status"] == int(status[:3])
    assert (row["outcome"], row["error_code"]) == ("upstream_error", f"http_{answer.status}")
    assert "Redirect" in row["error_message"] or "Moved" in row["error_message"]
