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
    """The way by which calls get into the database: this process's journal, and the threads that ship and prune.

    Call `start` in each worker, after the fork, because threads do not survive a fork.
    """

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None
        self._pruning = DailyPruning()

    def start(self) -> None:
        """Opens this process's journal, and starts the threads that write it to the database and delete old rows.

        Raises:
            OSError: the journal cannot be written.
        """
        self._journal = Journal(
            settings.DATA_DIR / "journal", reserve_bytes=settings.JOURNAL_RESERVE_BYTES, sync=settings.JOURNAL_SYNC
        )
        self._journal.open()
        self._shipper = Shipper(self._journal)
        self._shipper.start()
        self._pruning.start()

    def stop(self) -> None:
        """Writes the rest of the journal to the database, for `DRAIN_SECONDS` at most, and stops the ledger's threads.

        Records that are not written by then stay on the disk for the next process.
        """
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
        """The class name of the error with which writing to the database fails now; empty while there is none."""
        return self.shipper.delivery.database_fault

    @property
    def shipper_error(self) -> str:
        """The class name of the unexpected error that ended the last attempt to ship the journal; empty without one."""
        return self.shipper.fault

    @property
    def lag_bytes(self) -> int:
        """The number of bytes of this process's journal that are not in the database yet."""
        return self.shipper.lag_bytes

    @property
    def own_prices(self) -> Sequence[OwnPrice] | None:
        """The administrator's prices of models; None until they have been read from the database once."""
        return self.shipper.delivery.pricer.own

    def begin(self, request_id: str, facts: CallRecord) -> None:
        """Writes to the journal that a call has begun. Call it before the request is sent upstream.

        Raises:
            usage.journal.writer.JournalFull: the disk is full, so the request must not be sent.
        """
        self.journal.begin(request_id, facts)

    def end(self, request_id: str, row: CallRecord) -> None:
        """Writes the row of a call that has ended to the journal, and counts the call for `/metrics`. Never fails.

        Call it before the last byte of the answer is sent to the client.
        """
        self.journal.end(request_id, row)
        counters.count_call(row)

    def record_look(self, request_id: str, row: CallRecord) -> None:
        """Writes a row for a request of the gateway's that has polled upstream for the response of an earlier call.

        The row has that response's usage, but counts as no call.
        """
        self.journal.end(request_id, {**row, "by_gateway": True})
        counters.count_look()

    def ship_soon(self) -> None:
        """Asks the shipper to write the journal to the database at once, because somebody waits for the rows."""
        self.shipper.ship_soon()

    async def durable(self) -> None:
        """Waits until the journal records that this task has written would survive a power cut.

        Returns at once unless `JOURNAL_SYNC` is `always`.
        """
        await self.journal.durable()


ledger = Ledger()
