"""The clock of a host is set while its server works: calls, limits, budgets, pages and the ledger go on.

The server's clock is moved by a library in its process, the database's is not: they are two hosts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chaos.processes import is_alive
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask, make_key
from tests.support.calls.held_streams import STREAMS, read_streams
from tests.support.moved_clock import ServerClock
from tests.support.polling import wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ADMIN_PASSWORD, SECURITY_KEY, Gateway, run_gateway
from tests.support.servers.readiness import wait_until_ok

DAY = timedelta(days=1)
BACK = timedelta(hours=-1)
JUMPS = {"an hour back": BACK, "three hours forward": timedelta(hours=3), "a year forward": 365 * DAY}
jumps = pytest.mark.parametrize("ahead", JUMPS.values(), ids=list(JUMPS))
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 200}


@pytest.fixture
def clock(tmp_path: Path) -> ServerClock:
    return ServerClock(tmp_path)


@pytest.fixture
def gateway(clock: ServerClock, _simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Gateway]:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with new_database(gateway_database) as url:
        settings = {**clock.settings, "ADMIN_PASSWORD": ADMIN_PASSWORD}
        with run_gateway(_simulator.base_url, url, data_dir, **settings) as gateway:
            yield gateway


def put(gateway: Gateway, clock: ServerClock, ahead: timedelta) -> list[int]:
    """Puts the clock, and waits for the new worker that it causes if it goes back by more than a minute.

    Returns the ids of the worker processes that end because of it, once their calls have ended.
    """
    before = [pid for pid in gateway.worker_pids if is_alive(pid)]
    clock.put(ahead)
    if ahead != BACK:
        return []
    gateway.wait_for_log("seconds ahead of the clock, which was put back")
    wait_until(lambda: len(set(gateway.worker_pids) - set(before)) >= len(before))
    return before


def put_whole(gateway: Gateway, clock: ServerClock, ahead: timedelta) -> None:
    """Puts the clock as `put` does, and waits until only the new worker is there."""
    replaced = put(gateway, clock, ahead)
    wait_until(lambda: not any(map(is_alive, replaced)))


def chat(gateway: Gateway, key: str = SECURITY_KEY, **body: Any) -> httpx2.Response:
    return ask(gateway, key, "/v1/chat/completions", {**CHAT, **body})


@jumps
def test_calls_that_run_end_as_they_would_and_the_server_goes_on_by_the_new_clock(
    gateway: Gateway, clock: ServerClock, simulator: Simulator, ahead: timedelta
) -> None:
    assert chat(gateway).status_code == 200

    replaced: list[int] = []
    streams = read_streams(gateway, simulator, lambda: replaced.extend(put(gateway, clock, ahead)))

    assert all(b"response.completed" in stream and stream.endswith(b"data: [DONE]\n\n") for stream in streams)
    rows = gateway.rows("WHERE stream", at_least=STREAMS)
    assert len(rows) == STREAMS
    for row in rows:
        assert row["outcome"] == "success"
        assert 0 <= row["time_to_first_chunk_ms"] <= row["duration_ms"] < 600_000
        assert abs(row["started_at"] - datetime.now(UTC)) < timedelta(minutes=10)  # by the clock at their beginning

    wait_until(lambda: not any(map(is_alive, replaced)))
    answer = chat(gateway)

    assert answer.status_code == 200
    row = gateway.row(answer)
    assert abs(row["started_at"] - datetime.now(UTC) - ahead) < timedelta(minutes=10)
    assert row["duration_ms"] < 600_000
    assert wait_until_ok(gateway).status_code == 200
    assert gateway.manage("ledger", "verify").returncode == 0
    assert len(gateway.rows()) == 2 + STREAMS


@jumps
def test_a_time_limit_is_a_duration(
    gateway: Gateway, clock: ServerClock, simulator: Simulator, ahead: timedelta
) -> None:
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        answer = pool.submit(gateway.post, "/openai2", {"model": "fault:gate", "input": "hi", "timeout": 3000})
        simulator.wait_until(lambda: simulator.waiting == 1)
        clock.put(ahead)
        assert answer.result().status_code == 504
        assert time.monotonic() - began >= 2.9
        simulator.release()


@pytest.mark.parametrize("ahead", [365 * DAY, timedelta(hours=1), timedelta(seconds=-50)], ids=str)
def test_a_limit_per_minute_is_of_a_true_minute(gateway: Gateway, clock: ServerClock, ahead: timedelta) -> None:
    key = gateway.make_key("limited", "--requests-per-minute", "5")
    answers = [chat(gateway, key) for _ in range(5)]
    clock.put(ahead)
    answers += [chat(gateway, key) for _ in range(2)]

    assert 429 in [answer.status_code for answer in answers]
    refused = answers[-1]
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60


def test_a_month_has_a_budget_of_its_own(gateway: Gateway, clock: ServerClock) -> None:
    now = datetime.now(UTC)
    midnight = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # The month after the next: the clock goes forward also if this test runs at the end of a month.
    next_month = (midnight + 63 * DAY).replace(day=1)
    key = make_key(gateway, "spender", month="0.00025", day="0.00025")
    forever = make_key(gateway, "spender of all", total="0.00025")
    clock.put(next_month - now - timedelta(minutes=30))  # the last half hour of a month
    for text in (key, forever):
        wait_until(lambda text=text: chat(gateway, text).status_code == 429)  # type: ignore[misc]

    clock.put(next_month - now + timedelta(minutes=30))

    answer = chat(gateway, key)
    assert answer.status_code == 200
    assert gateway.row(answer)["started_at"].month == next_month.month
    assert chat(gateway, forever).status_code == 429
    assert gateway.manage("ledger", "verify").returncode == 0


def test_people_stay_signed_in_until_their_time_is_over(gateway: Gateway, clock: ServerClock) -> None:
    browser = gateway.sign_in()
    put_whole(gateway, clock, BACK)
    assert browser.get("/admin/").url.path == "/admin/"
    clock.put(365 * DAY)
    assert browser.get("/admin/").url.path == "/admin/login/"
    again = gateway.sign_in()  # its form has a token against forged requests
    assert again.get("/admin/usage/request/").status_code == 200
