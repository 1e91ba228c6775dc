"""What one call holds while it lasts: its slots, its ticket with the limits of its key, its reservation of a budget.

The slots are given back when the answer has been sent. Ticket and reservation are settled when the call's row has been
written, since only then is known what the call has cost.
"""

from __future__ import annotations

from contextlib import ExitStack

from proxyapi.limits.budgets import Reservation
from proxyapi.limits.limiter import Ticket
from usage.call_record import CallRecord
from usage.ledger import ledger


class Held(ExitStack[bool | None]):
    """What one call holds. The handler closes it once the answer has been sent, however the call ends.

    `ticket` is None for a key without limits, `reservation` for a key without budgets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ticket: Ticket | None = None
        self.reservation: Reservation | None = None

    def settle(self, row: CallRecord, tokens: int) -> None:
        """Settles the call's budget reservation with the dollars of its row, and its limits with the tokens."""
        if self.reservation is not None:
            self.reservation.settle(row)
            ledger.ship_soon()
        if self.ticket is not None:
            self.ticket.settle(tokens)

    async def settled(self) -> None:
        """Waits until the counters of the key's limits know that the call has ended."""
        if self.ticket is not None:
            await self.ticket.settled()
