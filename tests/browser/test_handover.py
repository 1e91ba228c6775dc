"""A key is made from a preset and a list of models, and handed over: at every width, and with the keyboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import LOOKS, SignIn, take
from tests.support.servers.gateway import Gateway

ADD = "/admin/proxyapi/accesskey/add/"
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
WIDTHS = {**LOOKS, "wide": {"viewport": {"width": 1440, "height": 1000}, "color_scheme": "dark"}}


def make_key(page: Page, site: Gateway, name: str) -> None:
    page.goto(site.url + ADD)
    page.fill("[name=name]", name)
    page.get_by_role("link", name="Service: $20 a day, $200 a month").click()
    page.get_by_role("link", name="Evaluation: $10 in total, for 14 days").click()
    expect(page.locator("[name=budget_total]")).to_have_value("10")
    expect(page.locator("[name=budget_day]")).to_have_value("")
    expect(page.locator("[name=name]")).to_have_value(name)
    expect(page.get_by_text("Filled in: $10 in total, 20 parallel calls, valid for 14 days.")).to_be_visible()
    page.get_by_text("Choose from the models with a price").click()
    page.get_by_role("checkbox", name=re.compile("^gpt-4o-mini ")).check()
    assert not page.evaluate(TOO_WIDE)


def save(page: Page) -> None:
    page.get_by_role("button", name="Save").first.click()
    expect(page.get_by_role("heading", name="A message for a colleague")).to_be_visible()


@pytest.mark.parametrize("look", WIDTHS)
def test_the_pages_fit(site: Gateway, sign_in: SignIn, look: str, tmp_path: Path) -> None:
    page = sign_in(site, **WIDTHS[look])
    make_key(page, site, f"seen {look}")
    page.locator(".cp-models").scroll_into_view_if_needed()
    take(page, f"key-form-{look}", tmp_path)
    save(page)
    expect(page.get_by_text("may use gpt-4o-mini, spend up to $10.00 in total and run up to 20 calls")).to_be_visible()
    for label in ("curl", "Python", "Node", "Environment", "Codex", "LangChain"):
        page.get_by_text(label, exact=True).click()
        assert not page.evaluate(TOO_WIDE), label
    page.get_by_text("Python", exact=True).click()
    take(page, f"key-made-{look}", tmp_path)


def test_the_tabs_are_read_with_the_keyboard(site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(site)
    make_key(page, site, "by keyboard")
    save(page)
    page.get_by_label("curl", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Python", exact=True)).to_be_checked()
    expect(page.locator(".cp-pick pre:visible")).to_contain_text("from openai import OpenAI")


def choose_person(page: Page) -> None:
    """Chooses another preset, and checks that nothing of the evaluation's is left, and what was typed is."""
    page.get_by_role("link", name="Person: $20 a month").click()
    for name, value in {"budget_month": "20", "budget_total": "", "expires_at_0": "", "expires_at_1": ""}.items():
        expect(page.locator(f"[name={name}]")).to_have_value(value)
    expect(page.locator("[name=requests_per_minute]")).to_have_value("9")


def test_a_preset_takes_back_what_another_one_has_filled_in(site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(f"{site.url}{ADD}?preset=evaluation")
    expect(page.locator("[name=budget_total]")).to_have_value("10")
    page.get_by_role("heading", name="More limits").click()
    page.fill("[name=requests_per_minute]", "9")
    choose_person(page)

    page.get_by_role("link", name="Evaluation: $10 in total, for 14 days").click()
    page.fill("[name=name]", " ")  # no name
    page.get_by_role("button", name="Save").first.click()
    expect(page.locator(".errornote")).to_be_visible()
    expect(page.locator("[name=budget_total]")).to_have_value("10")
    choose_person(page)
