"""Limits the memory for request bodies from unknown senders: to `STRANGER_BYTES` bytes in each worker.

Invariants: the memory counted for a request is freed exactly once, however the request ends; while no body arrives,
none is counted. One client (`proxyapi.unauthenticated.client_network`) counts with at most half of this limit, so
that no client can use all of the memory. A client that uses more than half of it is refused; others are not. Use this
from the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import TooManyStrangers
from proxyapi.unauthenticated.client_network import client_network


class StrangerBudget:
    """The memory that one worker may use for request bodies whose senders have shown no valid key yet.

    `limit` is the highest number of bytes that may be in use, and `bytes_in_use` the number in use now. If the bodies
    from one client network use more than half of `limit`, only this half counts in `bytes_in_use`: no network can use
    up the memory of the others.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes_in_use = 0
        self._by_network: dict[str, int] = {}

    @contextmanager
    def share(self, address: str) -> Iterator[Share]:
        """Context manager that yields a `Share`, the memory that is used by the body of one request from `address`.

        When the block ends, the memory counts as free again. So the block must last until the sender's key is known.
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
        """Returns whether more of a request's body may be read from a client of `network` without a valid key.

        Returns False if the bodies of all such clients together use more than `limit` bytes, or the bodies of this
        network more than half of `limit`.
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
        """Checks that more of this request's body may be kept in memory while its sender has shown no valid key.

        Raises:
            TooManyStrangers: the bodies of all such senders use more memory than the limit, or the bodies of this
                sender's network more than half of the limit.
        """
        if not self._budget.has_room(self.network):
            raise TooManyStrangers


stranger_budget = StrangerBudget(settings.STRANGER_BYTES)
