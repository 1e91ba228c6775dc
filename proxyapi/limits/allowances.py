"""What keys with budgets may spend while the database is away, beyond what this worker has leased for them."""

from __future__ import annotations

from decimal import Decimal

from proxyapi.exceptions import BudgetUnavailable
from proxyapi.keys.callers import Caller
from usage.money.reservations import reservations

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20


class Allowances:
    """The small amounts of dollars that keys with budgets may spend in this process while the database is away.

    In each outage, a key may spend `OUTAGE_PART` of its smallest budget, in at most `OUTAGE_CALLS` calls.
    """

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal, least: Decimal) -> Decimal:
        """Takes dollars for a call from the allowance that the call's key has while the database is away.

        Returns what it took: `dollars`, or all that is left if this is less, but at least `least`.

        Raises:
            BudgetUnavailable: less than `least` is left, or the key has made all its calls of this outage.
        """
        if self._outage != reservations.outages:
            self._outage = reservations.outages
            self._used.clear()
        spent, calls = self._used.get(caller.name, (Decimal(0), 0))
        used = min(dollars, OUTAGE_PART * (caller.budgets.tightest or 0) - spent)
        if used < least or calls >= OUTAGE_CALLS:
            raise BudgetUnavailable
        self._used[caller.name] = (spent + used, calls + 1)
        return used


allowances = Allowances()
