"""Leases of budgets through the death of a worker and of PostgreSQL: no budget is passed, and nothing stays leased."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx2
import pytest

from proxyapi.limits.allowances import OUTAGE_PART
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask, holds, make_key, settled
from tests.support.polling import wait_until
from tests.support.servers.clusters import give_cluster
from tests.support.servers.gateway import Gateway, run_gateway

CHAT = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 200,
    "service_tier": "default",
}
REFUSED = 429


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path / "database", give_cluster)
    yield postgres
    postgres.delete()


def chat(gateway: Gateway, key: str) -> int:
    return ask(gateway, key, "/v1/chat/completions", CHAT).status_code


def total_of(gateway: Gateway, postgres: Postgres, name: str) -> Decimal:
    """What the key has spent, once nothing is leased any more; its rows and sums agree."""
    total = settled(postgres.url, name)
    assert gateway.manage("ledger", "verify").returncode == 0
    return total


def test_a_killed_worker_leaves_no_lease(simulator: Simulator, postgres: Postgres, tmp_path: Path) -> None:
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data", WEB_CONCURRENCY="2") as gateway:
        key = make_key(gateway, "killed", day="1", total="5")
        simulator.hold()
        with ThreadPoolExecutor(12) as pool:
            calls = [pool.submit(ask, gateway, key, "/v1/chat/completions", CHAT) for _ in range(12)]
            simulator.wait_until(lambda: simulator.waiting == 12)
            leased = holds(postgres.url, "killed")
            os.kill(gateway.worker_pids[0], signal.SIGKILL)
            wait_until(lambda: any(call.done() for call in calls) or len(leased) == 1)
            simulator.release()
            failed = [call.exception() for call in calls]
        assert all(error is None or isinstance(error, httpx2.RequestError) for error in failed)
        rows = gateway.rows("WHERE key_name = 'killed' AND route LIKE '/v1/%%' AND cost > 0", at_least=12)
        assert total_of(gateway, postgres, "killed") == sum(row["cost"] for row in rows)
        assert chat(gateway, key) == 200


def test_a_killed_database_forgets_no_lease(simulator: Simulator, postgres: Postgres, tmp_path: Path) -> None:
    """Calls go on while it is away, and later until the budget is used up."""
    budget = Decimal("0.006")
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
        key = make_key(gateway, "crash", total=str(budget))
        simulator.fail_next("events-400", times=10_000)  # each costs nearly what is reserved for it
        statuses = [chat(gateway, key) for _ in range(5)]
        postgres.kill()
        away = [chat(gateway, key) for _ in range(5)]
        postgres.start()
        wait_until(lambda: gateway.http.get("/readyz").json()["budgets"] == "ok")
        while REFUSED not in statuses:
            statuses.append(chat(gateway, key))
        assert statuses == [200] * (len(statuses) - 1) + [REFUSED]
        assert set(away) <= {200, 503}
        assert 200 in away, "what was leased could be spent"
        total = total_of(gateway, postgres, "crash")
        assert budget * Decimal("0.9") < total <= budget * (1 + OUTAGE_PART)
