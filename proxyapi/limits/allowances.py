"""Allowances: small amounts that keys and teams with budgets may spend on calls while the database is away.

A worker first uses up the dollars that it has already reserved (leased) in the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from proxyapi.exceptions import BudgetUnavailable
from proxyapi.keys.callers import Ceilings
from usage.money.reservations import reservations
from usage.money.spenders import Spender

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20


class Allowances:
    """Counter of the dollars that keys and teams with budgets have spent in this process while the database is away.

    In each outage, a key or team may spend 5 % (`OUTAGE_PART`) of its smallest budget (per day, per month or in total),
    in at most `OUTAGE_CALLS` calls.
    """

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[Spender, tuple[Decimal, int]] = {}

    def use(self, ceilings: Sequence[Ceilings], dollars: Decimal, least: Decimal) -> Decimal:
        """Takes up to `dollars` for one call from the allowances of its key and team, while the database is away.

        `ceilings` has the budgets of the key, of the team, or of both. The same amount is taken from each of them, and
        returned: `dollars`, or less if one of the allowances has less left.

        Raises:
            BudgetUnavailable: an allowance has less than `least` dollars left, or the key or team has made as many
                calls as it may make in one outage.
        """
        if self._outage != reservations.outages:
            self._outage = reservations.outages
            self._used.clear()
        used = {one.spender: self._used.get(one.spender, (Decimal(0), 0)) for one in ceilings}
        left = (OUTAGE_PART * (one.budgets.tightest or 0) - used[one.spender][0] for one in ceilings)
        taken = min(dollars, *left)
        if taken < least or any(calls >= OUTAGE_CALLS for _, calls in used.values()):
            raise BudgetUnavailable
        self._used |= {spender: (spent + taken, calls + 1) for spender, (spent, calls) in used.items()}
        return taken


allowances = Allowances()
