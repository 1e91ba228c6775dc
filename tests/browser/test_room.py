"""Every page has room for the longest values, on a laptop and on a phone: no row is wider than the page."""

from __future__ import annotations

from collections.abc import Iterator
from pprint import pformat
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import Gateway

# What is wider than its place: tables and rows of tabs, those in closed details aside, and whatever makes a page wide.
TOO_WIDE = """() => {
    const width = document.documentElement.clientWidth
    const cut = [...document.querySelectorAll('.cp-wide, .cp-tabs, .simplebar-content-wrapper')]
        .filter(one => one.checkVisibility() && one.scrollWidth > one.clientWidth)
    const outside = document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll('main *')]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > width + 1)
    return [...cut, ...outside].slice(0, 5)
        .map(one => `${one.tagName}.${one.className}: ${one.textContent.replace(/\\s+/g, ' ').slice(0, 60)}`)
}"""

# The labels whose text ends less than 8 pixels before the field beside it.
TOUCHING = """() => [...document.querySelectorAll('#content form label[for]')].filter(label => {
    const field = document.getElementById(label.htmlFor), text = document.createRange()
    text.selectNodeContents(label)
    const left = field?.getBoundingClientRect().left ?? 0, {left: start, right: end} = text.getBoundingClientRect()
    return label.checkVisibility() && field?.checkVisibility() && start < left && end > left - 8
}).map(label => label.textContent)"""

KEYS = "/admin/proxyapi/accesskey/"
PATHS = (
    "/admin/",
    "/admin/?range=hour",
    "/admin/?range=month",
    "/admin/usage/request/",
    "/admin/usage/request/?q=mmmm",
    "/admin/usage/errors/?range=day",
    "/admin/usage/needed-prices/",
    "/admin/usage/report/",
    "/admin/usage/report/?by=end_user",
    "/admin/usage/report/?by=team&then=model",
    f"/admin/usage/request/in-order/?session={'s' * 200}",
    KEYS,
    f"{KEYS}add/",
)
LOOKS: dict[str, dict[str, Any]] = {
    "laptop": {"viewport": {"width": 1280, "height": 860}},
    "phone": {"viewport": {"width": 390, "height": 844}},
    "phone, dark": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}


def pages_of_a_key(page: Page, url: str) -> Iterator[str]:
    page.goto(url + KEYS)
    key = page.get_by_role("link", name="Usage of team-3").get_attribute("href") or ""
    yield f"{key}?range=month"
    yield from (key.replace("/usage", f"/{verb}") for verb in ("change", "rotate", "revoke"))


def pages_of_calls(site: Gateway) -> Iterator[str]:
    for where in ("cost_kind = 'estimated'", "key_name = 'team-3' AND outcome = 'upstream_error'"):
        yield f"/admin/usage/request/{site.rows(f'WHERE {where}')[-1]['request_id']}/change/"


@pytest.mark.parametrize("look", LOOKS)
def test_it_works(longest_site: Gateway, key_text: str, sign_in: SignIn, open_my_usage: SignIn, look: str) -> None:
    page = sign_in(longest_site, **LOOKS[look])
    too_wide = {}
    for path in (*PATHS, *pages_of_a_key(page, longest_site.url), *pages_of_calls(longest_site)):
        page.goto(longest_site.url + path)
        too_wide[path] = page.evaluate(TOO_WIDE)
    page = open_my_usage(longest_site, key_text, **LOOKS[look])
    too_wide[page.url] = page.evaluate(TOO_WIDE)
    page.locator("[data-rows] a").first.click()
    page.wait_for_load_state()
    too_wide[page.url] = page.evaluate(TOO_WIDE)
    faults = {path: parts for path, parts in too_wide.items() if parts}
    assert not faults, pformat(faults)


@pytest.mark.parametrize("width", [1280, 1366, 1440, 1600, 1920])
def test_the_keys_have_room(longest_site: Gateway, key_text: str, sign_in: SignIn, width: int) -> None:
    page = sign_in(longest_site, viewport={"width": width, "height": 860})
    page.goto(longest_site.url + KEYS)
    page.wait_for_selector(".simplebar-content-wrapper")
    assert page.evaluate(TOO_WIDE) == []
    page.goto(f"{longest_site.url}{KEYS}add/")
    assert page.evaluate(TOUCHING) == []
