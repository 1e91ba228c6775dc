"""What `/readyz` says of an error of the database: its name and fixed words, nothing of the error's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.db import OperationalError, connection
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import PoolTimeout

from tests.simulator.server import Simulator
from tests.support.polling import wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway
from usage.database.fault_words import WORDS, words_of

LOST = "it cannot be reached"


def raised(act: Callable[[], object]) -> BaseException:
    """Returns the error that `act` raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  (whichever it is)
        act()
    return caught.value


@pytest.mark.parametrize("state", WORDS)
def test_an_error_of_postgresql_is_named_by_its_state(state: str) -> None:
    error = psycopg.errors.lookup(state)("secret-host secret-user")
    assert words_of(error) == f"{type(error).__name__}: {WORDS[state]}"


def test_what_is_no_outage_is_not_called_one() -> None:
    assert words_of(KeyError("x")) == "KeyError: the log says more"
    assert words_of(psycopg.errors.DivisionByZero()) == "DivisionByZero: the log says more"


@pytest.mark.parametrize("error", [PoolTimeout("secret-host"), OSError("secret-host"), OperationalError("secret-host")])
def test_a_database_without_an_answer_cannot_be_reached(error: Exception) -> None:
    assert words_of(error) == f"{type(error).__name__}: {LOST}"


@pytest.mark.django_db
def test_djangos_error_is_known_by_its_cause() -> None:
    def refused() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY; CREATE TABLE none_of_ours ()")

    assert words_of(raised(refused)) == "InternalError: it takes no writes, as a standby does"


def test_a_connection_that_is_refused(gateway_database: str) -> None:
    nobody = make_conninfo(gateway_database, user="nobody-of-this-name")
    assert words_of(raised(lambda: psycopg.connect(nobody))) == f"OperationalError: {LOST}"


def test_a_server_says_why_its_ledger_waits(simulator: Simulator, gateway_database: str, tmp_path: Path) -> None:
    """Of a database that takes no writes any more, as after a failover."""
    with new_database(gateway_database) as url, run_gateway(simulator.base_url, url, tmp_path) as server:
        with psycopg.connect(url, autocommit=True) as database:
            database.execute(
                sql.SQL("ALTER DATABASE {} SET default_transaction_read_only TO on").format(
                    sql.Identifier(database.info.dbname)
                )
            )
            database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            )
        server.post("/openai", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]})
        wait_until(lambda: said(server) == "InternalError: it takes no writes, as a standby does")


def said(server: Gateway) -> str:
    """Returns what `/readyz` says of the database."""
    return str(server.http.get("/readyz").json()["database"])
