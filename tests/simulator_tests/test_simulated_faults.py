"""The simulator goes wrong only as it is asked to."""

import json
import threading
import time
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from tests.simulator import (
    Simulator,
)
from tests.simulator_tests.examples import ASK, AUDIO, events_of
from tests.support.polling import PATIENCE, repeat_until


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 418, 422, 429, 500, 502, 503, 504])
def test_a_status_on_demand_has_openais_error_body(client: OpenAI, status: int) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        client.chat.completions.create(**{**ASK, "model": f"fault:status-{status}"})
    assert failed.value.status_code == status
    body: Any = failed.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert (failed.value.response.headers.get("retry-after") == "1") is (status == 429)


def test_a_fault_comes_by_header_by_response_id_or_from_the_queue(
    simulator: Simulator, client: OpenAI, http: httpx2.Client
) -> None:
    assert http.get("/models", headers={"x-simulator-fault": "status-500"}).status_code == 500
    assert http.get("/responses/resp_fault-status-503").status_code == 503
    assert http.get("/responses/resp_fault-huge-5").json()["id"] == "resp_abc123"
    simulator.fail_next("status-500")
    simulator.fail_next("status-429", times=2)
    statuses = [http.get("/models").status_code for _ in range(4)]
    assert statuses == [500, 429, 429, 200]
    with pytest.raises(ValueError, match="knows no fault 'explode'"):
        simulator.fail_next("events-3+explode")
    data = {"model": "fault:status-500"}
    assert http.post("/audio/transcriptions", data=data, files={"file": AUDIO}).status_code == 500


def test_whole_answers_that_go_wrong(http: httpx2.Client) -> None:
    def ask(fault: str) -> httpx2.Response:
        return http.post("/chat/completions", json={**ASK, "model": f"fault:{fault}"})

    html = ask("html")
    assert (html.status_code, html.headers["content-type"]) == (502, "text/html")
    redirect = ask("redirect")
    assert (redirect.status_code, redirect.headers["location"].endswith("/v1/redirected")) == (307, True)
    with pytest.raises(json.JSONDecodeError):
        ask("bad-json").json()
    packed = ask("gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.json()["object"] == "chat.completion"
    assert 300_000 < len(ask("huge-300000").content) < 310_000
    assert ask("drip").json()["choices"] == ask("split-7").json()["choices"] == packed.json()["choices"]
    with pytest.raises(httpx2.RemoteProtocolError):
        ask("cut-body")
    with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
        ask("cut")


def test_a_cut_connection_is_recorded(simulator: Simulator, client: OpenAI) -> None:
    for fault in ("cut", "cut-body"):
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(**{**ASK, "model": f"fault:{fault}"})
        simulator.wait_until(lambda: simulator.in_flight == 0)
        assert simulator.last.outcome == "cut"


STREAMS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", {"messages": ASK["messages"], "stream": True}),
    "responses": ("/responses", {"input": "hi", "stream": True}),
}


@pytest.mark.parametrize("api", STREAMS)
def test_a_stream_with_as_many_deltas_as_asked(http: httpx2.Client, api: str) -> None:
    path, body = STREAMS[api]
    events = events_of(http.post(path, json={**body, "model": "fault:events-300"}))
    deltas = [event for event in events if event.get("type") == "response.output_text.delta"]
    deltas = deltas or [event for event in events if event["choices"][0]["delta"].get("content")]
    assert len(deltas) == 300


@pytest.mark.parametrize("api", STREAMS)
@pytest.mark.parametrize("fault", ["split-1", "split-5", "drip", "gzip", "gzip+split-3", "pace-0.001", "silent-0.01"])
def test_a_stream_that_comes_in_odd_pieces_is_still_the_same(http: httpx2.Client, api: str, fault: str) -> None:
    path, body = STREAMS[api]

    def texts(model: str) -> list[Any]:
        events = events_of(http.post(path, json={**body, "model": model}))
        return [event.get("delta") or [choice["delta"] for choice in event.get("choices", [])] for event in events]

    assert texts(f"fault:{fault}") == texts("gpt-4o-mini")


@pytest.mark.parametrize("api", STREAMS)
def test_a_stream_that_dies(simulator: Simulator, http: httpx2.Client, api: str) -> None:
    path, body = STREAMS[api]
    for fault, whole, torn in (("cut-stream-3", 3, False), ("cut-event-3", 3, True), ("cut-stream-0", 0, False)):
        received = bytearray()
        with http.stream("POST", path, json={**body, "model": f"fault:{fault}"}) as response:
            assert response.status_code == 200
            with pytest.raises(httpx2.RemoteProtocolError):
                _drain(response, received)
        assert received.count(b"\n\n") == whole
        assert (bool(received) and not received.endswith(b"\n\n")) is torn
        simulator.wait_until(lambda: simulator.in_flight == 0)
        assert simulator.last.outcome == "cut"


def _drain(response: httpx2.Response, received: bytearray) -> None:
    for chunk in response.iter_bytes():
        received += chunk


def test_an_error_event_and_a_malformed_event(client: OpenAI, http: httpx2.Client) -> None:
    with pytest.raises(openai.APIError, match="The server had an error"):
        list(client.chat.completions.create(**{**ASK, "model": "fault:error-event"}, stream=True))
    events: list[Any] = list(client.responses.create(model="fault:error-event", input="hi", stream=True))
    assert (events[-1].type, events[-1].code, events[-1].sequence_number) == ("error", "server_error", 4)
    assert (
        "[DONE]" not in http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:error-event"}).text
    )
    malformed = http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:malformed"}).text
    assert malformed.endswith("data: [DONE]\n\n")
    with pytest.raises(json.JSONDecodeError):
        list(client.chat.completions.create(**{**ASK, "model": "fault:malformed"}, stream=True))


def test_slow_and_paced_answers_take_their_time(http: httpx2.Client) -> None:
    began = time.monotonic()
    http.post("/chat/completions", json={**ASK, "model": "fault:slow-0.1"})
    assert time.monotonic() - began >= 0.1
    began = time.monotonic()
    http.post("/chat/completions", json={**STREAMS["chat"][1], "model": "fault:events-5+pace-0.02"})
    assert time.monotonic() - began >= 0.1


def test_a_hanging_answer_ends_when_the_client_gives_up(simulator: Simulator, client: OpenAI) -> None:
    def give_up() -> None:
        with pytest.raises(openai.APITimeoutError):
            client.with_options(timeout=0.1).chat.completions.create(**{**ASK, "model": "fault:hang"})

    repeat_until(lambda: simulator.requests, give_up)
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"


def test_a_client_that_hangs_up_stops_its_stream_at_once(simulator: Simulator, client: OpenAI) -> None:
    stream = client.chat.completions.create(**{**ASK, "model": "fault:events-10000+pace-0.01"}, stream=True)
    next(iter(stream))
    assert simulator.in_flight == 1
    stream.close()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    assert simulator.last.outcome == "disconnected"
    assert simulator.last.events_sent < 1000


def test_the_gate_holds_the_head_until_released(simulator: Simulator, client: OpenAI) -> None:
    answers: list[Any] = []

    def ask(model: str) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: answers.append(client.chat.completions.create(**{**ASK, "model": model}))
        )
        thread.start()
        return thread

    thread = ask("fault:gate")
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert (simulator.in_flight, answers) == (1, [])
    simulator.release()
    thread.join(PATIENCE)
    simulator.hold()
    threads = [ask("gpt-4o-mini"), ask("gpt-4o-mini")]
    simulator.release(waiting=2)
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answers) == 3


def test_the_gate_holds_a_stream_after_two_events(simulator: Simulator, client: OpenAI) -> None:
    stream = iter(client.responses.create(model="fault:gate-stream", input="hi", stream=True))
    assert [next(stream).type, next(stream).type] == ["response.created", "response.in_progress"]
    simulator.wait_until(lambda: simulator.waiting == 1)
    assert simulator.last.events_sent == 2
    simulator.release()
    assert list(stream)[-1].type == "response.completed"
