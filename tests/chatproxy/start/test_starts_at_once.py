"""Servers that start at the same time, and one behind a PgBouncer: each comes up, whichever was first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from chatproxy.start import startup
from tests.simulator.server import Simulator
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.databases import empty_database, new_database
from tests.support.servers.gateway import Gateway, launch_gateway, run_gateway
from tests.support.servers.pgbouncer import run_pgbouncer

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
LOCK = 4711


@pytest.fixture
def database(gateway_database: str) -> Iterator[str]:
    """An empty one, which the first server migrates."""
    with empty_database(gateway_database) as url:
        yield url


@pytest.fixture
def migrated(gateway_database: str) -> Iterator[str]:
    with new_database(gateway_database) as url:
        yield url


@pytest.fixture
def pooled(database: str, tmp_path: Path) -> Iterator[str]:
    with run_pgbouncer(database, tmp_path) as url:
        yield url


def start_at_once(simulator: Simulator, urls: list[str], directory: Path) -> list[Gateway]:
    """Starts a server for each URL, all at the same time; returns them when each has answered a call and stopped."""
    ready = threading.Barrier(len(urls))

    def run(number: int) -> Gateway:
        ready.wait()
        (directory / str(number)).mkdir()
        with run_gateway(simulator.base_url, urls[number], directory / str(number)) as gateway:
            assert gateway.post("/openai", CALL).status_code == 200
        return gateway

    with ThreadPoolExecutor(len(urls)) as pool:
        return list(pool.map(run, range(len(urls))))


def test_servers_that_start_at_once_on_a_new_database_all_come_up(
    simulator: Simulator, database: str, tmp_path: Path
) -> None:
    gateways = start_at_once(simulator, [database] * 3, tmp_path)
    assert [gateway.process.returncode for gateway in gateways] == [0] * 3
    assert gateways[0].count() == 3


def test_servers_that_start_at_once_behind_a_pooler_all_come_up(
    simulator: Simulator, database: str, pooled: str, tmp_path: Path
) -> None:
    gateways = start_at_once(simulator, [pooled, database, pooled], tmp_path)
    assert [gateway.process.returncode for gateway in gateways] == [0] * 3


def test_behind_a_pooler_every_start_is_like_the_first(simulator: Simulator, pooled: str, tmp_path: Path) -> None:
    for number in range(1, 3):
        with run_gateway(simulator.base_url, pooled, tmp_path) as gateway:
            assert gateway.post("/openai", CALL).status_code == 200
            key = gateway.make_key(f"key {number}", "--budget-day", "1")
            answer = gateway.http.post("/openai", json=CALL, headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == 200
            assert gateway.row(answer)["key_name"] == f"key {number}"
            for action in (["verify"], ["prune"], ["sum"], ["status"]):
                done = gateway.manage("ledger", *action)
                assert done.returncode == 0, done.stdout + done.stderr
        wait_until(lambda: nobody_holds_a_lock(pooled))  # the pooler ends the connection of a server that has stopped


@pytest.mark.parametrize("applied", [1, 15, 30])
def test_one_that_is_killed_while_it_migrates_holds_up_no_other(
    simulator: Simulator, database: str, tmp_path: Path, applied: int
) -> None:
    directories = [tmp_path / str(number) for number in range(3)]
    for directory in directories:
        directory.mkdir()
    killed = launch_gateway(simulator.base_url, database, directories[0])
    others: list[Gateway] = []
    try:
        wait_until(lambda: count_of(database, "django_migrations") >= applied)
        others = [launch_gateway(simulator.base_url, database, directory) for directory in directories[1:]]
        killed.process.kill()
        for gateway in others:
            gateway.wait_for_log("Booting worker")
            assert gateway.post("/openai", CALL).status_code == 200
        assert count_of(database, "pg_index WHERE NOT indisvalid") == 0
    finally:
        codes = [gateway.stop() for gateway in (killed, *others)]
    assert codes == [-signal.SIGKILL, 0, 0]


def count_of(database: str, what: str) -> int:
    """Returns how many rows there are of `what`, a table with or without conditions; 0 if there is no such table."""
    with psycopg.connect(database, autocommit=True) as connection:
        try:
            [(count,)] = connection.execute(f"SELECT count(*) FROM {what}").fetchall()  # noqa: S608  (the test's own)
        except psycopg.errors.UndefinedTable:
            return 0
    return int(count)


def test_a_pooler_in_session_mode_is_like_none(simulator: Simulator, database: str, tmp_path: Path) -> None:
    with run_pgbouncer(database, tmp_path, "session") as pooled:
        for _ in range(2):
            with run_gateway(simulator.base_url, pooled, tmp_path) as gateway:
                assert gateway.post("/openai", CALL).status_code == 200


@pytest.mark.parametrize("state", ["database", "migrated"])
def test_a_pooler_in_statement_mode_is_refused(
    request: pytest.FixtureRequest, simulator: Simulator, tmp_path: Path, state: str
) -> None:
    with run_pgbouncer(request.getfixturevalue(state), tmp_path, "statement") as pooled:
        gateway = launch_gateway(simulator.base_url, pooled, tmp_path)
        try:
            gateway.wait_for_log(r"\Achatproxy: .*transaction blocks not allowed in statement pooling mode\n\Z")
            assert gateway.process.wait(PATIENCE) == 1
        finally:
            gateway.stop()


def nobody_holds_a_lock(database: str) -> bool:
    query = """SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE locktype = 'advisory' AND datname = current_database()"""
    with psycopg.connect(database, autocommit=True) as connection:
        return connection.execute(query).fetchone() == (0,)


HOLDER = """
import django, sys
django.setup()
from usage.database.lock import try_lock
with try_lock(int(sys.argv[1])) as is_mine:
    print(is_mine, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["direct", "pooled"])
def hold(
    request: pytest.FixtureRequest, migrated: str, tmp_path: Path
) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts a process that holds the migration lock, directly or through a pooler, until its standard input ends."""
    with ExitStack() as running:
        url = running.enter_context(run_pgbouncer(migrated, tmp_path)) if request.param == "pooled" else migrated

        def start(number: int) -> subprocess.Popen[str]:
            variables = {**os.environ, "DATABASE_URL": url}
            command = [sys.executable, "-c", HOLDER, str(number)]
            process = running.enter_context(
                subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            running.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            return process

        yield start


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_start_waits_with_a_line_and_goes_on_when_the_holder_dies(
    simulator: Simulator,
    migrated: str,
    tmp_path: Path,
    hold: Callable[[int], subprocess.Popen[str]],
    end: signal.Signals,
) -> None:
    holder = hold(startup.MIGRATION_LOCK)
    gateway = launch_gateway(simulator.base_url, migrated, tmp_path)
    try:
        gateway.wait_for_log("chatproxy: waiting for another server of this database")
        assert "Booting worker" not in gateway.log
        holder.send_signal(end)
        gateway.wait_for_log("Booting worker")
    finally:
        gateway.stop()
    assert gateway.log.count("waiting for another server") == 1


def test_a_holder_has_no_snapshot(migrated: str, hold: Callable[[int], subprocess.Popen[str]]) -> None:
    """While a server holds the lock, an index can be made concurrently, whatever the isolation level."""
    with psycopg.connect(migrated, autocommit=True) as other:
        other.execute("ALTER DATABASE " + other.info.dbname + " SET default_transaction_isolation TO 'repeatable read'")
        other.execute("CREATE TABLE kept (number int)")
    holder = hold(LOCK)
    with psycopg.connect(migrated, autocommit=True, options="-c statement_timeout=60s") as other:
        other.execute("CREATE INDEX CONCURRENTLY kept_number ON kept (number)")
    assert holder.poll() is None


def test_a_holder_may_be_idle_for_long(migrated: str, hold: Callable[[int], subprocess.Popen[str]]) -> None:
    with psycopg.connect(migrated, autocommit=True) as other:
        other.execute("ALTER DATABASE " + other.info.dbname + " SET idle_in_transaction_session_timeout TO '1s'")
        hold(LOCK)
        other.execute("SELECT pg_sleep(2)")
        assert other.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() == (False,)
