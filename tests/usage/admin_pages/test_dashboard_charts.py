"""The dashboard's charts: which lines they have, and how these look."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.test import Client

from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, HOSTILE, charts, make_call
from usage.journal_shipping.rows import write_rows
from usage.models import Outcome
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_charts import MAX_CHART_SERIES

pytestmark = pytest.mark.django_db


def test_an_outcome_looks_the_same_beside_any_others(admin: Client) -> None:
    def looks(**query: str) -> dict[str, int]:
        drawn = charts(admin.get(DASHBOARD, query).content.decode())["calls"]
        return {line["name"]: line["look"] for line in drawn}

    make_call(started_at=datetime(2026, 11, 20, tzinfo=UTC), outcome=Outcome.REJECTED)
    alone = looks(**{"from": "2026-11-20", "to": "2026-11-21"})
    for outcome in Outcome:
        make_call(started_at=datetime(2026, 11, 22, tzinfo=UTC), outcome=outcome)
    together = looks(**{"from": "2026-11-22", "to": "2026-11-23"})
    assert alone == {"Refused by the gateway": together["Refused by the gateway"]}
    assert len(set(together.values())) == len(Outcome)
    styles = (settings.BASE_DIR / "usage/static/usage/pages.css").read_text()
    assert all(f".cp-fill.s{look} " in styles for look in together.values())


def test_the_latency_of_all_calls_is_told_apart(admin: Client) -> None:
    """A slow upload of a caller is neither upstream's time nor the gateway's."""
    make_call(duration_ms=120_000, upstream_ms=80, overhead_ms=2)
    drawn = charts(admin.get(DASHBOARD).content.decode())["latency"]
    most = {line["name"]: max(value for value in line["values"] if value) for line in drawn}
    assert most["p95"] == pytest.approx(120_000, rel=0.05)
    assert most["Upstream, p95"] == pytest.approx(80, rel=0.05)
    assert most["Gateway, p95"] == pytest.approx(2, rel=0.05)


def test_more_models_than_a_chart_can_tell_apart_are_put_together(admin: Client) -> None:
    models = ["gpt-4o", "gpt-4.1", "gpt-5", "o4-mini", "gpt-4o-mini", "gpt-4.1-mini", "o3"]
    write_rows(Pricer().priced([call(datetime.now(UTC), response_model=model) for model in models]))
    drawn = charts(admin.get(DASHBOARD).content.decode())["dollars"]

    assert len(drawn) == MAX_CHART_SERIES + 1
    assert drawn[-1]["name"] == "2 others"
    totals = [sum(line["values"]) for line in drawn[:-1]]
    assert totals == sorted(totals, reverse=True)


def test_a_hostile_name_in_a_chart_is_only_data(admin: Client) -> None:
    make_call(response_model=f"gpt-4o-mini{HOSTILE}")
    page = admin.get(DASHBOARD).content.decode()

    assert "<script>alert(1)" not in page
