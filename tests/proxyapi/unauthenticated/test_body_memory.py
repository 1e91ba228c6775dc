"""The memory for bodies of unknown senders: counted while they are on their way, and never after."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.exceptions import TooManyStrangers
from proxyapi.unauthenticated.body_memory import Share, StrangerBudget

LIMIT = 1000
ADDRESSES = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::ffff", "2001:db8:0:1::1", ""]
arrivals = st.tuples(st.just("arrival"), st.sampled_from(ADDRESSES), st.integers(0, 5))
pieces = st.tuples(st.just("piece"), st.integers(0, 5), st.integers(0, 700))
ends = st.tuples(st.just("end"), st.integers(0, 5), st.just(0))


@given(st.lists(arrivals | pieces | ends, max_size=60))
def test_after_any_arrivals_and_ends_nothing_is_held(steps: list[tuple[str, str | int, int]]) -> None:
    budget = StrangerBudget(LIMIT)
    on_their_way: dict[int, tuple[AbstractContextManager[Share], Share]] = {}

    def end(number: int) -> None:
        if number in on_their_way:
            on_their_way.pop(number)[0].__exit__(None, None, None)

    for step, first, second in steps:
        if step == "arrival":
            number = int(second)
            end(number)
            request = budget.share(str(first))
            on_their_way[number] = (request, request.__enter__())
        elif step == "piece" and first in on_their_way:
            on_their_way[int(first)][1].add(int(second))
        elif step == "end":
            end(int(first))
        by_network: dict[str, int] = {}
        for _, share in on_their_way.values():
            by_network[share.network] = by_network.get(share.network, 0) + share.size
        assert budget.bytes_in_use == sum(min(size, LIMIT // 2) for size in by_network.values())
    for number in list(on_their_way):
        end(number)

    assert budget.bytes_in_use == 0


@pytest.mark.parametrize("fault", [TimeoutError, KeyboardInterrupt, TooManyStrangers])
def test_a_share_is_given_back_however_the_request_ends(fault: type[BaseException]) -> None:
    budget = StrangerBudget(LIMIT)

    def receive() -> None:
        with budget.share("192.0.2.1") as share:
            share.add(10)
            raise fault

    with pytest.raises(fault):
        receive()
    assert budget.bytes_in_use == 0


def test_one_client_has_half_and_all_have_the_whole() -> None:
    budget = StrangerBudget(LIMIT)
    with budget.share("192.0.2.1") as first, budget.share("192.0.2.1") as again, budget.share("192.0.2.2") as other:
        first.add(400)
        again.add(100)
        first.check_room()
        again.add(1)
        with pytest.raises(TooManyStrangers):
            first.check_room()
        other.add(500)
        other.check_room()  # what the first has beyond its half is not at the cost of others
        with budget.share("192.0.2.3") as third:
            third.add(1)
            with pytest.raises(TooManyStrangers):
                third.check_room()
