"""The shipper's thread: what nobody expected does not end it and is seen; a database that hangs holds up no stop."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError

from proxyapi.database_threads import in_own_thread
from tests.support.ledger.ledgers import NOON, call, end, leave, write
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import Gateway
from usage.journal.undelivered import DAMAGED
from usage.journal.writer import Journal
from usage.journal_shipping import delivery as delivery_module
from usage.journal_shipping import shipper as shipper_module
from usage.journal_shipping.delivery import NO_ANSWER
from usage.journal_shipping.shipper import Shipper
from usage.models import Request


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    yield journal
    journal.close()


@pytest.mark.django_db(transaction=True)
def test_the_first_row_after_a_long_pause_is_shipped(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipper_module, "QUIET_AFTER_SECONDS", 0.0)
    pauses: list[float | None] = []
    shipper = Shipper(journal.directory)
    wait = shipper._stopping.wait

    def note(seconds: float | None = None) -> bool:
        pauses.append(seconds)
        return wait(0.005)

    monkeypatch.setattr(shipper._stopping, "wait", note)
    shipper.start()
    try:
        wait_until(lambda: len(pauses) > 2)
        write(journal, [call()])
        wait_until(lambda: Request.objects.count() == 1)
    finally:
        assert shipper.stop(PATIENCE)
    assert set(pauses) == {shipper_module.IDLE_SECONDS * shipper_module.QUIET_PAUSES}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("fault", "words", "has_traceback"),
    [
        (RuntimeError("nobody expected this"), "the shipper failed", True),
        (OSError(errno.ENOSPC, "No space left on device"), "tries again: No space left on device", False),
        (OperationalError("the connection is lost"), "tries again: OperationalError: it cannot be reached", False),
    ],
)
def test_a_fault_is_seen_and_passes(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
    words: str,
    has_traceback: bool,
) -> None:
    monkeypatch.setattr(shipper_module, "IDLE_SECONDS", 0.005)
    shipper = Shipper(journal.directory)
    deliver = shipper.delivery.deliver
    broken = threading.Event()
    broken.set()
    attempts = 0

    def sometimes(rows: Any) -> None:
        nonlocal attempts
        attempts += 1
        if broken.is_set():
            raise fault
        deliver(rows)

    monkeypatch.setattr(shipper.delivery, "deliver", sometimes)
    shipper.start()
    try:
        write(journal, [call()])
        wait_until(lambda: shipper.fault == type(fault).__name__ and attempts > 2)
        broken.clear()
        wait_until(lambda: Request.objects.count() == 1)
        wait_until(lambda: not shipper.fault)
    finally:
        assert shipper.stop(PATIENCE)
    [record] = [record for record in caplog.records if record.name == shipper_module.__name__]
    assert words in record.getMessage()
    assert bool(record.exc_info) is has_traceback


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("are_alive", [True, False])
def test_an_error_with_one_journal_holds_up_no_other(tmp_path: Path, are_alive: bool) -> None:
    (tmp_path / DAMAGED).mkdir()  # so that nothing can be set aside
    journals = [Journal(tmp_path, reserve_bytes=0) for _ in range(3)]
    rows = [call() for _ in journals]
    for journal, row in zip(journals, rows, strict=True):
        journal.open()
        write(journal, [row])
    [first] = tmp_path.glob(f"{journals[0].writer}.*.journal")
    with first.open("ab") as file:
        file.write(b"damaged\n")
    if not are_alive:
        for journal in journals:
            journal.close()
    shipper = Shipper(tmp_path)
    began = shipper.complete_at
    with pytest.raises(IsADirectoryError):
        shipper._ship_once()
    assert {str(pk) for pk in Request.objects.values_list("pk", flat=True)} == {row["request_id"] for row in rows[1:]}
    assert (shipper.complete_at > began) is not are_alive
    if are_alive:
        for journal in journals:
            journal.close()


def test_a_stop_does_not_wait_for_a_database_that_hangs(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says once that it hangs, and that it is back."""
    caplog.set_level("INFO", logger="usage.journal_shipping.delivery")
    monkeypatch.setattr(delivery_module, "SILENCE_SECONDS", 0.05)
    asked, thawed = threading.Event(), threading.Event()

    def hang(_rows: Any) -> int:
        asked.set()
        thawed.wait(PATIENCE)  # whoever waited for it would find the row delivered
        return 0

    monkeypatch.setattr(delivery_module, "write_rows", hang)
    monkeypatch.setattr(delivery_module, "database_started_at", lambda: NOON)
    shipper = Shipper(journal.directory)
    monkeypatch.setattr(shipper.delivery.pricer, "priced", lambda rows: rows)
    monkeypatch.setattr(shipper.delivery.pricer, "refresh", lambda **_: None)
    shipper.start()
    write(journal, [call()])
    assert asked.wait(PATIENCE)
    wait_until(lambda: shipper.delivery.database_fault == NO_ANSWER)
    shipper.delivery.log_silence()
    shipper.delivery.log_silence()

    assert not shipper.stop(0.1)
    assert shipper.lag_bytes > 0
    thawed.set()
    assert shipper.stop(PATIENCE)
    assert shipper.delivery.database_fault == ""
    lines = [one.getMessage() for one in caplog.records if "the database is" in one.getMessage()]
    assert lines == ["the database is away: it does not answer", "the database is back"]


def test_readyz_says_that_the_shipper_fails(tmp_path: Path, start_gateway: Callable[..., Gateway]) -> None:
    journal = tmp_path / "journal"
    journal.mkdir(mode=0o700)
    leave(journal, end(call()), b"damaged\n")
    (journal / DAMAGED).mkdir()  # so that nothing can be set aside
    gateway = start_gateway()
    wait_until(lambda: gateway.http.get("/readyz").json()["shipper"] == "IsADirectoryError")
    answer = gateway.http.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    answer = gateway.post("/embeddings", {"input": "hi"})
    assert gateway.row(answer)["outcome"] == "success"  # its own journal is shipped all the same


async def test_own_threads_return_and_raise() -> None:
    def fail() -> None:
        raise LookupError("no")

    assert await in_own_thread(lambda: 3) == 3
    with pytest.raises(LookupError, match="no"):
        await in_own_thread(fail)


async def test_own_threads_that_hang_leave_the_lent_ones_alone() -> None:
    thawed = threading.Event()
    hanging = [asyncio.create_task(in_own_thread(lambda: thawed.wait(PATIENCE))) for _ in range(40)]
    try:
        assert await asyncio.wait_for(asyncio.to_thread(lambda: 4), PATIENCE) == 4
        hanging[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging[0]
    finally:
        thawed.set()
    assert all(await asyncio.gather(*hanging[1:]))
