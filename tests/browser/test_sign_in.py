"""A lead signs in by OpenID Connect in a browser, gets her team from a claim, and makes a key for a colleague."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.simulator.server import Simulator
from tests.support.callers.copied import run_copied
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


def test_a_lead_makes_a_key_for_a_colleague(chromium: Browser, gateway: Gateway, tmp_path: Path) -> None:
    """The colleague follows the copied message word by word: the call works, and My usage opens with the key."""
    colleague = sign_in(chromium, gateway, "grace")
    expect(colleague.get_by_text("You have no keys yet.")).to_be_visible()
    lead = sign_in(chromium, gateway, "ada")
    message = make_key(lead)
    secret = lead.locator("#key-text").inner_text()
    assert re.fullmatch(r"cp-[\w-]{43}", secret)
    assert lead.get_by_text("may use gpt-4.1-mini and spend up to $20.00 a month.").is_visible()
    gateway.wait_until_known(secret)

    facts = dict(re.findall(r"^([A-Z][\w ]*): (.*)$", message, re.MULTILINE))
    assert (facts["Key"], facts["Models"], facts["Budget"]) == (secret, "gpt-4.1-mini", "$20.00 a month")
    (call,) = re.findall(r"^curl (?:.*\\\n)*.*", message, re.MULTILINE)
    assert json.loads(run_copied(call, tmp_path))["model"].startswith("gpt-4.1-mini")
    variables = "\n".join(re.findall(r"^export .*$", message, re.MULTILINE))
    assert facts["Base URL"] in variables
    row = gateway.rows("WHERE key_name = 'graces key' AND outcome = 'success'", at_least=1)[0]
    assert (row["owner"], row["team"], row["route"]) == ("grace@example.com", "research", "/v1/chat/completions")

    with_key = chromium.new_context().new_page()
    with_key.goto(facts["My usage"].partition(" ")[0])
    with_key.get_by_label("Your key").fill(facts["Key"])
    with_key.get_by_role("button", name="Sign in").click()
    expect(with_key.get_by_text("of $20.00").first).to_be_visible()
    colleague.reload()
    look_at(colleague, "keys")
    colleague.get_by_role("link", name="graces key").click()
    expect(colleague.get_by_role("heading", name="Newest calls")).to_be_visible()
    look_at(colleague, "usage")
    lead.goto(colleague.url)
    expect(lead.get_by_role("heading", name="Newest calls")).to_have_count(0)
    look_at(lead, "usage-of-lead")


def test_a_key_is_made_without_scripts(chromium: Browser, gateway: Gateway) -> None:
    signed_in = sign_in(chromium, gateway, "ada").context.storage_state()
    page = chromium.new_context(java_script_enabled=False, storage_state=signed_in).new_page()
    page.goto(f"{gateway.url}/my-usage/")
    page.locator("#id_name").fill("without scripts")
    page.locator("#id_team").select_option("research")
    page.locator("#id_allowed_models").fill("own-*")
    page.locator(".cp-models summary").click()
    page.locator("[name=allowed_models-chosen][value=o3]").check()
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_text("The key “without scripts” may use own-*, o3.")).to_be_visible()
    page.locator("label", has_text="Codex").click()
    expect(page.locator(".cp-pick pre:visible").first).to_contain_text('model_provider = "chatproxy"')


def make_key(lead: Page) -> str:
    """Makes a key with $20 a month and one model for a colleague, and returns the message that the lead copies."""
    lead.context.grant_permissions(["clipboard-read", "clipboard-write"])
    lead.locator("#id_name").fill("graces key")
    lead.locator("#id_budget_month").fill("20")
    lead.locator("#id_team").select_option("research")
    lead.locator("#id_owner").select_option("grace@example.com")
    lead.get_by_text("Choose from the models with a price").click()
    lead.get_by_label("gpt-4.1-mini", exact=False).first.check()
    look_at(lead, "new-key")
    lead.get_by_role("button", name="Make the key").click()
    look_at(lead, "secret")
    for label in ("Python", "Node", "Environment", "Codex", "LangChain", "curl"):
        lead.get_by_text(label, exact=True).click()
        expect(lead.locator(".cp-pick pre:visible").first).to_contain_text("/v1")
    lead.get_by_role("button", name="Copy message").click()
    expect(lead.get_by_role("button", name="Copied")).to_be_visible()
    return str(lead.evaluate("navigator.clipboard.readText()"))


def test_the_pages_of_second_factors_have_a_look(chromium: Browser, gateway: Gateway) -> None:
    page = sign_in(chromium, gateway, "grace")
    page.goto(f"{gateway.url}/admin/accounts/second-factor/")
    expect(page.get_by_role("heading", name="Two-Factor Authentication")).to_be_visible()
    look_at(page, "second-factor")
