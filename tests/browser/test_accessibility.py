"""axe-core looks at every page, light and dark, on a desk and on a phone, and finds nothing serious."""

from __future__ import annotations

from itertools import product
from typing import Literal

from axe_playwright_python.base import AXE_SCRIPT  # type: ignore[import-untyped]  # it has no types
from playwright.sync_api import Page, Route, ViewportSize

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import ACCESS_TOKEN, Gateway

SIZES: tuple[ViewportSize, ...] = ({"width": 1440, "height": 900}, {"width": 390, "height": 844})
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},  # others do not depend on colours
}
# What axe reports of a page: each rule that is broken gravely, how many elements break it, and the first of them; and
# icons that are shown as words, because `usage/icons.woff2` does not have them.
REPORT = """async (runOnly) => {
    const {violations} = await axe.run(document, {resultTypes: ['violations'], runOnly});
    const words = [...document.querySelectorAll('.material-symbols-outlined')]
        .filter(one => one.children.length === 0 && one.scrollWidth > 1.5 * parseFloat(getComputedStyle(one).fontSize))
        .map(one => `an icon is missing: ${one.textContent.trim()}`);
    return words.concat(violations.filter(({impact}) => ['serious', 'critical'].includes(impact)).map(({id, nodes}) =>
        `${id}, ${nodes.length} times: ${nodes.slice(0, 3).map(one => one.html.slice(0, 200)).join(' … ')}`));
}"""
NOWHERE = "**/nowhere/"
LINKS = "links => links.map(link => link.href)"
# Pages to which neither the side bar nor the lists that it names lead.
OTHERS = (
    "/admin/?range=week",
    "/admin/usage/request/?range=month&outcome=timeout",
    "/admin/usage/request/?q=nothing-is-called-so",
    "/admin/usage/errors/?range=month",
    "/admin/usage/needed-prices/?range=month",
    "/admin/usage/report/?range=last_month",
    "/admin/password_change/",
    "/admin/nowhere/",
)


def faults_of(page: Page, url: str) -> list[str]:
    """Opens a page, and returns what axe finds there: light and dark, on a desk and on a phone."""
    page.goto(url)
    is_docs = url.endswith("/docs")
    if is_docs:
        page.locator(".opblock").first.wait_for()
    page.evaluate(AXE_SCRIPT)
    found = []
    for size, scheme in product(SIZES, SCHEMES):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        look = f"{page.url}, {scheme}, {size['width']} px"
        faults = page.evaluate(REPORT, RULES[scheme])
        # Swagger's page has links in its buttons; that is its own markup.
        found += [f"{look}: {fault}" for fault in faults if not (is_docs and fault.startswith("nested-interactive"))]
    return found


def without_its_status(route: Route) -> None:
    """Shows the page of an error with status 200: a browser logs an error for each page with status 404."""
    route.fulfill(response=route.fetch(), status=200)


def pages_of_the_admin(page: Page, home: str) -> list[str]:
    """Returns the addresses of all pages in the side bar and, of each list, of its first row and of a new one."""
    page.goto(f"{home}/admin/")
    lists = page.locator("#nav-sidebar a[href^='/admin/']").evaluate_all(LINKS)
    found = [*dict.fromkeys(lists), *(home + path for path in OTHERS)]
    for address in lists:
        page.goto(address)
        rows = page.locator("#result_list tbody tr, [data-rows] tbody tr").first.locator("a")
        found += rows.evaluate_all(LINKS)
        found += page.locator("a[href$='/add/']").evaluate_all(LINKS)
    return list(dict.fromkeys(found))


def test_the_admin(uncertain_site: Gateway, key_text: str, sign_in: SignIn) -> None:
    page = sign_in(uncertain_site)
    page.route(NOWHERE, without_its_status)
    found = []
    for address in pages_of_the_admin(page, uncertain_site.url):
        found += faults_of(page, address)
    assert found == []


def test_pages_outside_the_admin(
    uncertain_site: Gateway, key_text: str, open_browser: SignIn, open_my_usage: SignIn
) -> None:
    page = open_browser(uncertain_site)
    found = []
    for path in ("/", "/docs", "/admin/login/", "/my-usage/", f"/log?access_token={ACCESS_TOKEN}"):
        found += faults_of(page, uncertain_site.url + path)
    page = open_my_usage(uncertain_site, key_text)
    page.route(NOWHERE, without_its_status)
    for path in ("/my-usage/?range=month", "/my-usage/calls/", "/my-usage/nowhere/"):
        found += faults_of(page, uncertain_site.url + path)
    assert found == []
