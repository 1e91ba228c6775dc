"""Streams pass byte for byte and chunk by chunk, with keep-alives between events and one `[DONE]` at the end.

Over 300 lines, since the same streams are read as bytes, with keep-alives, and by the official SDK.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from openai import Stream
from openai.types.responses import ResponseStreamEvent

from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE, wait_until_quick
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway

CALL = {"model": "gpt-4o-mini", "input": "Zähle bis drei ✓", "stream": True}
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
FILE = ("speech.mp3", b"sound", "audio/mpeg")
DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"
TRANSCRIPTIONS = "/openai/audio/transcriptions"
EVENT: Any = ResponseStreamEvent  # a union of types; the SDK's own code passes it so


@pytest.fixture(scope="module")
def lively(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server that comments every 0.2 seconds of silence."""
    with run_gateway(
        _simulator.base_url, gateway_database, tmp_path_factory.mktemp("lively"), SSE_KEEPALIVE_SECONDS="0.2"
    ) as gateway:
        yield gateway


def upstreams(simulator: Simulator, path: str, **options: Any) -> bytes:
    """What upstream itself answers, with no gateway between."""
    answer = httpx2.request(
        options.pop("method", "GET"),
        simulator.base_url + path,
        headers={"authorization": f"Bearer {UPSTREAM_KEY}"},
        **options,
        timeout=PATIENCE,
    )
    answer.raise_for_status()
    return answer.content


def stored_stream(simulator: Simulator, streamed: bytes) -> bytes:
    """The same stream as upstream keeps it: a background response can be streamed again."""
    response_id = re.search(rb'"id":"(resp_\w+)"', streamed)
    assert response_id
    return upstreams(simulator, f"/responses/{response_id[1].decode()}", params={"stream": "true"})


def blocks(stream: bytes) -> list[bytes]:
    return stream.split(b"\n\n")


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {**CALL, "background": True})

    assert answer.status_code == 200
    assert answer.content == stored_stream(simulator, answer.content) + DONE
    row = gateway.row(answer)
    completed = json.loads(blocks(answer.content)[-3].split(b"data: ")[1])["response"]
    assert (row["outcome"], row["status"], row["stream"]) == ("success", 200, True)
    assert row["response_id"] == completed["id"]
    assert row["response_model"] == completed["model"]
    assert row["usage"] == completed["usage"]
    assert row["output_tokens"] == completed["usage"]["output_tokens"]
    assert row["response_bytes"] == len(answer.content) - len(DONE)
    assert 0 < row["time_to_first_chunk_ms"] <= row["duration_ms"]


FAULTS = ["events-50", "events-20+split-1", "events-20+split-3", "events-40+split-97", "events-40+split-4096",
          "events-30+pace-0.01", "huge-300000+split-50000", "events-20+drip", "events-20+gzip"]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_bytes_cut_anywhere_arrive_unchanged(gateway: Gateway, simulator: Simulator, fault: str) -> None:
    answer = gateway.post("/openai2", {**CALL, "background": True, "model": f"fault:{fault}"})

    assert answer.content == stored_stream(simulator, answer.content) + DONE
    assert answer.content.count(DONE) == 1
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize("fault", ["malformed", "error-event", "gzip", "drip", "split-5"])
def test_a_stored_stream_arrives_unchanged(gateway: Gateway, simulator: Simulator, fault: str) -> None:
    path = f"/resp_fault-{fault}"
    answer = gateway.get(f"/openai2{path}", stream="true")

    assert answer.content == upstreams(simulator, f"/responses{path}", params={"stream": "true"}) + DONE


def test_a_malformed_event_does_not_end_the_stream(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {**CALL, "model": "fault:malformed"})

    assert b'data: {"id": "broken", "choices": [{"delta"\n\n' in answer.content
    assert b"event: response.completed\n" in answer.content
    assert gateway.row(answer)["outcome"] == "success"
    assert gateway.row(answer)["output_tokens"] > 0


def test_a_stream_is_resumed_after_the_event_asked_for(gateway: Gateway, simulator: Simulator) -> None:
    query = {"stream": "true", "starting_after": "3", "include_obfuscation": "false"}
    answer = gateway.get("/openai2/resp_abc123", **query)

    assert answer.content == upstreams(simulator, "/responses/resp_abc123", params=query) + DONE
    assert json.loads(blocks(answer.content)[0].split(b"data: ")[1])["sequence_number"] == 4
    assert simulator.requests[0].query == "stream=true&starting_after=3&include_obfuscation=false"
    assert gateway.row(answer)["stream"] is True


@pytest.mark.parametrize("model", ["gpt-4o-mini-transcribe", "fault:events-40+split-3", "fault:drip", "fault:gzip"])
def test_a_transcription_stream_arrives_unchanged_without_done(
    gateway: Gateway, simulator: Simulator, model: str
) -> None:
    form = {"data": {"model": model, "stream": "true"}, "files": {"file": FILE}}
    answer = gateway.http.post(TRANSCRIPTIONS, headers=BEARER, **form)  # type: ignore[arg-type]

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.content == upstreams(simulator, "/audio/transcriptions", method="POST", **form)
    assert DONE not in answer.content
    row = gateway.row(answer)
    assert (row["outcome"], row["stream"]) == ("success", True)
    assert row["output_tokens"] > 0


def test_whisper_ignores_stream_and_so_do_we(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.post(
        TRANSCRIPTIONS, headers=BEARER, data={"model": "whisper-1", "stream": "true"}, files={"file": FILE}
    )

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["text"]


# Chunk by chunk


@pytest.mark.parametrize("path", ["/openai2", TRANSCRIPTIONS])
def test_events_arrive_while_upstream_still_works(gateway: Gateway, simulator: Simulator, path: str) -> None:
    fields = {"model": "fault:gate-stream", "stream": "true"}
    options: dict[str, Any] = {"json": {**CALL, **fields, "stream": True}}
    if path == TRANSCRIPTIONS:
        options = {"data": fields, "files": {"file": FILE}}
    with gateway.http.stream("POST", path, headers=BEARER, **options) as answer:
        pieces = answer.iter_raw()
        first = b""
        while first.count(b"\n\n") < 2:
            first += next(pieces)

        assert first.count(b"\n\n") == 2
        assert simulator.last.outcome == "pending"
        assert simulator.last.events_sent == 2
        simulator.release(waiting=1)
        assert b".done\n" in b"".join(pieces) or path == TRANSCRIPTIONS


def test_headers_are_upstreams_and_ours(gateway: Gateway, simulator: Simulator) -> None:
    headers = gateway.post("/openai2", CALL).headers

    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache, must-revalidate"
    assert headers["x-request-id"].startswith("req_")
    assert headers["openai-processing-ms"].isdecimal()
    assert headers["x-ratelimit-remaining-tokens"] == "199968"
    assert headers["transfer-encoding"] == "chunked"
    assert {"set-cookie", "server", "content-length", "content-encoding", "cf-ray"}.isdisjoint(headers)


def test_an_error_instead_of_a_stream_passes_untouched(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {**CALL, "model": "fault:status-429"})

    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/json"
    assert "retry-after" in answer.headers
    assert "request_id" not in answer.json()["error"]
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == (
        "upstream_error",
        429,
        answer.json()["error"]["code"],
    )


def test_an_error_event_of_upstream_is_an_upstream_error(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {**CALL, "model": "fault:error-event"})

    assert answer.content.endswith(DONE)
    assert answer.content.count(b"event: error\n") == 1
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("upstream_error", 200, "server_error")
    assert row["error_message"].startswith("The server had an error")


def test_an_error_event_in_a_transcription_is_an_upstream_error(gateway: Gateway, simulator: Simulator) -> None:
    form = {"model": "fault:events-20+error-event", "stream": "true"}
    answer = gateway.http.post(TRANSCRIPTIONS, headers=BEARER, data=form, files={"file": FILE})

    assert gateway.row(answer)["outcome"] == "upstream_error"


# Keep-alives


@pytest.mark.parametrize("cut", ["", "+split-700"])
def test_silence_is_filled_with_comments_between_events(lively: Gateway, simulator: Simulator, cut: str) -> None:
    """With `split-700` upstream falls silent in the middle of an event: the piece of it is held back."""
    body = {**CALL, "background": True, "model": f"fault:events-20+gate-stream{cut}"}
    with lively.http.stream("POST", "/openai2", headers=BEARER, json=body) as answer:
        pieces = answer.iter_raw()
        received = b""
        while received.count(COMMENT) < 2:
            received += next(pieces)
        simulator.release(waiting=1)
        received += b"".join(pieces)

    sent = stored_stream(simulator, received) + DONE
    assert [block for block in blocks(received) if block != b": keep-alive"] == blocks(sent)


def test_a_comment_never_lands_inside_a_huge_event(lively: Gateway, simulator: Simulator) -> None:
    """An event of more than 1 MiB is relayed in pieces; here each of them comes after a silence."""
    body = {**CALL, "background": True, "model": "fault:huge-1300000+split-500000+pace-0.3"}
    received = lively.post("/openai2", body).content

    sent = stored_stream(simulator, received) + DONE
    assert [block for block in blocks(received) if block != b": keep-alive"] == blocks(sent)
    assert COMMENT in received


def test_comments_reach_a_transcription_too(lively: Gateway, simulator: Simulator) -> None:
    form = {"model": "fault:silent-0.7", "stream": "true"}
    answer = lively.http.post(TRANSCRIPTIONS, headers=BEARER, data=form, files={"file": FILE})

    assert COMMENT in answer.content
    assert lively.row(answer)["outcome"] == "success"


def test_no_comment_comes_where_there_is_no_silence(lively: Gateway, simulator: Simulator) -> None:
    """All events together take longer than the time after which a comment comes; none of their pauses does."""
    pace, longest = 0.02, 0.2
    contents: list[bytes] = []

    def delay() -> float:
        """Returns the seconds that a busy machine has added to the pauses of a stream."""
        began = time.monotonic()
        contents.append(lively.post("/openai2", {**CALL, "model": f"fault:events-20+pace-{pace}"}).content)
        took = time.monotonic() - began
        assert took > longest
        return took - pace * contents[-1].count(b"event: ")

    wait_until_quick(delay, longest - pace)
    assert COMMENT not in contents[-1]


def test_zero_seconds_means_no_comments(start_gateway: Callable[..., Gateway]) -> None:
    gateway = start_gateway(SSE_KEEPALIVE_SECONDS="0")
    answer = gateway.post("/openai2", {**CALL, "model": "fault:silent-0.5"})

    assert b": keep-alive" not in answer.content
    assert answer.content.endswith(DONE)


# The official SDK


def sdk_stream(client: openai.OpenAI, model: str) -> Stream[ResponseStreamEvent]:
    stream: Stream[ResponseStreamEvent] = client.post(
        "/openai2",
        cast_to=EVENT,
        body={**CALL, "model": model},
        stream=True,
        stream_cls=Stream[ResponseStreamEvent],
    )
    return stream


@pytest.mark.parametrize("model", ["gpt-4o-mini", "fault:events-100+split-3", "fault:silent-0.5"])
def test_the_sdk_yields_every_event_in_order(lively: Gateway, simulator: Simulator, model: str) -> None:
    with lively.sdk() as client, sdk_stream(client, model) as stream:
        events = list(stream)

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "".join(
        event.delta for event in events if event.type == "response.output_text.delta"
    )


def test_the_sdk_retrieves_a_stream(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client:
        stream: Stream[ResponseStreamEvent] = client.get(
            "/openai2/resp_abc123?stream=true&starting_after=1",
            cast_to=EVENT,
            stream=True,
            stream_cls=Stream[ResponseStreamEvent],
        )
        numbers = [event.sequence_number for event in stream]

    assert numbers == list(range(2, numbers[-1] + 1))
