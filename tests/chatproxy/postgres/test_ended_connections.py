"""Connections that the database has ended while they were idle are noticed before anything fails because of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask
from tests.support.polling import wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ACCESS_TOKEN, ADMIN_PASSWORD, Gateway, run_gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
UNKNOWN_OBJECT = "/v1/responses/resp_unknown/cancel"
BACKENDS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
# What needs the database: for a browser that is signed in, a key with a budget, and that key's gateway.
USES: dict[str, tuple[int, Callable[[httpx2.Client, str, Gateway], httpx2.Response]]] = {
    "a page of the admin": (200, lambda browser, key, gateway: browser.get("/admin/usage/request/")),
    "the log": (200, lambda browser, key, gateway: gateway.http.get("/log", params={"access_token": ACCESS_TOKEN})),
    "a call with a budget": (200, lambda browser, key, gateway: ask(gateway, key, "/v1/chat/completions", CHAT)),
    "a call that names an object": (
        404,
        lambda browser, key, gateway: ask(gateway, key, "/v1/responses/resp_x/cancel", {}),
    ),
}


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory: Path = tmp_path_factory.mktemp("ended")
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, directory, ADMIN_PASSWORD=ADMIN_PASSWORD) as gateway,
    ):
        yield gateway


@pytest.mark.parametrize("use", USES)
def test_the_first_use_after_a_pause_succeeds(gateway: Gateway, use: str) -> None:
    expected, ask_for = USES[use]
    key = gateway.make_key(f"key for {use}", "--budget-day", "1")
    browser = gateway.sign_in()
    assert browser.get("/admin/usage/request/").status_code == 200  # a connection of the pool is idle now

    end_all_connections(gateway.variables["DATABASE_URL"])

    assert ask_for(browser, key, gateway).status_code == expected


def end_all_connections(url: str) -> None:
    """Ends all connections to a database from outside, as a server does that ends idle ones."""
    with psycopg.connect(url, autocommit=True) as connection:
        old = connection.execute(f"SELECT pid, pg_terminate_backend(pid) {BACKENDS}").fetchall()
        pids = {pid for pid, _ in old}
        assert pids
        wait_until(lambda: pids.isdisjoint(pid for (pid,) in connection.execute(f"SELECT pid {BACKENDS}").fetchall()))
