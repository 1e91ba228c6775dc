"""The dollars that one call has reserved in the budgets of its key and team, and their replacement by its real cost."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import CallRecord
from usage.ledger import ledger
from usage.models import UsageSource
from usage.money.billing import price_call
from usage.money.leases import CallShare
from usage.money.reservations import reservations
from usage.money.spenders import SpenderKind
from usage.money.spent_and_reserved import responses_are_polled

logger = logging.getLogger(__name__)

# Errors of a row that cannot be priced as it is. It gets a stub in the tables (`usage.journal_shipping.delivery`).
UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
# The field of a call's record that has its share of a lease, by the kind of the lease's spender.
LEASE_FIELDS: dict[SpenderKind, Literal["lease", "team_lease"]] = {"key": "lease", "team": "team_lease"}


@dataclass(frozen=True)
class Reservation:
    """The dollars that are reserved for one call in the budgets of its key and team, until the call ends.

    A worker sets dollars of each budget aside in advance (a lease); `shares` are the parts of these leases that belong
    to the call. `shares` is empty for a call that was admitted while the database was away.
    """

    shares: tuple[CallShare, ...]

    def record(self) -> CallRecord:
        """Returns the fields of the call's journal record that state the reservation: dollars and ids of leases.

        The dict is empty for a call that was admitted while the database was away.
        """
        record: CallRecord = {}
        for share in self.shares:
            record[LEASE_FIELDS[share.lease.spender.kind]] = share.record
        return record

    def release(self) -> None:
        """Gives all reserved dollars back to the budgets, because the call will not go upstream, or has ended."""
        for share in self.shares:
            reservations.settle(share, Decimal(0))

    def give_up(self) -> None:
        """Counts all reserved dollars as spent, for a call that an error has ended before its cost was known."""
        # Otherwise the worker would take the call for one in flight, and renew its leases as long as it lives.
        for share in self.shares:
            reservations.settle(share, share.dollars)

    def settle(self, row: CallRecord) -> CallRecord:
        """Replaces the dollars reserved for a call by the call's real cost, computed from its ledger row.

        If the cost is not known yet, all reserved dollars count as used. Returns the fields to add to the row: the
        dollars used, and the ids of the leases that pay them; empty if the call has no leases, or has cost nothing.
        """
        found: CallRecord = {}
        if not self.shares:
            return found
        cost = self._cost(row)
        for share in self.shares:
            # The cost is not known yet if the row cannot be priced, or if the gateway will poll a response that goes on
            # in the background: all reserved dollars count as used until the row is in the database.
            used = share.dollars if cost is None else cost
            reservations.settle(share, used)
            if used:
                found[LEASE_FIELDS[share.lease.spender.kind]] = {"id": share.lease.id, "dollars": str(used)}
        return found

    def _cost(self, row: CallRecord) -> Decimal | None:
        """Returns the cost of an ended call in dollars, computed from its ledger row; 0 if its usage is unknown.

        None if the row cannot be priced, or if the gateway will still ask upstream for the usage of a background
        response.
        """
        if row["response_status"] in UNFINISHED_STATUSES and row["pollable"] and responses_are_polled():
            return None
        try:
            cost, _ = price_call(row, ledger.custom_prices or ())
        except UNREADABLE:
            logger.exception("the cost of a call could not be computed")
            return None
        return Decimal(0) if cost is None and row["usage_source"] == UsageSource.UNKNOWN else cost
