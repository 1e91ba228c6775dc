"""A call that asks for a stream hears something while upstream has not begun to answer, and what came of it then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from tests.support.callers.wire import Wire, WireAnswer, connect, head, json_call
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream, whole

COMMENT = b": keep-alive\n\n"
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "stream": True}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi", "stream": True}
ROUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSE),
    "simple responses": ("/openai2", {**RESPONSE, "security_key": SECURITY_KEY}),
    "images": ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "x", "stream": True}),
}
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk","model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'
)
DONE = b"data: [DONE]\n\n"
JSON = b"content-type: application/json"
BUSY = b'{"error":{"message":"Slow down.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}'
FORM = (
    b'--x\r\ncontent-disposition: form-data; name="stream"\r\n\r\ntrue\r\n'
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nsound\r\n--x--\r\n'
)


@pytest.fixture(scope="module")
def _upstream() -> Iterator[HeldUpstream]:
    with held_upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(_upstream: HeldUpstream) -> HeldUpstream:
    _upstream.start([])
    return _upstream


@pytest.fixture(scope="module")
def lively(
    _upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server that comments every 0.2 seconds of silence."""
    with run_gateway(
        _upstream.url, gateway_database, tmp_path_factory.mktemp("lively"), SSE_KEEPALIVE_SECONDS="0.2"
    ) as gateway:
        yield gateway


def begin(wire: Wire, path: str, body: dict[str, Any], *headers: str) -> tuple[WireAnswer, Iterator[bytes]]:
    """Sends a call; returns the head that comes before upstream's, and the chunks behind it, of which one has come."""
    wire.send(json_call(path, body, *headers))
    answer = wire.read_head()
    chunks = wire.read_chunks()
    assert next(chunks) == COMMENT
    return answer, chunks


def rest(chunks: Iterator[bytes]) -> bytes:
    """What follows, without the comments that came meanwhile."""
    return b"".join(chunk for chunk in chunks if chunk != COMMENT)


def data_of(event: bytes) -> Any:
    return json.loads(b"".join(line[6:] for line in event.splitlines() if line.startswith(b"data: ")))


@pytest.mark.parametrize("route", ROUTES)
def test_it_works(lively: Gateway, upstream: HeldUpstream, route: str) -> None:
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])])
    with connect(lively) as wire:
        answer, chunks = begin(wire, *ROUTES[route])
        upstream.release()
        assert rest(chunks) == CHUNK + DONE

    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    row = lively.row(answer.headers["x-proxy-request-id"])
    assert (row["outcome"], row["status"], row["stream"]) == ("success", 200, True)


def test_comments_go_on_until_upstream_answers(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])])
    with connect(lively) as wire:
        _, chunks = begin(wire, "/v1/chat/completions", CHAT)
        assert [next(chunks) for _ in range(3)] == [COMMENT] * 3
        upstream.release()
        assert rest(chunks) == CHUNK + DONE
        begin(wire, "/v1/chat/completions", CHAT)  # the connection goes on
        upstream.release()


def test_a_byte_order_mark_does_not_land_behind_the_comments(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([b"".join([*events(b"\xef\xbb\xbf" + CHUNK, DONE), LAST])])
    with connect(lively) as wire:
        _, chunks = begin(wire, "/v1/chat/completions", CHAT)
        upstream.release()
        assert rest(chunks) == CHUNK + DONE


REFUSALS = {
    "OpenAI's shape": (whole(b"429 Too Many", BUSY, JSON), "Slow down.", "rate_limit_exceeded"),
    "detail": (whole(b"422 No", b'{"detail":"no such field"}', JSON), "no such field", ""),
    "a text": (whole(b"500 No", b"the backend is gone", b"content-type: text/plain"), "the backend is gone", ""),
    "nothing": (whole(b"503 No", b"", JSON), "", ""),
    "a broken connection": (b"", "", "upstream_unreachable"),
    "no HTTP": (b"nonsense\r\n\r\n", "", "upstream_unreachable"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("route", ROUTES)
def test_an_error_that_comes_late_is_an_event(
    lively: Gateway, upstream: HeldUpstream, route: str, refusal: str
) -> None:
    answer, words, code = REFUSALS[refusal]
    upstream.start([answer])
    with connect(lively) as wire:
        seen, chunks = begin(wire, *ROUTES[route])
        upstream.release()
        event = rest(chunks)

    told = data_of(event)
    if "responses" in route:
        assert event.startswith(b"event: error\n")
        assert told["type"] == "error"
    else:
        told = told["error"]
    assert told["message"]
    assert words in told["message"]
    assert told["code"].startswith(code or "http_")
    row = lively.row(seen.headers["x-proxy-request-id"])
    assert row["outcome"] in {"upstream_error", "unreachable"}
    assert row["status"] == 200  # what the caller saw


@pytest.mark.parametrize("body", [b'{"id":"c","choices":[]}', b'{\n "id": "c",\r\n "choices": []\n}', b"[]"])
def test_a_plain_answer_that_comes_late_is_one_event(lively: Gateway, upstream: HeldUpstream, body: bytes) -> None:
    upstream.start([whole(b"200 OK", body, JSON)])
    with connect(lively) as wire:
        _, chunks = begin(wire, "/v1/chat/completions", CHAT)
        upstream.release()
        event = rest(chunks)

    assert event.endswith(b"\n\n")
    assert data_of(event) == json.loads(body)


def test_sound_that_comes_late_is_an_error(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([whole(b"200 OK", b"ID3 sound", b"content-type: audio/mpeg")])
    with connect(lively) as wire:
        seen, chunks = begin(wire, "/v1/chat/completions", CHAT)
        upstream.release()
        assert "no" in data_of(rest(chunks))["error"]["message"]
    assert lively.row(seen.headers["x-proxy-request-id"])["outcome"] == "unreachable"


def test_the_sdk_raises_an_error_that_comes_late(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([whole(b"429 Too Many", BUSY, JSON)])
    stream = lively.sdk("/v1").chat.completions.create(**CHAT)  # type: ignore[call-overload]  # a plain dict
    upstream.release()

    with pytest.raises(openai.APIError, match="Slow down"):
        next(stream)


def test_a_plain_call_waits_for_upstreams_own_head(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([whole(b"429 Too Many", BUSY, JSON)], is_held=False)

    answer = lively.post(
        "/v1/chat/completions", {**CHAT, "stream": False}, headers={"authorization": f"Bearer {SECURITY_KEY}"}
    )

    assert (answer.status_code, answer.content) == (429, BUSY)


def test_a_form_that_asks_for_a_stream_is_kept_alive(lively: Gateway, upstream: HeldUpstream) -> None:
    delta = b'data: {"type":"transcript.text.done","text":"hi"}\n\n'
    upstream.start([b"".join([*events(delta), LAST])])
    with connect(lively) as wire:
        wire.send(
            head("POST", "/v1/audio/transcriptions", "Content-Type: multipart/form-data; boundary=x", length=len(FORM))
        )
        wire.send(FORM)
        assert wire.read_head().status == 200
        chunks = wire.read_chunks()
        assert next(chunks) == COMMENT
        upstream.release()
        assert rest(chunks) == delta


def test_a_page_of_another_origin_may_read_it(start_gateway: Any, upstream: HeldUpstream) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url, SSE_KEEPALIVE_SECONDS="0.2")
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])])
    with connect(gateway) as wire:
        answer, chunks = begin(wire, "/v1/chat/completions", CHAT, "Origin: https://app.example")
        upstream.release()
        rest(chunks)
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])], is_held=False)
    with connect(gateway) as wire:
        wire.send(json_call("/v1/chat/completions", CHAT, "Origin: https://app.example"))
        usual = wire.read_head()

    def of_cors(answer: WireAnswer) -> list[tuple[str, str]]:
        return [pair for pair in answer.pairs if pair[0].startswith("access-control-") or pair[0] == "vary"]

    assert of_cors(answer) == of_cors(usual)


def test_a_client_of_http_1_0_gets_it_too(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])])
    with connect(lively) as wire:
        wire.send(json_call("/v1/chat/completions", CHAT).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        assert "transfer-encoding" not in wire.read_head().headers
        upstream.release()
        received = wire.read_to_end()

    assert received.replace(COMMENT, b"") == CHUNK + DONE


def test_upstream_hears_that_the_caller_left_while_it_waited(lively: Gateway, upstream: HeldUpstream) -> None:
    with connect(lively) as wire:
        seen, _ = begin(wire, "/v1/chat/completions", CHAT)

    assert upstream.gone.wait(PATIENCE)
    row = lively.row(seen.headers["x-proxy-request-id"])
    assert (row["outcome"], row["status"]) == ("client_cancelled", 200)


def test_many_wait_at_once(lively: Gateway, upstream: HeldUpstream) -> None:
    upstream.start([b"".join([*events(CHUNK, DONE), LAST])])
    with ExitStack() as open_wires:
        wires = [open_wires.enter_context(connect(lively)) for _ in range(4)]
        waiting = [begin(wire, "/v1/chat/completions", CHAT)[1] for wire in wires]
        for _ in waiting:
            upstream.release()
        assert [rest(chunks) for chunks in waiting] == [CHUNK + DONE] * len(wires)
