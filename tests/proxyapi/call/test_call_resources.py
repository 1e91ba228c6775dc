"""What a call holds is given back when it ends, whatever fails."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from proxyapi.call.call_resources import CallResources
from proxyapi.limits.reservation import Reservation
from usage.money.leases import Lease, Wanted
from usage.money.spenders import Spender


def test_all_is_given_back_the_last_thing_first_even_if_one_cannot_be() -> None:
    given_back: list[int] = []

    def fail() -> None:
        raise ZeroDivisionError

    resources = CallResources()
    for give_back in (lambda: given_back.append(1), fail, lambda: given_back.append(2), fail):
        resources.at_end(give_back)
    assert given_back == []
    with pytest.raises(ZeroDivisionError), resources:
        pass

    assert given_back == [2, 1]


def test_a_reservation_that_is_never_settled_counts_as_used_when_the_call_ends() -> None:
    """A lease with a call in flight is renewed for as long as its worker lives."""
    wanted = Wanted(Spender("key", "a key"), date(2026, 11, 29), Decimal(2), Decimal(9), None, None, least=Decimal(2))
    lease = Lease(wanted, now=0)
    lease.granted, lease.has_spare = Decimal(9), True
    resources = CallResources()
    with resources:
        share = lease.reserve(wanted)
        assert share is not None
        resources.hold(Reservation((share,)))
        assert (lease.in_flight, lease.reserved) == (1, Decimal(2))

    assert (lease.in_flight, lease.reserved, lease.used) == (0, Decimal(0), Decimal(2))
    Reservation((share,)).release()  # too late
    assert lease.used == Decimal(2)
