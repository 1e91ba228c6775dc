"""The labels of a chart's axis have one unit and the same decimals, and none of them is cut off."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import Gateway

LABELS = [
    (0.00006, "$", "$0 $0.00002 $0.00004 $0.00006"),
    (1.4, "$", "$0 $0.50 $1.00 $1.50"),
    (17, "$", "$0 $5 $10 $15 $20"),
    (3200, "$", "$0 $1,000 $2,000 $3,000 $4,000"),
    (240_000, "$", "$0 $100 k $200 k $300 k"),
    (0, "$", "$0 $0.01"),
    (3, "", "0 1 2 3"),
    (190_000, "", "0 50 k 100 k 150 k 200 k"),
    (1_400_000, "", "0 0.5 M 1.0 M 1.5 M"),
    (340, "ms", "0 100 ms 200 ms 300 ms 400 ms"),
    (8200, "ms", "0 2.5 s 5.0 s 7.5 s 10.0 s"),
    (20_000, "ms", "0 5 s 10 s 15 s 20 s"),
    (65_000, "ms", "0 20 s 40 s 60 s 80 s"),
    (130_000, "ms", "0 1 min 2 min 3 min"),  # of minutes, a number that a clock has
    (929_000, "ms", "0 5 min 10 min 15 min 20 min"),
    (50_000_000, "ms", "0 240 min 480 min 720 min 960 min"),
]
# Draws the chart of dollars again, with sums of this size; returns how far its leftmost text is from its edge.
DRAW = """(size) => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const figure = document.querySelector("[data-chart=dollars]");
  const values = charts.times.map((_, number) => number % 2 ? size : 0);
  drawChart(figure, { ...charts, dollars: [{ name: "a model", values }] });
  const svg = figure.querySelector(".cp-plot svg");
  const lefts = [...svg.querySelectorAll(".cp-tick")].map((text) => text.getBoundingClientRect().left);
  return Math.min(...lefts) - svg.getBoundingClientRect().left;
}"""


@pytest.fixture
def page(busy_site: Gateway, sign_in: SignIn) -> Page:
    page = sign_in(busy_site)
    page.wait_for_selector("[data-chart=dollars] .cp-plot svg")
    return page


def test_labels_have_one_unit_and_the_same_decimals(page: Page) -> None:
    for most, unit, labels in LABELS:
        assert page.evaluate("([most, unit]) => axis(most, unit).labels", [most, unit]) == labels_of(labels), most


def labels_of(text: str) -> list[str]:
    """Splits a text into labels; one that is only a unit belongs to the number before it."""
    labels: list[str] = []
    for part in text.split():
        if part.isalpha():
            labels[-1] += f" {part}"
        else:
            labels.append(part)
    return labels


def test_the_labels_of_small_sums_are_whole(page: Page) -> None:
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for size in (0.00006, 0.000_000_12, 12.5, 240_000):
            assert page.evaluate(DRAW, size) >= 1, (width, size)
