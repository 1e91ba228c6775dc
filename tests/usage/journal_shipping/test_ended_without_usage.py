"""Background responses that end without a usage, and those with a completion window: each call's cost is known then."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.support.ledger.ledgers import Row, stored
from tests.support.ledger.response_rows import (
    ESTIMATE,
    NOTHING,
    assert_sums_are_right,
    counted,
    deliver,
    left,
    looked,
    queued,
    seen,
)
from usage.journal_shipping.response_billing import COUNTED_LATER
from usage.models import PendingResponse, UsageDay
from usage.money.unbilled import COUNTED_AT_END, NOT_BILLED
from usage.upkeep.repricing import reprice

pytestmark = pytest.mark.django_db


def costs_of(*rows: Row) -> list[Any]:
    return [
        (row.cost, row.cost_kind, (row.price or {}).get("source")) for row in stored(*(r["request_id"] for r in rows))
    ]


def failed(look: Any = seen, **columns: Any) -> Row:
    return look(usage=None, usage_source="unknown", **{"response_status": "failed", **NOTHING, **columns})


@pytest.mark.parametrize("look", [seen, looked])
@pytest.mark.parametrize("together", [False, True])
def test_a_response_that_has_failed_costs_nothing(look: Any, together: bool) -> None:
    made, ended = queued(), failed(look)
    if together:
        deliver([made, ended])
    else:
        deliver([made])
        assert costs_of(made) == [(None, "", COUNTED_AT_END["source"])]
        deliver([ended])
    assert costs_of(made, ended) == [(0, "exact", COUNTED_LATER["source"]), (0, "exact", NOT_BILLED)]
    assert UsageDay.objects.get().unpriced_calls == 0
    assert not PendingResponse.objects.exists()
    assert_sums_are_right()
    assert reprice(stored(made["request_id"])[0].started_at, unpriced_only=False) == 0


def test_an_estimate_of_a_response_that_has_failed_is_taken_back() -> None:
    made, ended = left(), failed()
    deliver([made], [ended])
    assert costs_of(made, ended) == [(0, "exact", COUNTED_LATER["source"]), (0, "exact", NOT_BILLED)]
    assert counted()[2] == 0
    assert_sums_are_right()


def test_a_cancelled_response_keeps_its_estimate_or_gets_that_of_the_gateways_look() -> None:
    """A cancelled response may be billed: $0 would be wrong."""
    made = queued()
    nothing: dict[str, Any] = {"usage": None, "response_status": "cancelled"}
    cancelled = seen(**nothing, usage_source="unknown", **dict[str, Any](NOTHING))
    deliver([made], [cancelled])
    assert costs_of(made) == [(None, "", COUNTED_AT_END["source"])]
    assert PendingResponse.objects.exists()  # so that the gateway looks at it
    look = looked(**nothing, usage_source="estimated", **dict[str, Any](ESTIMATE))
    deliver([look])
    assert costs_of(made)[0][0] == 0
    [(dollars, kind, _)] = costs_of(look)
    assert (dollars > 0, kind) == (True, "estimated")
    assert counted()[:2] == (ESTIMATE["input_tokens"], ESTIMATE["output_tokens"])
    assert not PendingResponse.objects.exists()
    assert_sums_are_right()


@pytest.mark.parametrize("look", [seen, looked])
@pytest.mark.parametrize("together", [False, True])
def test_the_window_of_the_request_lowers_the_price_of_the_response(look: Any, together: bool) -> None:
    """Only the call that has made the response knows it."""
    model = {"response_model": "gpt-6.1-sol"}
    made, ended = queued(other_usage={"completion_window": "2h"}, **model), look(**model)
    deliver(*([[made, ended]] if together else [[made], [ended]]))
    # 4005 * 2 + 500 * 10 millionths, less 30 %
    assert [row[:2] for row in costs_of(made, ended)] == [(0, "exact"), (Decimal("0.009107"), "exact")]
    assert reprice(stored(ended["request_id"])[0].started_at, unpriced_only=False) == 0
    assert_sums_are_right()
