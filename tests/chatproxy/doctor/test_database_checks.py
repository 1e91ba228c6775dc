"""Databases that cannot hold the ledger are refused at the start, in one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from psycopg import sql

from chatproxy.doctor import database_checks
from chatproxy.doctor.finding import Level
from chatproxy.postgres.bundled import BundledPostgres
from tests.simulator.server import Simulator
from tests.support.servers.databases import empty_database, new_database
from tests.support.servers.gateway import launch_gateway
from tests.support.servers.pgbouncer import run_pgbouncer

# Settings of a database that change nothing for the ledger, all at once.
HARMLESS = {
    "DateStyle": "ISO, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Tokyo",
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "extra_float_digits": "3",
    "client_encoding": "LATIN1",
    "array_nulls": "off",
    "plan_cache_mode": "force_generic_plan",
    "statement_timeout": "100ms",
    "idle_in_transaction_session_timeout": "200ms",
    "idle_session_timeout": "2s",
}


@pytest.fixture
def standby(tmp_path: Path) -> Iterator[str]:
    """Starts a PostgreSQL server that is a read-only standby without a primary; yields its URL."""
    (tmp_path / "standby").mkdir()
    postgres = BundledPostgres(tmp_path / "standby")
    try:
        postgres.start()
        postgres.stop()
        (postgres.cluster / "standby.signal").touch()
        postgres.start()
        yield postgres.url
    finally:
        postgres.stop()
        postgres.delete()


def refusal(upstream: str, database_url: str, directory: Path, **settings: str) -> str:
    """Starts a server that must be refused; returns its output."""
    gateway = launch_gateway(upstream, database_url, directory, **settings)
    try:
        code = gateway.process.wait(60)
    finally:
        gateway.stop()
    assert code == 1
    return gateway.log


UTF8_ONLY = r"chatproxy: the database 'own_\d+' has the encoding {}, which cannot hold every call; it must be UTF8 .*\n"


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "EUC_JP", "SQL_ASCII"])
def test_an_encoding_that_is_not_utf8_is_refused(
    simulator: Simulator, gateway_database: str, tmp_path: Path, encoding: LiteralString
) -> None:
    options: LiteralString = "ENCODING '" + encoding + "' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    with empty_database(gateway_database, options) as url:
        assert re.fullmatch(UTF8_ONLY.format(encoding), refusal(simulator.base_url, url, tmp_path))


@pytest.mark.parametrize("style", ["German", "SQL, DMY", "Postgres, MDY"])
def test_a_date_style_that_cannot_be_read_is_refused(
    simulator: Simulator, gateway_database: str, tmp_path: Path, style: str
) -> None:
    with empty_database(gateway_database) as url:
        set_for(url, "DateStyle", style)
        log = refusal(simulator.base_url, url, tmp_path)
    assert re.fullmatch(rf"chatproxy: DateStyle is '{style}.*' for database .* ALTER DATABASE .own_\d+. SET .*\n", log)


@pytest.mark.parametrize("digits", ["0", "-15"])
def test_numbers_that_would_be_read_rounded_are_refused(
    simulator: Simulator, gateway_database: str, tmp_path: Path, digits: str
) -> None:
    with empty_database(gateway_database) as url:
        set_for(url, "extra_float_digits", digits)
        log = refusal(simulator.base_url, url, tmp_path)
    assert re.fullmatch(rf"chatproxy: extra_float_digits is {digits} for database .* SET extra_float_digits .*\n", log)


def test_a_standby_is_refused(simulator: Simulator, standby: str, tmp_path: Path) -> None:
    log = refusal(simulator.base_url, standby, tmp_path)
    assert re.fullmatch(r"chatproxy: the database is a read-only standby; DATABASE_URL must name the primary .*\n", log)


def test_a_database_that_takes_no_writes_is_refused(
    simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    with empty_database(gateway_database) as url:
        set_for(url, "default_transaction_read_only", "on")
        log = refusal(simulator.base_url, url, tmp_path)
    assert re.fullmatch(r"chatproxy: the database takes no writes: default_transaction_read_only is on .*\n", log)


def test_other_settings_do_no_harm(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    with new_database(gateway_database) as url:
        for name, value in HARMLESS.items():
            set_for(url, name, value)
        gateway = launch_gateway(simulator.base_url, url, tmp_path)
        try:
            gateway.wait_for_log("Booting worker")
            answer = gateway.post("/openai", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "😀"}]})
            assert gateway.row(answer)["outcome"] == "success"
            verified = gateway.manage("ledger", "verify")
        finally:
            gateway.stop()
    assert verified.stdout == "the ledger is whole\n"


def set_for(url: str, name: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as opened:
        database = sql.Identifier(opened.info.dbname)
        opened.execute(
            sql.SQL("ALTER DATABASE {} SET {} TO {}").format(database, sql.Identifier(name.lower()), sql.Literal(value))
        )


def test_too_few_connections_are_a_warning(gateway_database: str) -> None:
    """Whether the server, the database or the role limits them."""
    needed = database_checks.connections_needed(settings.WEB_CONCURRENCY)
    assert needed == 13 + 9  # docs/troubleshooting.md says so
    with empty_database(gateway_database) as url, psycopg.connect(url, autocommit=True) as database:
        assert list(database_checks.check_connections(database)) == []
        limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(
            sql.Identifier(database.info.dbname), sql.Literal(needed - 1)
        )
        database.execute(limit)
        [found] = database_checks.check_connections(database)
    assert found.level is Level.WARNING
    assert f"up to {needed} connections, and PostgreSQL allows {needed - 1}" in found.words


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_connections_of_a_pooler_are_not_compared(gateway_database: str, tmp_path: Path, mode: str) -> None:
    """Many clients share few connections of PostgreSQL there, so fewer than the processes open are enough."""
    with empty_database(gateway_database, "CONNECTION LIMIT 2") as url, run_pgbouncer(url, tmp_path, mode) as pooled:
        with psycopg.connect(url, autocommit=True) as database:
            [found] = database_checks.check_connections(database)
            assert found.level is Level.WARNING
        with psycopg.connect(pooled, autocommit=True) as database:
            [found] = database_checks.check_connections(database)
            assert found.level is Level.OK
            assert "connection pooler" in found.words


def test_an_old_postgresql_is_a_fault(gateway_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with psycopg.connect(gateway_database) as database:
        [found] = database_checks.check_version(database)
        assert found.level is Level.OK
        monkeypatch.setattr(connection.features.__class__, "minimum_database_version", (99,))
        [found] = database_checks.check_version(database)
    assert found.level is Level.FAULT
    assert re.fullmatch(r"PostgreSQL \d+ is too old; 99 or later is required", found.words)
