"""A person adds a passkey in a browser with a virtual authenticator; the next login asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PASSWORD
from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway, run_gateway

AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder, settings = tmp_path_factory.mktemp("second"), {"SECOND_FACTOR": "true", "ADMIN_PASSWORD": PASSWORD}
    with new_database(gateway_database) as url, run_gateway(_simulator.base_url, url, folder, **settings) as gateway:
        yield gateway


def test_a_passkey_is_added_and_asked_for(chromium: Browser, gateway: Gateway) -> None:
    home = gateway.url.replace("127.0.0.1", "localhost")  # browsers give no passkey to an address
    page = chromium.new_context().new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    log_in(page, home)
    page.goto(f"{home}/admin/accounts/second-factor/")
    page.locator("a[href*=webauthn]").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading", name="Recovery Codes")).to_be_visible()

    page.context.clear_cookies()
    log_in(page, home)
    expect(page.get_by_role("heading", name="Two-Factor Authentication")).to_be_visible()
    page.goto(f"{home}/admin/")
    expect(page.locator("[data-tile=calls]")).to_have_count(0)  # the password alone opens nothing
    log_in(page, home)
    page.get_by_role("button", name="Use a security key").click()
    expect(page.locator("[data-tile=calls]")).to_be_visible()
    assert faults == []


def log_in(page: Page, home: str) -> None:
    page.goto(f"{home}/admin/login/")
    page.locator("[name=username]").fill("admin")
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("[type=submit]").click()
