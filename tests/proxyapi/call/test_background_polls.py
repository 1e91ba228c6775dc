"""Looks at background responses: many at once up to a bound, each response asked for by one process at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import OperationalError
from pytest_django.fixtures import Settings
from uuid_utils import uuid7

from proxyapi.call import background_polling
from proxyapi.call.background_polling import BATCH, POLL_TIMEOUT_SECONDS, ask, watch_pending
from proxyapi.exceptions import DatabaseUnavailable, UpstreamTimeout
from proxyapi.keys.credentials import Credentials
from proxyapi.upstream import client
from proxyapi.upstream.answer import UpstreamAnswer
from proxyapi.upstream.request import UpstreamRequest
from proxyapi.v1.list_filter import read_visible_page
from tests.simulator.server import Simulator
from tests.support.ledger.ledgers import call_id
from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import Gateway
from tests.support.upstreams.raw import until
from usage.journal_shipping import background_responses
from usage.ledger import ledger
from usage.models import PendingResponse, Request

REQUEST = UpstreamRequest("GET", "/responses", Credentials("sk-any"), deadline=0.0)


def remember(database: str, count: int) -> list[str]:
    """Makes so many responses pending that upstream does not know; returns their ids."""
    ids = [f"resp_slow_{uuid4()}" for _ in range(count)]
    with psycopg.connect(database, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO usage_pendingresponse (response_id, request_id, key_name) VALUES (%s, %s, 'default')",
            [(response_id, call_id()) for response_id in ids],
        )
    return ids


def pending(database: str) -> int:
    with psycopg.connect(database) as connection:
        [(count,)] = connection.execute("SELECT count(*) FROM usage_pendingresponse").fetchall()
    return int(count)


@pytest.fixture
def nothing_pending(gateway_database: str) -> None:
    """Responses of earlier tests would be asked for first."""
    with psycopg.connect(gateway_database, autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('usage_pendingresponse')").fetchone() != (None,):
            connection.execute("DELETE FROM usage_pendingresponse")


def asked(simulator: Simulator, ids: list[str]) -> list[str]:
    """Which of the responses upstream has been asked for; a gateway of an earlier test may still ask for its own."""
    paths = [request.path.rpartition("/")[2] for request in simulator.requests]
    return [one for one in paths if one in ids]


@pytest.mark.usefixtures("nothing_pending")
@pytest.mark.parametrize("workers", [1, 2])
def test_slow_responses_are_asked_for_at_once_and_each_of_them_once(
    start_gateway: Callable[..., Gateway], gateway_database: str, simulator: Simulator, workers: int
) -> None:
    start_gateway(BACKGROUND_POLL_SECONDS="0.05", WEB_CONCURRENCY=str(workers))
    simulator.hold()
    ids = remember(gateway_database, BATCH + 5)
    simulator.wait_until(lambda: len(asked(simulator, ids)) >= BATCH)
    assert len(asked(simulator, ids)) == len(set(asked(simulator, ids))) == BATCH
    simulator.release()
    wait_until(lambda: pending(gateway_database) == 0)
    assert Counter(asked(simulator, ids)) == Counter(ids)


@pytest.mark.usefixtures("nothing_pending")
def test_one_that_hangs_holds_up_no_other(
    start_gateway: Callable[..., Gateway], gateway_database: str, simulator: Simulator
) -> None:
    start_gateway(BACKGROUND_POLL_SECONDS="0.05")
    simulator.hold()
    hanging, late = remember(gateway_database, 1), f"resp_late_{uuid4()}"
    simulator.wait_until(lambda: asked(simulator, hanging) == hanging)
    with psycopg.connect(gateway_database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO usage_pendingresponse (response_id, request_id, key_name) VALUES (%s, %s, 'default')",
            [late, call_id()],
        )
    simulator.wait_until(lambda: asked(simulator, [late]) == [late])
    simulator.release()
    wait_until(lambda: pending(gateway_database) == 0)


def test_a_look_is_shorter_than_its_lease() -> None:
    assert timedelta(seconds=2 * POLL_TIMEOUT_SECONDS) <= background_responses.LEASE


@pytest.fixture
def three_pending(transactional_db: None) -> list[str]:
    """The ids of three pending responses. Not made in an asynchronous test: its thread would keep a connection."""
    ids = [f"resp_{number}" for number in range(3)]
    PendingResponse.objects.bulk_create(
        PendingResponse(response_id=response_id, request_id=call_id(), key_name="a") for response_id in ids
    )
    return ids


async def test_a_lease_that_has_passed_is_no_second_look_of_the_same_process(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, three_pending: list[str]
) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 0.001, "sk-any"
    monkeypatch.setattr(background_responses, "LEASE", timedelta(0))
    asked: list[str] = []
    leases = 0

    def count(limit: int) -> list[PendingResponse]:
        nonlocal leases
        leases += 1
        return background_responses.lease_pending(limit)

    async def hang(response: PendingResponse) -> None:
        asked.append(response.response_id)
        await asyncio.Event().wait()

    monkeypatch.setattr(background_polling, "lease_pending", count)
    monkeypatch.setattr(background_polling, "ask", hang)
    watching = asyncio.create_task(watch_pending())
    await until(lambda: leases >= 5)
    assert sorted(asked) == three_pending
    watching.cancel()
    await asyncio.wait({watching})


async def test_a_look_that_fails_ends_no_other(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    settings.BACKGROUND_POLL_SECONDS, settings.OPENAI_API_KEY = 0.001, "sk-any"
    due = [PendingResponse(response_id=f"resp_{number}") for number in range(6)]
    seen: list[str] = []

    async def fail(response: PendingResponse) -> None:
        await asyncio.sleep(0)
        seen.append(response.response_id)
        if len(seen) % 2:
            raise RuntimeError("a bug")

    monkeypatch.setattr(background_polling, "_lease", lambda _limit: [due.pop()] if due else [])
    monkeypatch.setattr(background_polling, "ask", fail)
    watching = asyncio.create_task(watch_pending())
    await until(lambda: len(seen) == 6)
    assert not watching.done()
    watching.cancel()
    await asyncio.wait({watching})


class Answer:
    """Upstream's answer; `fault` is raised when it is read."""

    status, content_type = 200, "application/json"

    def __init__(self, fault: BaseException | None = None) -> None:
        self.fault = fault
        self.is_closed = False

    async def read(self) -> bytes:
        if self.fault is not None:
            raise self.fault
        return b'{"object": "list", "data": [{"id": "a"}], "has_more": true}'

    def close(self) -> None:
        self.is_closed = True


FAULTS = [UpstreamTimeout("late"), asyncio.CancelledError(), RuntimeError("a bug")]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_an_answer_to_a_look_is_closed_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, fault: BaseException
) -> None:
    settings.OPENAI_API_KEY = "sk-any"
    answer = Answer(fault)

    async def send(_request: UpstreamRequest) -> Answer:
        return answer

    monkeypatch.setattr(client, "send", send)
    looking = asyncio.create_task(ask(PendingResponse(response_id="resp_1", request_id=call_id())))
    await asyncio.wait({looking})
    assert answer.is_closed


async def test_the_id_of_a_look_says_when_it_began(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Lists choose calls by their ids, sums by their starts: both must have a long look in the same hour."""
    settings.OPENAI_API_KEY = "sk-any"
    in_between: list[UUID] = []
    recorded: list[UUID] = []

    class Completed(Answer):
        request_id = "req_1"

        async def read(self) -> bytes:
            return b'{"id": "resp_1", "object": "response", "status": "completed", "usage": {"input_tokens": 1}}'

    async def send(_request: UpstreamRequest) -> Answer:
        in_between.append(UUID(str(uuid7())))
        return Completed()

    monkeypatch.setattr(client, "send", send)
    monkeypatch.setattr(background_polling, "_maker_of", lambda _response: Request(route="/v1/responses"))
    monkeypatch.setattr(ledger, "record_poll", lambda one, _row: recorded.append(UUID(one)))
    await ask(PendingResponse(response_id="resp_1", request_id=call_id(), key_name="a", created_at=datetime.now(UTC)))
    assert len(recorded) == len(in_between) == 1
    assert recorded < in_between


@pytest.mark.parametrize("page", [0, 1])
@pytest.mark.parametrize("fault", [DatabaseUnavailable(), *FAULTS], ids=lambda fault: type(fault).__name__)
async def test_the_answers_of_a_list_are_closed_when_the_look_up_of_owners_fails(
    monkeypatch: pytest.MonkeyPatch, fault: BaseException, page: int
) -> None:
    answers = [Answer(), Answer()]
    looked_up = 0

    async def keeps(_ids: Any) -> Callable[[str], bool]:
        nonlocal looked_up
        looked_up += 1
        if looked_up > page:
            raise fault
        return lambda _id: False  # so that the next page is asked for

    async def send(_request: UpstreamRequest) -> Answer:
        return answers[1]

    monkeypatch.setattr(client, "send", send)
    reading = asyncio.create_task(read_visible_page(REQUEST, cast(UpstreamAnswer, answers[0]), keeps))
    await asyncio.wait({reading})
    assert [answer.is_closed for answer in answers[: page + 1]] == [True] * (page + 1)


async def test_a_database_that_leaves_in_the_middle_of_a_look_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def leave(_: PendingResponse) -> None:
        raise OperationalError("the connection is closed")

    monkeypatch.setattr(background_polling, "ask", leave)
    asked = {"resp_1"}
    with caplog.at_level("INFO"):
        await background_polling._poll(PendingResponse(response_id="resp_1"), asked)
    assert asked == set()
    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("INFO", None)]
