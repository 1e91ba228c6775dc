"""How much a process remembers of the models for which upstream has refused to state usage; callers make up names."""

from __future__ import annotations

import asyncio

import orjson

from proxyapi.bodies.json_body import JSONBody, read_json_body
from proxyapi.streams.chat_usage_request import LONGEST_MODEL, MOST_MODELS, UsageRequests


def streamed(model: str) -> JSONBody:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    return asyncio.run(read_json_body(orjson.dumps(body), "application/json"))


def test_names_are_bounded_in_length_and_number() -> None:
    requests = UsageRequests()
    requests.give_up(streamed("m" * (LONGEST_MODEL + 1)))
    assert not requests.refusing
    for number in range(MOST_MODELS + 10):
        requests.give_up(streamed(f"{number:0{LONGEST_MODEL}}"))
    assert len(requests.refusing) == MOST_MODELS
    assert requests.are_made_for("another")
