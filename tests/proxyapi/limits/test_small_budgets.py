"""Budgets that are small beside what a call could cost: a caller with one call after the other is never refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest

from proxyapi.limits.budgets import RETRY_AFTER_HELD_SECONDS
from tests.support.callers.key_box import insert
from tests.support.polling import wait_until
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.fixed import run_fixed_upstream

CHAT: dict[str, Any] = {
    "model": "gpt-5",
    "messages": [{"role": "user", "content": "plain words " * 350}],
}  # 1,000 tokens and more
TOKENS_IN, TOKENS_OUT = 1000, 600
DOLLARS = Decimal("0.00725")  # of a call: 1,000 at $1.25 and 600 at $10 a million
ANSWER = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-5-2025-08-07",
    "service_tier": "default", "choices": [],
    "usage": {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT},
}  # fmt: skip


@pytest.fixture(scope="module")
def two_workers(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Before an upstream whose every answer has the same usage."""
    with run_fixed_upstream() as upstream:
        upstream.body = json.dumps(ANSWER).encode()
        directory = tmp_path_factory.mktemp("small")
        with run_gateway(upstream.base_url, gateway_database, directory, WEB_CONCURRENCY="2") as gateway:
            yield gateway


def make_key(gateway: Gateway, name: str, **rules: Any) -> str:
    with psycopg.connect(gateway.variables["DATABASE_URL"], autocommit=True) as connection:
        _, text = insert(connection, rules, f"{name} {uuid4()}")  # other tests make keys in this database, too
    gateway.wait_until_known(text)
    return text


def ask(gateway: Gateway, key: str, **more: Any) -> httpx2.Response:
    """On a connection of its own: two workers share them."""
    with httpx2.Client(base_url=gateway.url, timeout=httpx2.Timeout(20.0)) as client:
        return client.post("/v1/chat/completions", json=CHAT | more, headers={"Authorization": f"Bearer {key}"})


def ask_while_held(gateway: Gateway, key: str) -> httpx2.Response:
    """Asks until no answer is a refusal for what the other worker holds, which a busy machine lets it return late."""
    answers: list[httpx2.Response] = []

    def is_decided() -> bool:
        answers.append(ask(gateway, key))
        return answers[-1].headers.get("retry-after") != str(RETRY_AFTER_HELD_SECONDS)

    wait_until(is_decided)
    return answers[-1]


def test_a_dollar_a_day_is_enough_for_gpt_5(two_workers: Gateway) -> None:
    """The longest answer costs $1.28."""
    key = make_key(two_workers, "a dollar a day", budget_day="1")
    answers: list[httpx2.Response] = []
    while not answers or answers[-1].status_code == 200:
        answers.append(ask_while_held(two_workers, key))

    assert answers[-1].json()["error"]["code"] == "budget_exceeded"
    spent = DOLLARS * (len(answers) - 1)
    assert Decimal("0.98") <= spent <= 1
    limits = [int(answer.headers["x-proxy-output-limit"]) for answer in answers[:-1]]
    assert min(limits) >= 1000
    assert 45_000 < limits[0] < 50_000, "upstream may answer in the priority tier, where the output costs $20 a million"


def test_calls_in_a_row_get_no_refusal(two_workers: Gateway) -> None:
    """With money for one and a half of them at a time; the other worker has to hear of the end of each."""
    most = Decimal("1") * 10_000 * 20 / 1_000_000

    def are_answered() -> bool:
        key = make_key(two_workers, "in a row", budget_day=str(most * Decimal("1.5")), max_output_tokens=10_000)
        answers = [ask(two_workers, key, max_completion_tokens=10_000) for _ in range(12)]
        return {answer.status_code for answer in answers} == {200}

    wait_until(are_answered)  # on a busy machine the other worker may hear of an end too late
