"""The browser of these tests, the servers that it visits, and the checks that every page must pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import PATIENCE, Gateway, run_gateway

PASSWORD = "browser-password"
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync")  # fmt: skip
FILLING = """
import pathlib, sys
from bench.ledger.shipper import set_up
set_up(pathlib.Path(sys.argv[1]), sys.argv[2])
from bench.ledger.filling.ledger_rows import fill
fill(int(sys.argv[3]), weeks=4, keys=20)
"""
# Keys whose calls are in the ledger already, with room in their budgets, little of it, and none; the last text is said.
# A budget is a part of what was spent, and a cent at least: shortly after midnight a day has no call yet.
ISSUING = """
from datetime import UTC, datetime
from decimal import Decimal
from proxyapi.models import AccessKey
from usage.money.spent_and_reserved import spent_by
names = [f"team-{number}" for number in range(6)]
spent = spent_by("key", names, datetime.now(UTC).date())
parts = {"team-0": (5, 0, 0), "team-1": (2.4, 1.7, 0), "team-2": (0, 1.05, 1.6), "team-3": (3, 1.4, 1.08), "team-4": (0, 0.9, 0)}
for name in names:
    day, month, total = (max(round(Decimal(part) * sum_of, 2), Decimal("0.01")) if part else None for part, sum_of in zip(
        parts.get(name, (0, 0, 0)), (spent[name].day, spent[name].month, spent[name].total)))
    key, text = AccessKey.objects.issue(
        name, owner="Ada" if name == "team-3" else "", budget_day=day, budget_month=month, budget_total=total,
        requests_per_minute=60 if name == "team-3" else None, allowed_models=["gpt-*", "o4-mini"])
    if name == "team-3":
        found = text
print(found)
"""  # noqa: E501  (one long line of the script)

# Calls whose dollars are estimated, provisional, or missing; names and sums as long as they come.
UNCERTAIN = """
from datetime import UTC, datetime, timedelta
from tests.support.ledger.ledgers import call
from usage.money.row_pricing import Pricer
from usage.journal_shipping.rows import write_rows
now = datetime.now(UTC)
kinds = [
    {"response_model": "gpt-5-2025-08-07", "usage_source": "estimated", "output_tokens": 12_345},
    {"response_model": "gpt-4o-2027-01-15", "service_tier": "default"},
    {"response_model": "gpt-4o-2024-08-06", "usage_source": "estimated", "outcome": "client_cancelled", "stream": True},
    {"response_model": "gpt-6.1-sol-mega", "service_tier": "priority"},
    {"response_model": "a-self-hosted-model-with-a-long-name-instruct-awq-q4_k_m", "service_tier": ""},
]
names = [f"team-{number}" for number in range(6)]
rows = [
    call(now - timedelta(minutes=3), key_name=name, route=route, **kind)
    for name in names for route in ("/v1/chat/completions", "/v1/responses", "/openai2") for kind in kinds
]
write_rows(Pricer().priced(rows))
"""

# Calls with the longest values that fit in the columns, without a place to break a line; one of them is team-3's.
LONGEST = """
from datetime import UTC, datetime, timedelta
from tests.support.ledger.ledgers import call
from usage.money.row_pricing import Pricer
from usage.journal_shipping.rows import write_rows
rows = [
    call(datetime.now(UTC) - timedelta(seconds=90), key_name=name, team="t" * 200, owner="o" * 200, end_user="u" * 200,
         session="s" * 200, tags=["g" * 100], route="/v1/audio/transcriptions", request_model=model,
         response_model=model, stream=True, duration_ms=3_599_999.0, time_to_first_chunk_ms=123_456.0,
         input_tokens=123_456_789, cached_tokens=12_345_678, output_tokens=98_765_432,
         usage_source="estimated", outcome="upstream_error",
         status=502, error_code="c" * 200, error_message="e" * 400)
    for name in ("team-3", "k" * 200) for model in ("m" * 200, "gpt-4o-2024-08-06")
]
write_rows(Pricer().priced(rows))
"""

LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}

SignIn = Callable[..., Page]

expect.set_options(timeout=PATIENCE * 1000)  # Playwright's own 5 seconds are too few on a busy machine


@pytest.fixture(scope="module")  # Playwright's event loop runs as long as it does: the next module may need its own
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no Chromium; on Debian and Ubuntu: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Starts a server without any call yet."""
    folder = tmp_path_factory.mktemp("site")
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, folder, ADMIN_PASSWORD=PASSWORD) as gateway,
    ):
        yield gateway


@pytest.fixture(scope="session")
def busy_site(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Starts a server whose ledger has the calls of a month."""
    with new_database(gateway_database) as url:
        fill_ledger(url, tmp_path_factory.mktemp("filling"), 6000)
        with run_gateway(_simulator.base_url, url, tmp_path_factory.mktemp("busy"), ADMIN_PASSWORD=PASSWORD) as gateway:
            yield gateway


@pytest.fixture(scope="session")
def key_text(busy_site: Gateway) -> str:
    """Makes a few keys, and returns the text of team-3's."""
    made = busy_site.manage("shell", "--no-imports", "-c", ISSUING)
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    busy_site.wait_until_known(text)
    return text


@pytest.fixture(scope="session")
def uncertain_site(busy_site: Gateway, key_text: str) -> Gateway:
    """Adds calls to the busy server whose dollars are estimated, provisional, or missing, some of them team-3's."""
    made = busy_site.manage("shell", "--no-imports", "-c", UNCERTAIN)
    assert made.returncode == 0, made.stderr
    return busy_site


@pytest.fixture(scope="session")
def longest_site(uncertain_site: Gateway) -> Gateway:
    """Adds calls with the longest values to the busy server."""
    made = uncertain_site.manage("shell", "--no-imports", "-c", LONGEST)
    assert made.returncode == 0, made.stderr
    return uncertain_site


def fill_ledger(url: str, directory: Path, count: int) -> None:
    subprocess.run([sys.executable, "-c", FILLING, str(directory), url, str(count)], check=True, capture_output=True)


@pytest.fixture
def open_browser(chromium: Browser) -> Iterator[SignIn]:
    """Opens browsers that are not signed in. At the end, no page may have logged an error or used another host."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_page(site: Gateway, **options: Any) -> Page:
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)  # its own 30 seconds, for clicks and the like, are too few as well
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        watch(page, site.url, complaints)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def sign_in(open_browser: SignIn) -> SignIn:
    """Opens browsers that are signed in to the admin."""

    def open_page(site: Gateway, **options: Any) -> Page:
        page = open_browser(site, **options)
        page.goto(f"{site.url}/admin/")
        page.fill("[name=username]", "admin")
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_selector(".cp")
        return page

    return open_page


@pytest.fixture
def open_my_usage(open_browser: SignIn) -> SignIn:
    """Opens browsers that are signed in to "My usage" by a key."""

    def open_page(site: Gateway, text: str, **options: Any) -> Page:
        page = open_browser(site, **options)
        page.goto(f"{site.url}/my-usage/")
        page.get_by_label("Your key").fill(text)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_selector(".own-page")
        return page

    return open_page


def watch(page: Page, home: str, complaints: list[str]) -> None:
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    page.on(
        "request",
        lambda request: None if request.url.startswith((home, "data:", "blob:")) else complaints.append(request.url),
    )


def take(page: Page, name: str, place: Path) -> None:
    """Takes a picture of what is seen of a page; `make screens` keeps it, other runs put it in `place`."""
    page.wait_for_load_state("networkidle")
    picture = Path(os.environ.get("SCREENS", place)) / f"{name}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size < 250_000
