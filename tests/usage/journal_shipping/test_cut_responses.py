"""Responses that were cut, left, looked at, cancelled or deleted: counted once, as the calls of their key."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import holds
from tests.support.callers.metrics import wait_for_reports
from tests.support.polling import PATIENCE
from tests.support.servers.databases import new_database
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, run_gateway

RETRIEVAL_PATHS = {"/openai2": "/openai2/{}", "/v1/responses": "/v1/responses/{}"}
BODY = {"model": "gpt-4o-mini", "input": "word " * 4000, "stream": True, "background": True}
AUTH = {"Authorization": f"Bearer {SECURITY_KEY}"}


@pytest.fixture(scope="module")
def looking(
    gateway: Gateway, _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Two workers that look at pending responses: those of this module's tests alone.

    `gateway` has made the tables.
    """
    with psycopg.connect(gateway_database) as connection:
        connection.execute("DELETE FROM usage_pendingresponse")
    folder = tmp_path_factory.mktemp("looking")
    settings = {"BACKGROUND_POLL_SECONDS": "0.2", "WEB_CONCURRENCY": "2"}
    with run_gateway(_simulator.base_url, gateway_database, folder, **settings) as looking:
        yield looking


def leave(gateway: Gateway, simulator: Simulator, path: str, key: str = SECURITY_KEY) -> str:
    """A caller that leaves in the middle of the stream; returns the response's id."""
    simulator.fail_next("events-3000+pace-0.01")
    received = ""
    with gateway.http.stream("POST", path, json=BODY, headers={"Authorization": f"Bearer {key}"}) as answer:
        for piece in answer.iter_text():
            received += piece
            if received.count("output_text.delta") > 20:
                break
    return id_in(received)


def lose(gateway: Gateway, simulator: Simulator, path: str, key: str = SECURITY_KEY) -> str:
    """An upstream that dies in the middle of the stream; returns the response's id."""
    simulator.fail_next("events-60+cut-stream-30")
    received = b""
    with (
        suppress(httpx2.HTTPError),
        gateway.http.stream("POST", path, json=BODY, headers={"Authorization": f"Bearer {key}"}) as answer,
    ):
        for piece in answer.iter_bytes():
            received += piece
    return id_in(received.decode())


def id_in(stream: str) -> str:
    found = re.search(r'"id": ?"(resp_\w+)"', stream)
    assert found
    return found[1]


def rows_of(gateway: Gateway, response_id: str, at_least: int = 1) -> list[dict[str, Any]]:
    return gateway.rows("WHERE response_id = %s", [response_id], at_least=at_least)


def corrected(gateway: Gateway, response_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows of the call and of the first look that has seen the end."""
    wait_until(lambda: any(row["usage_source"] == "exact" for row in rows_of(gateway, response_id)))
    made, *looks = rows_of(gateway, response_id)
    return made, next(row for row in looks if row["usage_source"] == "exact")


def upstreams_usage(simulator: Simulator, response_id: str) -> dict[str, Any]:
    url = f"{simulator.base_url}/responses/{response_id}"
    answer = httpx2.get(url, headers={"Authorization": "Bearer sk-any"}, timeout=PATIENCE)
    usage: dict[str, Any] = answer.json()["usage"]
    return usage


def sums_of_key(database: str, key: str) -> tuple[int, int, int, Decimal]:
    """Calls, input tokens, output tokens and dollars of a key in all its hours and its days, which must agree."""
    columns = "sum(calls), sum(input_tokens), sum(output_tokens), sum(cost)"
    with psycopg.connect(database) as connection:
        found = {
            table: connection.execute(f"SELECT {columns} FROM {table} WHERE key_name = %s", [key]).fetchone()  # noqa: S608  (constant texts)
            for table in ("usage_usagehour", "usage_usageday")
        }
    assert found["usage_usagehour"] == found["usage_usageday"] is not None
    calls, input_tokens, output_tokens, cost = found["usage_usageday"] or (0, 0, 0, Decimal(0))
    return int(calls), int(input_tokens), int(output_tokens), cost


# --- without looks of the gateway's own


@pytest.mark.parametrize("path", RETRIEVAL_PATHS)
def test_a_caller_that_looks_by_itself_pays_once(gateway: Gateway, simulator: Simulator, path: str) -> None:
    """Several times, plainly and as a stream from the middle, whole and left early."""
    response_id = lose(gateway, simulator, path)
    url = RETRIEVAL_PATHS[path].format(response_id)
    with gateway.http.stream("GET", url, params={"stream": "true"}, headers=AUTH) as answer:
        next(answer.iter_bytes())  # and it leaves
    for query in ({"stream": "true", "starting_after": "20"}, {}, {"stream": "true"}, {}):
        gateway.http.get(url, params=query, headers=AUTH).raise_for_status()

    usage = upstreams_usage(simulator, response_id)
    wait_until(lambda: len(rows_of(gateway, response_id)) >= 5)
    rows = rows_of(gateway, response_id)
    for column in ("input_tokens", "output_tokens"):
        assert sum(row[column] or 0 for row in rows) == usage[column]
    assert [row["cost"] > 0 for row in rows].count(True) == 1
    assert not any(row["usage_source"] == "estimated" for row in rows)
    assert not any(row["by_gateway"] for row in rows)  # they are the caller's own calls


def test_a_response_that_goes_on_states_no_usage_yet(gateway: Gateway, simulator: Simulator) -> None:
    made = gateway.post("/openai2", {"model": "gpt-4o", "input": "Say hi.", "background": True}).json()
    url = f"/openai2/{made['id']}"
    statuses: list[str] = []
    while not statuses or statuses[-1] != "completed":
        statuses.append(gateway.get(url).json()["status"])
    rows = rows_of(gateway, made["id"], at_least=1 + len(statuses))
    assert [row["input_tokens"] for row in rows[:-1]] == [None] * len(statuses)
    assert rows[-1]["input_tokens"] == upstreams_usage(simulator, made["id"])["input_tokens"]
    assert (rows[0]["cost"], rows[0]["price"]) == (0, {"source": "counted later"})


def test_a_deleted_response_keeps_its_estimate(gateway: Gateway, simulator: Simulator) -> None:
    response_id = lose(gateway, simulator, "/v1/responses")
    wait_until(lambda: rows_of(gateway, response_id) != [])
    assert gateway.http.delete(f"/v1/responses/{response_id}", headers=AUTH).status_code == 200
    assert gateway.http.get(f"/v1/responses/{response_id}", headers=AUTH).status_code == 404
    [estimated] = [row for row in rows_of(gateway, response_id) if row["input_tokens"]]
    assert (estimated["usage_source"], estimated["method"]) == ("estimated", "POST")


# --- with them


@pytest.mark.parametrize("path", RETRIEVAL_PATHS)
@pytest.mark.parametrize("cut", [leave, lose], ids=["caller-leaves", "upstream-dies"])
def test_a_stream_that_is_cut_is_counted_once_and_exactly(
    looking: Gateway, gateway_database: str, simulator: Simulator, cut: Callable[..., str], path: str
) -> None:
    name = f"cut {cut.__name__} {path}"
    key = looking.make_key(name, "--budget-total", "5")
    response_id = cut(looking, simulator, path, key)
    made, look = corrected(looking, response_id)

    usage = upstreams_usage(simulator, response_id)
    assert (look["input_tokens"], look["output_tokens"]) == (usage["input_tokens"], usage["output_tokens"])
    counted_nothing = (made["input_tokens"], made["output_tokens"], made["cost"], made["usage_source"])
    assert counted_nothing == (None, None, 0, "unknown")
    assert (look["by_gateway"], made["by_gateway"]) == (True, False)
    assert (look["route"], look["key_name"], look["tags"]) == (path, name, ["background"])
    assert look["incoming_request_id"] == str(made["request_id"])
    # The look is no call, and the budget has the exact cost alone.
    rows = looking.rows("WHERE key_name = %s AND NOT by_gateway", [name])  # also those that waited for the key
    counted = (len(rows), usage["input_tokens"], usage["output_tokens"], look["cost"])
    assert sums_of_key(gateway_database, name) == counted
    wait_until(lambda: not holds(gateway_database, name))
    query = {"range": "hour", "group_by": "route"}
    report = looking.http.get("/usage", params=query, headers={"Authorization": f"Bearer {key}"}).json()
    [group] = [group for group in report["groups"] if group["route"] == path]
    assert (group["calls"], group["errors"]) == (1, 1)
    assert (group["input_tokens"], group["output_tokens"]) == counted[1:3]
    verified = looking.manage("ledger", "verify")
    assert verified.returncode == 0, verified.stdout


@pytest.fixture
def start(_simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts servers with a database of their own: no other looks at their responses."""
    with new_database(gateway_database) as database, ExitStack() as running:
        yield lambda **settings: running.enter_context(run_gateway(_simulator.base_url, database, tmp_path, **settings))


def test_a_kill_between_estimate_and_correction_is_healed(start: Callable[..., Gateway], simulator: Simulator) -> None:
    """The first server dies with the estimate written, the second while its look is on its way to upstream."""
    first = start()
    response_id = lose(first, simulator, "/v1/responses")
    wait_until(lambda: any(row["usage_source"] == "estimated" for row in rows_of(first, response_id)))
    os.killpg(first.process.pid, signal.SIGKILL)

    simulator.hold()
    second = start(BACKGROUND_POLL_SECONDS="0.05")
    wait_until(lambda: any(request.path.endswith(response_id) for request in simulator.requests))
    os.killpg(second.process.pid, signal.SIGKILL)
    simulator.release()
    assert [row["usage_source"] for row in rows_of(second, response_id)] == ["estimated"]

    with psycopg.connect(database_of(second), autocommit=True) as connection:  # a lease lasts a minute
        connection.execute("UPDATE usage_pendingresponse SET ask_at = now() WHERE response_id = %s", [response_id])
    third = start(BACKGROUND_POLL_SECONDS="0.05")
    made, look = corrected(third, response_id)
    assert (made["input_tokens"], look["input_tokens"]) == (
        None,
        upstreams_usage(simulator, response_id)["input_tokens"],
    )
    assert third.manage("ledger", "verify").returncode == 0


def test_a_kill_behind_the_journal_loses_no_correction(start: Callable[..., Gateway], simulator: Simulator) -> None:
    """The look is in the journal of a server that dies before it has shipped it: the tables are locked meanwhile."""
    first = start(BACKGROUND_POLL_SECONDS="2")
    response_id = lose(first, simulator, "/openai2")
    simulator.hold()
    wait_until(lambda: simulator.waiting == 1)  # the look, at upstream
    with psycopg.connect(database_of(first)) as connection:
        connection.execute("LOCK TABLE usage_usagehour IN EXCLUSIVE MODE")  # the shipper waits
        simulator.release()
        wait_until(lambda: b'"by_gateway":true' in journal_of(first))
        os.killpg(first.process.pid, signal.SIGKILL)
    second = start()
    made, look = corrected(second, response_id)
    assert (made["input_tokens"], look["by_gateway"]) == (None, True)
    assert len(rows_of(second, response_id)) == 2
    assert second.manage("ledger", "verify").returncode == 0


def database_of(gateway: Gateway) -> str:
    return gateway.variables["DATABASE_URL"]


def journal_of(gateway: Gateway) -> bytes:
    return b"".join(path.read_bytes() for path in Path(gateway.variables["DATA_DIR"], "journal").glob("*.journal"))


def test_a_cancelled_response_keeps_what_is_known(looking: Gateway, simulator: Simulator) -> None:
    made = looking.post("/openai2", {"model": "gpt-4o", "input": "Say hi.", "background": True}).json()
    answer = looking.post(f"/openai2/{made['id']}/cancel", {})
    usage = answer.json().get("usage") or {}
    looking.row(answer)
    wait_until(lambda: not is_pending(looking, made["id"]))
    rows = rows_of(looking, made["id"])
    if usage:
        assert sum(row["input_tokens"] or 0 for row in rows) == usage["input_tokens"]
    else:  # it may have been billed, and upstream does not say for what
        [paid] = [row for row in rows if row["cost"]]
        assert (paid["usage_source"], paid["input_tokens"] > 0, paid["output_tokens"] > 0) == ("estimated", True, True)
    assert looking.manage("ledger", "verify").returncode == 0


def is_pending(gateway: Gateway, response_id: str) -> bool:
    with psycopg.connect(database_of(gateway)) as connection:
        query = "SELECT count(*) FROM usage_pendingresponse WHERE response_id = %s"
        return connection.execute(query, [response_id]).fetchone() != (0,)


def test_looks_are_apart_in_metrics_and_marked_on_pages(looking: Gateway, simulator: Simulator) -> None:
    def metric(name: str) -> float:
        page = looking.http.get("/metrics", headers={"Authorization": f"Bearer {ACCESS_TOKEN}"}).text
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    wait_for_reports(looking)  # of the tests before
    looks, calls = metric("chatproxy_background_looks_total"), metric("chatproxy_calls_total")
    made = looking.post("/openai2", {"model": "gpt-4o", "input": "Say hi.", "background": True}).json()
    _, look = corrected(looking, made["id"])
    wait_for_reports(looking)
    assert metric("chatproxy_background_looks_total") == looks + 1
    assert metric("chatproxy_calls_total") == calls + 1
    assert json.dumps(look["tags"]) == '["background"]'
