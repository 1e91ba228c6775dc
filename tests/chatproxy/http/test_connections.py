"""Which connection is closed when there are too many, and how many are allowed; tested without sockets."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatproxy.http.connections import (
    MAX_CANDIDATES,
    MAX_DEFAULT_CONNECTIONS,
    RESERVED_FILES,
    Connections,
    Network,
    connection_limit,
    files_needed,
)


@dataclass(eq=False)
class Stub:
    """A connection without a socket; `sends` is true while bytes of an answer have not left."""

    is_known: bool = False
    sends: bool = False
    network: Network | None = None
    is_closed: bool = field(default=False, init=False)

    def close_idle(self) -> bool:
        self.is_closed = not self.sends
        return self.is_closed


def open_one(
    connections: Connections,
    address: str = "192.0.2.1",
    descriptor: int = 10,
    *,
    is_known: bool = False,
    sends: bool = False,
) -> Stub:
    stub = Stub(is_known, sends)
    assert connections.admit(stub, address, descriptor)
    return stub


def test_the_longest_idle_is_closed_for_a_new_one() -> None:
    connections = Connections(6)
    first, second, third = (open_one(connections) for _ in range(3))
    connections.remove_idle(first)
    connections.add_idle(first)  # it had a call, so now `second` is idle for longest

    open_one(connections)

    assert [stub.is_closed for stub in (first, second, third)] == [False, True, False]
    assert connections.count == 3


def test_strangers_go_before_callers() -> None:
    connections = Connections(3, trusted_proxies=["192.0.2.0/24"])
    known = open_one(connections, is_known=True)
    strangers = [open_one(connections) for _ in range(2)]

    for _ in range(10):
        strangers.append(open_one(connections))
    assert not known.is_closed
    assert [stub.is_closed for stub in strangers] == [True] * 10 + [False] * 2

    for stub in strangers[-2:]:
        connections.remove_idle(stub)
    open_one(connections)
    assert known.is_closed


def test_a_call_is_never_cut_for_a_new_connection() -> None:
    connections = Connections(4)
    refusals: list[str] = []
    connections.count_refusal = refusals.append
    busy = [open_one(connections) for _ in range(2)]
    for stub in busy:
        connections.remove_idle(stub)

    assert not connections.admit(Stub(), "192.0.2.1", 10)
    assert not any(stub.is_closed for stub in busy)
    assert refusals == ["too_many_connections"]

    connections.remove(busy[0])
    open_one(connections)


def test_an_answer_that_still_leaves_is_not_cut() -> None:
    connections = Connections(8)
    sending = [open_one(connections, sends=True) for _ in range(2)]
    idle = [open_one(connections) for _ in range(2)]

    open_one(connections)

    assert [stub.is_closed for stub in (*sending, *idle)] == [False, False, True, False]


def test_many_that_still_send_are_passed_over_piece_by_piece() -> None:
    """A search for a connection to close tries a bounded number, and the next search begins where it has stopped."""
    connections = Connections(4 * MAX_CANDIDATES)
    for _ in range(2 * MAX_CANDIDATES - 1):
        open_one(connections, sends=True)
    last = open_one(connections)

    assert not connections.admit(Stub(), "192.0.2.1", 10)
    open_one(connections)
    assert last.is_closed


@pytest.mark.parametrize(
    ("addresses", "share_a_limit"),
    [
        (["192.0.2.1", "192.0.2.1"], True),
        (["192.0.2.1", "192.0.2.2"], False),
        (["192.0.2.1", "::ffff:192.0.2.1"], True),
        (["::ffff:192.0.2.1", "::ffff:192.0.2.2"], False),
        (["2001:db8::1", "2001:db8::2"], True),
        (["2001:db8::1", "2001:db8:0:1::1"], False),
        (["", ""], True),
    ],
)
def test_a_client_is_an_address_or_a_64(addresses: list[str], share_a_limit: bool) -> None:
    connections = Connections(10, 1)
    one = open_one(connections, addresses[0])
    open_one(connections, addresses[1])

    assert one.is_closed == share_a_limit


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "2001:db8::5"])
def test_a_trusted_proxy_has_no_limit_of_its_own(address: str) -> None:
    connections = Connections(10, 1, trusted_proxies=["10.0.0.0/8", "2001:db8::5"])

    assert not any(stub.is_closed for stub in [open_one(connections, address) for _ in range(10)])


def test_one_client_has_half_at_most() -> None:
    assert Connections(10).limit_per_network == 5
    assert Connections(10, 9).limit_per_network == 5
    assert Connections(10, 2).limit_per_network == 2
    assert Connections(1).limit_per_network == 1


def test_what_uses_descriptors_up_is_no_matter() -> None:
    """The number of a new descriptor shows how many are in use, for files, upstream and the database as well."""
    connections = Connections(1000, descriptor_end=100)
    idle = open_one(connections, descriptor=99)
    open_one(connections, descriptor=100)
    assert idle.is_closed


@pytest.mark.parametrize(
    ("files", "calls", "wanted", "expected"),
    [
        (files_needed(1000), 1000, None, 1000),
        (20_000, 1000, None, (20_000 - RESERVED_FILES) // 2),
        (1_048_576, 1000, None, MAX_DEFAULT_CONNECTIONS),
        (sys.maxsize, 1000, None, MAX_DEFAULT_CONNECTIONS),
        (1_048_576, 20_000, None, 40_000),
        (1024, 1000, None, 412),
        (256, 1000, None, 64),
        (20_000, 1000, 50, 50),
        (1024, 1000, 5000, 412),
    ],
)
def test_the_ceiling_leaves_descriptors_for_the_rest(files: int, calls: int, wanted: int | None, expected: int) -> None:
    assert connection_limit(files, calls, wanted) == expected
    assert 2 * expected + min(RESERVED_FILES, files // 2) <= files


STEPS = st.lists(st.tuples(st.sampled_from(["open", "call", "answer", "close"]), st.integers(0, 9), st.integers(0, 3)))


@given(STEPS)
def test_it_counts_right_whatever_happens(steps: list[tuple[str, int, int]]) -> None:
    connections = Connections(6, 3)
    alive: list[Stub] = []
    busy: set[Stub] = set()
    for step, number, address in steps:
        stub = alive[number % len(alive)] if alive else Stub()
        if step == "open":
            new = Stub(is_known=number % 2 == 0)
            if connections.admit(new, f"192.0.2.{address}", 10):
                alive.append(new)
            else:
                networks = [one.network.name for one in busy if one.network]
                assert len(busy) == 6 or networks.count(f"192.0.2.{address}") == 3
        elif step == "call" and stub in alive:
            connections.remove_idle(stub)
            busy.add(stub)
        elif step == "answer" and stub in busy:
            connections.add_idle(stub)
            busy.discard(stub)
        elif step == "close":
            connections.remove(stub)
            busy.discard(stub)
            alive = [one for one in alive if one is not stub]
        assert not any(stub.is_closed for stub in busy)
        alive = [stub for stub in alive if not stub.is_closed]
        assert connections.count == len(alive) <= 6
        assert sum(network.count for network in connections._networks.values()) == len(alive)
        assert max((network.count for network in connections._networks.values()), default=0) <= 3
