"""Somebody who accounts for money gets from the dashboard to a project's costs as a file, and to costly customers."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import LOOKS, SignIn, take
from tests.support.servers.gateway import Gateway

# Calls of this month and the one before, as many as there are rows on the page, with names as long as they come.
MAKE = """
import random
from datetime import UTC, datetime, timedelta
from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
chance, now = random.Random(5), datetime.now(UTC)
month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
before = (month - timedelta(days=1)).replace(day=1)
rows = []
for number in range(600):
    start = month if number % 3 else before
    moment = start + (now - month) * chance.random() if number % 3 else start + timedelta(days=27) * chance.random()
    customer, project = chance.randrange(1, 130), chance.choice(["x", "y", "search with a rather long name"])
    rows.append(call(
        moment, team=chance.choice(["red", "blue", ""]), owner=chance.choice(["Ada", "Bob"]),
        end_user=f"customer-{customer}" if customer > 5 else "", tags=[f"project={project}"] if number % 4 else [],
        key_name=chance.choice(["web", "batch"]), output_tokens=chance.randrange(100, 9000) * (1 + 9 * (customer == 77)),
        outcome="success" if number % 9 else "timeout",
        response_model=chance.choice(["gpt-4o-mini-2024-07-18", "gpt-4.1-2025-04-14", "o4-mini-2025-04-16", "nobody-knows"])))
write_rows(Pricer().priced(rows))
"""  # noqa: E501  (one long line of the script)
PAGE = "/admin/usage/report/"
# What is wider than the window: the page would be moved sideways.
TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def ledger(site: Gateway) -> Gateway:
    made = site.manage("shell", "--no-imports", "-c", MAKE)
    assert made.returncode == 0, made.stderr
    return site


def link(page: Page, place: str, name: str) -> None:
    page.get_by_label(place, exact=True).get_by_role("link", name=name, exact=True).first.click()
    page.wait_for_load_state()


def test_project_x_this_month_by_model_is_three_clicks(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger)
    link(page, "Usage this month", "project")
    page.locator(".cp-money tbody").get_by_role("link", name="x", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = list(csv.DictReader(Path(download.value.path()).read_text("utf-8-sig").splitlines()))

    rows = ledger.rows("WHERE 'project=x' = ANY(tags) AND started_at >= date_trunc('month', now(), 'UTC')")
    found = {line["model"]: Decimal(line["cost_usd"]) for line in lines}
    for model in {row["response_model"] for row in rows} - {"nobody-knows"}:
        assert found[model] == sum(row["cost"] or 0 for row in rows if row["response_model"] == model)
    assert found["Total"] == sum(row["cost"] or 0 for row in rows)


def test_the_costliest_customers_are_one_click(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger)
    link(page, "Usage this month", "end user")
    expect(page.locator(".cp-money tbody tr").first).to_contain_text("customer-77")
    expect(page.locator(".cp-money .cp-total")).to_be_visible()
    page.locator(".cp-money thead").get_by_role("link", name="Calls").click()
    expect(page.locator("[aria-sort=descending]")).to_contain_text("Calls")


def test_a_days_bar_leads_to_the_usage_of_the_day(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger)
    by_owner = f"{PAGE}?range=last_month&by=owner"
    for path, groups in (("/admin/?range=month", ["model", "key"]), (by_owner, ["owner", ""])):
        page.goto(ledger.url + path)
        page.locator("[data-chart=dollars] .cp-plot").focus()
        page.keyboard.press("Home")
        page.keyboard.press("Enter")
        page.wait_for_url("**first=**")
        days = [page.get_by_label(name, exact=True).input_value() for name in ("From", "to")]
        assert days[0] == days[1]
        assert [page.get_by_label(name).input_value() for name in ("Group by", "and by")] == groups
    page.goto(f"{ledger.url}/admin/?range=month")
    page.locator("[data-chart=calls] .cp-plot").focus()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_url("**/admin/usage/request/**from=**")


def test_the_last_bar_leads_to_no_day_beyond_the_range(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger)
    for chart, days in (
        ("dollars", "first=2026-07-09&last=2026-07-13"),
        ("calls", "from=2026-07-09T00:00&to=2026-07-14T00:00"),
    ):
        page.goto(f"{ledger.url}/admin/?from=2026-03-02&to=2026-07-14")  # a bar has seven days, from a Thursday on
        page.locator(f"[data-chart={chart}] .cp-plot").focus()
        page.keyboard.press("End")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**{days}")


def test_groups_and_days_are_chosen(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger)
    page.goto(ledger.url + PAGE)
    page.get_by_label("Group by").select_option("tag:project")
    page.wait_for_url("**by=tag%3Aproject**")
    page.get_by_label("and by").select_option("day")
    page.wait_for_url("**then=day**")
    link(page, "Time", "Last month")
    expect(page.get_by_label("Group by")).to_have_value("tag:project")
    page.get_by_label("Month").fill("2026-01")
    page.get_by_label("Month").press("Enter")
    page.wait_for_url("**range=2026-01**")
    expect(page.locator(".cp-money")).to_contain_text("No calls in this period")


@pytest.mark.parametrize("look", LOOKS)
def test_it_is_seen(ledger: Gateway, sign_in: SignIn, look: str, tmp_path: Path) -> None:
    page = sign_in(ledger, **LOOKS[look])
    for name, query in {"usage": "", "usage-of-a-project": "?by=end_user&then=model&tag=project=x"}.items():
        page.goto(f"{ledger.url}{PAGE}{query}")
        expect(
            page.locator("[data-chart=dollars] rect[fill]").first if not query else page.locator(".cp-money")
        ).to_be_visible()
        assert page.evaluate(TOO_WIDE) <= 0
        take(page, f"{name}-{look}", tmp_path)


def test_it_is_printed_without_what_is_clicked(ledger: Gateway, sign_in: SignIn) -> None:
    page = sign_in(ledger, **LOOKS["dark"])
    page.goto(ledger.url + PAGE)
    page.emulate_media(media="print")
    for gone in ("form", ".cp-tabs", ".cp-export"):
        expect(page.locator(f".cp {gone}").first).to_be_hidden()
    expect(page.locator(".cp-money .cp-total")).to_be_visible()
    expect(page.get_by_role("link", name="Custom prices")).to_be_hidden()
    assert page.locator(".cp-money").evaluate("one => getComputedStyle(one).color") == "rgb(0, 0, 0)"
