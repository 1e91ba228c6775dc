"""Limits how many connections a worker keeps open, and decides which one to close when there are too many.

A connection is idle while no call is in flight on it. If a new connection exceeds the limit of the worker, or the limit
of its client's network, the connection that has been idle for the longest time is closed. Connections on which no valid
key was sent are closed first, so that strangers cannot displace callers. If no connection is idle, the new one is
refused.

Invariant: a connection needs two file descriptors: one for itself, and one for upstream or for the file that is sent on
it. A worker has two for each of `MAX_CONNECTIONS`, and `RESERVED_FILES` more for the journal, the database and Redis.
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

from proxyapi.unauthenticated.client_network import client_network
from usage.ip_addresses import both_forms

logger = logging.getLogger(__name__)

RESERVED_FILES = 200
# The default limit where descriptors are plentiful: idle connections take memory, too.
MAX_DEFAULT_CONNECTIONS = 10_000
# How many idle connections are tried when one must be closed: one that still has unsent bytes cannot be closed.
MAX_CANDIDATES = 16
WARNING_SECONDS = 60.0


def files_needed(parallel_calls: int) -> int:
    """Returns how many file descriptors a worker needs for `parallel_calls` calls: two for each, plus a reserve."""
    return 2 * parallel_calls + RESERVED_FILES


def allowed_files() -> int:
    """Returns how many file descriptors this process may have open; `sys.maxsize` if the system sets no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft


def connection_limit(files: int, parallel_calls: int, wanted: int | None = None) -> int:
    """Returns how many client connections a worker may keep open: at most `wanted`, but at least 1.

    * `files`: how many file descriptors the worker may have. Each connection needs two, and some are kept in reserve.
    * `parallel_calls`: the setting MAX_PARALLEL_REQUESTS.
    * `wanted`: the setting MAX_CONNECTIONS. None means 10,000 or, if that is more, twice `parallel_calls`.
    """
    reserved = min(RESERVED_FILES, files // 2)
    possible = max(1, (files - reserved) // 2)
    return min(possible, wanted or max(MAX_DEFAULT_CONNECTIONS, 2 * parallel_calls))


class Closable(Protocol):
    """Interface of a client connection that may be closed when there are too many connections.

    `chatproxy.http.protocol.Protocol` implements it.
    """

    is_known: bool
    network: Network | None

    def close_idle(self) -> bool:
        """Closes this idle connection and returns True; returns False while bytes of its last answer are unsent."""


@dataclass(eq=False)
class IdleConnections:
    """The idle client connections of a worker, or of one client network; each list begins with the longest idle one.

    `known` has the connections on which a valid key was sent, `strangers` has all others.
    """

    # Dictionaries without values, which keep the order and remove an entry in constant time.
    strangers: dict[Closable, None] = field(default_factory=dict)
    known: dict[Closable, None] = field(default_factory=dict)

    def add(self, connection: Closable) -> None:
        """Adds a client connection that has just become idle to the end of the list of idle ones."""
        (self.known if connection.is_known else self.strangers)[connection] = None

    def discard(self, connection: Closable) -> None:
        """Removes a client connection from the list of idle ones, if it is in the list."""
        if connection in self.known:
            del self.known[connection]
        else:
            self.strangers.pop(connection, None)

    def close_longest(self) -> Closable | None:
        """Closes the connection that has been idle for the longest time, and returns it; None if none can be closed.

        Connections on which no valid key was sent are closed before all others. A connection with unsent bytes cannot
        be closed. At most `MAX_CANDIDATES` of each kind are tried.
        """
        for connections in (self.strangers, self.known):
            for _ in range(min(MAX_CANDIDATES, len(connections))):
                connection = next(iter(connections))
                if connection.close_idle():
                    return connection
                connections[connection] = connections.pop(connection)  # to the end: the next search tries others
        return None


@dataclass(eq=False)
class Network:
    """The open connections of one client network (an IPv4 address, or a /64 of IPv6): their number, and the idle ones.

    `limit` is how many connections the network may have.
    """

    name: str
    limit: int
    count: int = 0
    idle: IdleConnections = field(default_factory=IdleConnections)


class Connections:
    """The open client connections of one worker, and the limits on their number; for use from the event loop only.

    * `limit`: how many connections the worker may have.
    * `limit_per_network`: how many a client network may have; by default half of `limit`, and never more.
    * `trusted_proxies`: networks with such a proxy have no limit of their own.
    * `descriptor_end`: the first number of a file descriptor that is too high. A new connection with such a descriptor
      is treated as if `limit` were reached.
    * `count_refusal`: called with the reason when a connection is refused or dropped.
    """

    # Every method takes constant time. A proxy stands for many clients. The system gives the lowest free descriptor, so
    # a high one means that nearly all are in use.
    def __init__(
        self,
        limit: int = sys.maxsize,
        limit_per_network: int | None = None,
        trusted_proxies: Iterable[str] = (),
        descriptor_end: int = sys.maxsize,
        count_refusal: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.limit = limit
        self.limit_per_network = max(1, min(limit // 2, limit_per_network or limit))
        self.count = 0
        self.count_refusal = count_refusal
        self.is_draining = False  # whether each answer ends its connection, because this worker is to end
        self._trusted = [ipaddress.ip_network(form) for network in trusted_proxies for form in both_forms(network)]
        self._descriptor_end = descriptor_end
        self._networks: dict[str, Network] = {}
        self._idle = IdleConnections()
        self._warned_at = -WARNING_SECONDS

    def trusts(self, address: str) -> bool:
        """Returns whether `address` is the IP address of a trusted proxy (TRUSTED_PROXIES).

        Returns False for a text that is no IP address.
        """
        if not self._trusted:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:  # a peer that has left already has no address
            return False
        return any(parsed in network for network in self._trusted)

    def admit(self, connection: Closable, address: str, descriptor: int) -> bool:
        """Registers a new client connection, as an idle one, and returns True; returns False if there are too many.

        If the limit of the worker or of the client's network is reached, an idle connection is closed to make room
        (`IdleConnections.close_longest`). If none can be closed, the new connection is not registered, and is counted
        as refused.
        """
        name = client_network(address)
        network = self._networks.get(name)
        if network is None:
            network = Network(name, self._limit_of(name))
        if network.count >= network.limit and not self._make_room(network.idle):
            return self._refuse(f"{network.count} connections of {name}")
        is_full = self.count >= self.limit or self.is_short_of_files(descriptor)
        if is_full and not self._make_room(self._idle):
            return self._refuse(f"{self.count} connections")
        self._networks[name] = network
        connection.network = network
        network.count += 1
        self.count += 1
        self.add_idle(connection)
        return True

    def is_short_of_files(self, descriptor: int) -> bool:
        """Returns whether nearly all file descriptors of this process are in use.

        `descriptor` is that of a new connection. The system always gives the lowest free number, so a high one means
        that few are free.
        """
        return descriptor >= self._descriptor_end

    def add_idle(self, connection: Closable) -> None:
        """Registers a connection as idle, because it is new or its last call has been answered.

        Does nothing for a connection that was refused or has been removed.
        """
        if connection.network is not None:
            connection.network.idle.add(connection)
            self._idle.add(connection)

    def remove_idle(self, connection: Closable) -> None:
        """Removes a connection from the idle ones, because a call has begun on it or it was closed.

        Does nothing for a connection that was refused or has been removed.
        """
        if connection.network is not None:
            connection.network.idle.discard(connection)
            self._idle.discard(connection)

    def remove(self, connection: Closable) -> None:
        """Removes a closed connection from the counts of the worker and of its network.

        Does nothing for a connection that was refused, or removed before.
        """
        network = connection.network
        if network is None:
            return
        self.remove_idle(connection)
        connection.network = None
        network.count -= 1
        self.count -= 1
        if not network.count:
            self._networks.pop(network.name, None)

    def _make_room(self, idle: IdleConnections) -> bool:
        """Closes one of the idle connections `idle`, and removes it from the counts; returns True.

        `close_longest` chooses the connection. Returns False if none can be closed.
        """
        closed = idle.close_longest()
        if closed is not None:
            self.remove(closed)  # at once, because more connections may come before the socket is closed
        return closed is not None

    def _refuse(self, reason: str) -> bool:
        """Counts one refused connection, and logs the `reason` at most once a minute; always returns False."""
        self.count_refusal("too_many_connections")
        now = time.monotonic()
        if now - self._warned_at >= WARNING_SECONDS:
            self._warned_at = now
            logger.warning("a connection was refused: there are %s, and none of them is idle", reason)
        return False

    def _limit_of(self, name: str) -> int:
        """Returns how many connections a client network, such as `2001:db8::/64`, may have.

        For a network with trusted proxies in it, this is `sys.maxsize`: no limit.
        """
        try:
            address = ipaddress.ip_network(name)
        except ValueError:  # a peer that has left already has no address
            return self.limit_per_network
        for trusted in self._trusted:
            if trusted.version == address.version and trusted.overlaps(address):
                return sys.maxsize
        return self.limit_per_network
