"""What a call holds is given back when it ends, whatever fails."""

from __future__ import annotations

import pytest

from proxyapi.call.call_resources import CallResources


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
