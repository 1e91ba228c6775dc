"""Owns the ledger of one process: the journal to which calls are written, and the thread that ships it to the database.

The rest of the project writes calls to the tables through this module only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from django.conf import settings

from usage.call_record import CallRecord
from usage.custom_prices import CustomPrice
from usage.journal.writer import Journal
from usage.journal_shipping.shipper import Shipper
from usage.metric_counters import counters
from usage.prices import genai_price_list
from usage.upkeep.price_update import PriceUpdates
from usage.upkeep.retention import DailyPruning

DRAIN_SECONDS = 20.0


class Ledger:
    """The parts of one process that keep the ledger: its journal and its threads.

    The threads write the journal to the database, delete old rows, and update the price list. Call `start` in each
    worker, after the fork, because threads do not survive a fork.
    """

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._shipper: Shipper | None = None
        self._pruning = DailyPruning()
        self._price_updates = PriceUpdates()

    def start(self) -> None:
        """Opens this process's journal, and starts the threads that write it to the database, that delete old rows, and
        that update the price list.

        Raises:
            OSError: the journal cannot be written.
        """
        genai_price_list.refresh()
        self._journal = Journal(
            settings.DATA_DIR / "journal", reserve_bytes=settings.JOURNAL_RESERVE_BYTES, sync=settings.JOURNAL_SYNC
        )
        self._journal.open()
        self._shipper = Shipper(self._journal)
        self._shipper.start()
        self._pruning.start()
        self._price_updates.start()

    def stop(self) -> None:
        """Writes the rest of the journal to the database, for `DRAIN_SECONDS` at most, and stops the ledger's threads.

        Records that are not in the database by then stay on the disk for the next process.
        """
        with ExitStack() as steps:  # runs all steps, the last one first, even if one of them fails
            steps.callback(self._end_shipping)
            steps.callback(self.journal.close)
            steps.callback(self._pruning.stop)
            steps.callback(self._price_updates.stop)

    def _end_shipping(self) -> None:
        if self.shipper.stop(DRAIN_SECONDS):
            # Not released if the shipper's thread still runs, because it may still delete journal files. Then the lock
            # is held until the process ends.
            self.journal.release()

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
        """The class name of the error with which writes to the database fail at present; empty if there is no error."""
        return self.shipper.delivery.database_fault

    @property
    def shipper_error(self) -> str:
        """The class name of the unexpected error that ended the last attempt to write the journal to the database.

        It is an empty text if there was none.
        """
        return self.shipper.fault

    @property
    def lag_bytes(self) -> int:
        """The number of bytes of this process's journal that are not in the database yet."""
        return self.shipper.lag_bytes

    @property
    def custom_prices(self) -> Sequence[CustomPrice] | None:
        """The prices that the administrator has set for models; None until they have been read from the database."""
        return self.shipper.delivery.pricer.own

    def begin(self, request_id: str, facts: CallRecord) -> None:
        """Writes to the journal that a call has begun. Call this method before the request is sent upstream.

        Raises:
            usage.journal.full_disk.JournalFull: the disk is full, so the request must not be sent.
        """
        self.journal.begin(request_id, facts)

    def end(self, request_id: str, row: CallRecord) -> None:
        """Writes the row of a call that has ended to the journal, and counts the call for `/metrics`. Never fails.

        Call this method before the last byte of the answer is sent to the client.
        """
        self.journal.end(request_id, row)
        counters.count_call(row)

    def record_poll(self, request_id: str, row: CallRecord) -> None:
        """Writes to the journal the row of a poll: the gateway's own request for a background response.

        The row has the usage of the response, which a call of somebody else has created. In the numbers of calls that
        pages and `/metrics` show, polls are left out.
        """
        self.journal.end(request_id, {**row, "by_gateway": True})
        counters.count_poll()

    def ship_soon(self) -> None:
        """Asks the shipper's thread to write the journal to the database now, because somebody waits for the rows."""
        self.shipper.ship_soon()

    async def wait_until_durable(self) -> None:
        """Waits until all journal records that were written so far would survive a power cut.

        Returns at once unless the setting `JOURNAL_SYNC` is `always`.
        """
        await self.journal.wait_until_durable()


ledger = Ledger()
