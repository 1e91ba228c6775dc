"""Takes a picture of every page. `make screens` keeps them in docs/screens; other runs throw them away."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import LOOKS, SignIn, take
from tests.support.servers.gateway import Gateway

KEYS = "/admin/proxyapi/accesskey/"


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_seen(
    uncertain_site: Gateway, key_text: str, sign_in: SignIn, open_my_usage: SignIn, look: str, tmp_path: Path
) -> None:
    page = sign_in(uncertain_site, **LOOKS[look])
    one = uncertain_site.rows("WHERE stream AND outcome = 'success'")[-1]["request_id"]
    pages = {
        "index": "/",
        "dashboard": "/admin/?range=month",
        "requests": "/admin/usage/request/",
        "request": f"/admin/usage/request/{one}/change/",
        "needed-prices": "/admin/usage/needed-prices/?range=month",
        "errors": "/admin/usage/errors/?range=month",
        "keys": KEYS,
        "key": f"{usage_page(page, uncertain_site.url)}?range=month",
        "my-usage-door": "/my-usage/",
    }
    for name, path in pages.items():
        page.goto(uncertain_site.url + path)
        take(page, f"{name}-{look}", tmp_path)
    page = open_my_usage(uncertain_site, key_text, **LOOKS[look])
    page.goto(f"{uncertain_site.url}/my-usage/?range=month")
    take(page, f"my-usage-{look}", tmp_path)


def usage_page(page: Page, url: str) -> str:
    page.goto(url + KEYS)
    return page.get_by_role("link", name="Usage of team-3").get_attribute("href") or ""
