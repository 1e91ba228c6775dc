"""The dashboard's tables of keys, models and routes: the costliest first, the rest in one row, and all in the total."""

from __future__ import annotations

from datetime import UTC, datetime
from html import unescape
from urllib.parse import parse_qsl

import pytest
from django.test import Client

from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, listed, make_call, make_failure, tiles
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data import formatting
from usage.page_data.dashboard_content import MAX_TABLE_ROWS, UsageRow

pytestmark = pytest.mark.django_db


def tables(admin: Client, **query: str) -> dict[str, list[UsageRow]]:
    used: dict[str, list[UsageRow]] = admin.get(DASHBOARD, query).context["dashboard"].used
    return used


def test_it_works(admin: Client) -> None:
    """A key with one dear call comes before many keys with more calls, which cost less."""
    make_call(key_name="old-app", output_tokens=10_000_000)
    for number in range(MAX_TABLE_ROWS + 2):
        for _ in range(2):
            make_call(key_name=f"team-{number}", route=f"/v1/{number}")
    used = tables(admin)

    assert [(row.name, row.calls) for row in used["key"]] == [
        ("old-app", 1), *((f"team-{number}", 2) for number in range(MAX_TABLE_ROWS - 1)), ("3 others", 6), ("Total", 21)
    ]  # fmt: skip
    assert [row.name for row in used["route"]][-2:] == ["3 others", "Total"]


@pytest.mark.parametrize("range_name", ["hour", "month"])
def test_each_table_adds_up_to_the_tiles(admin: Client, range_name: str) -> None:
    now = datetime.now(UTC)
    models = [f"gpt-4o-{number}" for number in range(MAX_TABLE_ROWS + 1)]
    rows = [call(now, key_name=model, route=f"/v1/{model}", response_model=model, output_tokens=10**7, price=None)
            for model in models]  # fmt: skip
    write_rows(Pricer().priced(rows))
    make_failure()
    answer = admin.get(DASHBOARD, {"range": range_name})
    used, said = answer.context["dashboard"].used, tiles(answer.content.decode())

    for table in used.values():
        *parts, total = table
        assert total.name == "Total"
        assert sum(row.calls for row in parts) == total.calls == len(models) + 1
        assert sum(row.tokens for row in parts) == total.tokens
        assert said["calls"].startswith(f"Calls {total.calls} ")
        assert said["dollars"].startswith(f"Cost {total.cost}")
        assert total.errors == formatting.share(1, total.calls)


def test_one_that_is_left_is_one_other(admin: Client) -> None:
    for number in range(MAX_TABLE_ROWS + 1):
        make_call(key_name=f"team-{number}")
    assert [row.name for row in tables(admin)["key"]][-2:] == ["1 other", "Total"]


def test_a_single_row_needs_no_total(admin: Client) -> None:
    make_call()
    assert [row.name for row in tables(admin)["key"]] == ["default"]


def test_a_model_is_one_line_under_whatever_name_it_was_called(admin: Client) -> None:
    make_call(response_model="gpt-4o-2024-08-06")
    make_call(response_model="gpt-4o-2024-05-13")
    make_failure(request_model="gpt-4o")
    make_call(response_model="gpt-4o-mini-2024-07-18")
    by_name = {row.name: row for row in tables(admin)["model"]}

    assert set(by_name) == {"gpt-4o", "gpt-4o-mini-2024-07-18", "Total"}
    assert (by_name["gpt-4o"].calls, by_name["gpt-4o"].errors.replace("\u202f", " ")) == (3, "33 %")
    assert by_name["gpt-4o"].dates == "2024-05-13, 2024-08-06"
    chart = admin.get(DASHBOARD).context["charts"]["dollars"]
    assert [line["name"] for line in chart] == ["gpt-4o", "gpt-4o-mini-2024-07-18"]


@pytest.mark.parametrize(
    "more", [{}, {"key": "default"}, {"outcome": "failed"}, {"cost": "0"}, {"q": "gpt-4o"}], ids=str
)
def test_the_link_of_a_model_leads_to_all_of_its_calls(admin: Client, more: dict[str, str]) -> None:
    dated = [make_call(9, response_model="gpt-4o-2024-08-06"), make_call(7, response_model="gpt-4o-2024-05-13")]
    failed = make_failure(8, request_model="gpt-4o")
    make_call(response_model="gpt-4o-mini-2024-07-18")
    make_failure(request_model="gpt-4o-mini")
    page = admin.get(DASHBOARD).content.decode()
    links = [unescape(part.partition('"')[0]) for part in page.split('href="/admin/usage/request/?')]
    [query] = [dict(parse_qsl(link)) for link in links if "model=gpt-4o%20" in link]

    expected = [failed] if "outcome" in more else [dated[1], failed, dated[0]]
    assert listed(admin, **query, **more) == expected


def test_the_link_of_a_line_without_a_model_leads_to_its_calls(admin: Client) -> None:
    call_id = make_call(request_model="", response_model="")
    make_call()
    [row] = [row for row in tables(admin)["model"] if not row.name]
    assert listed(admin, model=str(row.filter_value)) == [call_id]
