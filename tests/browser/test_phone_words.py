"""On a phone, words stay whole: the remarks below a sum, and the labels beside the cells of a list."""

from __future__ import annotations

from playwright.sync_api import Page

from tests.browser.conftest import LOOKS, SignIn
from tests.support.servers.gateway import Gateway

# The words of the remarks on a page that are on two lines.
BROKEN = """() => [...document.querySelectorAll(".cp-tables small")].flatMap((remark) => {
    const text = remark.firstChild, found = [];
    for (const word of text.data.matchAll(/[a-z]+/g)) {
        const range = document.createRange();
        range.setStart(text, word.index);
        range.setEnd(text, word.index + word[0].length);
        if (range.getClientRects().length > 1) found.push(word[0]);
    }
    return found;
})"""
# The widths of the labels in a list, by their text, and the least width that each word of it needs.
LABELS = """() => [...document.querySelectorAll("#result_list td")].map((cell) => {
    const label = getComputedStyle(cell, "::before"), canvas = document.createElement("canvas").getContext("2d");
    canvas.font = label.font;
    const words = (cell.dataset.label || "").split(" ");
    return [parseFloat(label.width), Math.max(...words.map((word) => canvas.measureText(word).width))];
})"""
LOG = """
from django.contrib.admin.models import CHANGE
from proxyapi.keys.audit_log import log_change
from proxyapi.models import AccessKey
words = "Changed owner from nothing to “Grace Hopper”; note from nothing to “More than one would think necessary.”"
log_change(AccessKey.objects.first(), CHANGE, words, "keys set")
"""


def test_remarks_are_whole(longest_site: Gateway, sign_in: SignIn) -> None:
    page: Page = sign_in(longest_site, **LOOKS["phone"])
    page.goto(f"{longest_site.url}/admin/?range=day")
    assert page.locator(".cp-tables small", has_text="estimated").count() > 3
    assert page.evaluate(BROKEN) == []


def test_labels_of_the_audit_log_are_whole(longest_site: Gateway, key_text: str, sign_in: SignIn) -> None:
    made = longest_site.manage("shell", "--no-imports", "-c", LOG)
    assert made.returncode == 0, made.stderr
    page: Page = sign_in(longest_site, **LOOKS["phone"])
    page.goto(f"{longest_site.url}/admin/admin/logentry/")
    widths = page.evaluate(LABELS)
    assert len(widths) >= 4
    assert [(has, needs) for has, needs in widths if has < needs - 1] == []
