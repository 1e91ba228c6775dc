"""What one call holds while it lasts: its slots, its ticket with the limits of its key, its reservation of a budget.

The slots are given back when the answer has been sent. Ticket and reservation are settled when the call's row is
written, since only then is known what the call has cost.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from proxyapi.limits.limiter import Ticket
from proxyapi.limits.reservation import Reservation
from usage.call_record import CallRecord


class CallResources:
    """What one call holds until it ends: its slot among the calls in flight, and its share of limits and budgets.

    As a context manager it gives everything back, however the call ends. `ticket` is the share of the key's limits,
    `reservation` the dollars of the key's budgets; each is None for a key without such limits.
    """

    def __init__(self) -> None:
        self._at_end: list[Callable[[], None]] = []
        self.ticket: Ticket | None = None
        self.reservation: Reservation | None = None

    def reserved(self) -> CallRecord:
        """Returns the call's reserved dollars as a field for its journal record, or an empty dict."""
        return {} if self.reservation is None else self.reservation.record()

    def at_end(self, give_back: Callable[[], None]) -> None:
        """Registers a function that gives back something that the call holds; it is called when the call ends."""
        self._at_end.append(give_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives back everything that the call holds, the last taken first, even if giving back one thing fails."""
        try:
            while self._at_end:
                self._at_end.pop()()
        finally:
            if self._at_end:
                self.__exit__(kind, error, traceback)

    def hold(self, reservation: Reservation) -> None:
        """Stores the call's reservation of dollars, to be given back when the call ends."""
        self.reservation = reservation
        # This has an effect only if an error has kept the reservation from being settled.
        self.at_end(reservation.give_up)

    def settle_reservation(self, row: CallRecord) -> CallRecord:
        """Replaces the dollars reserved for the call by its real cost, computed from its ledger `row`.

        Returns a field to add to the row: the dollars that the call has used of its worker's lease. If the call has no
        reservation, the result is an empty dict.
        """
        return {} if self.reservation is None else self.reservation.settle(row)

    def count_tokens(self, tokens: int) -> None:
        """Counts the ended call's tokens against its key's limit per minute, and frees its slot of the key."""
        if self.ticket is not None:
            self.ticket.settle(tokens)

    async def wait_until_settled(self) -> None:
        """Waits until the key's limits, if it has any, have counted the call's tokens and freed its slot."""
        if self.ticket is not None:
            await self.ticket.wait_until_settled()
