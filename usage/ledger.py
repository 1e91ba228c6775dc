"""The ledger of one worker: the journal to which its calls are written, and the custom prices that it knows.

The rest of the project writes calls only through this module. The shipper, a process of its own, copies them from the
journal into the tables (`usage.journal_shipping`).
"""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings

from usage.call_record import CallRecord
from usage.custom_prices import CustomPrice
from usage.journal.writer import Journal
from usage.metric_counters import counters
from usage.money.row_pricing import Pricer
from usage.prices import genai_price_list


class Ledger:
    """The ledger as a worker uses it: the journal to which calls are written, and the administrator's prices.

    Call `start` in each worker, after the fork, because the journal's thread does not survive a fork.
    """

    def __init__(self) -> None:
        self._journal: Journal | None = None
        self._pricer = Pricer()

    def start(self) -> None:
        """Opens this process's journal, so that calls can be written to it.

        Raises:
            OSError: the journal cannot be written.
        """
        self._journal = Journal(
            settings.DATA_DIR / "journal", reserve_bytes=settings.JOURNAL_RESERVE_BYTES, sync=settings.JOURNAL_SYNC
        )
        self._journal.open()

    def stop(self) -> None:
        """Closes this process's journal. The shipper, another process, copies the remaining records to the database."""
        self.journal.close()

    @property
    def journal(self) -> Journal:
        if self._journal is None:
            raise RuntimeError("the ledger has not been started in this process")
        return self._journal

    def refresh_prices(self) -> None:
        """Reads custom prices from the database, and the price list from its file, at most every half minute.

        Raises:
            django.db.Error: the custom prices cannot be read.
        """
        # Workers need prices only for keys with a budget: to know beforehand what a call can cost.
        self._pricer.refresh()

    def load_price_list(self) -> None:
        """Loads the published prices into memory, so that no call has to wait until they are loaded."""
        genai_price_list.refresh()

    @property
    def custom_prices(self) -> Sequence[CustomPrice] | None:
        """The administrator's prices for models; None until they have been read from the database."""
        return self._pricer.own

    def begin(self, request_id: str, facts: CallRecord) -> None:
        """Writes to the journal that a call has begun. Must be called before the request is sent upstream.

        Raises:
            usage.journal.full_disk.JournalFull: the disk is full, so the request must not be sent.
        """
        self.journal.begin(request_id, facts)

    def end(self, request_id: str, row: CallRecord) -> None:
        """Writes the row of an ended call to the journal, and counts the call for `/metrics`. Never fails.

        Must be called before the last byte of the answer is sent to the client.
        """
        self.journal.end(request_id, row)
        counters.count_call(row)

    def record_poll(self, request_id: str, row: CallRecord) -> None:
        """Writes the row of a poll (the gateway's own request for a background response) to the journal.

        The row has the response's usage. It is marked `by_gateway`, so that pages and `/metrics` do not count it as a
        call.
        """
        self.journal.end(request_id, {**row, "by_gateway": True})
        counters.count_poll()

    async def wait_until_durable(self) -> None:
        """Waits until all journal records written so far would survive a power cut.

        Returns at once unless the setting `JOURNAL_SYNC` is `always`. An error of the disk ends the wait.
        """
        await self.journal.wait_until_durable()


ledger = Ledger()
