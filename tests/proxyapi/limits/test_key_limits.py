"""Limits of keys in one process: exact, on both faces, plain and streamed; and what ends a call frees its place."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx2
import openai
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.crowd import crowd, statuses
from tests.support.callers.key_box import KeyBox
from tests.support.callers.wire import connect, head
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import Gateway

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
RESPONSE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "hi"}
SOUND = {"file": ("a.mp3", b"\xff\xfb\x90\x00" * 100, "audio/mpeg")}
Send = Callable[[Gateway, str, str], httpx2.Response]


def json_call(path: str, body: dict[str, Any]) -> Send:
    def send(gateway: Gateway, key: str, fault: str = "") -> httpx2.Response:
        model = f"fault:{fault}" if fault else body["model"]
        return gateway.http.post(path, json={**body, "model": model}, headers={"Authorization": f"Bearer {key}"})

    return send


def form_call(path: str) -> Send:
    def send(gateway: Gateway, key: str, fault: str = "") -> httpx2.Response:
        fields = {"model": f"fault:{fault}" if fault else "gpt-4o-transcribe"}
        return gateway.http.post(path, data=fields, files=SOUND, headers={"Authorization": f"Bearer {key}"})

    return send


CALLS = {
    "openai": json_call("/openai", CHAT),
    "openai2 stream": json_call("/openai2", {**RESPONSE, "stream": True}),
    "transcriptions": form_call("/openai/audio/transcriptions"),
    "v1 chat": json_call("/v1/chat/completions", CHAT),
    "v1 chat stream": json_call("/v1/chat/completions", {**CHAT, "stream": True}),
    "v1 response": json_call("/v1/responses", RESPONSE),
    "v1 response stream": json_call("/v1/responses", {**RESPONSE, "stream": True}),
    "v1 transcriptions": form_call("/v1/audio/transcriptions"),
}
STREAMS = ["openai2 stream", "v1 chat stream", "v1 response stream"]
every_call = pytest.mark.parametrize("send", CALLS.values(), ids=CALLS)
ask = CALLS["openai"]


@pytest.fixture(scope="module", params=["key", "team"])
def keys(gateway: Gateway, request: pytest.FixtureRequest) -> KeyBox:
    """Keys whose limits are their own, then keys whose limits are those of a team."""
    return KeyBox(gateway, request.param)


def assert_limited(answer: httpx2.Response, words: str) -> None:
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
    assert words in error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 60


def limits(answer: httpx2.Response, window: str) -> tuple[str, ...]:
    return tuple(answer.headers.get(f"x-ratelimit-{what}-{window}", "") for what in ("limit", "remaining"))


@every_call
def test_requests_per_minute(gateway: Gateway, simulator: Simulator, keys: KeyBox, send: Send) -> None:
    key = keys.take(requests_per_minute=2)
    first, second, third = (send(gateway, key, "") for _ in range(3))

    assert (first.status_code, second.status_code) == (200, 200)
    assert [limits(answer, "requests") for answer in (first, second)] == [("2", "1"), ("2", "0")]
    assert first.headers["x-ratelimit-limit-tokens"] == "200000"  # upstream's, there is none of ours
    assert_limited(third, "2 requests per minute")
    assert limits(third, "requests") == ("2", "0")
    assert third.headers["x-ratelimit-reset-requests"][-1] == "s"
    assert len(simulator.requests) == 2
    row = gateway.row(third)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 429, "rate_limited")
    assert row["key_name"].startswith("limited ")


@every_call
def test_tokens_per_minute(gateway: Gateway, simulator: Simulator, keys: KeyBox, send: Send) -> None:
    key = keys.take(tokens_per_minute=5)
    first, second = (send(gateway, key, "") for _ in range(2))
    row = gateway.row(first)

    assert first.status_code == 200
    assert row["input_tokens"] + row["output_tokens"] > 5
    assert limits(first, "tokens")[0] == "5"
    assert_limited(second, "5 tokens per minute")
    assert limits(second, "tokens") == ("5", "0")
    assert len(simulator.requests) == 1


def test_what_a_call_has_cost_is_in_its_own_answer(gateway: Gateway, keys: KeyBox) -> None:
    key = keys.take(tokens_per_minute=100_000)
    first, second = (ask(gateway, key, "") for _ in range(2))
    cost = first.json()["usage"]["total_tokens"]

    assert limits(first, "tokens") == ("100000", str(100_000 - cost))
    assert first.headers["x-ratelimit-reset-tokens"] == "1m0s"
    assert limits(second, "tokens") == ("100000", str(100_000 - 2 * cost))


def test_a_limit_looser_than_upstreams_is_not_shown(gateway: Gateway, keys: KeyBox) -> None:
    answer = ask(gateway, keys.take(requests_per_minute=20_000, tokens_per_minute=10**9), "")

    assert limits(answer, "requests") == ("10000", "9999")
    assert limits(answer, "tokens") == ("200000", "199968")


def test_a_later_look_at_a_response_costs_no_tokens(gateway: Gateway, keys: KeyBox) -> None:
    key = keys.take(tokens_per_minute=100_000)
    client = gateway.sdk("/v1").with_options(api_key=key)
    made = client.responses.create(**RESPONSE)
    looked = client.responses.with_raw_response.retrieve(made.id)

    assert made.usage is not None
    assert looked.headers["x-ratelimit-remaining-tokens"] == str(100_000 - made.usage.total_tokens)


@every_call
def test_parallel_calls(gateway: Gateway, simulator: Simulator, keys: KeyBox, send: Send) -> None:
    key = keys.take(parallel_calls=1)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(send, gateway, key, "gate")
        simulator.wait_until(lambda: simulator.waiting == 1)
        refused = send(gateway, key, "")
        simulator.release()

        assert first.result().status_code == 200
    assert_limited(refused, "1 call at once")
    assert refused.headers["retry-after"] == "1"
    for _ in range(5):
        assert send(gateway, key, "").status_code == 200  # one after the other is not parallel


def test_what_is_refused_counts_nowhere(gateway: Gateway, simulator: Simulator, keys: KeyBox) -> None:
    key = keys.take(parallel_calls=1, requests_per_minute=3)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask, gateway, key, "gate")
        simulator.wait_until(lambda: simulator.waiting == 1)
        for _ in range(5):
            assert_limited(ask(gateway, key, ""), "1 call at once")
        simulator.release()
        assert first.result().status_code == 200
    assert [ask(gateway, key, "").status_code for _ in range(3)] == [200, 200, 429]
    assert_limited(ask(gateway, key, ""), "3 requests per minute")  # and the place is free


@pytest.mark.parametrize("rules", [{"requests_per_minute": 40}, {"requests_per_minute": 40, "parallel_calls": 1000}])
def test_many_calls_at_once_are_counted_exactly(
    gateway: Gateway, simulator: Simulator, keys: KeyBox, rules: dict[str, int]
) -> None:
    key = keys.take(**rules)
    with crowd(gateway, 120) as wires:
        assert statuses(wires, key) == [200] * 40 + [429] * 80
    assert len(simulator.requests) == 40


def test_many_calls_at_once_get_the_places_there_are(gateway: Gateway, simulator: Simulator, keys: KeyBox) -> None:
    name, key = keys.take_named(parallel_calls=7)
    simulator.hold()
    with crowd(gateway, 60) as wires, ThreadPoolExecutor() as threads:
        calls = threads.submit(statuses, wires, key)
        gateway.rows("WHERE outcome = 'rejected' AND key_name = %s", [name], at_least=53)
        simulator.release(waiting=7)
        assert calls.result() == [200] * 7 + [429] * 53


@pytest.mark.parametrize("name", STREAMS)
def test_a_caller_that_hangs_up_frees_its_place_and_pays(
    gateway: Gateway, simulator: Simulator, keys: KeyBox, name: str
) -> None:
    key = keys.take(parallel_calls=1, tokens_per_minute=1)
    path, body = {
        "openai2 stream": ("/openai2", RESPONSE),
        "v1 chat stream": ("/v1/chat/completions", CHAT),
        "v1 response stream": ("/v1/responses", RESPONSE),
    }[name]
    with gateway.http.stream(
        "POST",
        path,
        json={**body, "model": "fault:events-50+pace-0.02", "stream": True},
        headers={"Authorization": f"Bearer {key}"},
    ) as stream:
        assert stream.status_code == 200
        assert limits(stream, "tokens") == ("1", "1")
        seen = b""
        for piece in stream.iter_raw():
            seen += piece
            if seen.count(b"delta") > 5:
                break
    simulator.wait_until(lambda: simulator.in_flight == 0)

    # Free, but the tokens that were made count.
    wait_until(lambda: "tokens per minute" in ask(gateway, key, "").text)


@pytest.mark.parametrize("fault", ["cut", "cut-stream-3", "cut-event-2", "status-500", "status-429", "bad-json"])
@pytest.mark.parametrize("name", ["v1 response", *STREAMS])
def test_upstreams_death_frees_the_place(
    gateway: Gateway, simulator: Simulator, keys: KeyBox, name: str, fault: str
) -> None:
    key = keys.take(parallel_calls=1)
    with suppress(httpx2.RemoteProtocolError):  # a stream that is cut
        CALLS[name](gateway, key, fault)
    simulator.wait_until(lambda: simulator.in_flight == 0)

    assert ask(gateway, key, "").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("/openai", {}), ("/openai", {**CHAT, "stream": True}), ("/v1/nothing", CHAT), ("/v1/files", CHAT)],
)
def test_a_call_refused_after_its_admission_frees_its_place(
    gateway: Gateway, keys: KeyBox, path: str, body: dict[str, Any]
) -> None:
    key = keys.take(parallel_calls=1)
    for _ in range(3):
        answer = gateway.http.post(path, json=body, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code in {400, 404}


def test_a_caller_gone_while_its_body_arrives_frees_its_place(gateway: Gateway, keys: KeyBox) -> None:
    key = keys.take(parallel_calls=1)
    with connect(gateway) as wire:
        headers = ("Content-Type: application/json", "Expect: 100-continue")
        wire.send(head("POST", "/v1/responses", *headers, length=1000, key=key))
        assert wire.read_head().status == 100
        wire.send(b"{")
        assert_limited(ask(gateway, key, ""), "1 call at once")
    wait_until(lambda: ask(gateway, key, "").status_code == 200)


def test_the_sdk_sees_its_own_error_and_its_retry_succeeds(
    gateway: Gateway, simulator: Simulator, keys: KeyBox
) -> None:
    name, key = keys.take_named(parallel_calls=1)
    client = gateway.sdk("/v1").with_options(api_key=key)
    with ThreadPoolExecutor() as threads:
        first = threads.submit(ask, gateway, key, "gate")
        simulator.wait_until(lambda: simulator.waiting == 1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.responses.create(**RESPONSE)
        assert caught.value.code == "rate_limited"
        assert caught.value.type == "rate_limit_error"

        second = threads.submit(lambda: client.with_options(max_retries=9).responses.create(**RESPONSE))
        gateway.rows("WHERE outcome = 'rejected' AND key_name = %s", [name], at_least=2)
        simulator.release()
        assert first.result().status_code == 200
        assert second.result().status == "completed"
