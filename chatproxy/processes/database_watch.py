"""A thread of the shipper that measures, for `/metrics`, what only the database knows: clocks, and use of budgets."""

from __future__ import annotations

import logging
import threading

from django.db import Error, connections

from proxyapi.limits.budget_use import read_used_budgets
from usage.database.clock import clock_difference, database_now
from usage.live.shipping_state import BudgetUse

logger = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
MOST_BUDGETS = 20  # that are shown, the fullest first: each is a time series of its own
STOP_SECONDS = 5.0


class DatabaseWatch:
    """The thread that compares this machine's clock with the database's, and reads the use of budgets, once a minute.

    `clock_difference` is in seconds, positive if this machine is ahead; None before the first measurement.
    """

    def __init__(self) -> None:
        self.clock_difference: float | None = None
        self.budgets: list[BudgetUse] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="database watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stops the thread that measures clocks and budgets; waits at most `STOP_SECONDS` for its end."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            pause = EVERY_SECONDS
            try:
                self.clock_difference = clock_difference()
                self.budgets = fullest_budgets(MOST_BUDGETS)
            except Error:  # the shipper's other thread meets the same outage, and reports it
                continue
            except Exception:  # the border: the ledger does not depend on this thread
                logger.exception("budgets and clocks were not measured, and are again in a minute")
            finally:
                connections.close_all()


def fullest_budgets(most: int) -> list[BudgetUse]:
    """Returns the `most` budgets of active keys with the largest part spent or reserved, the fullest first.

    Raises:
        django.db.Error: the database does not answer.
    """
    used = [BudgetUse(one.key, one.span, one.part_used) for one in read_used_budgets(database_now().date())]
    return sorted(used, key=lambda use: (-use.part, use.key, use.span))[:most]
