"""A lead signs in by OpenID Connect in a browser, gets her team from a claim, and makes a key for a colleague."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway
from tests.support.servers.openid_provider import OpenIDProvider, run_openid_provider

CLAIMS = {"OIDC_TEAMS_CLAIM": "teams", "OIDC_NAME": "Example", "SECOND_FACTOR": "true"}
MAKING_A_TEAM = """
from proxyapi.team_models import Team
Team.objects.found("research", self_service=True)
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenIDProvider]:
    with run_openid_provider() as provider:
        provider.add_person("grace", teams=["research"])
        provider.add_person("ada", teams=["research:lead"])
        yield provider


@pytest.fixture(scope="module")
def gateway(
    provider: OpenIDProvider, _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    settings = {**provider.settings, **CLAIMS}
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, tmp_path_factory.mktemp("sign_in"), **settings) as gateway,
    ):
        made = gateway.manage("shell", "--no-imports", "-c", MAKING_A_TEAM)
        assert made.returncode == 0, made.stderr
        yield gateway


def sign_in(browser: Browser, gateway: Gateway, subject: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
    page.goto(f"{gateway.url}/admin/login/")
    look_at(page, "login")
    page.get_by_role("button", name="Sign in with Example").click()
    page.get_by_placeholder("sub").fill(subject)
    page.get_by_role("button", name="Authorize", exact=True).click()
    expect(page.get_by_role("heading", name="My usage")).to_be_visible()
    return page


def look_at(page: Page, name: str) -> None:
    """Saves what the browser shows, in the folder that SCREENSHOTS names."""
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"sign-in-{name}.png", full_page=True)


def test_a_lead_makes_a_key_for_a_colleague(chromium: Browser, gateway: Gateway) -> None:
    colleague = sign_in(chromium, gateway, "grace")
    expect(colleague.get_by_text("You have no keys yet.")).to_be_visible()
    lead = sign_in(chromium, gateway, "ada")
    lead.locator("#id_name").fill("graces key")
    lead.locator("#id_budget_month").fill("20")
    lead.locator("#id_team").select_option("research")
    lead.locator("#id_owner").select_option("grace@example.com")
    look_at(lead, "new-key")
    lead.get_by_role("button", name="Make the key").click()
    secret = lead.locator("#secret").inner_text()
    assert re.fullmatch(r"cp-[\w-]{43}", secret)
    look_at(lead, "secret")
    button, shown = lead.get_by_role("button", name="Copy").bounding_box(), lead.locator("#secret").bounding_box()
    assert button is not None
    assert shown is not None
    assert button["width"] < shown["width"] / 3  # it does not cover the secret
    gateway.wait_until_known(secret)
    assert gateway.ask(secret).status_code == 400

    colleague.reload()
    look_at(colleague, "keys")
    colleague.get_by_role("link", name="graces key").click()
    expect(colleague.get_by_role("heading", name="Newest calls")).to_be_visible()
    look_at(colleague, "usage")
    lead.goto(colleague.url)
    expect(lead.get_by_role("heading", name="Newest calls")).to_have_count(0)
    look_at(lead, "usage-of-lead")


def test_the_pages_of_second_factors_have_a_look(chromium: Browser, gateway: Gateway) -> None:
    page = sign_in(chromium, gateway, "grace")
    page.goto(f"{gateway.url}/admin/accounts/second-factor/")
    expect(page.get_by_role("heading", name="Two-Factor Authentication")).to_be_visible()
    look_at(page, "second-factor")
