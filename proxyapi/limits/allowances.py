"""What keys with budgets may spend while the database is away, beyond what this worker has leased for them."""

from __future__ import annotations

from decimal import Decimal

from proxyapi.exceptions import BudgetUnavailable
from proxyapi.keys.keyring import Caller
from usage.money.reservations import reservations

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20


class Allowances:
    """Small amounts of dollars, one per key, that keys may spend while the database cannot be asked about budgets.

    A key may spend the part `OUTAGE_PART` of its smallest budget, in at most `OUTAGE_CALLS` calls. Each worker process
    counts by itself, and begins anew with every outage of the database.
    """

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal, least: Decimal) -> Decimal:
        """Takes the price of one call from the small allowance that the caller's key has while the database is away.

        The price is `dollars` or, if the allowance has less left, all that is left. Returns the dollars that were
        taken, which are at least `least`.

        Raises:
            BudgetUnavailable: less than `least` is left, or the key has made all calls that it may make in this outage.
                Nothing was taken.
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
