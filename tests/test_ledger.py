"""The ledger's thread: every call's row arrives once, whatever the database does meanwhile."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError
from django.db.models.query import QuerySet

from tests.gateway import PATIENCE
from usage.ledger import BATCH_SIZE, Ledger
from usage.models import Outcome, Request

pytestmark = pytest.mark.django_db(transaction=True)

BulkCreate = Callable[..., list[Request]]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.stop()


def row(**columns: Any) -> dict[str, Any]:
    return {
        "request_id": uuid.uuid4(),
        "key_name": "default",
        "method": "POST",
        "route": "/openai",
        "status": 200,
        "outcome": Outcome.SUCCESS,
        "started_at": datetime.now(UTC),
        "duration_ms": 1.5,
        **columns,
    }


def hand_over(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    for one in rows:
        ledger.begin(str(one["request_id"]), {"route": one["route"]})
        ledger.end(str(one["request_id"]), one)


def written() -> set[uuid.UUID]:
    return set(Request.objects.values_list("request_id", flat=True))


def ids(rows: list[dict[str, Any]]) -> set[uuid.UUID]:
    return {one["request_id"] for one in rows}


def test_it_works(ledger: Ledger) -> None:
    one = row(usage={"prompt_tokens": 0}, input_tokens=0, client_address="::1", tags=["a"])
    ledger.start()
    hand_over(ledger, [one])
    ledger.stop()

    stored = Request.objects.get()
    assert {name: getattr(stored, name) for name in one} == one
    assert stored.output_tokens is None


def test_a_call_is_open_from_begin_to_end(ledger: Ledger) -> None:
    one = row()
    ledger.begin(str(one["request_id"]), {"route": "/openai"})
    assert ledger.open_calls == {str(one["request_id"]): {"route": "/openai"}}

    ledger.end(str(one["request_id"]), one)
    assert ledger.open_calls == {}
    assert ledger.waiting == 1


def test_an_end_without_a_begin_is_written_too(ledger: Ledger) -> None:
    """A call that was refused before it went upstream."""
    one = row(outcome=Outcome.REJECTED)
    ledger.start()
    ledger.end(str(one["request_id"]), one)
    ledger.stop()

    assert written() == ids([one])


@pytest.mark.parametrize("count", [1, BATCH_SIZE, BATCH_SIZE + 1, 3 * BATCH_SIZE])
def test_the_stop_writes_what_waits(ledger: Ledger, count: int) -> None:
    rows = [row() for _ in range(count)]
    hand_over(ledger, rows)  # before the thread runs: all of them wait
    ledger.start()
    ledger.stop()

    assert written() == ids(rows)
    assert ledger.waiting == 0


def test_the_same_call_twice_is_one_row(ledger: Ledger) -> None:
    one = row()
    ledger.start()
    hand_over(ledger, [one, one])
    ledger.stop()

    assert Request.objects.count() == 1


@pytest.mark.parametrize("fault", [OperationalError, InterfaceError])
@pytest.mark.parametrize("committed", [False, True], ids=["before-the-commit", "after-the-commit"])
def test_a_database_that_was_away_gets_every_row_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, fault: type[Exception], committed: bool
) -> None:
    """Also when the rows were written, and only the word that they are was lost."""
    real: BulkCreate = QuerySet.bulk_create
    failed, back = Event(), Event()

    def bulk_create(*args: Any, **options: Any) -> list[Request]:
        if back.is_set():
            return real(*args, **options)
        if committed:
            real(*args, **options)
        failed.set()
        raise fault("the server closed the connection")

    monkeypatch.setattr(QuerySet, "bulk_create", bulk_create)
    rows = [row() for _ in range(5)]
    ledger.start()
    hand_over(ledger, rows[:3])
    assert failed.wait(PATIENCE)
    hand_over(ledger, rows[3:])
    assert ledger.waiting >= 2
    back.set()
    ledger.stop()

    assert written() == ids(rows)
    assert ledger.database_error == ""


def test_a_database_that_is_away_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    back = Event()

    def bulk_create(*_args: Any, **_options: Any) -> list[Request]:
        seen.append(ledger.database_error)
        if len(seen) == 2:
            back.set()
        if len(seen) < 3:
            raise OperationalError
        return []

    monkeypatch.setattr(QuerySet, "bulk_create", bulk_create)
    ledger.start()
    hand_over(ledger, [row()])
    assert back.wait(PATIENCE)
    ledger.stop()

    assert seen == ["", "OperationalError", "OperationalError"]
    assert ledger.database_error == ""


@pytest.mark.parametrize(
    "bad",
    [
        {"status": 1_000_000},
        {"key_name": "x" * 1000},
        {"error_message": "a\0b"},
        {"usage": {"note": "a\0b"}},
        {"outcome": None},
        {"input_tokens": 2**70},
        {"client_address": "nowhere"},
        {"duration_ms": "long"},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_bad_row_does_not_stop_the_others(
    ledger: Ledger, caplog: pytest.LogCaptureFixture, bad: dict[str, Any]
) -> None:
    rows = [row() for _ in range(9)]
    broken = row(**bad)
    hand_over(ledger, [*rows[:4], broken, *rows[4:8]])
    ledger.start()
    ledger.stop()
    ledger.start()
    hand_over(ledger, rows[8:])  # the thread lives
    ledger.stop()

    assert written() == ids(rows)
    assert str(broken["request_id"]) in caplog.text
