"""Servers that draw ids from few numbers give two keys the same one: both may send it back, and only the first owns it.

Ollama takes one of 999,999 for a response, and for its message (`middleware/openai.go`, `ResponsesMiddleware`). Servers
that translate chats into responses give an item the id of its call, which some models count from 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

ITEMS = ["msg_{}", "call_{}", "functions.get_weather:{}"]
HELLO = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def hosts(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Gateway]]:
    """Two hosts with one database: what one has recorded on its disk, the other knows from the database only."""
    one, other = (tmp_path_factory.mktemp(name) for name in ("one", "other"))
    with (
        run_gateway(upstream.base_url, gateway_database, one) as first,
        run_gateway(upstream.base_url, gateway_database, other) as second,
    ):
        yield first, second


@pytest.fixture(scope="module")
def keys(hosts: tuple[Gateway, Gateway]) -> tuple[str, str, str]:
    made = [make_key(hosts[0], f"{name} {uuid4()}") for name in ("first", "second", "third")]
    for key in made:
        hosts[1].wait_until_known(key)
    return made[0], made[1], made[2]


def ask(gateway: Gateway, key: str, *items: Any, **more: Any) -> httpx2.Response:
    body = {"model": "gpt-4o", "input": [HELLO, *items], **more}
    return gateway.http.post("/v1/responses", json=body, headers={"authorization": f"Bearer {key}"})


def get_item(gateway: Gateway, key: str, upstream: FixedUpstream, item_id: str) -> dict[str, Any]:
    """Makes a call whose answer has one item with this id, waits for its row, and returns the item."""
    item = {"id": item_id, "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    answer = {"id": f"resp_{uuid4()}", "object": "response", "status": "completed", "output": [item], "usage": usage}
    upstream.body = json.dumps(answer).encode()
    answered = ask(gateway, key)
    assert answered.status_code == 200, answered.text
    gateway.row(answered)
    return item


@pytest.mark.parametrize("item_id", ITEMS)
@pytest.mark.parametrize("host", [0, 1])
def test_each_key_that_was_given_an_id_sends_it_back(
    hosts: tuple[Gateway, Gateway], keys: tuple[str, str, str], upstream: FixedUpstream, item_id: str, host: int
) -> None:
    first, second, third = keys
    item_id = item_id.format(uuid4())
    item = get_item(hosts[0], first, upstream, item_id)
    assert ask(hosts[0], second, item).status_code == 404  # it was not given to this key yet
    get_item(hosts[host], second, upstream, item_id)

    for gateway in hosts:
        for key in (first, second):
            answer = ask(gateway, key, item)
            assert answer.status_code == 200, answer.text
            assert json.loads(upstream.asked[-1][3])["input"] == [HELLO, item]
        assert ask(gateway, third, item).status_code == 404


def test_keys_whose_calls_are_written_together(
    hosts: tuple[Gateway, Gateway], keys: tuple[str, str, str], upstream: FixedUpstream
) -> None:
    first, second, _ = keys
    upstream.queued = [
        (200, json.dumps({"id": f"resp_{number}", "object": "response", "output": [{"id": "msg_same"}]}).encode())
        for number in range(2)
    ]
    answers = [ask(hosts[0], key) for key in (first, second)]
    for answer in answers:
        hosts[0].row(answer)

    for key in (first, second):
        assert ask(hosts[1], key, {"id": "msg_same", "role": "assistant", "content": "hi"}).status_code == 200


def test_the_id_alone_stays_its_first_keys(
    hosts: tuple[Gateway, Gateway], keys: tuple[str, str, str], upstream: FixedUpstream
) -> None:
    first, second, _ = keys
    item_id = f"msg_{uuid4()}"
    for key in (first, second):
        get_item(hosts[0], key, upstream, item_id)

    for reference in ({"type": "item_reference", "id": item_id}, {"id": item_id}):
        assert ask(hosts[0], first, reference).status_code == 200
        assert ask(hosts[0], second, reference).status_code == 404
        assert ask(hosts[0], second, reference, {"id": item_id, **HELLO}).status_code == 404
