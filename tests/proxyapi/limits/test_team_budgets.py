"""A team's budgets hold for all its keys together, beside each key's own, by upstream's own meter: no call passes one.

The measure is that of a key's budgets (`test_budgets_hold`): what upstream has done, times the published prices. Here
200 calls at once go over five keys of one team, to two servers of two workers each.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

import httpx2
import pytest

from tests.chaos.processes import is_alive, send
from tests.support.callers.budgeted_keys import database
from tests.support.callers.key_box import KeyBox
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.upstreams.metered import CALL, PAYER, SCRIPT, MeteredUpstream, run_metered_upstream

CALLS, AT_A_TIME = 200, 50
MOST_HELD_SECONDS = 60
CHAT: dict[str, Any] = {
    "model": "gpt-4o-mini", "messages": [{"role": "user", "content": "word " * 80}], "max_tokens": 80,
}  # fmt: skip
STREAM, BACKGROUND = {**CHAT, "stream": True}, {"model": "gpt-4o-mini", "input": "word " * 80, "max_output_tokens": 80}
BUDGET = Decimal("0.0012")  # for some twenty calls
numbers = count()


@pytest.fixture(scope="module")
def upstream() -> Iterator[MeteredUpstream]:
    with run_metered_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def servers(
    upstream: MeteredUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    """Two servers of one installation."""
    with ExitStack() as running:
        url = running.enter_context(new_database(gateway_database))
        settings = {"WEB_CONCURRENCY": "2", "REQUEST_TIMEOUT": "10", "BACKGROUND_POLL_SECONDS": "0.2"}
        folders = (tmp_path_factory.mktemp("budgets") for _ in range(2))
        yield [running.enter_context(run_gateway(upstream.base_url, url, folder, **settings)) for folder in folders]


@pytest.fixture(scope="module")
def keys(servers: list[Gateway]) -> KeyBox:
    return KeyBox(servers[0], others=servers[1:])


def ask(server: Gateway, key: str, path: str, body: dict[str, Any], payer: str, script: str = "whole") -> Any:
    """Makes a call on a new connection, of which upstream counts the cost under `payer`; None if it was cut off."""
    headers = {"Authorization": f"Bearer {key}", PAYER: payer, CALL: f"team-call-{next(numbers)}", SCRIPT: script}
    client = httpx2.Client(base_url=server.url, timeout=PATIENCE, headers=headers)
    with client, suppress(httpx2.NetworkError, httpx2.RemoteProtocolError):
        return client.post(path, json=body)
    return None


def call_all(servers: list[Gateway], texts: list[str], path: str, body: dict[str, Any], payer: str) -> list[Any]:
    """Makes `CALLS` calls, `AT_A_TIME` of them at once, each of the next key, by the servers in turn."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        calls = [
            pool.submit(ask, servers[number % len(servers)], texts[number % len(texts)], path, body, payer)
            for number in range(CALLS)
        ]
        return [call.result() for call in calls]


def held(url: str) -> int:
    with database(url) as connection:
        [[found]] = connection.execute("SELECT count(*) FROM usage_hold").fetchall()
    return int(found)


def spent(url: str, team: str) -> tuple[Decimal, Decimal]:
    """Returns the dollars that a team has spent twice: by the sums of its days, and by the rows of its calls."""
    query = """SELECT (SELECT COALESCE(sum(cost), 0) FROM usage_teamday WHERE team = %(team)s),
        (SELECT COALESCE(sum(cost), 0) FROM usage_request WHERE team = %(team)s)"""
    with database(url) as connection:
        [(by_days, by_rows)] = connection.execute(query, {"team": team}).fetchall()
    return by_days, by_rows


def settled(servers: list[Gateway], upstream: MeteredUpstream, team: str) -> Decimal:
    """Waits until nothing is reserved for anybody, and returns the dollars that the team has spent."""
    url = servers[0].variables["DATABASE_URL"]
    wait_until(lambda: not upstream.working and not held(url), MOST_HELD_SECONDS)
    by_days, by_rows = spent(url, team)
    assert by_days == by_rows
    return by_rows


@pytest.mark.parametrize(
    ("path", "body", "span", "of_each_key"),
    [
        ("/v1/chat/completions", CHAT, "total", {}),
        ("/v1/chat/completions", STREAM, "day", {}),
        ("/v1/responses", {**BACKGROUND, "background": True}, "month", {}),
        ("/v1/chat/completions", CHAT, "month", {"budget_total": "0.0006", "parallel_calls": 50}),
    ],
    ids=["plain", "stream", "background", "the keys have budgets and limits, too"],
)
def test_no_budget_of_a_team_is_passed(
    servers: list[Gateway],
    keys: KeyBox,
    upstream: MeteredUpstream,
    path: str,
    body: dict[str, Any],
    span: str,
    of_each_key: dict[str, object],
) -> None:
    team, texts = keys.take_team(of_each_key, **{f"budget_{span}": BUDGET})
    answers = call_all(servers, texts, path, body, team)
    counted = settled(servers, upstream, team)
    assert 0 < upstream.spent[team] <= counted <= BUDGET

    # Calls that cost little in the end hold much while they go on, so others were refused: they fit in afterwards.
    for _ in range(CALLS):
        if counted > BUDGET / 2:
            break
        assert ask(servers[0], texts[0], path, body, team).status_code == 200
        counted = settled(servers, upstream, team)
    assert BUDGET / 2 < counted <= BUDGET
    assert {answer.status_code for answer in answers} >= {200, 429}
    refused = [answer.json()["error"] for answer in answers if answer.status_code == 429]
    assert ("budget_exceeded", "team") in {(error["code"], error["param"]) for error in refused}


def test_the_tighter_of_key_and_team_refuses_and_says_so(
    servers: list[Gateway], keys: KeyBox, upstream: MeteredUpstream
) -> None:
    team, (one, other, *_) = keys.take_team({"budget_month": "0.0004"}, budget_total="0.0006")
    errors = []
    for text in (one, other):
        while (answer := ask(servers[0], text, "/v1/chat/completions", CHAT, team)).status_code == 200:
            pass
        errors.append(answer.json()["error"])

    assert errors[0]["message"].startswith("The budget of this key for a month is $0.0004, ")
    assert errors[1]["message"].startswith("The lifetime budget of the team of this key is $0.0006, ")
    assert [(error["code"], error["param"]) for error in errors] == [
        ("budget_exceeded", None), ("budget_exceeded", "team"),
    ]  # fmt: skip
    assert upstream.spent[team] <= settled(servers, upstream, team) <= Decimal("0.0006")


def test_killed_workers_pass_no_budget_of_a_team(
    servers: list[Gateway], keys: KeyBox, upstream: MeteredUpstream
) -> None:
    """All workers die while upstream works; what they had leased of keys and team is free again."""
    budget = Decimal("0.2")
    team, texts = keys.take_team({"budget_total": "1"}, budget_total=budget)
    body = {**CHAT, "max_tokens": 100_000}
    url = servers[0].variables["DATABASE_URL"]
    admitted = 0
    for _ in range(2):
        admitted += call_and_kill(servers, texts, body, team, upstream)
        for server in servers:
            wait_until(partial(is_up, server))
        wait_until(lambda: not upstream.working and not held(url), MOST_HELD_SECONDS)

    assert 0 < upstream.spent[team] <= settled(servers, upstream, team) <= budget
    assert admitted > 1
    assert servers[0].manage("ledger", "verify").returncode == 0


def call_and_kill(
    servers: list[Gateway], texts: list[str], body: dict[str, Any], team: str, upstream: MeteredUpstream
) -> int:
    """Makes `AT_A_TIME` calls at once, kills all workers when each is at work or refused; returns how many worked."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        calls = [
            pool.submit(ask, servers[number % 2], texts[number % 5], "/v1/chat/completions", body, team, "hang")
            for number in range(AT_A_TIME)
        ]
        wait_until(lambda: sum(call.done() for call in calls) + upstream.working >= AT_A_TIME)
        admitted = upstream.working
        for server in servers:
            send(signal.SIGKILL, [pid for pid in server.worker_pids if is_alive(pid)])
    return admitted


def is_up(server: Gateway) -> bool:
    """Returns whether a worker answers; one that has just died may have taken the connection."""
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{server.url}/healthz", timeout=2.0).is_success
    return False


def test_a_moved_key_leaves_its_spending_behind(
    servers: list[Gateway], keys: KeyBox, upstream: MeteredUpstream
) -> None:
    team, (text, *_) = keys.take_team({}, budget_total="1")
    other, _ = keys.take_team({}, budget_total="0.0000001")
    assert ask(servers[0], text, "/v1/chat/completions", CHAT, team).status_code == 200
    first = settled(servers, upstream, team)
    with database(servers[0].variables["DATABASE_URL"]) as connection:
        connection.execute(
            "UPDATE proxyapi_accesskey SET team_id = (SELECT id FROM proxyapi_team WHERE name = %s)"
            " WHERE team_id = (SELECT id FROM proxyapi_team WHERE name = %s)", [other, team],
        )  # fmt: skip
    wait_until(lambda: ask(servers[0], text, "/v1/chat/completions", CHAT, other).status_code == 429)

    assert settled(servers, upstream, team) >= first > 0
    assert settled(servers, upstream, other) == 0
