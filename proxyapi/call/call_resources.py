"""What one call holds while it lasts: slots, a share of its key's limits, and reserved dollars of budgets.

Slots are given back when the answer has been sent. The limits and budgets are settled when the call's row is written,
since only then the call's cost is known.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from proxyapi.limits.limiter import Ticket
from proxyapi.limits.reservation import Reservation
from usage.call_record import CallRecord


class CallResources:
    """What one call holds until it ends: a slot among the calls in flight, and shares of limits and budgets.

    As a context manager it gives everything back, however the call ends. `ticket` has what the call takes from the
    limits of its key and team, and `reservation` the dollars reserved in their budgets. Each is None if the call takes
    nothing of the kind.
    """

    def __init__(self) -> None:
        self._at_end: list[Callable[[], None]] = []
        self.ticket: Ticket | None = None
        self.reservation: Reservation | None = None

    def reserved(self) -> CallRecord:
        """Returns the call's reserved dollars as fields for its journal record; an empty dict if there are none."""
        return {} if self.reservation is None else self.reservation.record()

    def at_end(self, give_back: Callable[[], None]) -> None:
        """Registers a function that gives back something that the call holds; it runs when the call ends."""
        self._at_end.append(give_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives back all that the call holds, the latest first; goes on even if giving back one thing fails."""
        try:
            while self._at_end:
                self._at_end.pop()()
        finally:
            if self._at_end:
                self.__exit__(kind, error, traceback)

    def hold(self, reservation: Reservation) -> None:
        """Stores the call's reservation of dollars.

        If the call ends without `settle_reservation`, because of an error, all of these dollars count as spent.
        """
        self.reservation = reservation
        # This has an effect only if an error has kept the reservation from being settled.
        self.at_end(reservation.give_up)

    def settle_reservation(self, row: CallRecord) -> CallRecord:
        """Replaces the dollars reserved for the call by the call's real cost, computed from its ledger `row`.

        Returns the fields to add to the row: the cost, and the ids of the leases (parts of a budget that the worker has
        set aside) that pay it. Without a reservation, the result is an empty dict.
        """
        return {} if self.reservation is None else self.reservation.settle(row)

    def count_tokens(self, tokens: int) -> None:
        """Counts the ended call's tokens against the limits of its key and team, and frees the call's slots in both."""
        if self.ticket is not None:
            self.ticket.settle(tokens)

    async def wait_until_settled(self) -> None:
        """Waits until `count_tokens` has taken effect: the call's tokens are counted, and its slots are free."""
        if self.ticket is not None:
            await self.ticket.wait_until_settled()
