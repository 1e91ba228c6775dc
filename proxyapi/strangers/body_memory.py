"""Owns the memory for request bodies whose sender is not known yet: one budget per worker, `STRANGER_BYTES`.

Invariants: a share gives its bytes back exactly once, however the request ends; when no body is on its way the
budget is 0. A client (`proxyapi.strangers.client_network`) counts for at most half, so one client never takes it all:
what it holds beyond its half keeps only itself out. Used from the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings

from proxyapi.exceptions import TooManyStrangers
from proxyapi.strangers.client_network import client_network


class StrangerBudget:
    """`held` is the number of bytes counted now; `limit` is how many there may be."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self._by_network: dict[str, int] = {}

    @contextmanager
    def share(self, address: str) -> Iterator[Share]:
        """The part of one request, from the client at `address`, until its sender is known or the request ends."""
        share = Share(self, client_network(address))
        try:
            yield share
        finally:
            self.change(share.network, -share.size)

    def change(self, network: str, size: int) -> None:
        """Counts `size` more bytes (or fewer, if negative) for `network`."""
        before = self._by_network.get(network, 0)
        after = before + size
        if after:
            self._by_network[network] = after
        else:
            self._by_network.pop(network, None)
        self.held += min(after, self._half) - min(before, self._half)

    def has_room(self, network: str) -> bool:
        """Whether a body from `network` may grow."""
        return self.held <= self.limit and self._by_network.get(network, 0) <= self._half

    @property
    def _half(self) -> int:
        return self.limit // 2


class Share:
    """The bytes of one request in the budget."""

    def __init__(self, budget: StrangerBudget, network: str) -> None:
        self.network = network
        self.size = 0
        self._budget = budget

    def add(self, size: int) -> None:
        self.size += size
        self._budget.change(self.network, size)

    def check_room(self) -> None:
        """Raises `TooManyStrangers` if the budget, or this client's half of it, is used up."""
        if not self._budget.has_room(self.network):
            raise TooManyStrangers


stranger_budget = StrangerBudget(settings.STRANGER_BYTES)
