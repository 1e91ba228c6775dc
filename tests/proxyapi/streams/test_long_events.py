"""Events of more than 1 MiB, such as those with a picture: they pass in pieces, and count for the ledger when whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxyapi.streams.sse import MAX_HELD_BYTES, MAX_KEPT_BYTES, EventFramer
from tests.support.calls.streamed_calls import CHAT, RESPONSE, answered, event
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream
from usage.answers import event_stream

PICTURE = "iVBORw0KGgo" + "A" * MAX_HELD_BYTES + "\\/" + "b9" * MAX_HELD_BYTES
TEXT = 'He said "hello" — \\ and\n' * (MAX_HELD_BYTES // 20)
IMAGE = {"model": "gpt-image-1", "prompt": "a cat", "stream": True}
USAGE = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
CREATED = event("response.created", response={"id": "resp_1", "object": "response", "status": "in_progress"})


@pytest.fixture(scope="module")
def upstream() -> Iterator[HeldUpstream]:
    with held_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: HeldUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with run_gateway(upstream.url, gateway_database, tmp_path_factory.mktemp("long")) as gateway:
        yield gateway


def completed(output: list[dict[str, Any]]) -> bytes:
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "output": output}
    return event("response.completed", response={**response, "error": None, "usage": USAGE})


def chat_with_picture() -> bytes:
    delta = {"images": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}]}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], "usage": usage}
    return b"data: " + json.dumps(chunk).encode() + b"\n\ndata: [DONE]\n\n"


STREAMS: dict[str, tuple[str, dict[str, Any], bytes]] = {
    "a response with a picture": (
        "/v1/responses",
        RESPONSE,
        CREATED + completed([{"id": "ig_long", "type": "image_generation_call", "result": PICTURE}]),
    ),
    "a response with a long text": (
        "/v1/responses",
        RESPONSE,
        CREATED + completed([{"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": TEXT}]}]),
    ),
    "a response without anything before it": (
        "/v1/responses",
        RESPONSE,
        completed([{"id": "ig_long", "type": "image_generation_call", "result": PICTURE}]),
    ),
    "a picture": (
        "/v1/images/generations",
        IMAGE,
        event("image_generation.partial_image", b64_json=PICTURE, partial_image_index=0)
        + event("image_generation.completed", b64_json=PICTURE, usage=USAGE),
    ),
    "a chat with a picture": ("/v1/chat/completions", CHAT, chat_with_picture()),
}


@pytest.mark.parametrize("name", STREAMS)
def test_its_usage_is_counted(gateway: Gateway, upstream: HeldUpstream, name: str) -> None:
    path, body, stream = STREAMS[name]
    upstream.start([b"".join([*events(stream), LAST])], is_held=False)
    _, answer, row, is_cut = answered(gateway, path, body)

    assert (answer == stream, is_cut) == (True, False)
    assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("success", 7, 5)
    assert row["usage_source"] == "exact"


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("has_clean_end", [True, False])
def test_a_stream_that_is_cut_inside_it_is_no_success(
    gateway: Gateway, upstream: HeldUpstream, name: str, has_clean_end: bool
) -> None:
    path, body, stream = STREAMS[name]
    stream = stream.removesuffix(b"data: [DONE]\n\n")[:-100]
    upstream.start([b"".join([*events(stream), LAST if has_clean_end else b""])], is_held=False)
    _, answer, row, is_cut = answered(gateway, path, body)

    # An error event inside the event would make it another one.
    assert (stream.startswith(answer), is_cut) == (True, True)
    assert row["outcome"] == ("upstream_error" if has_clean_end else "unreachable")
    assert row["usage_source"] != "exact"


@pytest.mark.parametrize("size", [1000, MAX_HELD_BYTES, 3 * MAX_HELD_BYTES])
@pytest.mark.parametrize("step", [1000, 65_536, 10 * MAX_HELD_BYTES])
def test_each_event_is_read_once_and_whole(size: int, step: int) -> None:
    framer, read = EventFramer(), b""
    before, after = event("one", id="a"), event("three", id="c")
    long = event("two", text="\n" + "x" * size, id="b")
    stream = before + long + after
    for at in range(0, len(stream), step):
        read += framer.whole_events(framer.feed(stream[at : at + step]))

    assert (read.startswith(before), read.endswith(after)) == (True, True)
    data = read[len(before) : -len(after)].partition(b"data: ")[2]
    assert {**json.loads(data), "text": ""} == {"type": "two", "text": "", "id": "b"}


def test_what_follows_an_event_that_is_too_long_to_be_kept_is_read() -> None:
    framer, read, last = EventFramer(), b"", b"data: [DONE]\n\n"
    stream = event("one", text="word " * MAX_KEPT_BYTES) + last
    for at in range(0, len(stream), 65_536):
        read += framer.whole_events(framer.feed(stream[at : at + 65_536]))

    assert len(read) < 2 * MAX_KEPT_BYTES
    assert event_stream.read(read[-1000:])[-1] == (b"", b"[DONE]")
