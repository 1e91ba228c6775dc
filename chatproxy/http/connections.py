"""Owns how many connections a worker keeps open, and which one is closed when a new one is too many.

A connection is idle while no call is in flight on it. If a new connection is one too many, for the worker or for its
client's network, the connection that has been idle for longest is closed: first those that have never shown a good key,
so that strangers cannot displace callers. If none is idle, the new connection is refused.

Invariant: a connection needs one descriptor for itself, and one for upstream or for the file that it is sent.
`MAX_CONNECTIONS` times two leaves `RESERVED_FILES` to the journal, the database and Redis.
"""

from __future__ import annotations

import ipaddress
import logging
import resource
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from proxyapi.strangers.client_network import client_network
from usage.addresses import both_forms

logger = logging.getLogger(__name__)

RESERVED_FILES = 200
# The default ceiling where descriptors are plentiful: idle connections take memory, too.
MAX_DEFAULT_CONNECTIONS = 10_000
# Connections looked at for one to close: those that still send the end of an answer are passed over.
MAX_CANDIDATES = 16
WARNING_SECONDS = 60.0


def files_needed(parallel_calls: int) -> int:
    """Returns how many descriptors a worker needs for so many calls at once: two sockets each, and the reserve."""
    return 2 * parallel_calls + RESERVED_FILES


def allowed_files() -> int:
    """Returns how many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def ceiling(files: int, parallel_calls: int, wanted: int | None = None) -> int:
    """Returns how many connections a worker may have that may open `files` descriptors; `wanted` is the setting."""
    reserved = min(RESERVED_FILES, files // 2)
    possible = max(1, (files - reserved) // 2)
    return min(possible, wanted or max(MAX_DEFAULT_CONNECTIONS, 2 * parallel_calls))


class Closable(Protocol):
    """A connection, as this module sees it."""

    is_known: bool
    network: Network | None

    def close_idle(self) -> bool:
        """Closes the connection, unless bytes of an answer have not left yet; returns whether it did."""


@dataclass(eq=False)
class Idle:
    """Idle connections, in the order in which they became idle. Dictionaries keep it, and remove in constant time."""

    strangers: dict[Closable, None] = field(default_factory=dict)
    known: dict[Closable, None] = field(default_factory=dict)

    def add(self, connection: Closable) -> None:
        (self.known if connection.is_known else self.strangers)[connection] = None

    def discard(self, connection: Closable) -> None:
        if connection in self.known:
            del self.known[connection]
        else:
            self.strangers.pop(connection, None)

    def close_longest(self) -> Closable | None:
        """Closes and returns the connection that has been idle for longest, strangers' first; None if none can be."""
        for connections in (self.strangers, self.known):
            for _ in range(min(MAX_CANDIDATES, len(connections))):
                connection = next(iter(connections))
                if connection.close_idle():
                    return connection
                connections[connection] = connections.pop(connection)  # to the end: the next search begins behind it
        return None


@dataclass(eq=False)
class Network:
    """The connections of one client network: an IPv4 address or a /64 of IPv6."""

    name: str
    most: int
    count: int = 0
    idle: Idle = field(default_factory=Idle)


class Connections:
    """The open connections of one worker. Every method takes constant time; use from the event loop only.

    `most` is the ceiling of the worker, `most_per_network` that of a client network, of which `trusted_proxies` have
    none: they stand for many clients. A new connection whose descriptor is not below `descriptor_end` is one too many
    as well: descriptors are numbered from the lowest that is free, so nearly all of them are in use, whatever for.
    `count_refusal` is called with the reason whenever a connection is refused or dropped.
    """

    def __init__(
        self,
        most: int = sys.maxsize,
        most_per_network: int | None = None,
        trusted_proxies: Iterable[str] = (),
        descriptor_end: int = sys.maxsize,
        count_refusal: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.most = most
        self.most_per_network = max(1, min(most // 2, most_per_network or most))
        self.count = 0
        self.count_refusal = count_refusal
        self._trusted = [ipaddress.ip_network(form) for network in trusted_proxies for form in both_forms(network)]
        self._descriptor_end = descriptor_end
        self._networks: dict[str, Network] = {}
        self._idle = Idle()
        self._warned_at = -WARNING_SECONDS

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # a peer that has left already has none
            return False
        return any(parsed in network for network in self._trusted)

    def admit(self, connection: Closable, address: str, descriptor: int) -> bool:
        """Registers a new connection as idle, closing another if need be; returns False if it is refused."""
        name = client_network(address)
        network = self._networks.get(name)
        if network is None:
            network = Network(name, self._most_of(name))
        if network.count >= network.most and not self._make_room(network.idle):
            return self._refuse(f"{network.count} connections of {name}")
        is_full = self.count >= self.most or descriptor >= self._descriptor_end
        if is_full and not self._make_room(self._idle):
            return self._refuse(f"{self.count} connections")
        self._networks[name] = network
        connection.network = network
        network.count += 1
        self.count += 1
        self.add_idle(connection)
        return True

    def add_idle(self, connection: Closable) -> None:
        """The last call on this connection has been answered."""
        if connection.network is not None:
            connection.network.idle.add(connection)
            self._idle.add(connection)

    def remove_idle(self, connection: Closable) -> None:
        """A call has begun on this connection."""
        if connection.network is not None:
            connection.network.idle.discard(connection)
            self._idle.discard(connection)

    def remove(self, connection: Closable) -> None:
        """The connection is closed, or was never admitted; further calls do nothing."""
        network = connection.network
        if network is None:
            return
        self.remove_idle(connection)
        connection.network = None
        network.count -= 1
        self.count -= 1
        if not network.count:
            self._networks.pop(network.name, None)

    def _make_room(self, idle: Idle) -> bool:
        closed = idle.close_longest()
        if closed is not None:
            self.remove(closed)  # now: its socket closes in a moment, and more may come before
        return closed is not None

    def _refuse(self, reason: str) -> bool:
        self.count_refusal("too_many_connections")
        now = time.monotonic()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            logger.warning("a connection was refused: there are %s, and none of them is idle", reason)
        return False

    def _most_of(self, name: str) -> int:
        try:
            address = ipaddress.ip_network(name)
        except ValueError:  # a peer that has left already has no address
            return self.most_per_network
        for trusted in self._trusted:
            if trusted.version == address.version and trusted.overlaps(address):
                return sys.maxsize
        return self.most_per_network
