"""Limits that processes share through a real Redis: exact across workers; without it calls go on, and it is said.

Over 300 lines, since all of its tests share one Redis and its two workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Event
from typing import Any, TypeVar

import httpx2
import openai
import pytest
import redis

from proxyapi.limits.limit_counters_in_redis import LEASE_SECONDS, SharedCounters
from proxyapi.limits.redis_link import PipelinedRedis
from tests.simulator.server import Simulator
from tests.support.callers.crowd import crowd, statuses
from tests.support.callers.key_box import KeyBox
from tests.support.callers.metrics import reports_since
from tests.support.callers.wire import Wire, connect, head
from tests.support.polling import repeat_until, wait_until, wait_until_quick
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, Gateway, free_port, run_gateway
from tests.support.servers.readiness import wait_until_ok
from tests.support.servers.redis_server import RedisServer

CHAT: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
ALL_LIMITS = {"requests_per_minute": 100, "tokens_per_minute": 10**9, "parallel_calls": 1000}
T = TypeVar("T")
AWAY = "per process since 20"


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pair(
    redis_server: RedisServer, _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A server of two workers that share their counters."""
    settings = {"WEB_CONCURRENCY": "2", "REDIS_URL": redis_server.url}
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("pair"), **settings) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def keys(pair: Gateway) -> KeyBox:
    return KeyBox(pair)


@pytest.fixture
def shared(pair: Gateway, redis_server: RedisServer) -> Iterator[Gateway]:
    """The same, with a Redis that both workers have; whatever the test did to it is undone."""
    wait_for_state(pair, "shared")
    yield pair
    redis_server.stop()
    redis_server.start()


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


def wait_for_state(gateway: Gateway, state: str) -> None:
    """Until every worker says so, in a file that it has written since: a connection would ask just one of them."""
    begin = time.time()

    def say_so() -> bool:
        workers_reports = [one for one in reports_since(gateway, begin) if "gauges" in one]  # not the shipper's
        away = [one["gauges"]["redis_away_seconds"] for one in workers_reports]
        workers = int(gateway.variables.get("WEB_CONCURRENCY", "1"))
        return len(away) == workers and all((seconds == 0) == (state == "shared") for seconds in away)

    wait_until(say_so)
    assert gateway.http.get("/readyz").json()["limits"].startswith(state)


def ask(gateway: Gateway, key: str, model: str = "gpt-4o-mini") -> httpx2.Response:
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:  # either worker
        return http.post("/openai", json={**CHAT, "model": model}, headers={"Authorization": f"Bearer {key}"})


def undisturbed(gateway: Gateway, run: Callable[[], T]) -> T:
    """Returns the result of a run during which Redis has answered in time.

    On a busy machine it may not; then the workers count apart for some seconds, and the run is made again.
    """
    outages = 0

    def begin_and_run() -> T:
        nonlocal outages
        wait_for_state(gateway, "shared")
        outages = gateway.log.count("Redis is away")
        return run()

    return repeat_until(lambda: gateway.log.count("Redis is away") == outages, begin_and_run)


def all_outages_are_over(printed: str) -> bool:
    """Returns whether there were outages, each of which a worker has told once, and its end once."""
    return 0 < printed.count("Redis is away") == printed.count("Redis is back")


def ends(store: redis.Redis, leases: str) -> list[float]:
    """When the leases end, in their order."""
    pairs: Any = store.zrange(leases, 0, -1, withscores=True)
    return [score for _, score in pairs]


@pytest.mark.parametrize("rules", [{"requests_per_minute": 100}, ALL_LIMITS], ids=["requests", "all limits"])
def test_two_workers_admit_exactly_the_limit(
    shared: Gateway, simulator: Simulator, keys: KeyBox, rules: dict[str, int]
) -> None:
    def call() -> list[int]:
        simulator.clear()
        with crowd(shared, 500) as wires:
            return statuses(wires, keys.take(**rules))

    seen = undisturbed(shared, call)
    assert (seen.count(200), seen.count(429)) == (100, 400)
    assert len(simulator.requests) == 100


def test_two_workers_have_the_places_of_one(shared: Gateway, simulator: Simulator, keys: KeyBox) -> None:
    def call() -> tuple[list[int], list[int]]:
        """Returns the statuses of a hundred calls at once, and of ten calls one after the other behind them."""
        name, key = keys.take_named(parallel_calls=9)
        simulator.hold()
        with crowd(shared, 100) as wires, ThreadPoolExecutor() as threads:
            calls = threads.submit(statuses, wires, key)
            rejected = "WHERE outcome = 'rejected' AND key_name = %s"
            wait_until(lambda: simulator.waiting + len(shared.rows(rejected, [name])) >= 100)
            simulator.release()
            return calls.result(), [ask(shared, key).status_code for _ in range(10)]

    assert undisturbed(shared, call) == ([200] * 9 + [429] * 91, [200] * 10)


def test_one_call_after_the_other_is_not_parallel(shared: Gateway, keys: KeyBox, simulator: Simulator) -> None:
    key = keys.take(parallel_calls=1)
    with crowd(shared, 2) as wires:
        for _ in range(20):
            for wire in wires:
                assert statuses([wire], key) == [200]


async def test_a_place_given_back_is_not_taken_again_by_a_renewal_on_its_way() -> None:
    sent: list[str] = []

    class Recorder(PipelinedRedis):
        async def execute_command(self, *args: Any, **options: Any) -> Any:
            sent.append(args[0])

    places = {"a": {"lease"}}
    counters = SharedCounters(Recorder("redis://127.0.0.1:1"), places)

    async def end_call() -> None:
        places["a"].discard("lease")
        await counters.release_slot("a", "lease")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(counters.renew())
        tasks.create_task(end_call())
    assert sent[:2] == ["EVALSHA", "ZREM"]


@pytest.mark.parametrize("stream", [False, True])
def test_what_one_worker_has_spent_the_other_knows(
    shared: Gateway, keys: KeyBox, simulator: Simulator, *, stream: bool
) -> None:
    key = keys.take(tokens_per_minute=5)
    body = b'{"model": "gpt-4o-mini", "input": "hi", "stream": %s}' % str(stream).lower().encode()
    call = head("POST", "/v1/responses", "Content-Type: application/json", length=len(body), key=key) + body
    with crowd(shared, 2) as wires:
        answers = []
        began = time.monotonic()
        for wire in wires:
            wire.send(call)
            answers.append(wire.read_answer())
        passed = time.monotonic() - began

    assert [answer.status for answer in answers] == [200, 429]
    assert "5 tokens per minute" in answers[1].error["message"]
    assert 60 - passed - 1 <= int(answers[1].headers["retry-after"]) <= 60
    assert answers[1].headers["x-ratelimit-remaining-tokens"] == "0"


def test_the_pages_share_their_pace(shared: Gateway) -> None:
    with crowd(shared, 2) as wires:
        began = time.monotonic()
        for wire in wires:
            wire.send(head("GET", "/debug/runtime", key=ACCESS_TOKEN))
        answers = [wire.read_answer() for wire in wires]
        passed = time.monotonic() - began

    assert sorted(answer.status for answer in answers) == [200, 429]
    refused = next(answer for answer in answers if answer.status == 429)
    assert 10 - passed - 1 <= int(refused.headers["retry-after"]) <= 10


def test_the_sdks_retry_after_the_time_that_it_was_told_succeeds(
    shared: Gateway, keys: KeyBox, simulator: Simulator, store: redis.Redis
) -> None:
    name, key = keys.take_named(requests_per_minute=1)
    client = shared.sdk("/v1").with_options(api_key=key)
    began = time.monotonic()
    client.chat.completions.create(**CHAT)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(**CHAT)
    passed = time.monotonic() - began
    assert 60 - passed - 1 <= int(caught.value.response.headers["retry-after"]) <= 60

    # The minute is not waited for: the one request is made 58 seconds old.
    store.lset(f"chatproxy:requests/{name}", 0, str(time.time() - 58))
    began = time.monotonic()
    client.with_options(max_retries=1).chat.completions.create(**CHAT)
    assert time.monotonic() - began > 0.5


def test_a_killed_workers_places_come_free(
    shared: Gateway, keys: KeyBox, simulator: Simulator, store: redis.Redis
) -> None:
    name, key = keys.take_named(parallel_calls=2)
    leases = f"chatproxy:calls/{name}"
    body = b'{"model": "fault:gate", "input": "hi"}'
    call = head("POST", "/v1/responses", "Content-Type: application/json", length=len(body), key=key) + body
    with crowd(shared, 2) as wires:
        for wire in wires:
            wire.send(call)
        simulator.wait_until(lambda: simulator.waiting == 2)
        taken = ends(store, leases)
        os.kill(shared.worker_pids[-1], signal.SIGKILL)
        killed_at = time.monotonic()
        assert ask(shared, key).status_code == 429
        wait_until(lambda: ask(shared, key).status_code == 200, LEASE_SECONDS + 5)

        # The other one's is still held, and only because it is renewed.
        assert time.monotonic() - killed_at > LEASE_SECONDS / 2
        (held,) = ends(store, leases)
        assert held > taken[-1] + 1
        simulator.release()
        assert wires[0].read_answer().status == 200
    wait_until(lambda: not store.exists(leases))
    wait_until(lambda: len(shared.worker_pids) == 3)


def test_no_call_fails_when_redis_is_killed_under_load(
    shared: Gateway, redis_server: RedisServer, keys: KeyBox, simulator: Simulator
) -> None:
    key = keys.take(requests_per_minute=10**6, tokens_per_minute=10**12, parallel_calls=1000)
    printed_before = len(shared.log)
    enough, seen = Event(), []

    def call_again_and_again() -> None:
        with httpx2.Client(base_url=shared.url, timeout=PATIENCE) as http:
            while not enough.is_set():
                seen.append(http.post("/openai", json=CHAT, headers={"Authorization": f"Bearer {key}"}).status_code)

    with ThreadPoolExecutor() as threads, ExitStack() as at_end:
        at_end.callback(enough.set)  # also after a failure, so that the threads end
        loads = [threads.submit(call_again_and_again) for _ in range(4)]
        wait_until(lambda: len(seen) > 50)
        redis_server.kill()
        wait_for_state(shared, AWAY)
        without = len(seen)
        ready = shared.http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        wait_until(lambda: len(seen) > without + 50)
        redis_server.start()
        wait_for_state(shared, "shared")
        again = len(seen)
        wait_until(lambda: len(seen) > again + 50)
        enough.set()
        for load in loads:
            load.result()

    assert set(seen) == {200}
    wait_until_ok(shared)
    wait_until(lambda: all_outages_are_over(shared.log[printed_before:]))


def test_a_redis_that_hangs_costs_a_fraction_of_a_second_once(
    shared: Gateway, redis_server: RedisServer, keys: KeyBox, simulator: Simulator
) -> None:
    def seconds_of(wires: list[Wire], key: str) -> float:
        began = time.monotonic()
        assert statuses(wires, key) == [200] * len(wires)
        return time.monotonic() - began

    def hang() -> float:
        """Returns how long sixty calls take while Redis hangs, of which nobody knows yet."""
        redis_server.thaw()
        wait_for_state(shared, "shared")
        key = keys.take(**ALL_LIMITS)
        ask(shared, key)
        redis_server.freeze()
        return seconds_of(wires, key)

    with crowd(shared, 60) as wires:
        wait_until_quick(hang, 3)
        wait_for_state(shared, AWAY)
        key = keys.take(requests_per_minute=10**6, tokens_per_minute=10**9, parallel_calls=1000)
        wait_until_quick(lambda: seconds_of(wires[:10], key), 1)
    redis_server.thaw()
    wait_for_state(shared, "shared")


def test_without_redis_each_process_goes_on_where_it_was(
    shared: Gateway, redis_server: RedisServer, keys: KeyBox, simulator: Simulator
) -> None:
    key = keys.take(requests_per_minute=4)
    with crowd(shared, 2) as (one, other):
        for wire in (one, one, other):
            assert statuses([wire], key) == [200]
        redis_server.kill()
        wait_for_state(shared, AWAY)
        # Four a process, of which two and one are gone.
        assert [statuses([wire], key)[0] for wire in (one, one, one)] == [200, 200, 429]
        assert [statuses([wire], key)[0] for wire in (other, other, other, other)] == [200, 200, 200, 429]


def test_places_are_kept_through_an_outage(
    shared: Gateway, redis_server: RedisServer, keys: KeyBox, simulator: Simulator, store: redis.Redis
) -> None:
    name, key = keys.take_named(parallel_calls=1)
    with ThreadPoolExecutor() as threads:
        held = threads.submit(ask, shared, key, "fault:gate")
        simulator.wait_until(lambda: simulator.waiting == 1)
        redis_server.kill()
        wait_for_state(shared, AWAY)
        redis_server.start()
        wait_for_state(shared, "shared")
        wait_until(lambda: store.zcard(f"chatproxy:calls/{name}") == 1)
        assert ask(shared, key).status_code == 429
        redis_server.freeze()
        wait_for_state(shared, AWAY)
        simulator.release()
        assert held.result().status_code == 200
        redis_server.thaw()
        wait_for_state(shared, "shared")

    # Given back while Redis could not hear it: said again, not waited for.
    assert ask(shared, key).status_code == 200


def test_a_caller_that_hangs_up_frees_its_place(
    shared: Gateway, keys: KeyBox, simulator: Simulator, store: redis.Redis
) -> None:
    name, key = keys.take_named(parallel_calls=1)
    body = b'{"model": "fault:gate-stream", "input": "hi", "stream": true}'
    with connect(shared) as wire:
        wire.send(head("POST", "/v1/responses", "Content-Type: application/json", length=len(body), key=key) + body)
        assert wire.read_head().status == 200
        simulator.wait_until(lambda: simulator.waiting == 1)
        assert store.zcard(f"chatproxy:calls/{name}") == 1
    wait_until(lambda: not store.exists(f"chatproxy:calls/{name}"))
    assert ask(shared, key).status_code == 200


def test_a_start_without_redis_takes_calls_and_says_so(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway(REDIS_URL=f"redis://:a-secret-word@127.0.0.1:{free_port()}/0")
    key = KeyBox(gateway).take(requests_per_minute=1)

    assert [ask(gateway, key).status_code for _ in range(2)] == [200, 429]
    ready = gateway.http.get("/readyz").json()
    assert ready["status"] == "degraded"
    assert ready["limits"].startswith(AWAY)
    gateway.wait_for_log("Redis is away")
    wait_until(lambda: redis_away_seconds(gateway) > 0)
    assert gateway.log.count("Redis is away") == 1
    assert "a-secret-word" not in gateway.log
    with suppress(httpx2.HTTPError):
        assert "a-secret-word" not in gateway.http.get("/debug/runtime?access_token=" + ACCESS_TOKEN).text


def test_a_redis_that_refuses_is_one_that_is_away(
    start_gateway: Callable[..., Gateway], redis_server: RedisServer, store: redis.Redis, simulator: Simulator
) -> None:
    gateway = start_gateway(REDIS_URL=redis_server.url)
    key = KeyBox(gateway).take(**ALL_LIMITS)
    store.config_set("maxmemory", "1")
    try:
        assert [ask(gateway, key).status_code for _ in range(3)] == [200] * 3
        wait_until(lambda: gateway.http.get("/readyz").json()["limits"].startswith(AWAY))
    finally:
        store.config_set("maxmemory", "0")
    wait_for_state(gateway, "shared")
    wait_until(lambda: redis_away_seconds(gateway) == 0)
    wait_until(lambda: all_outages_are_over(gateway.log))


def redis_away_seconds(gateway: Gateway) -> float:
    """As the dashboard and Prometheus are told."""
    metrics = gateway.http.get("/metrics", headers={"Authorization": f"Bearer {ACCESS_TOKEN}"}).text
    return float(metrics.partition("\nchatproxy_redis_away_seconds ")[2].partition("\n")[0])
