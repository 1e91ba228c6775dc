"""Dragging over the bars of a chart shows their time alone, on the same page; a click still leads to a bar's calls."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import Gateway

REPORT = "/admin/usage/report/"
LEFT, RIGHT = 52, 8  # of the bars in a chart, in pixels (charts.js)


def plot_of(page: Page, name: str) -> Locator:
    plot = page.locator(f"[data-chart={name}] .cp-plot")
    plot.scroll_into_view_if_needed()
    expect(plot.locator("svg")).to_be_visible()
    return plot


def charts_of(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.locator("#charts").text_content() or "")
    return found


def hover(page: Page, plot: Locator, bins: int, number: int) -> None:
    """Moves the pointer to the middle of a bar."""
    box = plot.bounding_box()
    assert box is not None
    width = (box["width"] - LEFT - RIGHT) / bins
    page.mouse.move(box["x"] + LEFT + width * (number + 0.5), box["y"] + 90, steps=4)


def drag(page: Page, plot: Locator, bins: int, first: int, last: int) -> None:
    hover(page, plot, bins, first)
    page.mouse.down()
    hover(page, plot, bins, last)


def query_of(page: Page) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(page.url).query))


def times_of(charts: dict[str, Any], first: int, last: int) -> dict[str, str]:
    end = datetime.fromisoformat(charts["times"][last]) + timedelta(seconds=charts["step"])
    return {"from": charts["times"][first][:16], "to": f"{end:%Y-%m-%dT%H:%M}"}


@pytest.mark.parametrize("is_backward", [False, True])
def test_the_dashboard_shows_the_bars_that_are_dragged_over(
    busy_site: Gateway, sign_in: SignIn, is_backward: bool
) -> None:
    page = sign_in(busy_site)
    page.goto(f"{busy_site.url}/admin/?range=month")
    charts = charts_of(page)
    bins = len(charts["times"])
    first, last = bins - 9, bins - 4
    ends = (last, first) if is_backward else (first, last)
    drag(page, plot_of(page, "calls"), bins, *ends)
    expect(page.locator("[data-chart=calls] .cp-selection")).to_be_visible()
    expect(page.locator("[data-chart=calls] .cp-readout")).to_contain_text("Escape cancels")
    page.mouse.up()
    page.wait_for_url("**from=**")
    assert query_of(page) == times_of(charts, first, last)
    assert "/admin/?" in page.url
    calls = sum(value for line in charts["calls"] for value in line["values"][first : last + 1])
    shown = sum(value for line in charts_of(page)["calls"] for value in line["values"])
    assert shown == calls > 0


def test_usage_keeps_its_groups_and_filters(busy_site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(busy_site)
    page.goto(f"{busy_site.url}{REPORT}?range=last_month&by=model&then=key&route=/v1/responses&sort=calls")
    charts = charts_of(page)
    drag(page, plot_of(page, "dollars"), len(charts["times"]), 3, 8)
    page.mouse.up()
    page.wait_for_url("**first=**")
    days = {"first": charts["times"][3][:10], "last": charts["times"][8][:10]}
    kept = {"by": "model", "then": "key", "route": "/v1/responses", "sort": "calls"}
    assert query_of(page) == {**kept, **days}
    expect(page.get_by_label("From", exact=True)).to_have_value(days["first"])


def test_a_keys_holder_zooms_in_on_my_usage(busy_site: Gateway, key_text: str, open_my_usage: SignIn) -> None:
    page = open_my_usage(busy_site, key_text)
    page.goto(f"{busy_site.url}/my-usage/?range=week")
    charts = charts_of(page)
    drag(page, plot_of(page, "latency"), len(charts["times"]), 10, 14)
    page.mouse.up()
    page.wait_for_url("**/my-usage/?from=**")
    assert query_of(page) == times_of(charts, 10, 14)


def test_escape_cancels(busy_site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(busy_site)
    page.goto(f"{busy_site.url}/admin/?range=month")
    bins = len(charts_of(page)["times"])
    plot = plot_of(page, "calls")
    drag(page, plot, bins, 3, 8)
    page.keyboard.press("Escape")
    expect(plot.locator(".cp-selection")).to_be_hidden()
    page.mouse.up()
    assert query_of(page) == {"range": "month"}
    hover(page, plot, bins, 5)
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/admin/usage/request/**from=**")  # a click is still a click


def test_keys_zoom_in(busy_site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(busy_site)
    page.goto(f"{busy_site.url}/admin/?range=month")
    charts = charts_of(page)
    bins = len(charts["times"])
    plot = plot_of(page, "calls")
    plot.focus()
    for key in ("Shift+End", "Shift+ArrowLeft", "Shift+ArrowLeft"):
        page.keyboard.press(key)
    expect(plot.locator(".cp-selection")).to_be_visible()
    page.keyboard.press("ArrowLeft")  # without Shift, nothing is chosen
    expect(plot.locator(".cp-selection")).to_be_hidden()
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**from=**")
    start = charts["start"][:16]  # the first day counts from the time at which the range begins
    assert bins > 20
    assert query_of(page) == {**times_of(charts, 0, 2), "from": start}


def test_a_finger_reads_and_does_not_zoom(busy_site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(busy_site, viewport={"width": 390, "height": 844}, has_touch=True)
    page.goto(f"{busy_site.url}/admin/?range=month")
    plot = plot_of(page, "calls")
    box = plot.bounding_box()
    assert box is not None
    for kind, across in (("pointerdown", 100), ("pointermove", 200), ("pointerup", 200)):
        where = {"pointerType": "touch", "pointerId": 7, "buttons": 1, "clientX": box["x"] + across}
        plot.dispatch_event(kind, {**where, "bubbles": True})
    expect(plot.locator(".cp-selection")).to_be_hidden()
    expect(page.locator("[data-chart=calls] .cp-readout")).not_to_be_empty()
    assert query_of(page) == {"range": "month"}
