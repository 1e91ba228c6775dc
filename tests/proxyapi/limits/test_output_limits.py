"""Calls that state no limit of their output, of keys with a budget or a cap: how the gateway limits them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import psycopg
import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import OutputLimitExceeded
from proxyapi.limits.output_limits import AddedLimit, add_output_limit, limit_by_key, output_limit_of
from proxyapi.routes import find_route
from tests.simulator.server import Simulator
from tests.support.callers.key_box import insert
from tests.support.servers.gateway import Gateway

HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "gpt-5", "messages": HI}
MEMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("max_completion_tokens", CHAT),
    "/v1/responses": ("max_output_tokens", {"model": "gpt-5", "input": "hi"}),
}
HEADER = "x-proxy-output-limit"


def make_key(gateway: Gateway, name: str, **rules: Any) -> str:
    with psycopg.connect(gateway.variables["DATABASE_URL"], autocommit=True) as connection:
        _, text = insert(connection, rules, name)
    gateway.wait_until_known(text)
    return text


def ask(gateway: Gateway, key: str, path: str, body: bytes, **headers: str) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
    return gateway.http.post(path, content=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", MEMBERS)
def test_a_call_that_does_not_fit_goes_on_with_the_highest_limit_that_does(
    gateway: Gateway, simulator: Simulator, path: str, stream: bool
) -> None:
    member, asked = MEMBERS[path]
    key = make_key(gateway, f"fits {path} {stream}", budget_day="0.5")
    raw = json.dumps({**asked, "stream": stream, "metadata": {"a": "\u00e9"}}).encode()

    answer = ask(gateway, key, path, raw)

    assert answer.status_code == 200
    limit = int(answer.headers[HEADER])
    assert gateway.row(answer)["output_limit"] == limit
    sent = simulator.last.body
    assert f'"{member}":{limit},'.encode() in sent
    without = sent.replace(f'"{member}":{limit},'.encode(), b"").replace(
        b'"stream_options":{"include_usage":true},', b""
    )
    assert without == raw
    assert 20_000 < limit <= 50_000  # gpt-5 takes $10 a million, $20 in its priority tier


def test_a_body_that_states_a_limit_passes_unchanged_or_is_refused(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "stated", budget_day="0.1")
    fits = json.dumps({**CHAT, "max_completion_tokens": 600}).encode()
    answer = ask(gateway, key, "/v1/chat/completions", fits)
    assert simulator.last.body == fits
    assert HEADER not in answer.headers
    assert gateway.row(answer)["output_limit"] is None

    refused = ask(gateway, key, "/v1/chat/completions", json.dumps({**CHAT, "max_tokens": 100_000}).encode())
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert "A lower max_tokens lowers that." in refused.json()["error"]["message"]


def test_a_call_that_fits_passes_unchanged(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "roomy", budget_day="20")
    raw = json.dumps(CHAT).encode()
    answer = ask(gateway, key, "/v1/chat/completions", raw)
    assert simulator.last.body == raw
    assert HEADER not in answer.headers


def test_a_key_has_a_least_limit(gateway: Gateway, simulator: Simulator) -> None:
    rules = {"budget_day": "0.012", "min_output_tokens": 10_000}
    refused = ask(gateway, make_key(gateway, "least", **rules), "/v1/chat/completions", json.dumps(CHAT).encode())

    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert "even with the least output" in refused.json()["error"]["message"]


@pytest.mark.parametrize("path", MEMBERS)
def test_a_cap_limits_a_call_that_states_no_limit(gateway: Gateway, simulator: Simulator, path: str) -> None:
    """Of a key without a budget, and of a compressed body."""
    member, asked = MEMBERS[path]
    key = make_key(gateway, f"cap {path}", max_output_tokens=500)
    raw = json.dumps(asked).encode()

    answer = ask(gateway, key, path, gzip.compress(raw), **{"Content-Encoding": "gzip"})

    assert answer.status_code == 200
    assert answer.headers[HEADER] == "500"
    assert simulator.last.body == b'{"' + member.encode() + b'":500,' + raw[1:]
    assert gateway.row(answer)["output_limit"] == 500

    refused = ask(gateway, key, path, json.dumps({**asked, member: 501}).encode())
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "output_limit_exceeded"
    assert refused.json()["error"]["param"] == member
    assert gateway.row(refused)["outcome"] == "rejected"


def test_a_cap_and_a_budget_limit_together(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "both", max_output_tokens=8000, budget_day="0.05")
    answer = ask(gateway, key, "/v1/chat/completions", json.dumps(CHAT).encode())
    assert 1000 <= int(answer.headers[HEADER]) < 8000


def test_the_simple_api_is_limited_too(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "simple capped", max_output_tokens=500)
    answer = ask(gateway, key, "/openai", json.dumps(CHAT).encode())
    assert answer.headers[HEADER] == "500"
    assert json.loads(simulator.last.body)["max_completion_tokens"] == 500


BODIES = {
    b"{}": b'{"max_tokens":7}',
    b' {"a": 1} ': b' {"max_tokens":7,"a": 1} ',
    b'{"a": "{", "max_tokens": null}': b'{"a": "{", "max_tokens": 7}',
    b'{"max_tokens":null,"b":"\xc3\xa9"}': b'{"max_tokens":7,"b":"\xc3\xa9"}',
}


@pytest.mark.parametrize("raw", BODIES)
def test_every_other_byte_stays(raw: bytes) -> None:
    body = JSONBody.parse(raw)
    body.drop_text()
    edited = add_output_limit(body, AddedLimit("max_tokens", 7))
    assert edited.raw == BODIES[raw]
    assert edited.values("max_tokens") == [7]


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ('{"n": 4}', 25),
        ('{"n": 4, "max_tokens": 25}', None),
        ('{"n": 4, "max_tokens": 26}', "max_tokens"),
        ('{"n": 101}', "n"),
        ('{"max_tokens": null}', 100),
        ('{"max_tokens": 5, "max_tokens": null}', "max_tokens"),
        ('{"max_completion_tokens": 5, "max_tokens": null}', None),
        ('{"max_tokens": "9999"}', "max_tokens"),
        ('{"max_tokens": 1e9}', "max_tokens"),
        ('{"max_tokens": 5, "max_completion_tokens": 101}', "max_completion_tokens"),
    ],
)
def test_a_cap_is_on_all_output_tokens_of_a_call(body: str, limit: int | str | None) -> None:
    route = find_route("/chat/completions")
    parsed = JSONBody.parse(body.encode())
    if isinstance(limit, str):
        with pytest.raises(OutputLimitExceeded) as error:
            limit_by_key(route, parsed, 100)
        assert error.value.param == limit
    else:
        added = None if limit is None else AddedLimit("max_completion_tokens", limit)
        assert limit_by_key(route, parsed, 100) == added


def test_a_legacy_completion_is_not_made_longer() -> None:
    """Upstream gives it 16 tokens by itself."""
    body = JSONBody.parse(b'{"prompt": ["a", "b"]}')
    assert limit_by_key(find_route("/completions"), body, 1000) == AddedLimit("max_tokens", 16)


@pytest.mark.parametrize("path", ["/embeddings", "/images/generations", "/responses/compact", "/files"])
def test_what_no_member_limits_gets_none(path: str) -> None:
    assert output_limit_of(find_route(path), JSONBody.parse(b'{"model": "gpt-5"}')) is None
