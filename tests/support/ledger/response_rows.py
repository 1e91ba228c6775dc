"""Makes rows about one stored response: of the call that created it, and of later calls that state its usage again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.db.models import Sum

from tests.support.ledger.ledgers import NOON, SUMS, Row, call, stored_sums, sums_of
from usage.journal_shipping.rows import write_rows
from usage.models import (
    CountedResponse,
    Hold,
    PendingResponse,
    Request,
    UsageDay,
)
from usage.money.row_pricing import Pricer
from usage.upkeep.verify import find_faults

ESTIMATE = {"input_tokens": 5017, "cached_tokens": None, "output_tokens": 12}
EXACT = {"input_tokens": 4005, "cached_tokens": 0, "output_tokens": 500}
NOTHING = dict.fromkeys(ESTIMATE)


def about(response_id: str = "resp_1", **columns: Any) -> Row:
    return call(response_id=response_id, **{"route": "/v1/responses", **columns})


def left(response_id: str = "resp_1", **columns: Any) -> Row:
    """Makes the row of a streamed response whose caller has left: its usage is estimated from the relayed text."""
    return about(
        response_id,
        **{
            "outcome": "client_cancelled", "usage": None, "usage_source": "estimated", "stream": True,
            "response_status": "in_progress", "pollable": True, **ESTIMATE, **columns,
        },
    )  # fmt: skip


def queued(response_id: str = "resp_1", **columns: Any) -> Row:
    """Makes the row of the call that has just created a background response, whose usage is not known yet."""
    return left(
        response_id,
        **{"outcome": "success", "usage_source": "unknown", "response_status": "queued", **NOTHING, **columns},
    )


def seen(response_id: str = "resp_1", **columns: Any) -> Row:
    """Makes the row of a call that has read an earlier call's finished response; so the row states the usage."""
    moment = columns.pop("moment", NOON + timedelta(minutes=2))
    later = {"method": "GET", "route": "/v1/responses/{id}", "response_status": "completed", **EXACT}
    return call(moment, response_id=response_id, **{**later, "usage": {"input_tokens": 4005}, **columns})


def looked(response_id: str = "resp_1", **columns: Any) -> Row:
    """Makes the row of a poll, the gateway's own request for a finished background response.

    The row has the route of the call that created the response.
    """
    return seen(response_id, route="/v1/responses", by_gateway=True, tags=["background"], **columns)


def unfinished(response_id: str = "resp_1", **columns: Any) -> Row:
    """Makes the row of a call that has read an earlier call's unfinished response; so the row states no usage."""
    return seen(response_id, usage=None, usage_source="unknown", response_status="in_progress", **NOTHING, **columns)


def deliver(*batches: Sequence[Row]) -> None:
    pricer = Pricer()
    for batch in batches:
        write_rows(pricer.priced(batch))


def forget_everything() -> None:
    for model in (CountedResponse, PendingResponse, Hold, Request, *SUMS):
        model.objects.all().delete()


def counted() -> tuple[Any, Any, Any]:
    """Returns the ledger's sums over all days: input tokens, output tokens and dollars; None if there are no calls."""
    sums = UsageDay.objects.aggregate(Sum("input_tokens"), Sum("output_tokens"), Sum("cost"))
    return sums["input_tokens__sum"], sums["output_tokens__sum"], sums["cost__sum"]


def assert_sums_are_right() -> None:
    """Asserts that the ledger's sums are those of its rows, except for maxima.

    A maximum may still be that of an estimate that was replaced.
    """
    (hours, days), expected = stored_sums(), sums_of(list(Request.objects.all()))
    for hour in [*hours.values(), *expected[0].values()]:
        for name in [name for name in hour if name.startswith("max_")]:
            del hour[name]
    assert (hours, days) == expected
    assert list(find_faults(Path("/nonexistent"))) == []


def cost_of(counts: dict[str, Any]) -> Decimal:
    [row] = Pricer().priced([about(**counts)])
    return Decimal(row["cost"] or 0)
