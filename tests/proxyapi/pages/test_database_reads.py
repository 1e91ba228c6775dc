"""Reports and the management API take few of the connections that a worker has for its calls."""

from __future__ import annotations

import asyncio
import threading

import pytest

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
        hanging = [reports.read_from_database(hang) for _ in range(reports.MAX_PARALLEL_READS)]
        found = await asyncio.gather(*hanging, return_exceptions=True)
        assert [type(error) for error in found] == [DatabaseUnavailable] * reports.MAX_PARALLEL_READS
        with pytest.raises(DatabaseUnavailable):
            await reports.read_from_database(lambda: pytest.fail("one more ran"))
        go_on.set()
        monkeypatch.setattr(reports, "MAX_DATABASE_SECONDS", PATIENCE)
        return sum(await asyncio.gather(*(reports.read_from_database(lambda: 1) for _ in range(5))))

    assert asyncio.run(asked_at_once()) == 5
    assert all(ran.acquire(timeout=PATIENCE) for _ in range(reports.MAX_PARALLEL_READS))
