"""Names of a model that differ in the date are one row of the page Usage, as on the dashboard, with the same sums."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils.http import urlencode

from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, REQUESTS, USAGE, usage_lines
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.sums.labels.label_tables import END_USER

pytestmark = pytest.mark.django_db

YESTERDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
DAY = {"range": f"{YESTERDAY:%Y-%m-%d}"}
NAMES = ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-05-13", "gpt-4.1-2025-04-14", "gpt-4-0613", "o3"]
LINES = {"gpt-4o (any date)": 3, "gpt-4.1-2025-04-14": 1, "gpt-4-0613": 1, "o3": 1}
OTHERS = ["", "day", "key", END_USER, "tag:project"]


@pytest.fixture
def _calls() -> None:
    rows = [
        call(
            moment, response_model=name, request_model=name, key_name=f"key {number % 2}",
            end_user="Eve" * (number % 2), tags=["project=x"], output_tokens=100 * number,
        )
        for moment in (YESTERDAY, YESTERDAY - timedelta(days=1))
        for number, name in enumerate(NAMES, 1)
    ]  # fmt: skip
    write_rows(Pricer().priced(rows))


@pytest.mark.usefixtures("_calls")
def test_the_rows_are_those_of_the_dashboard(admin: Client) -> None:
    used = admin.get(DASHBOARD, DAY).context["dashboard"].used["model"]
    rows = admin.get(USAGE, {**DAY, "by": "model"}).context["spending"].rows

    assert {row.cells[0].text: row.calls for row in rows} == LINES
    figures = {row.filter_value: (row.calls, row.cost) for row in used if row.filter_value}
    assert {row.cells[0].text: (row.calls, row.cost) for row in rows} == figures
    assert {row.before == row.cost for row in rows} == {True}


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("only", [{}, {END_USER: "Eve"}, {"tag": "project=x"}], ids=str)
def test_so_it_is_beside_any_other_group(admin: Client, other: str, only: dict[str, str]) -> None:
    lines = usage_lines(admin, **DAY, by="model", then=other, **only)
    groups = [line for line in lines if line["line"] == "group"]

    keys = [tuple(line[name] for name in ("model", other) if name) for line in groups]
    assert len(set(keys)) == len(keys)
    assert {line["model"] for line in groups} <= LINES.keys()
    assert sum(int(line["calls"]) for line in groups) == int(lines[-1]["calls"]) == (3 if END_USER in only else 6)
    dates = [line for line in groups if line["model"] == "gpt-4o (any date)"]
    assert sum(int(line["calls"]) for line in dates) == (2 if END_USER in only else 3)
    assert {line["cost_before_usd"] for line in dates} == {line["cost_usd"] for line in dates}
    charts = admin.get(USAGE, {**DAY, "by": "model", "then": other, **only}).context["charts"]
    if charts:
        assert "gpt-4o (any date)" in {line["name"] for line in charts["dollars"]}
        assert len({line["name"] for line in charts["dollars"]}) == len(charts["dollars"])


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize("by", ["model", "key", "day", END_USER])
@pytest.mark.parametrize("only", [{}, {END_USER: "Eve"}, {"tag": "project=x"}, {"key": "key 1"}], ids=str)
def test_its_name_leads_to_the_sums_of_only_its_dates(admin: Client, by: str, only: dict[str, str]) -> None:
    lines = usage_lines(admin, **DAY, by=by, model="gpt-4o (any date)", **only)
    expected = NAMES[:3] if not only or "tag" in only else [NAMES[0], NAMES[2]]  # Eve's calls, and those of key 1
    assert int(lines[-1]["calls"]) == len(expected)
    if by == "model":
        assert sorted(line["model"] for line in lines if line["line"] == "group") == sorted(expected)
    assert {line["model"] for line in lines if by != "model"} <= {"gpt-4o (any date)"}


@pytest.mark.usefixtures("_calls")
def test_the_links_of_the_row(admin: Client) -> None:
    [row] = [
        row
        for row in admin.get(USAGE, {**DAY, "by": "model"}).context["spending"].rows
        if "any date" in row.cells[0].text
    ]
    assert urlencode({"model": "gpt-4o (any date)"}) in row.cells[0].query
    of_dates = admin.get(f"{USAGE}?{row.cells[0].query}").context["spending"]
    assert (of_dates.total.calls, of_dates.total.cost) == (row.calls, row.cost)
    assert len(admin.get(f"{REQUESTS}?{row.calls_query}").context["calls"]) == row.calls


def test_a_name_that_reads_like_any_date_is_a_name(admin: Client) -> None:
    for name in ("o3", "o3-2025-04-16", "o3 (any date)"):
        write_rows(Pricer().priced([call(YESTERDAY, response_model=name, request_model=name)]))
    rows = admin.get(USAGE, {**DAY, "by": "model"}).context["spending"].rows
    for row in rows:
        of_name = admin.get(f"{USAGE}?{row.cells[0].query}").context["spending"]
        assert of_name.total.calls == row.calls, row
