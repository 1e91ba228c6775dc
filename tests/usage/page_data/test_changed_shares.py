"""The change of a share, such as the error rate, is told in percentage points."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.ledger.pages import DASHBOARD, make_call, make_failure, tiles
from usage.page_data import formatting


@pytest.mark.django_db
def test_the_error_rate_changes_by_points(admin: Client) -> None:
    for minutes in (1, 1, 70, 70, 70, 70):
        make_call(minutes)
    make_failure(1)
    make_failure(70)
    said = tiles(admin.get(DASHBOARD, {"range": "hour"}).content.decode())["errors"]
    assert said.startswith("Error rate 33 % +13 points from 20 %")


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [(0.014, 0.025, "+1.1 points"), (0.02, 0.01, "\N{MINUS SIGN}1 point"), (0.5, 0.123, "\N{MINUS SIGN}38 points"),
     (0, 0.005, "+0.5 points"), (0.01, 0.0101, "±0 points"), (0, 0, "")],
)  # fmt: skip
def test_a_change_of_a_share_is_in_points(before: float, now: float, said: str) -> None:
    assert formatting.change_of_share(now, before) == said.replace(" ", formatting.THIN)
