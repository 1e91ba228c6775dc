"""Streams by what was asked for, not by their label; and how they end: whole, cut off, with an error, in silence."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from proxyapi.upstream.transport import keep_alive
from tests.support.callers.wire import connect, json_call
from tests.support.calls.streamed_calls import CHAT, DONE, RESPONSE, answered, chunk, event
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream, in_chunk, whole

JSON = b"content-type: application/json"


@pytest.fixture(scope="module")
def _upstream() -> Iterator[HeldUpstream]:
    with held_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: HeldUpstream) -> HeldUpstream:
    _upstream.start([])
    _upstream.bodies.clear()
    return _upstream


@pytest.fixture(scope="module")
def odd(_upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway(_upstream.url, gateway_database, tmp_path_factory.mktemp("ends")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def hasty(
    _upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server that waits for upstream's first byte for one second."""
    folder = tmp_path_factory.mktemp("hasty")
    with run_gateway(_upstream.url, gateway_database, folder, FIRST_BYTE_TIMEOUT="1") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def restless(
    _upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server that waits for each byte after the first one for one second."""
    folder = tmp_path_factory.mktemp("restless")
    with run_gateway(_upstream.url, gateway_database, folder, IDLE_TIMEOUT="1") as gateway:
        yield gateway


# Labels


@pytest.mark.parametrize(
    "label",
    [b"application/json", b"application/json; charset=utf-8", b"text/plain", b"application/octet-stream",
     b"application/x-ndjson", b"text/html", b"Text/Event-Stream", b"binary/octet-stream"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_events_arrive_one_by_one_whatever_their_label(
    odd: Gateway, upstream: HeldUpstream, label: bytes, path: str
) -> None:
    """The first one is here before upstream has sent the second."""
    first, second = chunk("one "), chunk("two", "stop")
    upstream.start([*events(first, second, label=label), LAST])
    with connect(odd) as wire:
        wire.send(json_call(path, CHAT))
        upstream.release()
        upstream.release()
        assert wire.read_head().headers["content-type"] == label.decode()
        chunks = wire.read_chunks()
        assert next(chunks) == first
        upstream.release()
        assert next(chunks) == second
        upstream.release()
        list(chunks)


@pytest.mark.parametrize("label", [b"application/json", b"text/event-stream", b"text/plain"])
def test_a_plain_answer_to_a_stream_call_stays_one(odd: Gateway, upstream: HeldUpstream, label: bytes) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    body = json.dumps({"id": "c", "object": "chat.completion", "model": "gpt-4o-mini", "usage": usage}).encode()
    upstream.start([whole(b"200 OK", body, b"content-type: " + label)], is_held=False)
    with connect(odd) as wire:
        wire.send(json_call("/v1/chat/completions", CHAT))
        answer = wire.read_answer()

    assert answer.body == body
    row = odd.row(answer.headers["x-proxy-request-id"])
    assert row["outcome"] == "success"
    if label != b"text/plain":
        assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (3, 2, "exact")


def test_events_for_a_plain_call_pass(odd: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([whole(b"200 OK", chunk("a", "stop") + DONE, b"content-type: text/event-stream")], is_held=False)
    _, body, row, _ = answered(odd, "/v1/chat/completions", {**CHAT, "stream": False})

    assert body == chunk("a", "stop") + DONE
    assert row["outcome"] == "success"


# Endings

WHOLE: dict[str, tuple[str, bytes]] = {
    "finish_reason and [DONE]": ("chat", chunk("a", "stop") + DONE),
    "finish_reason": ("chat", chunk("a") + chunk("", "length")),
    "[DONE]": ("chat", chunk("a") + DONE),
    "two choices": ("chat", chunk("a", "stop") + chunk("b", "stop", 1)),
    "no blank line": ("chat", chunk("a", "stop")[:-2]),
    "no blank line, and no number": ("chat", chunk("a", "stop")[:-3] + b', "logprob": -Infinity}'),
    "completed": ("responses", event("response.created") + event("response.completed", response={"id": "r"})),
    "incomplete": ("responses", event("response.created") + event("response.incomplete", response={"id": "r"})),
}
CUT: dict[str, tuple[str, bytes]] = {
    "in the text": ("chat", chunk("the answer is") + chunk(" that we")),
    "after the role": ("chat", chunk("")),
    "one of two choices": ("chat", chunk("a", "stop") + chunk("b", None, 1)),
    "within an event": ("chat", chunk("a") + chunk("b", "stop")[:40]),
    "before the first event": ("chat", b""),
    "after a comment": ("chat", b": ping\n\n"),
    "created": ("responses", event("response.created", response={"id": "r", "model": "m"})),
    "a delta": ("responses", event("response.output_text.delta", delta="hi", output_index=0, content_index=0)),
    "no event at all": ("responses", b""),
    "within the last event": ("responses", event("response.completed", response={"id": "r", "text": "a"})[:-9]),
    "at the end of an object in it": ("responses", event("response.completed", response={"id": "r"})[:-3]),
}
PATHS = {"chat": ("/v1/chat/completions", CHAT), "responses": ("/v1/responses", RESPONSE)}


@pytest.mark.parametrize("name", WHOLE)
def test_a_stream_with_its_end_is_a_success(odd: Gateway, upstream: HeldUpstream, name: str) -> None:
    kind, sent = WHOLE[name]
    upstream.start([b"".join([*events(sent), LAST])], is_held=False)
    _, body, row, is_cut = answered(odd, *PATHS[kind])

    assert (body, row["outcome"], is_cut) == (sent, "success", False)


@pytest.mark.parametrize("name", CUT)
def test_a_stream_without_its_end_is_truncated(odd: Gateway, upstream: HeldUpstream, name: str) -> None:
    kind, sent = CUT[name]
    head, *pieces = events(sent) if sent else events()
    upstream.start([b"".join([head, *pieces, LAST])], is_held=False)
    _, body, row, is_cut = answered(odd, *PATHS[kind])

    assert (row["outcome"], row["error_code"], row["status"]) == ("upstream_error", "truncated", 200)
    told = json.loads(body.rstrip().rpartition(b"data: ")[2])
    assert (told if kind == "responses" else told["error"])["code"] == "truncated"
    assert is_cut
    if name == "in the text":
        assert body.startswith(sent)
        assert row["usage_source"] == "estimated"
        assert row["output_tokens"] > 0


def test_the_sdk_raises_at_a_truncated_stream(odd: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([b"".join([*events(chunk("half")), LAST])], is_held=False)
    with pytest.raises(openai.APIError, match="ended before its end"):
        list(odd.sdk("/v1").chat.completions.create(**CHAT))  # type: ignore[call-overload]  # a plain dict


# Errors

ERRORS = {
    "an object": b'data: {"error":{"message":"boom","type":"server_error","code":"x"}}\n\n',
    "an object without type": b'data: {"error":{"message":"boom"}}\n\n',
    "an object with a number": b'data: {"error":{"code":500,"message":"boom"}}\n\n',
    "a text": b'data: {"error": "boom"}\n\n',
    "a text and a message": b'data: {"error": "Bad Gateway", "message": "boom"}\n\n',
    "a named text": b"event: error\ndata: boom\n\n",
    "a named text on two lines": b"event: error\ndata: a\ndata: boom\n\n",
    "a named JSON text": b'event: error\ndata: "boom"\n\n',
    "a named object": b'event: error\ndata: {"message":"boom"}\n\n',
    "a named detail": b'event: error\r\ndata: {"detail":"boom"}\r\n\r\n',
    "the error field": b'error: {"code":500,"message":"boom"}\n\n',
    "the members alone": b'data: {"object":"error","message":"boom","type":"E","code":400}\n\n',
    "no space": b'data:{"error":"boom"}\n\n',
}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("after", [b"", DONE], ids=["the end", "DONE"])
def test_an_error_in_a_stream_is_in_the_ledger(odd: Gateway, upstream: HeldUpstream, name: str, after: bytes) -> None:
    sent = chunk("half") + ERRORS[name] + after
    upstream.start([b"".join([*events(sent), LAST])], is_held=False)
    _, body, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert body == sent
    assert row["outcome"] == "upstream_error"
    assert "boom" in row["error_message"]


@pytest.mark.parametrize("more", [{"error": None}, {"error": {}}, {"error": ""}, {"error": False}, {"message": "hi"}])
def test_no_error_is_made_of_an_empty_member(odd: Gateway, upstream: HeldUpstream, more: dict[str, Any]) -> None:
    facts = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}], **more}
    sent = b"data: " + json.dumps(facts).encode() + b"\n\n" + DONE
    upstream.start([b"".join([*events(sent), LAST])], is_held=False)
    _, body, row, _ = answered(odd, "/v1/chat/completions", CHAT)

    assert (body, row["outcome"], row["error_message"]) == (sent, "success", "")


# Silence


@pytest.mark.parametrize("stream", [True, False])
def test_upstream_must_begin_in_time(hasty: Gateway, upstream: HeldUpstream, stream: bool) -> None:
    with connect(hasty) as wire:
        wire.send(json_call("/v1/chat/completions", {**CHAT, "stream": stream}))
        answer = wire.read_answer()

    assert answer.status == 504
    assert "FIRST_BYTE_TIMEOUT" in answer.error["message"]
    assert hasty.row(answer.headers["x-proxy-request-id"])["outcome"] == "timeout"
    assert upstream.gone.wait(PATIENCE)


@pytest.mark.parametrize("sent", [b"", chunk("half"), chunk("a")[:30]], ids=["nothing", "an event", "half an event"])
def test_upstream_must_go_on_in_time(restless: Gateway, upstream: HeldUpstream, sent: bytes) -> None:
    head, *_ = events()
    upstream.start([head + (in_chunk(sent) if sent else b""), LAST], is_held=False)
    _, body, row, is_cut = answered(restless, "/v1/chat/completions", CHAT)
    upstream.release()

    assert "IDLE_TIMEOUT" in json.loads(body.rstrip().rpartition(b"data: ")[2])["error"]["message"]
    assert (row["outcome"], is_cut) == ("timeout", True)


def test_a_silent_connection_is_asked_after_a_minute() -> None:
    with socket.socket() as opened:
        keep_alive(opened)

        assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
