"""A server that is killed while it makes an index leaves an invalid one, which the next start makes anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.simulator.server import Simulator
from tests.support.polling import wait_until
from tests.support.servers.databases import copied_database, empty_database, manage
from tests.support.servers.gateway import launch_gateway, run_gateway

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
OLD = "0005"  # of the ledger; the next migration makes the index
MAKING = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'"
INDEXES = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('usage_usageday_key')"


@pytest.fixture(scope="module")
def template(gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with empty_database(gateway_database) as url:
        manage(url, tmp_path_factory.mktemp("old"), "migrate", "usage", OLD, "-v", "0")
        yield url


@pytest.fixture
def database(gateway_database: str, template: str) -> Iterator[str]:
    with copied_database(gateway_database, template) as url:
        yield url


def rows(database: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


@pytest.mark.parametrize("dies", ["the server", "the server and its connection", "the connection"])
def test_it_is_made_anew(simulator: Simulator, database: str, tmp_path: Path, dies: str) -> None:
    killed = launch_gateway(simulator.base_url, database, tmp_path)
    try:
        with psycopg.connect(database) as writer:  # for whose end the making of the index waits
            writer.execute("LOCK TABLE usage_usageday IN ROW EXCLUSIVE MODE")
            wait_until(lambda: rows(database, INDEXES) == [(False,)] and rows(database, MAKING))
            if "server" in dies:
                killed.process.kill()
                killed.process.wait()
            if "connection" in dies:
                [(pid,)] = rows(database, MAKING)
                writer.execute("SELECT pg_terminate_backend(%s)", [pid])
                wait_until(lambda: not rows(database, MAKING))
                assert rows(database, INDEXES) == [(False,)]
    finally:
        killed.stop()
    with run_gateway(simulator.base_url, database, tmp_path) as gateway:
        assert gateway.row(gateway.post("/openai", CALL))["outcome"] == "success"
    assert rows(database, INDEXES) == [(True,)]
    assert rows(database, "SELECT 1 FROM pg_index WHERE NOT indisvalid") == []
