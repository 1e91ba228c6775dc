"""`manage.py prices status`: the age of the lists, and what needs a price, with a proposal."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command

from tests.support.ledger.ledgers import call, end, ship
from usage.prices.genai_price_list import bundled
from usage.upkeep.price_status import RECENT, lacking_prices, nearest_price, price_lists

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)


def test_it_works(tmp_path: Path) -> None:
    recent = NOW - timedelta(days=1)
    ship(
        tmp_path,
        *(end(call(recent, response_model="gpt-6.3-sol")) for _ in range(3)),
        end(call(recent, response_model="gpt-6.3-sol", service_tier="flex")),
        end(call(recent, response_model="local-llama")),
        end(call(recent, response_model="gpt-4o-2031-01-01")),
        end(call(recent)),
        end(call(NOW - RECENT - timedelta(days=1), response_model="gpt-99")),
    )
    lacking = [
        (one.model, one.tier, one.calls, one.is_provisional, one.proposal and one.proposal.model)
        for one in lacking_prices()
    ]
    assert lacking[0] == ("gpt-6.3-sol", "default", 3, False, "gpt-6.2-sol")
    assert sorted(lacking[1:3]) == [
        ("gpt-6.3-sol", "flex", 1, False, "gpt-6.2-sol"),
        ("local-llama", "default", 1, False, None),
    ]
    assert lacking[3:] == [("gpt-4o-2031-01-01", "default", 1, True, "gpt-4o")]

    shown = StringIO()
    call_command("prices", "status", stdout=shown)
    lines = shown.getvalue().splitlines()
    assert lines[1] == "Downloaded: never; automatic updates: off (PRICES_UPDATE)"
    assert lines[0].startswith(f"{bundled().source}: its newest price is of 20")
    sol = "gpt-6.3-sol  default  like gpt-6.2-sol: input $2, cached_input $0.1, output $10 a million"
    assert f"       3 calls  {sol}" in lines
    assert "       1 call   local-llama  default  no similar model is listed" in lines
    assert "Has an assumed price, last 30 days:" in lines


def test_without_calls_nothing_needs_a_price() -> None:
    shown = StringIO()
    call_command("prices", "status", stdout=shown)
    assert "Needs a price, last 30 days: none" in shown.getvalue().splitlines()


def test_the_age_of_the_lists() -> None:
    lists = price_lists()
    assert date(2026, 10, 14) <= lists.newest_price
    assert date(2026, 11, 28) <= lists.corrections_read


@pytest.mark.parametrize(
    ("model", "like"),
    [("gpt-6.3-astra", "gpt-6.2-astra"), ("gpt-7-luna", "gpt-6-luna"), ("o5-mini", "o4-mini"), ("qwen3-coder", None)],
)
def test_a_proposal_is_the_price_of_the_model_that_is_most_alike(model: str, like: str | None) -> None:
    found = nearest_price(model, "default", datetime(2026, 11, 28, tzinfo=UTC))
    assert (found and found.model) == like
