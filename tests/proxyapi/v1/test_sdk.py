"""The official SDK on `/v1`, its base URL and key changed: it gets what it would get from upstream, errors too."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import httpx2
import openai
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.blocking_sdk import open_sdk
from tests.support.callers.sdk_scenarios import ASK, CALLS, FILE, RESPOND, Scenario, row_of
from tests.support.polling import repeat_until
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway

KINDS = ["sync", "async"]
OPTIONS: dict[str, Any] = {"max_retries": 0, "timeout": PATIENCE}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(kind: str, gateway: Gateway, simulator: Simulator) -> Iterator[Any]:
    with open_sdk(kind, f"{gateway.url}/v1", SECURITY_KEY, **OPTIONS) as client:
        yield client


@pytest.fixture(scope="module")
def tight_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """One call at a time, and two seconds for it."""
    with run_gateway(
        _simulator.base_url,
        gateway_database,
        tmp_path_factory.mktemp("tight"),
        REQUEST_TIMEOUT="2",
        MAX_PARALLEL_REQUESTS="1",
    ) as gateway:
        yield gateway


@pytest.mark.parametrize("scenario", CALLS, ids=lambda scenario: str(scenario.__name__))
def test_it_gets_what_it_would_get_from_upstream(
    kind: str, gateway: Gateway, simulator: Simulator, scenario: Scenario
) -> None:
    name = f"{scenario.__name__} {kind}"

    def run(base_url: str, api_key: str) -> list[Any]:
        simulator.freeze(name)
        with open_sdk(kind, base_url, api_key, default_headers={"x-client-request-id": name}, **OPTIONS) as client:
            return list(scenario(client))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the SDK's own words on old methods
        direct = run(simulator.base_url, UPSTREAM_KEY)
        passed = run(f"{gateway.url}/v1", SECURITY_KEY)

    assert passed == direct
    expected = CALLS[scenario]
    rows = gateway.rows("WHERE incoming_request_id = %s", [name], at_least=len(expected))
    assert [row_of(row) for row in rows] == expected
    assert {row["outcome"] for row in rows} == {"success"}
    assert {row["status"] for row in rows} == {200}


# Our errors, as the SDK's own.


def test_a_wrong_key(kind: str, gateway: Gateway, simulator: Simulator) -> None:
    with (
        open_sdk(kind, f"{gateway.url}/v1", "wrong", **OPTIONS) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.chat.completions.create(**ASK)

    assert caught.value.code == "invalid_key"
    assert caught.value.type == "authentication_error"
    assert caught.value.message == "Error code: 401 - Missing or invalid key."
    assert simulator.requests == []


def test_a_closed_family(client: Any, simulator: Simulator) -> None:
    with pytest.raises(openai.NotFoundError, match="V1_ROUTES can open it") as caught:
        list(client.files.list())

    assert caught.value.code == "not_found"
    assert simulator.requests == []


def test_a_route_that_openai_does_not_have(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="Unknown endpoint: POST /v1/engines/x/search"):
        client.post("/engines/x/search", body={"query": "x"}, cast_to=object)


def test_a_base_url_with_v1_twice(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match=r"Did you mean /v1/responses\?"):
        client.post("/v1/responses", body={"model": "x"}, cast_to=object)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xef\xbb\xbf{}"])
def test_a_body_that_is_no_object(client: Any, simulator: Simulator, content: bytes) -> None:
    options = {"headers": {"content-type": "application/json"}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/chat/completions", content=content, cast_to=object, options=options)

    assert caught.value.code == "bad_json"
    assert simulator.requests == []


def test_a_model_that_cannot_be_deleted(client: Any) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.delete("gpt-4o-mini")

    assert caught.value.status_code == 405
    assert caught.value.code == "method_not_supported"


def test_upstreams_words_reach_the_caller(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**ASK, temperature=7)

    assert caught.value.param == "temperature"
    assert caught.value.request_id is not None
    assert caught.value.request_id.startswith("req_")


# Upstream's refusals, and trying again.


def test_a_rate_limit(client: Any, simulator: Simulator) -> None:
    simulator.fail_next("status-429")
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**ASK)

    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded"
    assert (headers["retry-after"], headers["retry-after-ms"], headers["x-should-retry"]) == ("1", "1000", "true")
    assert len(simulator.requests) == 1


def test_the_sdk_tries_again_after_a_rate_limit(kind: str, gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("status-429")
    name = f"again {kind}"
    with open_sdk(
        kind, f"{gateway.url}/v1", SECURITY_KEY, max_retries=2, default_headers={"x-request-id": name}
    ) as client:
        client.chat.completions.create(**ASK)

    first, second = simulator.requests
    assert second.timestamp - first.timestamp >= 1  # as upstream asked
    assert [request.header("x-stainless-retry-count") for request in (first, second)] == ["0", "1"]
    rows = gateway.rows("WHERE incoming_request_id = %s", [name], at_least=2)
    assert [(row["outcome"], row["status"]) for row in rows] == [("upstream_error", 429), ("success", 200)]


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_upstreams_failures(client: Any, simulator: Simulator, status: int) -> None:
    simulator.fail_next(f"status-{status}")
    with pytest.raises(openai.InternalServerError) as caught:
        client.responses.create(**RESPOND)

    assert caught.value.status_code == status
    assert len(simulator.requests) == 1  # it creates something: nobody but the caller may try again


def test_upstream_gone(client: Any, simulator: Simulator) -> None:
    simulator.fail_next("cut")
    with pytest.raises(openai.InternalServerError, match="may have been billed") as caught:
        client.embeddings.create(model="text-embedding-3-small", input="x")

    assert (caught.value.status_code, caught.value.code) == (502, "upstream_unreachable")
    assert len(simulator.requests) == 1


def test_a_look_is_tried_again_by_the_gateway(client: Any, simulator: Simulator) -> None:
    simulator.fail_next("cut", times=2)

    assert client.models.retrieve("gpt-4o").id == "gpt-4o"
    assert len(simulator.requests) == 3


def test_upstream_too_slow(kind: str, tight_gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("hang")
    with (
        open_sdk(kind, f"{tight_gateway.url}/v1", SECURITY_KEY, **OPTIONS) as client,
        pytest.raises(openai.InternalServerError, match="may have been billed") as caught,
    ):
        client.chat.completions.create(**ASK)

    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")


def test_too_many_at_once(kind: str, tight_gateway: Gateway, simulator: Simulator) -> None:
    opened: list[Any] = []
    with open_sdk(kind, f"{tight_gateway.url}/v1", SECURITY_KEY, **OPTIONS) as client:

        def open_stream() -> None:
            with suppress(openai.InternalServerError):
                opened.append(client.responses.create(**RESPOND | {"model": "fault:gate-stream"}, stream=True))

        repeat_until(lambda: opened, open_stream)  # the call of the test before may have the only place still
        with opened[0], pytest.raises(openai.InternalServerError) as caught:
            client.models.retrieve("gpt-4o")

    assert (caught.value.status_code, caught.value.code) == (503, "overloaded")
    assert caught.value.response.headers["retry-after"] == "1"


def test_a_caller_without_patience(kind: str, gateway: Gateway, simulator: Simulator) -> None:
    simulator.fail_next("hang", times=1000)
    numbers = count()

    def call() -> str:
        """Makes a call that is not waited for, and returns its id."""
        name = f"impatient {kind} {next(numbers)}"
        options: dict[str, Any] = {"max_retries": 0, "timeout": 0.3, "default_headers": {"x-request-id": name}}
        with (
            open_sdk(kind, f"{gateway.url}/v1", SECURITY_KEY, **options) as client,
            pytest.raises(openai.APITimeoutError),
        ):
            client.chat.completions.create(**ASK)
        return name

    name = repeat_until(lambda: simulator.requests, call)
    [row] = gateway.rows("WHERE incoming_request_id = %s", [name], at_least=1)
    assert (row["outcome"], row["status"]) == ("client_cancelled", None)
    simulator.wait_until(lambda: simulator.last.outcome == "disconnected")


# Streams that die.


@pytest.mark.parametrize("fault", ["cut-stream-5", "cut-event-5"])
def test_a_chat_stream_that_dies(client: Any, fault: str) -> None:
    chunks: list[Any] = []
    with pytest.raises(openai.APIError, match="broke during the answer") as caught:
        list_into(chunks, client.chat.completions.create(**ASK | {"model": f"fault:{fault}"}, stream=True))

    assert len(chunks) == 5
    assert "may have been billed" in caught.value.message
    assert caught.value.code == "upstream_disconnected"


@pytest.mark.parametrize("fault", ["cut-stream-5", "cut-event-5"])
def test_a_responses_stream_that_dies(client: Any, fault: str) -> None:
    """Its dialect has an event for it; after that the connection is cut, which is no clean end either."""
    events: list[Any] = []
    with pytest.raises(openai.APIConnectionError):
        list_into(events, client.responses.create(**RESPOND | {"model": f"fault:{fault}"}, stream=True))

    assert [event.sequence_number for event in events] == [0, 1, 2, 3, 4, 5]
    assert (events[-1].type, events[-1].code) == ("error", "upstream_disconnected")
    assert "may have been billed" in events[-1].message


def test_a_transcript_that_dies(client: Any) -> None:
    events: list[Any] = []
    with pytest.raises(openai.APIError, match="broke during the answer"):
        list_into(events, client.audio.transcriptions.create(model="fault:cut-stream-2", file=FILE, stream=True))

    assert [event.type for event in events] == ["transcript.text.delta"] * 2


def test_sound_that_breaks_off(client: Any) -> None:
    with pytest.raises(openai.APIConnectionError):
        client.audio.speech.create(model="fault:cut-body", voice="alloy", input="Hello")


def test_sound_that_breaks_off_while_it_plays(client: Any) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="fault:cut-body", voice="alloy", input="Hello"
    ) as answer:
        played: list[bytes] = []
        with pytest.raises(httpx2.RemoteProtocolError):
            list_into(played, answer.iter_bytes())

    assert b"".join(played)


def list_into(items: list[Any], source: Any) -> None:
    """What came before an error is in `items`."""
    for item in source:
        items.append(item)
