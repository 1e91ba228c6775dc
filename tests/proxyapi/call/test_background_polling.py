"""Usage of stored responses is counted once, also when nobody fetches a background response."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("background")
    with run_gateway(_simulator.base_url, gateway_database, folder, BACKGROUND_POLL_SECONDS="0.2") as gateway:
        yield gateway


def create(gateway: Gateway, **options: Any) -> Any:
    return gateway.post("/openai2", {"model": "gpt-4o", "input": "Say hi.", "background": True, **options})


def rows_about(gateway: Gateway, response_id: str, at_least: int) -> list[dict[str, Any]]:
    return gateway.rows("WHERE response_id = %s", [response_id], at_least=at_least)


def test_a_background_response_that_nobody_fetches_is_counted(gateway: Gateway, simulator: Simulator) -> None:
    created = create(gateway)

    made, looked = rows_about(gateway, created.json()["id"], at_least=2)

    assert made["usage_source"] == "unknown"
    assert made["input_tokens"] is None
    assert looked["input_tokens"] > 0
    assert looked["cost"] > 0
    assert looked["tags"] == ["background"]
    assert looked["key_name"] == made["key_name"]
    assert looked["incoming_request_id"] == str(made["request_id"])


def test_a_response_that_is_fetched_again_costs_nothing_again(gateway: Gateway, simulator: Simulator) -> None:
    created = gateway.post("/openai2", {"model": "gpt-4o", "input": "Say hi."})
    response_id = created.json()["id"]
    gateway.row(created)
    fetched = gateway.row(gateway.get(f"/openai2/{response_id}"))

    made = gateway.row(created)
    assert made["cost"] > 0
    assert made["output_tokens"] == created.json()["usage"]["output_tokens"]
    assert fetched["cost"] == 0
    assert fetched["output_tokens"] is None
    assert fetched["usage"] == made["usage"]


def test_the_look_that_sees_the_end_is_the_one_that_counts(gateway: Gateway, simulator: Simulator) -> None:
    response_id = create(gateway).json()["id"]
    while gateway.get(f"/openai2/{response_id}").json()["status"] != "completed":
        pass
    gateway.get(f"/openai2/{response_id}")

    paid = [row for row in rows_about(gateway, response_id, at_least=4) if row["cost"]]
    assert len(paid) == 1


def test_with_a_callers_own_key_nobody_else_asks(gateway: Gateway, simulator: Simulator) -> None:
    own = create(gateway, openai_api_key="sk-the-callers-own")
    ours = create(gateway)
    rows_about(gateway, ours.json()["id"], at_least=2)  # by then both would have been asked for

    assert len(rows_about(gateway, own.json()["id"], at_least=1)) == 1


@pytest.mark.parametrize("name", ["OpenAI-Project", "OpenAI-Organization", ""])
def test_a_response_that_upstream_shows_to_another_project_only_counts_whole(
    name: str, gateway: Gateway, simulator: Simulator
) -> None:
    """The official SDK reads both from the environment. Nobody knows how long such a response goes on."""
    headers = {"Authorization": f"Bearer {SECURITY_KEY}"} | ({name: "named"} if name else {})
    body = {"model": "gpt-4o", "input": "Say hi.", "background": True}
    made = gateway.http.post("/v1/responses", json=body, headers=headers)
    there = {"Authorization": "Bearer sk-1"}
    stored = f"{simulator.base_url}/responses/{made.json()['id']}"
    httpx2.delete(stored, headers=there, timeout=PATIENCE).raise_for_status()
    [row] = gateway.rows("WHERE response_id = %s AND cost > 0", [made.json()["id"]], at_least=1)

    assert row["usage_source"] == "estimated"
    assert (row["output_tokens"] == 16_384) == bool(name)
