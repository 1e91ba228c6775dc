"""`/metrics` counts the calls of all workers, through restarts and kill -9; it takes the access token."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.metrics import HI, scrape, value, wait_until
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, SECURITY_KEY, Gateway

CHAT = "gpt-4o-mini-2024-07-18"


def test_it_works(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway()
    rows = [gateway.row(gateway.post("/openai", HI)) for _ in range(3)]
    gateway.post("/openai", {"model": "gpt-nope", "messages": HI["messages"]})
    told = sum(row["output_tokens"] for row in rows)
    samples = wait_until(
        gateway,
        lambda found: (
            value(found, "chatproxy_calls_total") == 4 and value(found, "chatproxy_tokens_total", kind="output") == told
        ),
    )

    assert value(samples, "chatproxy_calls_total", route="/openai", model=CHAT, outcome="success") == 3
    assert value(samples, "chatproxy_calls_total", route="/openai", model="other", outcome="upstream_error") == 1
    for kind in ("input", "output"):
        tokens = sum(row[f"{kind}_tokens"] for row in rows)
        assert value(samples, "chatproxy_tokens_total", kind=kind, model=CHAT) == tokens
    cost = float(sum(row["cost"] for row in rows))
    assert value(samples, "chatproxy_cost_dollars_total", route="/openai", model=CHAT) == pytest.approx(cost)
    for name in ("call_duration", "upstream", "overhead", "first_chunk"):
        assert value(samples, f"chatproxy_{name}_seconds_count", route="/openai") == 4
    seconds = sum(row["duration_ms"] for row in rows) / 1000
    assert value(samples, "chatproxy_call_duration_seconds_sum") >= seconds > 0
    assert value(samples, "chatproxy_call_duration_seconds_bucket", le="+Inf", route="/openai") == 4
    assert value(samples, "chatproxy_workers") == value(samples, "chatproxy_database_up") == 1
    assert value(samples, "chatproxy_upstream_up") == 1
    for name in ("calls_in_flight", "journal_bytes", "ledger_lag_seconds", "journal_full", "shipper_up"):
        assert (f"chatproxy_{name}", ()) in samples
    assert ("chatproxy_redis_away_seconds", ()) not in samples  # there is none


def test_calls_in_flight_are_those_of_all_workers(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    wait_until(gateway, lambda found: value(found, "chatproxy_workers") == 2)
    simulator.hold()
    calls = [threading.Thread(target=gateway_call, args=(gateway,)) for _ in range(6)]
    for call in calls:
        call.start()
    wait_until(gateway, lambda found: value(found, "chatproxy_calls_in_flight") == 6)
    simulator.release(waiting=6)
    for call in calls:
        call.join()
    wait_until(gateway, lambda found: value(found, "chatproxy_calls_in_flight") == 0)


def gateway_call(gateway: Gateway) -> None:
    httpx2.post(f"{gateway.url}/openai", json={"security_key": SECURITY_KEY, **HI}, timeout=PATIENCE)


def test_counters_go_on_through_kill_9_and_a_new_start(
    start_gateway: Callable[..., Gateway], simulator: Simulator, tmp_path: Path
) -> None:
    gateway = start_gateway()
    for _ in range(3):
        gateway.row(gateway.post("/openai", HI))
    before = wait_until(gateway, lambda found: value(found, "chatproxy_calls_total") == 3)
    os.kill(gateway.worker_pids[-1], signal.SIGKILL)
    gateway.wait_for_log(r"(?s)Booting worker.*Booting worker")
    after = wait_until(gateway, lambda found: value(found, "chatproxy_workers") == 1)
    gateway.row(gateway.post("/openai", HI))
    later = wait_until(gateway, lambda found: value(found, "chatproxy_calls_total") == 4)

    counters = [key for key in before if key[0].endswith(("_total", "_count", "_sum", "_bucket"))]
    assert len(counters) > 20
    for key in counters:
        assert before[key] <= after[key] <= later[key]
    gateway.stop()
    again = start_gateway()
    assert value(scrape(again), "chatproxy_calls_total") == 4


@pytest.mark.parametrize(
    "options", [{}, {"params": {"access_token": "x"}}, {"params": {"security_key": SECURITY_KEY}}], ids=str
)
def test_without_the_access_token_there_is_nothing_to_read(
    gateway: Gateway, options: dict[str, dict[str, str]]
) -> None:
    answer = httpx2.get(f"{gateway.url}/metrics", **options, timeout=PATIENCE)  # type: ignore[arg-type]  # `params`

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "invalid_key"


def test_it_may_be_asked_as_often_as_one_likes_while_the_database_is_away(
    start_gateway: Callable[..., Gateway],
) -> None:
    gateway = start_gateway()
    bearer = {"authorization": f"Bearer {ACCESS_TOKEN}"}
    answers = [gateway.http.get("/metrics", headers=bearer) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].headers["content-type"].startswith("text/plain")
    assert SECURITY_KEY not in answers[0].text
    assert gateway.http.post("/metrics", headers=bearer).status_code == 405
