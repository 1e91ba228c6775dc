"""How long a page waits for a database that does not answer: seconds, whatever the reason; nothing else is hurried."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import LiteralString

import httpx2
import psycopg
import pytest

from tests.chaos.lab import Postgres
from tests.support.callers.budgeted_keys import make_key
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import Gateway
from usage.database import query_deadline
from usage.database.query_deadline import CANCEL_SECONDS, PAGE_SECONDS, DeadlineConnection, limit_query_time

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
PAGES = ("/admin/", "/admin/usage/dashboard.json", "/admin/usage/errors/", "/admin/usage/request/")
BUSY_SECONDS = 4.0  # what a busy machine may add to the quickest of several pages
SLEEP = "SELECT pg_sleep(600)"


@contextmanager
def locked(url: str, statement: LiteralString) -> Iterator[None]:
    with psycopg.connect(url) as connection:
        connection.execute(statement)
        yield
        connection.rollback()


def is_away(answer: httpx2.Response) -> bool:
    return answer.status_code == 503 and "The database is away" in answer.text and "retry-after" in answer.headers


def test_it_works(outage: tuple[Gateway, Postgres]) -> None:
    gateway, postgres = outage
    browser = gateway.sign_in()
    call = gateway.post("/openai", CALL)
    gateway.row(call)
    tables: LiteralString = "usage_usagetotal, usage_errortotal, usage_summedname"
    with locked(postgres.url, f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE"):
        waiting = gateway.post("/openai", CALL)
        answers = [browser.get(page) for page in PAGES]

        assert [is_away(answer) for answer in answers] == [True] * len(PAGES)
        assert quickest(answers) < PAGE_SECONDS + CANCEL_SECONDS + BUSY_SECONDS
        assert browser.get("/admin/usage/request/" + call.headers["x-proxy-request-id"] + "/change/").status_code == 200
    assert gateway.row(waiting)["outcome"] == "success"
    assert not re.search("the database is away: (?!it does not answer)", gateway.log), "the shipper was hurried"
    assert [browser.get(page).status_code for page in PAGES] == [200] * len(PAGES)
    assert "Traceback" not in gateway.log, gateway.log


def test_what_was_not_changed_in_time_is_not_changed(outage: tuple[Gateway, Postgres]) -> None:
    gateway, postgres = outage
    text = make_key(gateway, "held")
    browser = gateway.sign_in()
    address = "/admin/proxyapi/accesskey/1/revoke/"
    token = {"csrfmiddlewaretoken": browser.cookies["chatproxy_csrf"]}
    with locked(postgres.url, "SELECT * FROM proxyapi_accesskey FOR UPDATE"):
        assert is_away(browser.post(address, data=token))

    assert gateway.ask(text).status_code == 400
    assert browser.post(address, data=token).status_code == 200
    gateway.wait_until_known(text, known=False)
    assert "Traceback" not in gateway.log, gateway.log


def test_a_database_that_has_stopped_without_a_word(outage: tuple[Gateway, Postgres]) -> None:
    gateway, postgres = outage
    browser = gateway.sign_in()
    gateway.row(gateway.post("/openai", CALL))
    postgres.freeze()
    try:
        answers = [browser.get(page) for page in ("/admin/", "/admin/proxyapi/accesskey/")]
        answers.append(gateway.http.get("/my-usage/"))
        waiting = gateway.post("/openai", CALL)
    finally:
        postgres.thaw()

    assert [is_away(answer) for answer in answers] == [True, True, False]
    assert answers[-1].status_code == 200  # a stranger's page to enter a key needs no database
    assert quickest(answers[:-1]) < PAGE_SECONDS + CANCEL_SECONDS + BUSY_SECONDS
    assert waiting.status_code == 200
    assert gateway.row(waiting)["outcome"] == "success"
    wait_until(lambda: browser.get("/admin/").status_code == 200)
    assert "Traceback" not in gateway.log, gateway.log


def quickest(answers: list[httpx2.Response]) -> float:
    """Returns the seconds of the page that a busy machine has delayed least; a longer wait would delay all of them."""
    return min(answer.elapsed.total_seconds() for answer in answers)


# --- in one process


def test_a_query_whose_time_is_up_goes_on_nowhere(gateway_database: str) -> None:
    with psycopg.connect(gateway_database, autocommit=True) as looker:
        connection = DeadlineConnection.connect(gateway_database)
        with limit_query_time(0.2), pytest.raises(psycopg.OperationalError, match="not answered in time"):
            connection.execute(SLEEP)
        assert connection.closed
        running = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND state = 'active'"
        wait_until(lambda: looker.execute(running, [SLEEP]).fetchone() == (0,))


class Clock:
    """The module's clock, which a test puts on: by `ahead` at once, or by `step` at each reading."""

    def __init__(self) -> None:
        self.ahead = self.step = 0.0

    def monotonic(self) -> float:
        self.ahead += self.step
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(query_deadline, "time", clock)
    return clock


def test_the_time_is_that_of_all_queries_together(gateway_database: str, clock: Clock) -> None:
    with (
        limit_query_time(2 * PATIENCE),
        DeadlineConnection.connect(gateway_database, autocommit=True) as connection,
    ):
        clock.step = 2 * PATIENCE - 0.2
        connection.execute("SELECT 1")
        clock.step = 0
        with pytest.raises(psycopg.OperationalError, match="not answered in time"):
            connection.execute(SLEEP)


def test_what_a_page_does_between_its_queries_does_not_count(gateway_database: str, clock: Clock) -> None:
    with limit_query_time(PATIENCE), DeadlineConnection.connect(gateway_database) as connection:
        connection.execute("SELECT 1")
        clock.ahead = 10 * PATIENCE
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_whoever_has_its_own_patience_is_left_alone(gateway_database: str, clock: Clock) -> None:
    with DeadlineConnection.connect(gateway_database) as connection:
        with limit_query_time(2 * PATIENCE):
            assert connection.execute("SELECT 1").fetchone() == (1,)
        clock.ahead = 2 * PATIENCE
        assert connection.execute("SELECT 2").fetchone() == (2,)


def test_an_error_is_still_the_error_that_it_is(gateway_database: str) -> None:
    with limit_query_time(), DeadlineConnection.connect(gateway_database) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
        assert not connection.closed
