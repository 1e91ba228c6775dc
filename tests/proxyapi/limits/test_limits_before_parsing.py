"""A key that is over its limits gets nothing parsed: what it sends costs no more than its head."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.simulator.server import Simulator
from tests.support.callers.key_box import KeyBox
from tests.support.servers.gateway import SECURITY_KEY, Gateway

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
PATHS = ["/openai", "/openai2", "/chatgpt", "/embeddings", "/openai/audio/transcriptions"]
PLACES: dict[str, dict[str, dict[str, str]]] = {
    "bearer": {"headers": {"authorization": "Bearer {}"}},
    "header": {"headers": {"x-security-key": "{}"}},
    "query": {"params": {"security_key": "{}"}},
}


@pytest.fixture(scope="module")
def keys(gateway: Gateway) -> KeyBox:
    return KeyBox(gateway)


def shown_in(place: str, key: str) -> dict[str, Any]:
    return {option: {name: text.format(key) for name, text in one.items()} for option, one in PLACES[place].items()}


@pytest.mark.parametrize(("path", "place"), [*product(PATHS, PLACES), ("/v1/chat/completions", "bearer")])
def test_bad_bodies_are_counted(gateway: Gateway, keys: KeyBox, simulator: Simulator, path: str, place: str) -> None:
    options = shown_in(place, keys.take(requests_per_minute=2))
    kind = "multipart/form-data; boundary=b" if "audio" in path else "application/json"
    options["headers"] = {"content-type": kind, **options.get("headers", {})}
    answers = [gateway.http.post(path, content=b'{"no JSON', **options) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [400, 400, 429, 429]
    assert simulator.requests == []
    assert gateway.row(answers[0])["outcome"] == "rejected"


def test_a_key_in_the_body_still_counts_first(gateway: Gateway, keys: KeyBox) -> None:
    in_header, (name, in_body) = keys.take(), keys.take_named(requests_per_minute=1)
    headers = {"authorization": f"Bearer {in_header}"}
    answers = [gateway.http.post("/openai", json={"security_key": in_body, **CHAT}, headers=headers) for _ in range(2)]
    wrong = gateway.http.post("/openai", json={"security_key": "wrong", **CHAT}, headers=headers)

    assert [answer.status_code for answer in [*answers, wrong]] == [200, 429, 403]
    assert gateway.row(answers[0])["key_name"] == name


def test_the_same_key_in_both_places_is_counted_once(gateway: Gateway, keys: KeyBox) -> None:
    key = keys.take(requests_per_minute=2)
    headers = {"authorization": f"Bearer {key}"}
    answers = [gateway.http.post("/openai", json={"security_key": key, **CHAT}, headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]


def test_a_wrong_key_in_a_header_does_not_hide_one_in_the_body(gateway: Gateway, simulator: Simulator) -> None:
    headers = {"authorization": "Bearer of-something-else"}

    assert gateway.http.post("/openai", json={"security_key": SECURITY_KEY, **CHAT}, headers=headers).status_code == 200
