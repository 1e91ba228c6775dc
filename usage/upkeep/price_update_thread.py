"""The thread of the shipper that downloads newer prices, if the setting `PRICES_UPDATE` is on."""

from __future__ import annotations

from django.conf import settings

from usage.upkeep.periodic_thread import PeriodicThread


class PriceUpdates(PeriodicThread):
    """A thread that downloads the newest price list every six hours, if the setting `PRICES_UPDATE` is on.

    The shipper process of each host (which copies calls to the database) has such a thread. A lock on a file lets only
    one process of the host download at a time.
    """

    name = "prices"
    first_seconds = 30.0
    every_seconds = 3600.0  # a process may have to take over from one that has ended
    stop_seconds = 2.0  # a download that takes longer is left to end by itself
    failure = "the price list was not updated, and is tried again later"

    def start(self) -> None:
        """Starts the thread that updates the price list, unless the setting `PRICES_UPDATE` is off."""
        if settings.PRICES_UPDATE:
            super().start()

    def work(self) -> None:
        # Imported here: an HTTP client and the types of price lists, which most servers never use.
        from usage.upkeep.price_update import update_if_due

        update_if_due()
