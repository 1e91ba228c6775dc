"""Budgets over the socket: a hold of the most a call can cost before it goes upstream, settled from the ledger.

Over 300 lines, since each way in which a call can end settles the same reservation, on the same key and server.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.allowances import OUTAGE_PART
from proxyapi.limits.cost_ceiling import ceiling_of
from proxyapi.routes import find_route
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask, database, holds, make_key, settled
from tests.support.servers.clusters import give_cluster
from tests.support.servers.databases import new_database
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import Gateway, run_gateway
from usage.money.billing import highest_cost
from usage.money.leases import SLICE_CALLS

# They name a tier, so that what is reserved is in the price of this tier.
CHAT = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 200,
    "service_tier": "default",
}
RESPONSE = {"model": "gpt-4o-mini", "input": "hi", "max_output_tokens": 200, "service_tier": "default"}
APIS = {
    "simple": ("/openai", CHAT),
    "simple stream": ("/openai2", {**RESPONSE, "stream": True}),
    "drop-in": ("/v1/chat/completions", CHAT),
    "drop-in stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "drop-in response stream": ("/v1/responses", {**RESPONSE, "stream": True}),
}
SOUND = b"\xff\xfb\x90\x00" + bytes(413) * 4


@pytest.fixture(scope="module")
def two_workers(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("two")
    with run_gateway(_simulator.base_url, gateway_database, directory, WEB_CONCURRENCY="2") as gateway:
        yield gateway


def chat(gateway: Gateway, key: str, **body: Any) -> httpx2.Response:
    return ask(gateway, key, "/v1/chat/completions", {**CHAT, **body})


def error_of(answer: httpx2.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["type"], error["code"]


def most_of(simulator: Simulator) -> Decimal:
    """What the last call that upstream saw was thought to cost at most."""
    sent = simulator.last
    ceiling = ceiling_of(sent.method, find_route(sent.path.removeprefix("/v1")), JSONBody.parse(sent.body))
    assert ceiling is not None
    (model,), (tier,) = ceiling.models, ceiling.tiers
    cost = highest_cost(model, tier, datetime.now(UTC), ceiling.max_usage, [])
    assert cost is not None
    return cost


# --- one call


@pytest.mark.parametrize("api", APIS)
def test_it_works(gateway: Gateway, gateway_database: str, simulator: Simulator, api: str) -> None:
    path, body = APIS[api]
    key = make_key(
        gateway, f"one {api}", day="0.0005", month="5", total="9"
    )  # too little for a lease with spare dollars
    simulator.hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(ask, gateway, key, path, body)
        simulator.wait_until(lambda: simulator.waiting == 1)
        assert holds(gateway_database, f"one {api}") == [most_of(simulator)]
        simulator.release()
        answer = call.result()

    assert answer.status_code == 200
    row = gateway.row(answer)
    assert 0 < row["cost"] < most_of(simulator)
    assert settled(gateway_database, f"one {api}") == row["cost"]


def test_a_lease_shrinks_to_the_cost_before_the_row_is_in_the_table(
    gateway: Gateway, gateway_database: str, simulator: Simulator
) -> None:
    key = make_key(gateway, "shrinks", total="0.0005")
    with database(gateway_database) as connection, connection.transaction():
        connection.execute("LOCK TABLE usage_request IN SHARE MODE")  # no row gets in
        chat(gateway, key)
        most = most_of(simulator)
        wait_until(lambda: holds(gateway_database, "shrinks")[0] < most)
        assert holds(gateway_database, "shrinks")[0] > 0
    assert settled(gateway_database, "shrinks") > 0


def test_calls_in_a_row_do_not_wait_for_the_ledger(
    gateway: Gateway, gateway_database: str, simulator: Simulator
) -> None:
    """A budget of two ceilings lasts for many calls that cost a tenth of one, one after the other."""
    key = make_key(gateway, "in a row", day="0.0003")
    with database(gateway_database) as connection, connection.transaction():
        connection.execute("LOCK TABLE usage_request IN SHARE MODE")
        statuses = [chat(gateway, key).status_code for _ in range(8)]
        assert 2 * most_of(simulator) < Decimal("0.0003")
    assert statuses == [200] * 8


def test_a_call_that_is_cut_short_gives_the_rest_back(
    gateway: Gateway, gateway_database: str, simulator: Simulator
) -> None:
    key = make_key(gateway, "cut short", day="0.0002")
    simulator.fail_next("gate-stream")
    headers = {"Authorization": f"Bearer {key}"}
    body = {**CHAT, "stream": True}
    with gateway.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
        pieces = answer.iter_raw()  # without a name it would end here, and the call with it
        next(pieces)
        assert error_of(chat(gateway, key)) == (429, "insufficient_quota", "budget_exceeded")
    row = gateway.row(answer.headers["x-proxy-request-id"])
    assert row["outcome"] == "client_cancelled"
    assert settled(gateway_database, "cut short") == (row["cost"] or 0)
    assert chat(gateway, key).status_code == 200


def test_calls_that_fail_give_everything_back(gateway: Gateway, gateway_database: str, simulator: Simulator) -> None:
    key = make_key(gateway, "fails", day="0.0002")
    for fault in ("status-500", "status-429"):
        simulator.fail_next(fault)
        assert chat(gateway, key).status_code in {429, 500}
    assert chat(gateway, key, messages="none").status_code == 400
    assert settled(gateway_database, "fails") == 0
    assert chat(gateway, key).status_code == 200


def test_a_background_response_is_held_until_its_usage_is_counted(
    start_gateway: Callable[..., Gateway], gateway_database: str, simulator: Simulator
) -> None:
    gateway = start_gateway(BACKGROUND_POLL_SECONDS="600")
    key = make_key(gateway, "background", total="1")
    made = ask(gateway, key, "/v1/responses", {**RESPONSE, "background": True})
    gateway.row(made)
    wait_until(lambda: holds(gateway_database, "background") == [most_of(simulator)])  # the lease is given back

    headers = {"Authorization": f"Bearer {key}"}
    while gateway.http.get(f"/v1/responses/{made.json()['id']}", headers=headers).json()["status"] != "completed":
        pass
    assert settled(gateway_database, "background") > 0


# --- many calls


@pytest.mark.parametrize("api", APIS)
def test_of_twenty_calls_with_money_for_one_one_is_let_in(
    two_workers: Gateway, gateway_database: str, simulator: Simulator, api: str
) -> None:
    path, body = APIS[api]
    key = make_key(two_workers, f"twenty {api}", day="0.0002")  # a call's ceiling is 0.00014
    simulator.hold()
    with ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(ask, two_workers, key, path, body) for _ in range(20)]
        wait_until(lambda: sum(call.done() for call in calls) == 19 and simulator.waiting == 1)
        assert len(simulator.requests) == 1
        simulator.release()
        answers = [call.result() for call in calls]

    assert Counter(answer.status_code for answer in answers) == {200: 1, 429: 19}
    for refused in (answer for answer in answers if answer.status_code == 429):
        assert error_of(refused) == (429, "insufficient_quota", "budget_exceeded")
        assert refused.headers["retry-after"] == "5"  # when the one has ended, there will be room
        assert "x-should-retry" not in refused.headers
        assert two_workers.row(refused)["outcome"] == "rejected"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_fifty_at_once_never_pass_a_budget(
    two_workers: Gateway, gateway_database: str, simulator: Simulator, stream: bool
) -> None:
    """Answers as long as they may be, so that each costs nearly what is held for it."""
    name, budget = f"fifty {stream}", Decimal("0.004")
    key = make_key(two_workers, name, day=str(budget))
    simulator.fail_next("events-400", times=1000)
    answered: list[int] = []

    def call_until_refused() -> None:
        while answered.count(429) < 200:
            answered.append(chat(two_workers, key, stream=stream).status_code)
            # What is held for those that run is more than they cost: a refusal is final only after their end.
            simulator.wait_until(lambda: answered[-1] != 429 or simulator.in_flight == 0)

    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda _: call_until_refused(), range(50)))

    most = most_of(simulator)
    total = settled(gateway_database, name)
    assert set(answered) == {200, 429}
    assert total <= budget
    assert total > budget - 2 * most, "it refuses calls that it has money for"
    with database(gateway_database) as connection:
        query = "SELECT count(*) FROM usage_request WHERE key_name = %s AND outcome = 'success'"
        assert connection.execute(query, [name]).fetchall() == [(answered.count(200),)]


# --- periods and refusals


@contextmanager
def history(url: str, key_name: str, day: date, dollars: str) -> Iterator[None]:
    """The key has spent so much more on a day; it goes again, because no rows add up to it."""
    add = (
        "INSERT INTO usage_usageday (day, key_name, calls, unpriced_calls, input_tokens, output_tokens, cost)"
        " VALUES (%s, %s, 0, 0, 0, 0, %s) ON CONFLICT (day, key_name) DO UPDATE"
        " SET cost = usage_usageday.cost + EXCLUDED.cost"
    )
    with database(url) as connection:
        connection.execute(add, [day, key_name, dollars])
        try:
            yield
        finally:
            connection.execute(add, [day, key_name, f"-{dollars}"])


@pytest.mark.parametrize("span", ["day", "month", "total"])
def test_a_budget_is_of_its_span(gateway: Gateway, gateway_database: str, simulator: Simulator, span: str) -> None:
    key = make_key(gateway, f"span {span}", **{span: "2"})
    today = datetime.now(UTC).date()
    month_start = today.replace(day=1)
    inside = {"day": today, "month": month_start, "total": date(2020, 2, 29)}[span]
    with history(gateway_database, f"span {span}", inside, "1.9999"):
        refused = chat(gateway, key)
        assert error_of(refused) == (429, "insufficient_quota", "budget_exceeded")
        assert refused.headers["x-should-retry"] == "false"
        assert "$2.00, $1.9999" in refused.json()["error"]["message"]
        seconds = int(refused.headers["retry-after"])
    midnight = datetime.combine(today + timedelta(days=1), datetime.min.time(), UTC)
    next_month = datetime.combine((month_start + timedelta(days=32)).replace(day=1), datetime.min.time(), UTC)
    ends = {"day": midnight, "month": next_month, "total": datetime.now(UTC) + timedelta(days=1)}[span]
    assert abs(seconds - (ends - datetime.now(UTC)).total_seconds()) < 30

    before = {"day": today - timedelta(days=1), "month": month_start - timedelta(days=1), "total": None}[span]
    if before is not None:
        with history(gateway_database, f"span {span}", before, "100"):
            assert chat(gateway, key).status_code == 200


def test_the_sdk_raises_a_rate_limit_error_and_does_not_repeat(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "sdk", total="0.0001")
    with gateway.sdk("/v1", max_retries=2).copy(api_key=key) as client, pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
    assert (refused.value.code, refused.value.type) == ("budget_exceeded", "insufficient_quota")
    assert refused.value.status_code == 429
    assert simulator.requests == []
    assert len(gateway.rows("WHERE key_name = 'sdk' AND status = 429", at_least=1)) == 1


def test_a_model_without_a_price_is_refused(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "unpriced", month="100")
    refused = chat(gateway, key, model="nobody-knows")
    assert error_of(refused) == (403, "permission_error", "model_not_priced")
    assert refused.json()["error"]["param"] == "model"
    assert error_of(ask(gateway, key, "/v1/responses", {"input": "hi"}))[2] == "model_not_priced"
    speech = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hi"}
    assert error_of(ask(gateway, key, "/v1/audio/speech", speech))[2] == "route_not_allowed"
    assert simulator.requests == []


def test_a_price_of_ones_own_is_known_before_any_row(
    start_gateway: Callable[..., Gateway], gateway_database: str, simulator: Simulator
) -> None:
    add = "INSERT INTO usage_modelprice (model, service_tier, valid_from, input, output) VALUES (%s, '', %s, 1, 1)"
    with database(gateway_database) as connection:
        connection.execute(add, ["our-own", datetime(2020, 1, 1, tzinfo=UTC)])
        try:
            gateway = start_gateway()
            key = make_key(gateway, "own price", month="100")
            answer = chat(gateway, key, model="our-own")
            assert answer.status_code == 200
            assert gateway.row(answer)["cost"] > 0
        finally:
            connection.execute("DELETE FROM usage_modelprice WHERE model = 'our-own'")


def test_what_costs_nothing_needs_no_budget(gateway: Gateway, simulator: Simulator) -> None:
    key = make_key(gateway, "nothing left", total="0")
    assert error_of(chat(gateway, key))[2] == "budget_exceeded"
    headers = {"Authorization": f"Bearer {key}"}
    assert gateway.http.get("/v1/models", headers=headers).status_code == 200
    for path, body in {
        "/v1/moderations": {"input": "hi", "model": "omni-moderation-latest"},
        "/v1/responses/input_tokens": {"model": "gpt-4o", "input": "hi"},
        "/openai2/input_tokens": {"model": "gpt-4o", "input": "hi"},
        "/v1/conversations": {},
    }.items():
        assert ask(gateway, key, path, body).status_code == 200, path


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/openai/audio/transcriptions"])
def test_a_form_is_held_for_by_its_fields(
    gateway: Gateway, gateway_database: str, simulator: Simulator, path: str
) -> None:
    name = f"form {path}"
    key = make_key(gateway, name, day="0.0025")
    headers = {"Authorization": f"Bearer {key}"}

    def transcribe(model: str, sound: bytes = SOUND) -> httpx2.Response:
        file = {"file": ("a.mp3", sound, "audio/mpeg")}
        return gateway.http.post(path, files=file, data={"model": model}, headers=headers)

    simulator.hold()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(transcribe, "whisper-1")
        simulator.wait_until(lambda: simulator.waiting == 1)
        assert holds(gateway_database, name) == [Decimal("0.0003")]  # two seconds and one at 0.006 dollars a minute
        simulator.release()
        assert call.result().status_code == 200
    assert 0 < settled(gateway_database, name) < Decimal("0.0003")

    assert error_of(transcribe("whisper-1", SOUND * 100)) == (429, "insufficient_quota", "budget_exceeded")
    assert error_of(transcribe("nobody-knows")) == (403, "permission_error", "model_not_priced")
    assert [one.outcome for one in simulator.requests if one.outcome == "completed"] == ["completed"]
    assert settled(gateway_database, name) < Decimal("0.0003")


def test_a_key_without_a_budget_needs_no_connection(
    gateway_database: str, simulator: Simulator, tmp_path: Path
) -> None:
    def connections(url: str) -> int:
        query = """SELECT count(*) FROM pg_stat_activity
            WHERE application_name = 'chatproxy budgets' AND datname = current_database()"""
        with database(url) as connection:
            return int(connection.execute(query).fetchall()[0][0])

    with new_database(gateway_database) as url, run_gateway(simulator.base_url, url, tmp_path) as gateway:
        with_one = make_key(gateway, "with a budget", day="1")
        without = make_key(gateway, "without")
        for path, body in APIS.values():
            assert ask(gateway, without, path, body).status_code == 200
            assert gateway.post(path, body).status_code == 200 or path.startswith("/v1")
        assert connections(url) == 0
        assert chat(gateway, with_one).status_code == 200
        assert connections(url) == 1


# --- when something is away


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path / "database", give_cluster)
    yield postgres
    postgres.delete()


def readiness(gateway: Gateway) -> Any:
    return gateway.http.get("/readyz").json()


@pytest.mark.parametrize("way", ["stopped", "frozen"])
def test_without_a_database_a_small_allowance_goes_on(
    simulator: Simulator, postgres: Postgres, tmp_path: Path, way: str
) -> None:
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
        key = make_key(gateway, "allowed", day="0.02", total="1")
        assert chat(gateway, key).status_code == 200
        most = most_of(simulator)
        allowed = int(Decimal("0.001") / most)  # 5 % of the tightest
        assert 3 < allowed < 20
        settled(postgres.url, "allowed")
        (postgres.stop if way == "stopped" else postgres.freeze)()

        answers = [chat(gateway, key) for _ in range(allowed + 3)]
        quickest = min(answer.elapsed.total_seconds() for answer in answers)
        assert quickest < 1, "each call waits for the database"
        assert [answer.status_code for answer in answers] == [200] * allowed + [503] * 3
        assert error_of(answers[-1]) == (503, "server_error", "budget_unavailable")
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert readiness(gateway)["status"] == "degraded"
        assert readiness(gateway)["budgets"] != "ok"
        assert gateway.post("/openai", CHAT).status_code == 200  # a key without a budget

        (postgres.start if way == "stopped" else postgres.thaw)()
        wait_until(lambda: readiness(gateway)["budgets"] == "ok")
        assert chat(gateway, key).status_code == 200
        for answer in answers:
            gateway.row(answer)
        total = settled(postgres.url, "allowed")
        rows = gateway.rows("WHERE key_name = 'allowed' AND cost > 0", at_least=allowed + 2)
        assert total == sum(row["cost"] for row in rows)
        assert gateway.manage("ledger", "verify").returncode == 0


def test_an_allowance_has_an_end_however_cheap_the_calls_are(
    simulator: Simulator, postgres: Postgres, tmp_path: Path
) -> None:
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
        key = make_key(gateway, "rich", day="1000")
        assert chat(gateway, key).status_code == 200
        settled(postgres.url, "rich")
        postgres.stop()
        statuses = [chat(gateway, key).status_code for _ in range(22)]
        assert statuses == [200] * 20 + [503] * 2
        postgres.start()  # a server that stops would wait for it


def test_what_is_leased_is_spent_before_the_allowance(simulator: Simulator, postgres: Postgres, tmp_path: Path) -> None:
    """And no more than the budget, although nobody can be asked."""
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
        budget = Decimal("0.004")
        key = make_key(gateway, "has a lease", total=str(budget))
        simulator.fail_next("events-400", times=1000)  # each costs nearly what is reserved for it
        assert chat(gateway, key).status_code == 200
        postgres.stop()
        answered: list[int] = []
        while not answered or answered[-1] == 200:
            answered.append(chat(gateway, key).status_code)
        assert answered[-1] == 503
        most = most_of(simulator)
        assert len(answered) - 1 > budget * OUTAGE_PART / most
        postgres.start()
        wait_until(lambda: readiness(gateway)["budgets"] == "ok")
        assert settled(postgres.url, "has a lease") <= budget


def test_calls_of_a_key_with_money_left_do_not_wait_for_the_database(gateway: Gateway, gateway_database: str) -> None:
    """The table of leases is locked, and the table of calls: all that a call or its row could wait for."""
    key = make_key(gateway, "rich enough", day="100", month="100", total="100")
    assert chat(gateway, key).status_code == 200
    with database(gateway_database) as connection, connection.transaction():
        connection.execute("LOCK TABLE usage_request, usage_hold IN ACCESS EXCLUSIVE MODE")
        answers = [chat(gateway, key) for _ in range(SLICE_CALLS)]
    assert [answer.text for answer in answers if answer.status_code != 200] == []
    rows = [gateway.row(answer) for answer in answers]
    assert settled(gateway_database, "rich enough") > sum(row["cost"] for row in rows)


def test_of_a_killed_worker_no_hold_stays(simulator: Simulator, postgres: Postgres, tmp_path: Path) -> None:
    with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
        key = make_key(gateway, "killed", day="0.0002")
        simulator.hold()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(chat, gateway, key)
            simulator.wait_until(lambda: simulator.waiting == 1)
            assert len(holds(postgres.url, "killed")) == 1
            os.kill(gateway.worker_pids[0], signal.SIGKILL)
            assert isinstance(call.exception(), httpx2.RequestError)
        simulator.release()
        spent = settled(postgres.url, "killed")  # it may have been billed
        [row] = gateway.rows("WHERE key_name = 'killed' AND route LIKE '/v1/%%'")
        assert (row["outcome"], row["usage_source"], row["cost"]) == ("interrupted", "estimated", spent)
        assert 0 < spent <= Decimal("0.0002")
        assert gateway.manage("ledger", "verify").returncode == 0
