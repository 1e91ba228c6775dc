"""The memory for request bodies whose sender is not known yet: one budget per worker, `STRANGER_BYTES`.

Invariants: a share returns its bytes exactly once, however the request ends; while no body is arriving the budget is
unused. A client (`proxyapi.unauthenticated.client_network`) is counted with at most half of the budget, so no client
can use all of it; a client that holds more than its half is refused, and others are not. Used from the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import TooManyStrangers
from proxyapi.unauthenticated.client_network import client_network


class StrangerBudget:
    """The bytes of memory that one worker may use for request bodies whose senders have shown no valid key yet.

    `limit` is the number of bytes that may be in use, and `bytes_in_use` the number that are. In `bytes_in_use` one
    client's network counts with at most half of `limit`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes_in_use = 0
        self._by_network: dict[str, int] = {}

    @contextmanager
    def share(self, address: str) -> Iterator[Share]:
        """Context manager that gives one request's body a share of the memory for bodies of senders without a key.

        `address` is the client's. At the end of the `with` block, the bytes of the share are free again.
        """
        share = Share(self, client_network(address))
        try:
            yield share
        finally:
            self.change(share.network, -share.size)

    def change(self, network: str, size: int) -> None:
        """Adds `size` bytes of request bodies to the memory that `network` uses; a negative `size` frees bytes.

        Also updates `bytes_in_use`, the sum for all networks. In this sum a network that uses more than half of the
        budget counts as half, so that no client can use up the budget of the others.
        """
        before = self._by_network.get(network, 0)
        after = before + size
        if after:
            self._by_network[network] = after
        else:
            self._by_network.pop(network, None)
        self.bytes_in_use += min(after, self._half) - min(before, self._half)

    def has_room(self, network: str) -> bool:
        """Returns whether one more piece of a body may be read from a client of `network`, the network of its address.

        Two sums decide, both of bodies whose senders have shown no valid key. The bodies of all networks must be within
        the memory for such bodies, and those of this network within half of that memory.
        """
        return self.bytes_in_use <= self.limit and self._by_network.get(network, 0) <= self._half

    @property
    def _half(self) -> int:
        """The bytes of the memory budget that one client's network may use: half of it."""
        return self.limit // 2


class Share:
    """The memory that the body of one request uses, out of the budget for senders without a valid key."""

    def __init__(self, budget: StrangerBudget, network: str) -> None:
        self.network = network
        self.size = 0
        self._budget = budget

    def add(self, size: int) -> None:
        """Counts `size` more bytes of a request's body as memory used by a sender without a valid key."""
        self.size += size
        self._budget.change(self.network, size)

    def check_room(self) -> None:
        """Checks that there is memory for more of the body of a request whose sender has shown no valid key yet.

        Raises:
            TooManyStrangers: such bodies use up the memory budget for them, or those of this client's network use up
                half of it.
        """
        if not self._budget.has_room(self.network):
            raise TooManyStrangers


stranger_budget = StrangerBudget(settings.STRANGER_BYTES)
