"""The thread of the shipper that downloads newer prices, if the setting `PRICES_UPDATE` is on."""

from __future__ import annotations

import logging
import threading

from django.conf import settings

logger = logging.getLogger(__name__)

FIRST_SECONDS = 30.0  # until the first update of a process
RETRY_SECONDS = 3600.0  # between two looks: a process may have to take over from one that has ended
STOP_SECONDS = 2.0


class PriceUpdates:
    """The thread that downloads a newer price list every few hours, if the setting `PRICES_UPDATE` is on.

    The shipper of a host has such a thread; a lock on a file lets only one process of the host download at a time.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prices", daemon=True)

    @property
    def is_running(self) -> bool:
        """True if the thread that updates the price list is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Starts the thread that updates the price list, unless the setting `PRICES_UPDATE` is off."""
        if settings.PRICES_UPDATE:
            self._thread.start()

    def stop(self) -> None:
        """Stops the thread that updates the price list; waits at most `STOP_SECONDS` for its end."""
        self._stopping.set()
        if self.is_running:
            # A download that takes longer is left to end by itself.
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        pause = FIRST_SECONDS
        while not self._stopping.wait(pause):
            pause = RETRY_SECONDS
            try:
                # Imported here: an HTTP client and the types of price lists, which most servers never use.
                from usage.upkeep.price_update import update_if_due

                update_if_due()
            except Exception:  # the border: prices of calls do not depend on this thread
                logger.exception("the price list was not updated, and is tried again later")
