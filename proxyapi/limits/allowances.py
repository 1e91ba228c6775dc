"""What keys with budgets may spend while the database is away, beyond what this worker has leased for them."""

from __future__ import annotations

from decimal import Decimal

from proxyapi.exceptions import BudgetUnavailable
from proxyapi.keys.keyring import Caller
from usage.money.reservations import reservations

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20


class Allowances:
    """Small allowances in dollars, one per key, for times when the database is away and no budget can be reserved.

    A key may spend `OUTAGE_PART` of its smallest budget, in `OUTAGE_CALLS` calls at most. Each worker counts by itself
    what the key spends, and begins anew with every outage.
    """

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal, least: Decimal) -> Decimal:
        """Takes the cost of one call from the allowance that the call's key has while the database is away.

        Takes `dollars` or, if less is left, all that is left, but only if this is at least `least`. Returns the dollars
        that were taken.

        Raises:
            BudgetUnavailable: the key may not spend so much, or make so many calls, in this outage. Nothing was taken.
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
