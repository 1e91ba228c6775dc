"""What one call holds while it lasts: its slots, its ticket with the limits of its key, its reservation of a budget.

The slots are given back when the answer has been sent. Ticket and reservation are settled when the call's row is
written, since only then is known what the call has cost.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from proxyapi.limits.budgets import Reservation
from proxyapi.limits.limiter import Ticket
from usage.call_record import CallRecord


class CallResources:
    """What one call holds until it ends: its slot among the calls in flight, and what it uses of limits and budgets.

    The handler closes this object once the answer has been sent, however the call ends; this gives the slot back.
    `ticket` is what the call uses of its key's limits, None for a key without limits. `reservation` is what it uses of
    its key's budgets, None for a key without budgets.
    """

    def __init__(self) -> None:
        self._at_end: list[Callable[[], None]] = []
        self.ticket: Ticket | None = None
        self.reservation: Reservation | None = None

    def reserved(self) -> CallRecord:
        """Returns the dollars reserved for the call, as a field for its journal record; without any, an empty dict."""
        return {} if self.reservation is None else self.reservation.record()

    def at_end(self, give_back: Callable[[], None]) -> None:
        """Registers a function that will be called when the call ends, to give back something that the call holds."""
        self._at_end.append(give_back)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Gives back everything that the call holds, the last taken first, even if giving one thing back fails."""
        try:
            while self._at_end:
                self._at_end.pop()()
        finally:
            if self._at_end:
                self.__exit__(kind, error, traceback)

    def hold(self, reservation: Reservation) -> None:
        """Stores the reservation of dollars for this call, and registers its `give_up` to be called when the call ends.

        `give_up` has an effect only if an error has kept the reservation from being settled.
        """
        self.reservation = reservation
        self.at_end(reservation.give_up)

    def settle_reservation(self, row: CallRecord) -> CallRecord:
        """Replaces the dollars that were reserved for the call by its cost, which is computed from its ledger `row`.

        Returns a dict with one field to add to the row: what the call has used of its worker's lease (the dollars that
        the worker has reserved in advance). Whoever writes the row to the tables needs this field. Without a
        reservation, the dict is empty.
        """
        return {} if self.reservation is None else self.reservation.settle(row)

    def count_tokens(self, tokens: int) -> None:
        """Counts the tokens of the ended call against its key's limit per minute, and frees its slot there."""
        if self.ticket is not None:
            self.ticket.settle(tokens)

    async def wait_until_settled(self) -> None:
        """Waits until the limits of the call's key have counted its tokens and freed its slot.

        Returns at once if the key has no limits.
        """
        if self.ticket is not None:
            await self.ticket.wait_until_settled()
