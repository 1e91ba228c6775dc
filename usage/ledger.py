"""Owns a process's ledger: the journal that calls write to, and the shipper that empties it.

This is all that the rest of the project knows of how calls get into the tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from django.conf import settings

from usage.call_record import CallRecord
from usage.counters import counters
from usage.journal.writer import Journal
from usage.own_prices import OwnPrice
from usage.shipping.shipper import Shipper
from usage.upkeep.retention import DailyPruning

DRAIN_SECONDS = 20.0


class Ledger:
    """`start` in each worker, after the fork; the two have their own threads."""

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None
        self._pruning = DailyPruning()

    def start(self) -> None:
        """Raises OSError if the journal cannot be written."""
        self._journal = Journal(
            settings.DATA_DIR / "journal", reserve_bytes=settings.JOURNAL_RESERVE_BYTES, sync=settings.JOURNAL_SYNC
        )
        self._journal.open()
        self._shipper = Shipper(self._journal)
        self._shipper.start()
        self._pruning.start()

    def stop(self) -> None:
        """Ships what is waiting, for `DRAIN_SECONDS` at most; what is left stays on disk."""
        with ExitStack() as steps:  # runs all of them, the last one first, whichever fails
            steps.callback(self._end_shipping)
            steps.callback(self.journal.close)
            steps.callback(self._pruning.stop)

    def _end_shipping(self) -> None:
        if self.shipper.stop(DRAIN_SECONDS):
            self.journal.release()  # else the lock goes with the process: its thread may still delete what it ships

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            raise RuntimeError("the ledger has not been started in this process")
        return self._journal

    @property
    def shipper(self) -> Shipper:
        if self._shipper is None:
            raise RuntimeError("the ledger has not been started in this process")
        return self._shipper

    @property
    def database_error(self) -> str:
        """What is wrong with the database; empty when nothing is."""
        return self.shipper.delivery.database_fault

    @property
    def shipper_error(self) -> str:
        """What the shipper failed of and tries again; empty when nothing."""
        return self.shipper.fault

    @property
    def lag_bytes(self) -> int:
        """How much of the journal is not in the tables yet."""
        return self.shipper.lag_bytes

    @property
    def own_prices(self) -> Sequence[OwnPrice] | None:
        """The administrator's prices as rows are priced by them; None until the database has said them once."""
        return self.shipper.delivery.pricer.own

    def begin(self, request_id: str, facts: CallRecord) -> None:
        """Before upstream hears of the call. Raises `usage.journal.writer.StorageFull`: then it must not."""
        self.journal.begin(request_id, facts)

    def end(self, request_id: str, row: CallRecord) -> None:
        """Before the last byte leaves. Never fails."""
        self.journal.end(request_id, row)
        counters.count_call(row)

    def record_look(self, request_id: str, row: CallRecord) -> None:
        """The gateway itself has asked upstream about a call of before: no call has ended."""
        self.journal.end(request_id, {**row, "by_gateway": True})
        counters.count_look()

    def ship_soon(self) -> None:
        """Somebody waits until what has ended is in the tables."""
        self.shipper.ship_soon()

    async def durable(self) -> None:
        """Waits until this task's records survive a power cut, if `JOURNAL_SYNC` is `always`."""
        await self.journal.durable()


ledger = Ledger()
