"""A key with a budget is stopped by it, also if the price list does not know what upstream has answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.bills.shapes import CHAT, JSON, chat, chat_usage
from tests.support.callers.budgeted_keys import ask, make_key, settled
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

USAGE = chat_usage(1000, 1000)
TRANSCRIPT = {"text": "hello"}
TOKENS = {"type": "tokens", "input_tokens": 600, "output_tokens": 20, "total_tokens": 620}
SOUND = bytes(60 * 1000)  # a minute at 8 kbit/s
CALLS = 40  # more than the budget of any case pays for
# What upstream answers, by what is unusual about it: the request's model, and the answer.
ANSWERS: dict[str, tuple[str, Any]] = {
    "a model that no list has": ("gpt-4o", chat("gpt-99-2027-01-01", USAGE)),
    "a tier that no list has": ("gpt-4o", chat("gpt-4o", USAGE, tier="on_demand")),
    "a model and a tier that no list has": ("gpt-4o", chat("gpt-99-2027-01-01", USAGE, tier="on_demand")),
    "tokens of a model that is billed by the minute": ("gpt-transcribe", {**TRANSCRIPT, "usage": TOKENS}),
    "no usage of a model that is billed by the minute": ("gpt-transcribe", TRANSCRIPT),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def unlisted(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    with run_gateway(upstream.base_url, gateway_database, tmp_path_factory.mktemp("unlisted")) as gateway:
        yield gateway


def call(gateway: Gateway, key: str, model: str, **fields: str) -> httpx2.Response:
    if model == "gpt-4o":
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000}
        return ask(gateway, key, CHAT, body)
    headers = {"Authorization": f"Bearer {key}"}
    files = {"file": ("a.webm", SOUND, "audio/webm")}
    data = {"model": model, **fields}
    return gateway.http.post("/v1/audio/transcriptions", data=data, files=files, headers=headers)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_budget_ends_calls_whose_answer_has_no_price(
    unlisted: Gateway, upstream: FixedUpstream, gateway_database: str, name: str
) -> None:
    model, answer = ANSWERS[name]
    upstream.content_type, upstream.body = JSON, json.dumps(answer).encode()
    key = make_key(unlisted, name, total="0.06")
    statuses = [call(unlisted, key, model).status_code for _ in range(CALLS)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert settled(gateway_database, name) > 0


@pytest.mark.parametrize("words", ["Thank you. --> 00:00:00.500", '{"duration": 0.5}'])
def test_words_that_look_like_a_length_make_no_sound_shorter(
    unlisted: Gateway, upstream: FixedUpstream, words: str
) -> None:
    """A model that hears nothing may repeat the prompt, which the caller has written."""
    upstream.content_type, upstream.body = "text/plain; charset=utf-8", words.encode()
    key = make_key(unlisted, f"words {words[:5]}", total="0.06")
    answer = call(unlisted, key, "whisper-1", response_format="text", prompt=words)
    assert answer.status_code == 200
    assert unlisted.row(answer)["audio_seconds"] >= 60
