"""Numbers in a request that no call can mean: the call has an answer and a row, whoever states them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
RESPONSE = {"model": "gpt-5-nano", "input": "hi"}
SEARCH, PICTURES = [{"type": "web_search"}], [{"type": "image_generation"}]
HUGE = [2**31, 2**63, 10**30, int("9" * 4300), "1e300", 1e300]
ANSWER = {"id": "x_1", "model": "m", "data": [{"url": "https://a.example"}], "choices": [{"message": {"content": "a"}}]}
BODIES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "searches": ("/v1/responses", {**RESPONSE, "tools": SEARCH}, ("max_tool_calls",)),
    "pictures of a tool": ("/v1/responses", {**RESPONSE, "tools": PICTURES}, ("max_tool_calls",)),
    "an answer's length": ("/v1/responses", {**RESPONSE, "background": True}, ("max_output_tokens",)),
    "choices": ("/v1/chat/completions", CHAT, ("n", "max_tokens")),
    "old choices": ("/v1/completions", {"model": "babbage-002", "prompt": ["a", "b"]}, ("n", "best_of")),
    "pictures": ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "x"}, ("n", "partial_images")),
    "agents": ("/v1/responses", {**RESPONSE, "multi_agent": {"enabled": True}}, ("max_concurrent_subagents",)),
}  # fmt: skip


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("huge")
    with run_gateway(upstream.base_url, gateway_database, folder, V1_ROUTES="all") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keys(server: Gateway) -> list[str]:
    """The built-in key, one with a budget, and one with a cap on output tokens."""
    capped = server.make_key(f"huge capped {uuid4()}", "--max-output-tokens", "1000")
    return [SECURITY_KEY, make_key(server, f"huge budget {uuid4()}", total="1000000"), capped]


def body_with(name: str, number: object) -> dict[str, Any]:
    _, body, members = BODIES[name]
    if "multi_agent" in body:
        return {**body, "multi_agent": {**body["multi_agent"], members[0]: number}}
    return {**body, **dict.fromkeys(members, number)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", BODIES)
def test_a_call_with_a_huge_number_is_answered_and_has_a_row(
    server: Gateway, upstream: FixedUpstream, keys: list[str], name: str, stream: bool
) -> None:
    upstream.reset()
    if stream:  # which breaks off
        upstream.content_type, upstream.body = "text/event-stream", b'data: {"id":"x","background":true}\n\n'
    else:
        upstream.body = json.dumps(ANSWER).encode()
    for key in keys:
        for number in HUGE:
            body = {**body_with(name, number), **({"stream": True} if stream else {})}
            with httpx2.Client(base_url=server.url, timeout=60) as client:
                answer = client.post(BODIES[name][0], json=body, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code < 500, (name, number, answer.text)
            row = server.row(answer.headers["x-proxy-request-id"])
            assert row["error_code"] not in ("internal_error", "not_stored"), row


@pytest.mark.parametrize("filling", ["", "x" * 300_000])  # a large answer is read by another parser
@pytest.mark.parametrize("number", ["1" + "0" * 30, "1e999", "-1", "18446744073709551616", "9" * 5000])
def test_a_huge_number_in_an_answer_loses_no_row(
    server: Gateway, upstream: FixedUpstream, number: str, filling: str
) -> None:
    details = f'{{"cached_tokens":{number}}}'
    usage = f'{{"prompt_tokens":{number},"completion_tokens":5,"prompt_tokens_details":{details},"x":{number}}}'
    for odd in ("", ',"odd":"\\ud800"'):
        upstream.reset()
        upstream.body = f'{{"id":"x","model":"gpt-4o-mini","usage":{usage},"f":"{filling}"{odd}}}'.encode()
        authorization = {"Authorization": f"Bearer {SECURITY_KEY}"}
        answer = server.http.post("/v1/chat/completions", json=CHAT, headers=authorization)
        assert answer.content == upstream.body
        row = server.row(answer.headers["x-proxy-request-id"])
        assert (row["status"], row["error_code"], row["output_tokens"]) == (200, "", 5)


@pytest.mark.parametrize("number", ["1" + "0" * 30, "1e999", "-1", "1000000000"])
@pytest.mark.parametrize("lie", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_no_call_has_is_estimated(server: Gateway, upstream: FixedUpstream, lie: str, number: str) -> None:
    upstream.reset()
    usage = {"prompt_tokens": 7, "completion_tokens": 5, lie: 0}
    answer = {**ANSWER, "model": "gpt-4o-mini", "usage": usage}
    upstream.body = json.dumps(answer).replace(f'"{lie}": 0', f'"{lie}": {number}').encode()
    authorization = {"Authorization": f"Bearer {SECURITY_KEY}"}
    row = server.row(
        server.http.post("/v1/chat/completions", json=CHAT, headers=authorization).headers["x-proxy-request-id"]
    )
    assert row["usage_source"] == "estimated"
    assert row["input_tokens"] > 0
    assert row["output_tokens"] > 0
