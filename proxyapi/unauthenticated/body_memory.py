"""The memory for request bodies whose sender is not known yet: one budget per worker, `STRANGER_BYTES`.

Invariants: the memory counted for a request is freed exactly once, however the request ends; while no body arrives,
none is counted. One client (`proxyapi.unauthenticated.client_network`) counts with at most half of the budget, so that
no client can use all of it. A client that uses more than its half is refused; others are not. Use this from the event
loop only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import TooManyStrangers
from proxyapi.unauthenticated.client_network import client_network


class StrangerBudget:
    """The memory that one worker may use for request bodies whose senders have shown no valid key yet.

    `limit` is the most bytes that may be in use, and `bytes_in_use` the number in use. In `bytes_in_use`, the network
    of one client counts with at most half of `limit`.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes_in_use = 0
        self._by_network: dict[str, int] = {}

    @contextmanager
    def share(self, address: str) -> Iterator[Share]:
        """Context manager that yields a `Share`: it counts the memory of one request's body until its sender is known.

        `address` is the client's address. After the `with` block, the memory counts as free again.
        """
        share = Share(self, client_network(address))
        try:
            yield share
        finally:
            self.change(share.network, -share.size)

    def change(self, network: str, size: int) -> None:
        """Adds `size` bytes to the memory that the request bodies of `network` use; a negative `size` frees bytes."""
        before = self._by_network.get(network, 0)
        after = before + size
        if after:
            self._by_network[network] = after
        else:
            self._by_network.pop(network, None)
        # A network that uses more than half of the budget counts as half: no client can use up the budget of the
        # others.
        self.bytes_in_use += min(after, self._half) - min(before, self._half)

    def has_room(self, network: str) -> bool:
        """Returns whether more of a body may be read from a client of `network` that has shown no valid key.

        Returns False if the bodies of all such clients use more than `limit` bytes, or those of this network more than
        half.
        """
        return self.bytes_in_use <= self.limit and self._by_network.get(network, 0) <= self._half

    @property
    def _half(self) -> int:
        """The number of bytes that one client's network may use: half of the limit."""
        return self.limit // 2


class Share:
    """The memory that one request's body uses while its sender has shown no valid key."""

    def __init__(self, budget: StrangerBudget, network: str) -> None:
        self.network = network
        self.size = 0
        self._budget = budget

    def add(self, size: int) -> None:
        """Counts `size` more bytes of this request's body as used memory."""
        self.size += size
        self._budget.change(self.network, size)

    def check_room(self) -> None:
        """Checks that there is memory for more of this request's body while its sender has shown no valid key.

        Raises:
            TooManyStrangers: bodies without a key use all of the memory, or those of this network more than half of it.
        """
        if not self._budget.has_room(self.network):
            raise TooManyStrangers


stranger_budget = StrangerBudget(settings.STRANGER_BYTES)
