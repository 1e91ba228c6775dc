"""Leases (parts of budgets) in the memory of the worker that has them, with the dollars that calls reserve and use.

A `Lease` is a part of the budgets of one spender (a key or a team) on one UTC day. In PostgreSQL it is a row of `Hold`,
and counts as reserved for everybody else (`lease_statements` has the SQL, `reservations` sends it). In memory it is
four sums of dollars: a call takes its `CallShare` when it begins, and settles it when it ends, without I/O.

The sums in memory do not depend on the shipping of calls' rows. A grant adds the same dollars to `granted` and to the
lease's row. The transaction that ships a call's row subtracts the call's dollars from the lease's row only. So at any
moment this row has the `free` dollars, those reserved by calls in flight, and those used by ended calls whose rows are
still in the journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from math import inf
from uuid import uuid4

from usage.call_record import LeaseShare
from usage.money.spenders import Spender

NOTHING = Decimal(0)
# A worker asks for so many times the most that the present call can cost, beyond the call itself. The database gives
# less when less is left (`lease_statements.PART`).
SLICE_CALLS = 32
AGE_SECONDS = 3600.0  # then a new lease takes its place; a dollar that was never taken off ends with the old one
USABLE_SECONDS = 600.0  # since the last renewal; far less than the time after which the database drops a lease


@dataclass(frozen=True)
class Wanted:
    """A call's request to reserve `dollars` in the budgets of its key or team.

    `day` is the UTC day on which the call has begun. A budget is in dollars; None means no limit.

    If less than `dollars` is left, the call gets all that is left, on two conditions:

    * This is at least `least`.
    * This is at least half of the unspent dollars, or it is the call's last try (`is_last_try`). Otherwise other calls
      have reserved so much that it is better to wait for their end.
    """

    spender: Spender
    day: date
    dollars: Decimal
    day_budget: Decimal | None
    month_budget: Decimal | None
    total_budget: Decimal | None
    least: Decimal
    is_last_try: bool = False

    @property
    def budgets(self) -> tuple[Decimal | None, Decimal | None, Decimal | None]:
        """The spender's budgets in dollars: per day, per month and in total."""
        return self.day_budget, self.month_budget, self.total_budget


@dataclass(frozen=True)
class BudgetState:
    """The result of an attempt to reserve dollars for a call: the reservation, and the state of the budgets before.

    * `share`: the reservation; None if too little was left.
    * `spent`: the dollars spent by span (`day`, `month` and `total`). Those of a span without a budget may be
      incomplete.
    * `held`: the dollars reserved or leased, by span.
    * `others`: the number of other workers that may have unused dollars of the same budgets. They give these back
      within a second or two.

    `spent` and `held` are empty if the database was not asked.
    """

    share: CallShare | None
    spent: dict[str, Decimal] = field(default_factory=dict)
    held: dict[str, Decimal] = field(default_factory=dict)
    others: int = 0


@dataclass
class CallShare:
    """The reservation of one call: dollars of a lease (a worker's part of a budget) that only this call may use.

    When the call ends, the reservation is settled: replaced by the call's cost.
    """

    lease: Lease
    dollars: Decimal
    is_settled: bool = False

    @property
    def record(self) -> LeaseShare:
        """The reservation in the form in which the journal stores it: the lease's id and the dollars."""
        # When the call's row is written to the database, these dollars are taken off the lease.
        return {"id": self.lease.id, "dollars": str(self.dollars)}


class Lease:
    """Dollars of one spender's budgets that the database has granted to this worker, for calls of one UTC day.

    * `granted`: the dollars that the database has granted, minus those given back.
    * `used`: the cost of ended calls.
    * `reserved`: the dollars reserved for calls in flight; `in_flight` is the number of these calls.
    * `has_spare`: whether the lease keeps free dollars for later calls. If not, it gives them back, because the spender
      has little left.
    * `is_retired`: whether the lease refuses further calls.
    """

    def __init__(self, wanted: Wanted, now: float) -> None:
        self.id = str(uuid4())
        self.spender, self.day, self.budgets = wanted.spender, wanted.day, wanted.budgets
        self.granted = self.used = self.reserved = NOTHING
        self.in_flight = 0
        self.has_spare = self.is_retired = False
        self.is_in_doubt = False  # the last statement about it may have been executed, or not, or still may be
        self.doubted_at = -inf  # when a statement about it was last in doubt
        self.is_recalled = False  # another worker needs what no call uses here, and waits to hear that it has it
        self.unit = wanted.dollars  # the most that the newest call could cost
        self.low = NOTHING  # with less than this free, it is topped up before a call has to wait for that
        self.made_at = self.used_at = self.renewed_at = now  # by `time.monotonic()`

    @property
    def free(self) -> Decimal:
        """The dollars of the lease that no call has reserved or used; negative if calls cost more than reserved."""
        return self.granted - self.used - self.reserved

    @property
    def surplus(self) -> Decimal:
        """The free dollars that the lease should give back now; 0 if it should keep them for later calls.

        The number is negative if the calls have cost more dollars than the lease has.
        """
        free = self.free
        return NOTHING if self.has_spare and not self.is_retired and free > 0 else free

    @property
    def is_low(self) -> bool:
        """True if so few dollars are free that the lease should get more now, before a call has to wait.

        Always false for a lease that is retired (closed for further calls), or that keeps no dollars for later calls.
        """
        return self.has_spare and not self.is_retired and self.free < self.low

    def is_usable(self, now: float) -> bool:
        """Returns whether calls may use the lease: it is not retired (closed), not too old, and was renewed lately.

        `now` is a moment of `time.monotonic()`.
        """
        # If it was not renewed in the last `USABLE_SECONDS`, the lease may have run out in the database.
        is_fresh = now - self.renewed_at < USABLE_SECONDS and now - self.made_at < AGE_SECONDS
        return not self.is_retired and is_fresh

    def reserve(self, wanted: Wanted, unheld: Decimal | None = None) -> CallShare | None:
        """Reserves dollars of the lease for a call; returns the reservation, or None if too few dollars are free.

        If fewer than `wanted.dollars` are free, the call gets all free dollars on two conditions:

        * They are at least `wanted.least`, the lowest amount with which the call can go on.
        * They are at least half of `unheld`, or this is the call's last try.

        `unheld` is the lowest amount that one of the spender's budgets would have left if nothing were reserved. If it
        is None (unknown), the call gets either all that it wants or nothing.
        """
        free = self.free
        dollars = wanted.dollars
        if dollars > free:
            is_much = wanted.is_last_try or (unheld is not None and 2 * free >= unheld)
            if unheld is None or not is_much or free < wanted.least or free <= 0:
                return None
            dollars = free
        self.reserved += dollars
        self.in_flight += 1
        self.unit = wanted.dollars
        return CallShare(self, dollars)

    def shrink(self, share: CallShare, dollars: Decimal) -> None:
        """Lowers the reservation of a call to `dollars`; the other dollars of the reservation are free again."""
        self.reserved -= share.dollars - dollars
        share.dollars = dollars

    def settle(self, share: CallShare, dollars: Decimal) -> None:
        """Replaces the reserved dollars of a call by the call's cost; does nothing if called again for this call."""
        if not share.is_settled:
            share.is_settled = True
            self.reserved -= share.dollars
            self.used += dollars
            self.in_flight -= 1

    def take_granted(self, granted: Decimal | None, spare: Decimal, *, has_waited: bool) -> None:
        """Updates the lease with the database's answer to its request for dollars.

        * `granted`: all dollars granted to the lease until now, less those given back; None if the request got nothing.
        * `spare`: how many of the newly granted dollars are for later calls. Once less than half of `spare` is free,
          the lease asks for more.
        * `has_waited`: whether calls waited for the answer. If so, the answer decides whether the lease keeps free
          dollars for later calls (`spare` is more than 0) or gives them back. If not, this stays as it was.
        """
        self.granted = self.granted if granted is None else granted
        # If a request in the background, for which no calls waited, brought nothing, this is 0: the lease is not topped
        # up again before a call has to wait.
        self.low = spare / 2
        if has_waited:
            self.has_spare = spare > 0


@dataclass(frozen=True)
class Need:
    """A lease's request for dollars from the database, for waiting calls and for later ones.

    * `dollars`: what the waiting calls need.
    * `least`: the lowest grant that lets one of the waiting calls go on.
    * `unit`: the highest possible cost of one call.
    * `spare`: what the lease wants in addition, for later calls.
    """

    lease: Lease
    dollars: Decimal
    least: Decimal
    unit: Decimal

    @property
    def spare(self) -> Decimal:
        """The dollars that the lease wants for later calls, in addition to those for the waiting calls."""
        return SLICE_CALLS * self.unit

    @classmethod
    def of(cls, lease: Lease, waiting: Sequence[Wanted] = ()) -> Need:
        """Makes a lease's request for the dollars that the `waiting` calls need beyond the lease's free dollars.

        If no calls wait, the request is only for dollars to spare.
        """
        unit = max((one.dollars for one in waiting), default=lease.unit)
        if not waiting:
            return cls(lease, NOTHING, NOTHING, unit)
        free = lease.free
        return cls(lease, sum((one.dollars for one in waiting), -free), min(one.least for one in waiting) - free, unit)
