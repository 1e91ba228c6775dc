"""The log says when the database hangs and when it is back, each time anew, also of a server that nobody calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import DataError, OperationalError

from usage.journal_shipping import delivery as delivery_module
from usage.journal_shipping.delivery import Delivery

SILENT = "the database is away: it does not answer"
BACK = "the database is back"


@pytest.fixture
def delivery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Delivery:
    """A delivery for which every question that has been asked has hung too long already."""
    caplog.set_level(logging.INFO, logger=delivery_module.__name__)
    monkeypatch.setattr(delivery_module, "SILENCE_SECONDS", -1.0)
    return Delivery(tmp_path)


def answer(delivery: Delivery, monkeypatch: pytest.MonkeyPatch, answers: Callable[[], bool]) -> None:
    """Lets the database answer the question for the prices by `answers`."""
    monkeypatch.setattr(delivery.pricer, "refresh", lambda **_: answers())
    delivery.refresh_prices()


def test_a_hang_without_calls_that_ends_in_an_error(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def hangs() -> bool:
        delivery.log_silence()
        raise OperationalError("the connection is lost")

    for _ in range(2):
        answer(delivery, monkeypatch, hangs)
        answer(delivery, monkeypatch, hangs)
        answer(delivery, monkeypatch, lambda: False)  # the prices are known, so the database is not asked
        answer(delivery, monkeypatch, lambda: True)
    assert caplog.messages == [SILENT, BACK] * 2


def test_an_answer_while_the_silence_is_looked_for(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    note_answer = delivery._note_answer

    def noted() -> None:
        note_answer()
        delivery.log_silence()  # as by the other thread, before the next line of this one

    monkeypatch.setattr(delivery, "_note_answer", noted)
    answer(delivery, monkeypatch, lambda: True)
    delivery._when_database_is_there(time.monotonic)
    assert caplog.messages == []


@pytest.mark.parametrize("fault", [DataError("a bad value"), OperationalError("a key too long for an index")])
def test_a_hang_that_ends_in_a_refused_row(
    delivery: Delivery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    monkeypatch.setattr(delivery_module, "_is_limit", lambda _: True)

    def hangs() -> None:
        delivery.log_silence()
        raise fault

    with pytest.raises(DataError):
        delivery._when_database_is_there(hangs)
    assert caplog.messages == [SILENT, BACK]


def test_prices_say_whether_the_database_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pricer = Delivery(tmp_path).pricer
    monkeypatch.setattr("usage.money.row_pricing.ModelPrice.objects.all", list)
    assert pricer.refresh(loads_list=False)
    assert not pricer.refresh(loads_list=False)
