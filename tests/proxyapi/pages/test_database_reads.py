"""Reports and the management API take few of the connections that a worker has for its calls."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import SimpleNamespace

import pytest

from proxyapi import database_threads
from proxyapi.exceptions import DatabaseUnavailable
from proxyapi.pages import reports
from tests.support.polling import PATIENCE


def test_few_run_at_once_and_each_counts_until_its_thread_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, ran = threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        ran.release()
        go_on.wait(PATIENCE)

    async def asked_at_once() -> int:
        monkeypatch.setattr(reports, "_free_reads", asyncio.Semaphore(reports.MAX_PARALLEL_READS))
        monkeypatch.setattr(reports, "MAX_DATABASE_SECONDS", 0.2)
        hanging = [reports.read_from_database(hang, "somebody") for _ in range(reports.MAX_PARALLEL_READS)]
        found = await asyncio.gather(*hanging, return_exceptions=True)
        assert [type(error) for error in found] == [DatabaseUnavailable] * reports.MAX_PARALLEL_READS
        with pytest.raises(DatabaseUnavailable):
            await reports.read_from_database(lambda: pytest.fail("one more ran"), "another")
        go_on.set()
        monkeypatch.setattr(reports, "MAX_DATABASE_SECONDS", PATIENCE)
        return sum(await asyncio.gather(*(reports.read_from_database(lambda: 1, "a third") for _ in range(5))))

    assert asyncio.run(asked_at_once()) == 5
    assert all(ran.acquire(timeout=PATIENCE) for _ in range(reports.MAX_PARALLEL_READS))


def test_a_reader_with_many_requests_keeps_others_waiting_for_few(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun, ran = threading.Event(), threading.Semaphore(0), list[str]()

    def read(reader: str) -> None:
        ran.append(reader)
        begun.release()
        go_on.wait(PATIENCE)

    async def asked_at_once() -> None:
        monkeypatch.setattr(reports, "_free_reads", asyncio.Semaphore(reports.MAX_PARALLEL_READS))
        asked = [
            asyncio.create_task(reports.read_from_database(partial(read, reader), reader))
            for reader in (*["greedy"] * 20, "other")
        ]
        for _ in range(reports.MAX_PARALLEL_READS):
            assert await asyncio.to_thread(begun.acquire, timeout=PATIENCE)
        go_on.set()
        await asyncio.gather(*asked)

    asyncio.run(asked_at_once())
    assert len(ran) == 21
    assert ran.index("other") <= 2 * reports.MAX_PARALLEL_READS


def test_reads_go_on_after_a_time_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unstarted(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    async def asked_again() -> int:
        monkeypatch.setattr(reports, "_free_reads", asyncio.Semaphore(reports.MAX_PARALLEL_READS))
        monkeypatch.setattr(reports, "MAX_DATABASE_SECONDS", PATIENCE)
        with monkeypatch.context() as without_threads:
            without_threads.setattr(database_threads, "threading", SimpleNamespace(Thread=Unstarted))
            for _ in range(reports.MAX_PARALLEL_READS):
                with pytest.raises(DatabaseUnavailable):
                    await reports.read_from_database(lambda: 1, "somebody")
        return await reports.read_from_database(lambda: 1, "somebody")

    assert asyncio.run(asked_again()) == 1
