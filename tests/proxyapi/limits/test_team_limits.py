"""A team's limits hold for all its keys together, beside each key's own: over two servers and three workers, by Redis.

The measure is that of a key's limits (`test_shared_limits`): 200 calls at once, here over five keys.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from proxyapi.limits.limit_counters_in_redis import LEASE_SECONDS
from tests.chaos.processes import is_alive
from tests.simulator.server import Simulator
from tests.support.callers.crowd import BODY, crowd, statuses
from tests.support.callers.key_box import KeyBox
from tests.support.callers.wire import Wire, head
from tests.support.polling import repeat_until, wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.servers.redis_server import RedisServer

CALLS = 200  # a multiple of the workers of each server, and of the keys
STREAM = BODY[:-1] + b', "stream": true}'
HELD = BODY.replace(b"gpt-4o-mini", b"fault:gate")


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def servers(
    redis_server: RedisServer, _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    """Two servers of one installation, of two workers and of one; on one machine, each with a DATA_DIR of its own."""
    with ExitStack() as running:
        url = running.enter_context(new_database(gateway_database))
        found = []
        for workers in (2, 1):
            settings = {"WEB_CONCURRENCY": str(workers), "REDIS_URL": redis_server.url}
            folder = tmp_path_factory.mktemp("server")
            found.append(running.enter_context(run_gateway(_simulator.base_url, url, folder, **settings)))
        yield found


@pytest.fixture(scope="module")
def keys(servers: list[Gateway]) -> KeyBox:
    return KeyBox(servers[0], others=servers[1:])


@pytest.fixture
def wires(servers: list[Gateway]) -> Iterator[list[Wire]]:
    """So many connections, to all workers."""
    with ExitStack() as opened:
        yield [wire for server in servers for wire in opened.enter_context(crowd(server, CALLS // len(servers)))]


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("of_team", "of_each_key", "admitted"),
    [
        ({"requests_per_minute": 40}, {}, 40),
        ({"requests_per_minute": 40, "tokens_per_minute": 10**9, "parallel_calls": 1000}, {}, 40),
        ({"requests_per_minute": 40}, {"requests_per_minute": 30}, 40),
        ({"requests_per_minute": 60}, {"requests_per_minute": 10}, 50),
    ],
    ids=["requests", "all limits", "the team's is tighter", "the key's is tighter"],
)
def test_exactly_the_limit_is_admitted(
    servers: list[Gateway],
    wires: list[Wire],
    keys: KeyBox,
    simulator: Simulator,
    body: bytes,
    of_team: dict[str, int],
    of_each_key: dict[str, int],
    admitted: int,
) -> None:
    def call() -> list[int]:
        simulator.clear()
        _, texts = keys.take_team(of_each_key, **of_team)
        return statuses(wires, *texts, body=body)

    seen = undisturbed(servers, call)
    assert (seen.count(200), seen.count(429)) == (admitted, CALLS - admitted)
    assert len(simulator.requests) == admitted


def undisturbed(servers: list[Gateway], run: Any) -> Any:
    """Returns the result of a run during which Redis has answered every worker in time; a busy machine may hold it."""

    def outages() -> int:
        return sum(server.log.count("Redis is away") for server in servers)

    before = outages()

    def begin_and_run() -> Any:
        nonlocal before
        wait_until(lambda: all(server.http.get("/readyz").json()["limits"] == "shared" for server in servers))
        before = outages()
        return run()

    return repeat_until(lambda: outages() == before, begin_and_run)


def test_the_refusal_says_whose_limit_it_is(servers: list[Gateway], keys: KeyBox, simulator: Simulator) -> None:
    _, (one, other, *_) = keys.take_team({"requests_per_minute": 2}, requests_per_minute=3)
    answers = [ask(server, text) for server, text in zip(servers * 2, (one, one, one, other), strict=True)]
    answers.append(ask(servers[1], other))

    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 429]
    errors = [answer.json()["error"] for answer in answers if answer.status_code == 429]
    assert [error["message"].partition(". ")[0] for error in errors] == [
        "Rate limit of this key reached: 2 requests per minute",
        "Rate limit of the team of this key reached: 3 requests per minute",
    ]
    assert [(error["code"], error["param"]) for error in errors] == [("rate_limited", None), ("rate_limited", "team")]
    told = [answer.headers["x-ratelimit-limit-requests"] for answer in answers]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert list(zip(told, left, strict=True)) == [("2", "1"), ("2", "0"), ("2", "0"), ("3", "0"), ("3", "0")]


def ask(server: Gateway, key: str) -> Any:
    return server.http.post("/v1/chat/completions", content=BODY, headers=headers_of(key))


def headers_of(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def test_a_team_has_its_slots_over_all_workers(
    servers: list[Gateway], wires: list[Wire], keys: KeyBox, simulator: Simulator
) -> None:
    def call() -> list[int]:
        team, texts = keys.take_team({}, parallel_calls=7)
        rejected = "WHERE outcome = 'rejected' AND team = %s"
        simulator.hold()
        with ThreadPoolExecutor() as threads:
            calls = threads.submit(statuses, wires, *texts)
            wait_until(lambda: simulator.waiting + len(servers[0].rows(rejected, [team])) >= CALLS)
            simulator.release()
            return calls.result()

    assert undisturbed(servers, call) == [200] * 7 + [429] * (CALLS - 7)


def test_a_killed_workers_slots_of_the_team_come_free(
    servers: list[Gateway], keys: KeyBox, simulator: Simulator, redis_server: RedisServer
) -> None:
    _, texts = keys.take_team({"parallel_calls": 2}, parallel_calls=2)
    server = servers[0]
    call = head("POST", "/v1/chat/completions", "Content-Type: application/json", length=len(HELD), key=texts[0]) + HELD
    with crowd(server, 2) as wires:
        for wire in wires:
            wire.send(call)
        simulator.wait_until(lambda: simulator.waiting == 2)
        assert ask(servers[1], texts[1]).status_code == 429  # its team has no slot left
        os.kill(server.worker_pids[-1], signal.SIGKILL)
        killed_at = time.monotonic()
        wait_until(lambda: ask(servers[1], texts[1]).status_code == 200, LEASE_SECONDS + 5)

        assert time.monotonic() - killed_at > LEASE_SECONDS / 2
        simulator.release()
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as store:
        wait_until(lambda: not store.keys("chatproxy:calls/*"))
    wait_until(lambda: len([pid for pid in server.worker_pids if is_alive(pid)]) >= 2)
