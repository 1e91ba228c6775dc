"""A thread of the shipper that reads facts for `/metrics` from the database: its clock, and the use of budgets."""

from __future__ import annotations

from proxyapi.keys.budget_use import read_used_budgets
from usage.database.clock import clock_difference, database_now
from usage.live.shipping_state import BudgetUse
from usage.upkeep.periodic_thread import PeriodicThread

EVERY_SECONDS = 60.0
MOST_BUDGETS = 20  # that are shown, the fullest first: each is a time series of its own
STOP_SECONDS = 5.0


class DatabaseWatch(PeriodicThread):
    """The thread that compares this machine's clock with the database's, and reads the use of budgets, once a minute.

    `clock_difference` is in seconds, positive if this machine is ahead; None before the first measurement. `budgets`
    are the `MOST_BUDGETS` budgets with the largest used part.
    """

    name = "database watch"
    first_seconds, every_seconds = 0.0, EVERY_SECONDS
    stop_seconds = STOP_SECONDS
    failure = "budgets and clocks were not measured, and are again in a minute"

    def __init__(self) -> None:
        super().__init__()
        self.clock_difference: float | None = None
        self.budgets: list[BudgetUse] = []

    def work(self) -> None:
        self.clock_difference = clock_difference()
        self.budgets = fullest_budgets(MOST_BUDGETS)


def fullest_budgets(most: int) -> list[BudgetUse]:
    """Returns at most `most` budgets of active keys and teams: those with the largest used part, the largest first.

    Both spent and reserved dollars count as used.

    Raises:
        django.db.Error: the database does not answer.
    """
    today = database_now().date()
    used = [
        BudgetUse(one.spender.name, one.span, float(one.part_used), one.spender.kind)
        for one in read_used_budgets(today)
    ]
    return sorted(used, key=lambda use: (-use.part, use.kind, use.name, use.span))[:most]
