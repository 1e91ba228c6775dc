"""A budget holds in every way in which a call can end: what upstream may have billed is spent, and nothing stays held.

Each way is tried again and again with one key. If it cost nothing, the key would never be refused.

Over 300 lines, since all ways to end are tried on the same server, in one table.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxyapi.limits.cost_ceiling import SUPPOSED_SEARCHES
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask, database, holds, make_key, settled
from tests.support.callers.key_box import insert
from tests.support.callers.wire import connect, head
from tests.support.servers.databases import new_database
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import PATIENCE, Gateway, run_gateway
from usage.money.tool_fees import WEB_SEARCH

MOST_TOKENS = 200
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "word " * 400}], "max_tokens": MOST_TOKENS}
RESPONSE = {"model": "gpt-4o-mini", "input": "word " * 400, "max_output_tokens": MOST_TOKENS}
SOUND = b"\xff\xfb\x90\x00" + bytes(413) * 4
BUDGET = Decimal("0.0005")
MOST_CALLS = 30
REFUSED = 429
CUT = -1
FAULT = "x-simulator-fault"
# The input of `CHAT`, and the longest answer that it allows: what a whole call costs at the very least.
LEAST_INPUT_TOKENS = 400
WHOLE_CALL = (LEAST_INPUT_TOKENS * Decimal("0.15") + MOST_TOKENS * Decimal("0.6")) / 1_000_000


@pytest.fixture(scope="module")
def own_database(gateway_database: str) -> Iterator[str]:
    """A database in which no other server polls responses."""
    with new_database(gateway_database) as url:
        yield url


@pytest.fixture(scope="module")
def server(_simulator: Simulator, own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One worker, whose calls may take two seconds."""
    folder = tmp_path_factory.mktemp("ends")
    settings = {"REQUEST_TIMEOUT": "2", "BACKGROUND_POLL_SECONDS": "0.2"}
    with run_gateway(_simulator.base_url, own_database, folder, **settings) as gateway:
        yield gateway


Case = tuple[Gateway, str, Simulator]


def plain(case: Case, fault: str = "events-400", path: str = "/v1/chat/completions", **more: Any) -> int:
    gateway, key, _ = case
    answer = ask(gateway, key, path, {**CHAT, **more}, **{FAULT: fault})  # a queued one could meet a poll instead
    return answer.status_code


def cut(case: Case) -> int:
    with suppress(httpx2.RemoteProtocolError):
        return plain(case, "cut-stream-4", stream=True)
    return CUT


def left_before_the_answer(case: Case) -> int:
    """The caller leaves while upstream works; upstream answers when the gateway must have seen that."""
    gateway, key, simulator = case
    simulator.hold()
    status = leave(gateway, key, "/v1/chat/completions", CHAT, until=lambda: simulator.waiting)
    simulator.release()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    return status


def leave(
    gateway: Gateway,
    key: str,
    path: str,
    body: dict[str, Any],
    *headers: str,
    until: Callable[[], object] = lambda: False,
) -> int:
    """Leaves once `until` is true, or once something of the answer has come; returns its status, 0 without one."""
    content = json.dumps(body).encode()
    with connect(gateway) as wire:
        headers = ("Content-Type: application/json", *headers)
        wire.send(head("POST", path, *headers, key=key, length=len(content)) + content)
        wait_until(lambda: until() or select.select([wire.connection], [], [], 0)[0])
        status = wire.read_head().status if select.select([wire.connection], [], [], 0)[0] else 0
    # The hang-up is in the socket before this request is, so a worker that has answered it has seen the hang-up.
    gateway.http.get("/healthz").raise_for_status()
    return status


def left_in_the_middle(case: Case) -> int:
    gateway, key, simulator = case
    status = leave(gateway, key, "/v1/chat/completions", {**CHAT, "stream": True}, f"{FAULT}: gate-stream")
    simulator.release()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    return status


def left_before_a_stream(case: Case) -> int:
    gateway, key, simulator = case
    simulator.hold()
    body = {**CHAT, "stream": True}
    status = leave(gateway, key, "/v1/chat/completions", body, until=lambda: simulator.waiting)
    simulator.release()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    return status


def out_of_the_callers_time(case: Case) -> int:
    gateway, key, simulator = case
    simulator.hold()
    answer = ask(gateway, key, "/openai", {**CHAT, "timeout": 50})
    simulator.release()
    simulator.wait_until(lambda: simulator.in_flight == 0)
    return answer.status_code


def subtitles(case: Case, path: str = "/v1/audio/transcriptions") -> int:
    gateway, key, _ = case
    headers = {"Authorization": f"Bearer {key}"}
    data = {"model": "whisper-1", "response_format": "srt"}
    answer = gateway.http.post(path, files={"file": ("a.mp3", SOUND, "audio/mpeg")}, data=data, headers=headers)
    return answer.status_code


def translation(case: Case) -> int:
    return subtitles(case, "/v1/audio/translations")


def background(case: Case, fault: str) -> int:
    """A background response that is made, and whose polling then meets a fault."""
    gateway, key, simulator = case
    answer = ask(gateway, key, "/v1/responses", {**RESPONSE, "background": True})
    if answer.status_code == 200:
        simulator.fail_next(fault, times=1000)  # also for those before, which may be asked about again
        request_id = answer.headers["x-proxy-request-id"]
        wait_until(lambda: not is_held(gateway, request_id))
    return answer.status_code


def is_held(gateway: Gateway, request_id: str) -> bool:
    with database(gateway.variables["DATABASE_URL"]) as connection:
        query = "SELECT count(*) FROM usage_hold WHERE request_id = %s"
        return connection.execute(query, [request_id]).fetchone() != (0,)


@dataclass
class Way:
    """A way to end: `call` makes one call and returns its status, `outcome` and `source` are those of its row."""

    call: Callable[[Case], int]
    status: int
    outcome: str
    source: str
    is_whole: bool = True  # it costs at least what a whole call does


WAYS = {
    "normally": Way(plain, 200, "success", "exact"),
    "left before the answer": Way(left_before_the_answer, 0, "client_cancelled", "exact", is_whole=False),
    "caller's timeout": Way(out_of_the_callers_time, 504, "timeout", "exact", is_whole=False),
    "gateway's timeout": Way(lambda case: plain(case, "hang"), 504, "timeout", "estimated"),
    "cut before the answer": Way(lambda case: plain(case, "cut"), 502, "unreachable", "estimated", is_whole=False),
    "cut in the answer": Way(lambda case: plain(case, "cut-body"), 502, "unreachable", "estimated", is_whole=False),
    "an unreadable answer": Way(lambda case: plain(case, "bad-json"), 200, "success", "estimated", is_whole=False),
    "stream left before it": Way(left_before_a_stream, 0, "client_cancelled", "estimated", is_whole=False),
    "stream left in the middle": Way(left_in_the_middle, 200, "client_cancelled", "estimated", is_whole=False),
    "stream cut": Way(cut, CUT, "unreachable", "estimated", is_whole=False),
    "subtitles": Way(subtitles, 200, "success", "estimated", is_whole=False),
    "translation": Way(translation, 200, "success", "estimated", is_whole=False),
    "background, deleted": Way(lambda case: background(case, "status-404"), 200, "success", "estimated"),
    "background, not ours to see": Way(lambda case: background(case, "status-403"), 200, "success", "estimated"),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_key_that_goes_on_is_refused(server: Gateway, own_database: str, simulator: Simulator, name: str) -> None:
    way = WAYS[name]
    key = make_key(server, name, total=str(BUDGET))
    statuses: list[int] = []
    while REFUSED not in statuses:
        statuses.append(way.call((server, key, simulator)))
        simulator.clear()  # a fault that nobody has met
        wait_until(lambda: not holds(own_database, name))
        assert len(statuses) <= MOST_CALLS, "it costs nothing to end like this"
    assert statuses[:-1] == [way.status] * (len(statuses) - 1)

    spent = settled(own_database, name)
    assert 0 < spent <= BUDGET
    rows = server.rows("WHERE key_name = %s AND outcome <> 'rejected' AND NOT by_gateway", [name])
    assert {(row["outcome"], row["usage_source"]) for row in rows} == {(way.outcome, way.source)}
    assert all(row["cost"] > 0 for row in rows)
    if way.is_whole:
        assert all(row["cost"] >= WHOLE_CALL for row in rows)
    assert server.manage("ledger", "verify").returncode == 0


@pytest.mark.parametrize("fault", ["status-500", "status-429", "status-400"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_upstream_refuses_costs_nothing(
    server: Gateway, own_database: str, simulator: Simulator, fault: str, stream: bool
) -> None:
    name = f"{fault} {stream}"
    key = make_key(server, name, total=str(BUDGET))
    assert plain((server, key, simulator), fault, stream=stream) == int(fault.partition("-")[2])
    assert settled(own_database, name) == 0
    [row] = server.rows("WHERE key_name = %s AND outcome <> 'rejected'", [name], at_least=1)
    assert (row["usage_source"], row["cost"]) in {("unknown", None), ("unknown", 0)}


def test_a_call_that_never_left_costs_nothing(own_database: str, tmp_path: Path) -> None:
    with run_gateway("http://127.0.0.1:9/v1", own_database, tmp_path) as nowhere:
        key = make_key(nowhere, "nowhere", total=str(BUDGET))
        answer = ask(nowhere, key, "/v1/chat/completions", CHAT)
        assert (answer.status_code, nowhere.row(answer)["usage_source"]) == (502, "unknown")
        assert settled(own_database, "nowhere") == 0


# --- calls that go on without their caller


def test_the_row_says_when_the_caller_left(server: Gateway, own_database: str, simulator: Simulator) -> None:
    key = make_key(server, "says when", total="1")
    simulator.hold()
    leave(server, key, "/v1/chat/completions", CHAT, until=lambda: simulator.waiting)
    assert holds(own_database, "says when")[0] > 0
    assert server.rows("WHERE key_name = 'says when' AND route = '/v1/chat/completions'") == []
    simulator.release()

    [row] = server.rows("WHERE key_name = 'says when' AND route = '/v1/chat/completions'", at_least=1)
    assert (row["outcome"], row["status"], row["usage_source"]) == ("client_cancelled", None, "exact")
    after = f"{round(row['duration_ms']):,}"
    assert row["error_message"] == f"The caller left after {after} ms; the call went on upstream for its usage."
    assert row["upstream_ms"] > 0
    assert row["response_bytes"] == 0
    assert row["output_tokens"] == row["usage"]["completion_tokens"]


def test_a_caller_gets_its_timeout_in_its_time(server: Gateway, own_database: str, simulator: Simulator) -> None:
    key = make_key(server, "in its time", total="1")
    headers = {"Authorization": f"Bearer {key}", "Origin": "https://a.example"}
    simulator.hold()
    with httpx2.Client(base_url=server.url, timeout=PATIENCE) as client:  # one connection
        late = client.post("/openai", json={**CHAT, "timeout": 50}, headers=headers)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "upstream_timeout")
        assert late.headers["access-control-allow-origin"] == "*"
        simulator.wait_until(lambda: simulator.waiting == 1)  # it would not be, if upstream were told to stop
        took, answered_at = late.elapsed.total_seconds(), time.monotonic()
        wait_until(lambda: time.monotonic() > answered_at + took)  # upstream's end cannot be taken for the caller's
        simulator.release()
        assert client.post("/openai", json=CHAT, headers=headers).status_code == 200
    row = server.row(late)
    assert (row["outcome"], row["status"], row["error_code"]) == ("timeout", 504, "upstream_timeout")
    assert (row["usage_source"], row["duration_ms"] <= took * 1000) == ("exact", True)
    assert len(simulator.requests) == 2
    settled(own_database, "in its time")


def test_a_key_without_a_budget_stops_upstream(server: Gateway, simulator: Simulator) -> None:
    """What it has used is estimated: no more than a model makes in that time."""
    key = make_key(server, "no budget")
    simulator.hold()
    leave(server, key, "/v1/chat/completions", {**CHAT, "max_tokens": 16_000}, until=lambda: simulator.waiting)
    simulator.wait_until(lambda: simulator.in_flight == 0)
    [row] = server.rows("WHERE key_name = 'no budget' AND route = '/v1/chat/completions'", at_least=1)
    assert (row["outcome"], row["usage_source"]) == ("client_cancelled", "estimated")
    assert 0 < row["output_tokens"] <= row["upstream_ms"] + 1
    assert row["cost"] > 0


def test_a_call_without_its_caller_keeps_its_place(server: Gateway, own_database: str, simulator: Simulator) -> None:
    with database(own_database) as connection:
        _, key = insert(connection, {"budget_total": "1", "parallel_calls": 1}, "one place")
    server.wait_until_known(key)
    case = (server, key, simulator)
    simulator.hold()
    leave(server, key, "/v1/chat/completions", CHAT, until=lambda: simulator.waiting)
    assert plain(case) == REFUSED
    simulator.release()
    simulator.clear()
    settled(own_database, "one place")
    assert plain(case) == 200


# --- and of the process


@pytest.mark.parametrize("ended", ["left", "timeout"])
def test_a_server_that_stops_waits_for_them(
    simulator: Simulator, own_database: str, tmp_path: Path, ended: str
) -> None:
    name = f"drained {ended}"
    with run_gateway(simulator.base_url, own_database, tmp_path) as gateway:
        key = make_key(gateway, name, total="1")
        simulator.hold()
        if ended == "left":
            leave(gateway, key, "/v1/chat/completions", CHAT, until=lambda: simulator.waiting)
        else:
            assert ask(gateway, key, "/openai", {**CHAT, "timeout": 50}).status_code == 504
        gateway.process.send_signal(signal.SIGTERM)
        gateway.wait_for_log("draining")
        simulator.release()
        assert gateway.process.wait(PATIENCE) == 0
        [row] = gateway.rows("WHERE key_name = %s AND route <> '/openai' OR key_name = %s AND status = 504", [name] * 2)
        assert row["usage_source"] == "exact"
        assert settled(own_database, name) == row["cost"]


def test_a_killed_worker_leaves_an_estimate(simulator: Simulator, own_database: str, tmp_path: Path) -> None:
    with run_gateway(simulator.base_url, own_database, tmp_path) as gateway:
        key = make_key(gateway, "killed", total="1")
        simulator.hold()
        with ThreadPoolExecutor(2) as pool:
            calls: list[Future[Any]] = [
                pool.submit(ask, gateway, key, "/v1/chat/completions", CHAT),
                pool.submit(subtitles, (gateway, key, simulator)),
            ]
            simulator.wait_until(lambda: simulator.waiting == 2)
            os.kill(gateway.worker_pids[0], signal.SIGKILL)
            for call in calls:
                assert isinstance(call.exception(), httpx2.RequestError)
        simulator.release()
        spent = settled(own_database, "killed")
        rows = gateway.rows("WHERE key_name = 'killed' AND route LIKE '/v1/%%' AND outcome <> 'rejected'", at_least=2)
        assert {(row["outcome"], row["usage_source"]) for row in rows} == {("interrupted", "estimated")}
        assert all(row["cost"] > 0 for row in rows)
        assert spent == sum(row["cost"] for row in rows) >= WHOLE_CALL
        assert gateway.manage("ledger", "verify").returncode == 0


# --- responses that are never asked about


@pytest.mark.parametrize("kind", ["background", "left"])
def test_without_polling_nothing_stays_held(
    simulator: Simulator, gateway_database: str, tmp_path: Path, kind: str
) -> None:
    name = f"unpolled {kind}"
    with (
        new_database(gateway_database) as own_database,
        run_gateway(simulator.base_url, own_database, tmp_path, BACKGROUND_POLL_SECONDS="0") as gateway,
    ):
        key = make_key(gateway, name, total="1")
        if kind == "background":
            made = ask(gateway, key, "/v1/responses", {**RESPONSE, "background": True})
            assert made.status_code == 200
        else:
            leave(gateway, key, "/v1/responses", {**RESPONSE, "stream": True}, f"{FAULT}: gate-stream")
            simulator.release()
        estimated = settled(own_database, name)
        assert estimated > 0
        [row] = gateway.rows("WHERE key_name = %s AND route = '/v1/responses'", [name], at_least=1)
        assert (row["usage_source"], row["cost"]) == ("estimated", estimated)

        # Who fetches it replaces the estimate.
        headers = {"Authorization": f"Bearer {key}"}
        url = f"/v1/responses/{row['response_id']}"
        wait_until(lambda: gateway.http.get(url, headers=headers).json()["status"] == "completed")
        wait_until(lambda: gateway.row(str(row["request_id"]))["cost"] == 0)
        wait_until(lambda: settled(own_database, name) != estimated)
        paid = gateway.rows("WHERE key_name = %s AND cost > 0", [name])
        assert [one["usage_source"] for one in paid] == ["exact"]
        assert settled(own_database, name) == paid[0]["cost"]
        assert gateway.manage("ledger", "verify").returncode == 0


def test_without_polling_the_searches_that_are_to_come_are_supposed(
    simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    """The answer that creates a response has an empty `output`, which says nothing of its searches."""
    name = "unpolled search"
    with (
        new_database(gateway_database) as own_database,
        run_gateway(simulator.base_url, own_database, tmp_path, BACKGROUND_POLL_SECONDS="0") as gateway,
    ):
        key = make_key(gateway, name, total="1")
        body = {**RESPONSE, "background": True, "tools": [{"type": "web_search"}]}
        made = ask(gateway, key, "/v1/responses", body)
        assert made.status_code == 200
        row = gateway.row(made)
        assert (row["usage_source"], row["web_searches"]) == ("estimated", SUPPOSED_SEARCHES)
        assert row["cost"] >= SUPPOSED_SEARCHES * WEB_SEARCH
