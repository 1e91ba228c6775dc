"""Somebody in New York reads times of the own zone, compares them with UTC, and chooses UTC for good."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import Gateway

LIST = "/admin/usage/request/"
NEW_YORK = "America/New_York"


def first_time(page: Page) -> tuple[str, str, str]:
    """Returns the moment of the first call of a list in ISO 8601, the time that is shown, and the tooltip."""
    one = page.locator(".cp-list tbody time").first
    return one.get_attribute("datetime") or "", one.inner_text(), one.get_attribute("title") or ""


def test_times_are_the_readers_or_utc(uncertain_site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(uncertain_site, timezone_id=NEW_YORK)
    page.goto(uncertain_site.url + LIST)
    expect(page.locator(".cp-list th").first).to_have_text("Time (local)")
    moment, shown, tooltip = first_time(page)
    utc = datetime.fromisoformat(moment)
    assert shown == f"{utc.astimezone(ZoneInfo(NEW_YORK)):%Y-%m-%d %H:%M:%S}"
    assert tooltip == f"{utc:%Y-%m-%d %H:%M:%S} UTC"

    page.get_by_role("button", name="UTC", exact=True).click()
    expect(page.locator(".cp-list th").first).to_have_text("Time (UTC)")
    page.goto(f"{uncertain_site.url}/admin/?range=day")
    expect(page.locator("#live")).to_contain_text("(UTC)")
    page.get_by_role("button", name="America/New York").click()
    expect(page.locator("#live")).to_contain_text("(local)")
    page.locator("[data-chart=calls] summary").click()
    expect(page.locator("[data-chart=calls] table th").first).to_have_text("Time")


def test_without_scripts_times_are_utc(uncertain_site: Gateway, open_browser: SignIn, sign_in: SignIn) -> None:
    signed_in = sign_in(uncertain_site).context.storage_state()
    page = open_browser(uncertain_site, timezone_id=NEW_YORK, java_script_enabled=False, storage_state=signed_in)
    page.goto(uncertain_site.url + LIST)
    expect(page.locator(".cp-list th").first).to_have_text("Time (UTC)")
    moment, shown, _ = first_time(page)
    assert shown == f"{datetime.fromisoformat(moment):%Y-%m-%d %H:%M:%S}"
    expect(page.get_by_role("button", name="Find")).to_be_visible()
