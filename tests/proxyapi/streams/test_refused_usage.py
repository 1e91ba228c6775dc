"""Usage that the gateway asks a stream for: upstreams that refuse the question, and a setting that forbids it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.support.callers.wire import connect, json_call
from tests.support.calls.streamed_calls import CHAT, DONE, answered, chunk
from tests.support.servers.gateway import Gateway
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream, whole

JSON = b"content-type: application/json"


@pytest.fixture
def upstream() -> Iterator[HeldUpstream]:
    with held_upstream() as upstream:
        yield upstream


REFUSALS = {
    "FastAPI's": (b"422 Unprocessable", b'{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}'),
    "OpenAI's": (b"400 Bad", b'{"error":{"message":"Unknown parameter: \'stream_options\'.","type":"x"}}'),
    "a text": (b"400 Bad", b"include_usage: unexpected field"),
    "vLLM's": (b"400 Bad", b'{"object":"error","message":"[{\'loc\': (\'body\', \'stream_options\')}]","code":400}'),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_field_is_left_out_from_then_on(
    start_gateway: Callable[..., Gateway], gateway_database: str, upstream: HeldUpstream, name: str
) -> None:
    status, words = REFUSALS[name]
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url)
    assert gateway.http.get("/readyz").json()["stream_usage"] == "on"
    said = chunk("a", "stop").replace(b'"id": "c"', f'"id": "chatcmpl-{name}"'.encode()) + DONE
    good = b"".join([*events(said), LAST]).replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    upstream.answers = [whole(status, words, JSON), good, good]
    first = answered(gateway, "/v1/chat/completions", {**CHAT, "store": True})
    second = answered(gateway, "/v1/chat/completions", CHAT)

    assert first[:2] == second[:2] == (200, said)
    with psycopg.connect(gateway_database) as connection:  # what the repeated call has made has its owner
        made_by = "SELECT key_name FROM usage_storedobject WHERE request_id = %s"
        assert connection.execute(made_by, [first[2]["request_id"]]).fetchall() == [(first[2]["key_name"],)]
    assert [b"stream_options" in body for body in upstream.bodies] == [True, False, False]
    assert [row["outcome"] for row in (first[2], second[2])] == ["success"] * 2
    assert gateway.http.get("/readyz").json()["stream_usage"] == "refused by upstream"
    gateway.wait_for_log("upstream refuses stream_options")


@pytest.mark.parametrize(
    ("query", "changes"),
    [
        ("?stream=true", {"stream": None}),  # upstream may ignore the query, and refuse the field without a stream
        ("", {"messages": [{"role": "user", "content": "stream_options"}]}),  # as upstream's error may repeat
        ("", {"metadata": {"a": "include_usage"}}),
        ("", {"messages": [{"role": "user", "content": "stream\u00a0options"}]}),
        ("", {"messages": [{"role": "user", "content": "see https://a.example/1.png"}]}),  # may fail once only
    ],
)
def test_a_caller_cannot_stop_the_asking(
    start_gateway: Callable[..., Gateway], upstream: HeldUpstream, query: str, changes: dict[str, Any]
) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url)
    body = {name: value for name, value in {**CHAT, **changes}.items() if value is not None}
    upstream.answers = [whole(*REFUSALS["OpenAI's"], JSON), whole(b"200 OK", b'{"id":"chatcmpl-1"}', JSON)]
    with connect(gateway) as wire:
        wire.send(json_call(f"/v1/chat/completions{query}", body))
        answer = wire.read_answer()

    assert (answer.status, answer.body) == (200, b'{"id":"chatcmpl-1"}')
    assert [b'"include_usage":true' in sent for sent in upstream.bodies] == [True, False]
    assert gateway.http.get("/readyz").json()["stream_usage"] == "on"


def test_a_model_s_refusal_is_its_own(start_gateway: Callable[..., Gateway], upstream: HeldUpstream) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url)
    good = b"".join([*events(chunk("a", "stop") + DONE), LAST])
    good = good.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1)
    upstream.answers = [whole(*REFUSALS["OpenAI's"], JSON), good, good, good]
    for model in ("plain", "plain", "another"):
        assert answered(gateway, "/v1/chat/completions", {**CHAT, "model": model})[0] == 200
    assert [b"stream_options" in body for body in upstream.bodies] == [True, False, False, True]


def test_another_refusal_changes_nothing(start_gateway: Callable[..., Gateway], upstream: HeldUpstream) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url)
    for words in (b'{"error":{"message":"bad model"}}', b'{"detail":"no stream_options"}'):
        upstream.answers = [whole(b"400 Bad", words, JSON)] * 2
        with connect(gateway) as wire:
            wire.send(json_call("/v1/chat/completions", CHAT))
            answer = wire.read_answer()

        assert (answer.status, answer.body) == (400, words)
        assert gateway.http.get("/readyz").json()["stream_usage"] == "on"


def test_usage_is_not_asked_for_where_a_setting_says_so(
    start_gateway: Callable[..., Gateway], upstream: HeldUpstream
) -> None:
    gateway = start_gateway(OPENAI_BASE_URL=upstream.url, INJECT_STREAM_USAGE="false")
    upstream.start([b"".join([*events(chunk("a", "stop") + DONE), LAST])], is_held=False)
    answered(gateway, "/v1/chat/completions", CHAT)

    assert b"stream_options" not in upstream.bodies[0]
    assert gateway.http.get("/readyz").json()["stream_usage"] == "off"
