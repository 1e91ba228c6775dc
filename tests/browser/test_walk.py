"""A person walks through the admin in a browser: reads numbers of a known load, finds, filters, copies and exports.

Over 300 lines, since one person walks through all pages of one server.
"""

from __future__ import annotations

import csv
import json
import re
import subprocess
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "it's a question"}]}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>{{65537*65539}}"
# What the keyboard does not get to, and fields that nobody says the name of.
UNREACHABLE = """
    [...document.querySelectorAll('.cp [data-copy], .cp a, .cp input:not([type=hidden]), .cp select, .cp summary')]
        .filter(one => one.tabIndex < 0 || (one.matches('input, select') && !one.labels.length))
        .map(one => one.outerHTML)
"""
KEYS = "/admin/proxyapi/accesskey/"
CALLS = ".cp-list tbody tr:not(.cp-words)"  # a row below may say why a call has failed
NEEDED = "/admin/usage/needed-prices/"
PATHS = ("/admin/", "/admin/?range=hour", "/admin/usage/request/", "/admin/usage/errors/", NEEDED)


@pytest.fixture(scope="module")
def loaded(site: Gateway) -> Gateway:
    """Makes seven calls: four that succeed, one streamed, two that fail."""
    before = site.count()
    for _ in range(4):
        site.post("/openai", ASKED)
    with site.http.stream(
        "POST", "/openai2", json={"security_key": SECURITY_KEY, "model": "gpt-4.1", "input": "Tell me.", "stream": True}
    ) as answer:
        answer.read()
    for _ in range(2):
        site.post("/openai", {**ASKED, "model": "gpt-nope"})
    site.rows(at_least=before + 7)
    return site


def tile(page: Page, name: str) -> str:
    return re.sub(r"\s+", " ", page.locator(f"[data-tile={name}]").inner_text()).strip()


def follow(page: Page, name: str) -> None:
    page.locator("#nav-sidebar, nav, aside").get_by_role("link", name=name).first.click()
    page.wait_for_load_state()


def test_a_newcomer_copies_the_first_call_and_sees_it(site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(site)
    expect(page.locator("#start")).to_contain_text("No call yet")
    page.get_by_role("button", name="Copy").click()
    copied = page.evaluate("navigator.clipboard.readText()")

    assert json.loads(run(copied))["object"] == "chat.completion"
    expect(page.locator("[data-tile=calls] .cp-main")).to_have_text(re.compile("^1"))


def run(command: str) -> str:
    environment = {"CHATPROXY_API_KEY": SECURITY_KEY, "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_the_numbers_of_a_known_load(loaded: Gateway, sign_in: SignIn) -> None:
    rows = loaded.rows()
    page = sign_in(loaded)
    page.get_by_role("link", name="Last hour", exact=True).click()
    failed = sum(row["outcome"] != "success" for row in rows)

    assert tile(page, "calls").startswith(f"Calls {len(rows)}")
    assert f"{failed} failed" in tile(page, "errors")
    assert tile(page, "input_tokens").startswith(f"Input tokens {sum(row['input_tokens'] or 0 for row in rows)}")
    assert tile(page, "output_tokens").startswith(f"Output tokens {sum(row['output_tokens'] or 0 for row in rows)}")
    assert f"${sum(row['cost'] or 0 for row in rows):.6f}"[:7] in tile(page, "dollars")
    for chart in page.locator("[data-chart]").all():
        assert chart.locator(".cp-plot svg rect[fill], .cp-plot svg path.cp-line").count() > 0
    calls = page.locator("[data-chart=calls]")
    calls.locator("summary").click()
    shown = [
        int(text) for text in calls.locator("table tbody td").all_inner_texts() if text not in ("0", "\N{EN DASH}")
    ]
    assert sum(shown) == len(rows)


def test_a_chart_is_read_with_the_keyboard(loaded: Gateway, sign_in: SignIn) -> None:
    page = sign_in(loaded)
    plot = page.locator("[data-chart=calls] .cp-plot")
    plot.focus()
    page.keyboard.press("End")

    readout = page.locator("[data-chart=calls] .cp-readout")
    expect(readout).to_contain_text(re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d"))
    if "nothing" in readout.inner_text():  # an hour has begun since the calls
        page.keyboard.press("ArrowLeft")
    expect(readout).to_contain_text(re.compile(r"Success \d+"))
    page.keyboard.press("Home")
    expect(readout).to_contain_text("nothing")


def test_the_dashboard_is_live_and_can_be_paused(loaded: Gateway, sign_in: SignIn) -> None:
    page = sign_in(loaded)
    page.goto(f"{loaded.url}/admin/?range=hour")
    before = loaded.count()
    loaded.row(loaded.post("/openai", ASKED))

    expect(page.locator("[data-tile=calls] .cp-main")).to_have_text(re.compile(f"^{before + 1}"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_from_the_list_to_a_call_and_its_curl(loaded: Gateway, sign_in: SignIn) -> None:
    page = sign_in(loaded)
    follow(page, "Requests")
    page.get_by_label("Outcome").select_option("success")
    page.wait_for_url("**outcome=success**")
    assert set(page.locator(".cp-list .cp-badge:not(.plain)").all_inner_texts()) == {"200 success"}
    page.get_by_label("Route").select_option("/openai")
    page.wait_for_url("**route=%2Fopenai**")
    page.locator(".cp-list tbody a").first.click()

    expect(page.locator("#bill")).to_be_visible()
    expect(page.locator(".cp-timeline rect").first).to_be_visible()
    expect(page.locator("article").first).to_contain_text("it's a question")
    page.get_by_role("link", name="JSON", exact=True).click()
    expect(page.locator("#body-1")).to_contain_text('"content": "it\'s a question"')
    page.get_by_role("button", name="Copy as curl").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert SECURITY_KEY not in copied
    assert json.loads(run(copied))["object"] == "chat.completion"
    assert page.content().count(SECURITY_KEY) == 0


def test_a_search_is_typed_and_entered(loaded: Gateway, sign_in: SignIn) -> None:
    row = loaded.rows("WHERE outcome <> 'success'")[0]
    page = sign_in(loaded)
    follow(page, "Requests")
    search = page.get_by_role("searchbox", name="Find")
    search.fill(str(row["request_id"]))
    search.press("Enter")
    expect(page.locator(CALLS)).to_have_count(1)
    search.fill("does not exist or")
    search.press("Enter")
    expect(page.locator(CALLS)).to_have_count(2)
    search.fill("a question")  # of a prompt, in the field that a newcomer sees first
    search.press("Enter")
    page.get_by_role("link", name="Search prompts and answers for “a question”").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value('"a question"')  # as a phrase
    asked = "WHERE request_id IN (SELECT request_id FROM usage_requestbody"
    asked += " WHERE request_body || response_body ILIKE '%a question%')"
    expect(page.locator(CALLS)).to_have_count(len(loaded.rows(asked)))


def test_of_many_keys_one_is_suggested_and_chosen(loaded: Gateway, sign_in: SignIn) -> None:
    """With more keys than a list offers."""
    page = sign_in(loaded)
    with psycopg.connect(loaded.variables["DATABASE_URL"], autocommit=True) as database:
        database.execute("INSERT INTO usage_summedname SELECT 'key', 'many-' || n FROM generate_series(0, 300) AS n")
        try:
            page.goto(f"{loaded.url}/admin/usage/request/")
            page.get_by_label("Key", exact=True).press_sequentially("faul")
            expect(page.locator("#names-of-key option")).to_have_count(1)
            assert page.locator("#names-of-key option").get_attribute("value") == "default"
            page.get_by_label("Key", exact=True).fill("default")
            page.get_by_label("Key", exact=True).press("Enter")
            page.wait_for_url("**key=default")
            assert page.locator(CALLS).count() >= 7
        finally:
            database.execute("DELETE FROM usage_summedname WHERE value LIKE 'many-%'")


def test_a_filter_that_keys_move_waits_for_enter(loaded: Gateway, sign_in: SignIn) -> None:
    page = sign_in(loaded)
    page.goto(f"{loaded.url}/admin/usage/request/")
    outcome = page.get_by_label("Outcome")
    outcome.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    assert "outcome" not in page.url
    expect(outcome).to_be_focused()
    value = outcome.input_value()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**outcome={value}*")


def test_the_list_is_exported(loaded: Gateway, sign_in: SignIn, tmp_path: Path) -> None:
    page = sign_in(loaded)
    page.goto(f"{loaded.url}/admin/usage/request/?outcome=failed")
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    download.value.save_as(tmp_path / "calls.csv")
    found = list(csv.DictReader(StringIO((tmp_path / "calls.csv").read_text())))

    assert [row["error_code"] for row in found] == ["model_not_found"] * 2


def test_an_error_is_marked_as_known(loaded: Gateway, sign_in: SignIn) -> None:
    page = sign_in(loaded)
    follow(page, "Errors")
    group = page.locator(".cp-group").filter(has_text="model_not_found")
    group.locator("summary").click()
    group.get_by_label("Note").fill("A typo in the nightly job.")
    group.get_by_role("button", name="Mark as known").click()
    expect(page.locator(".cp-note")).to_contain_text("A typo in the nightly job.")
    page.get_by_role("link", name="New", exact=True).click()
    expect(page.locator(".cp-group")).to_have_count(0)
    page.get_by_role("link", name="Known", exact=True).click()
    page.locator(".cp-group summary").click()
    page.get_by_role("link", name="All 2 calls").click()
    expect(page.locator(CALLS)).to_have_count(2)


def test_hostile_calls_are_only_text(site: Gateway, sign_in: SignIn) -> None:
    words = f"{HOSTILE} \u202e\u2067=cmd() \0 " + "long" * 250_000
    calls: list[dict[str, Any]] = [
        {"json": {"security_key": SECURITY_KEY, "model": HOSTILE, "messages": [{"role": "user", "content": words}]}},
        {
            "json": {
                "security_key": SECURITY_KEY,
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": words}],
            }
        },
    ]
    agent = {"user-agent": HOSTILE, "x-request-id": HOSTILE}
    ids = [site.http.post("/openai", headers=agent, **call).headers["x-proxy-request-id"] for call in calls]
    file = {"file": (f"{HOSTILE}\u202e.mp3", b"ID3" + b"\0" * 2000, "audio/mpeg")}
    form = site.http.post(
        "/openai/audio/transcriptions",
        data={"security_key": SECURITY_KEY, "model": "whisper-1"},
        files=file,
        headers=agent,
    )
    ids.append(form.headers["x-proxy-request-id"])
    for request_id in ids:
        site.row(request_id)
    page = sign_in(site)
    for path in (*PATHS, *(f"/admin/usage/request/{request_id}/change/" for request_id in ids)):
        page.goto(site.url + path)
        page.evaluate("document.querySelectorAll('.cp details').forEach(details => { details.open = true })")
        assert page.locator("img[src=x]").count() == 0
        assert "\u202e" not in page.locator(".cp").inner_text()
    assert str(65537 * 65539) not in page.locator("pre#curl").inner_text()


def test_a_key_is_made_used_and_revoked(site: Gateway, sign_in: SignIn) -> None:
    page = sign_in(site)
    follow(page, "Keys")
    page.get_by_role("link", name="Add key").first.click()
    page.fill("[name=name]", "made here")
    page.get_by_role("heading", name="More limits").click()
    page.fill("[name=budget_day]", "2")
    page.get_by_role("button", name="Save").first.click()
    text = page.locator("#key-text").inner_text()
    site.wait_until_known(text)
    page.locator("[data-copy=snippet-1-1]").click()
    answer = json.loads(run(page.evaluate("navigator.clipboard.readText()")))
    assert answer["object"] == "chat.completion"
    site.rows("WHERE key_name = 'made here' AND outcome = 'success'", at_least=1)

    follow(page, "Keys")
    assert text not in page.content()
    row = page.locator("tr").filter(has_text="made here")
    expect(row).to_contain_text("of $2.00")
    expect(row).to_contain_text("today")
    row.get_by_role("link", name="made here", exact=True).click()
    page.get_by_role("link", name="Revoke").first.click()
    page.get_by_role("button", name="Revoke permanently").click()
    expect(page.locator("body")).to_contain_text("is revoked")
    site.wait_until_known(text, known=False)
    follow(page, "Audit log")
    expect(page.locator("body")).to_contain_text("Revoked.")


def test_from_a_key_in_the_list_to_its_own_page(busy_site: Gateway, key_text: str, sign_in: SignIn) -> None:
    page = sign_in(busy_site)
    follow(page, "Keys")
    row = page.locator("tr").filter(has_text="team-3")
    expect(row.locator(".cp-bars li")).to_have_count(3)
    expect(row).to_contain_text(re.compile(r"\d+ calls"))
    row.get_by_role("link", name="Usage of team-3").click()
    page.get_by_role("link", name="Last 30 days", exact=True).click()
    calls = busy_site.count("WHERE key_name = 'team-3'")

    assert tile(page, "calls").startswith(f"Calls {calls} ")
    assert page.locator("[data-chart=calls] .cp-plot svg rect[fill]").count() > 0
    page.get_by_role("link", name="Settings").click()
    expect(page.locator("[name=owner]")).to_have_value("Ada")


def test_the_owner_of_a_key_sees_it_and_signs_out(busy_site: Gateway, key_text: str, open_my_usage: SignIn) -> None:
    page = open_my_usage(busy_site, key_text)
    page.get_by_role("link", name="Last 30 days", exact=True).click()
    page.wait_for_url("**range=month")
    calls = busy_site.count("WHERE key_name = 'team-3'")

    assert tile(page, "calls").startswith(f"Calls {calls} ")
    assert page.locator("[data-chart=calls] .cp-plot svg rect[fill]").count() > 0
    assert not set(re.findall(r"team-\d+", page.content())) - {"team-3"}
    assert key_text not in page.content()
    assert page.evaluate("document.cookie").count("my_usage") == 0
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your key")).to_be_visible()


def test_from_the_cost_to_a_custom_price(uncertain_site: Gateway, sign_in: SignIn) -> None:
    """What is not exact is said in the tile; what needs a price leads to the list, and the list to the form."""
    page = sign_in(uncertain_site)
    page.goto(f"{uncertain_site.url}/admin/?range=hour")
    assert re.search(r"of which \$[\d.,]+ estimated and \$[\d.,]+ provisional", tile(page, "dollars"))
    page.get_by_role("link", name=re.compile(r"\d+ calls need a price")).click()
    row = page.locator(".cp-needed tbody tr").filter(has_text="gpt-6.1-sol-mega")
    expect(row).to_contain_text("Input of long prompts")
    row.get_by_role("link", name="Add a custom price").click()
    expect(page.locator("[name=model]")).to_have_value("gpt-6.1-sol-mega")
    expect(page.locator("[name=service_tier]")).to_have_value("priority")
    expect(page.locator("body")).to_contain_text("The prices below are a proposal")


def test_every_page_can_be_used_with_the_keyboard_alone(
    uncertain_site: Gateway, key_text: str, sign_in: SignIn, open_my_usage: SignIn
) -> None:
    assert open_my_usage(uncertain_site, key_text).evaluate(UNREACHABLE) == []
    page = sign_in(uncertain_site)
    for path in PATHS:
        page.goto(uncertain_site.url + path)
        unreachable = page.evaluate(UNREACHABLE)
        assert unreachable == []


def test_the_pages_outside_the_admin(loaded: Gateway, open_browser: SignIn) -> None:
    page = open_browser(loaded)
    page.goto(loaded.url)
    page.get_by_role("link", name="API documentation").click()
    expect(page.locator("#operations-tag-Calls, .opblock").first).to_be_visible()
    page.locator(".opblock-summary-control").first.click()
    page.goto(f"{loaded.url}/log?access_token={ACCESS_TOKEN}")
    expect(page.locator("tbody tr").first).to_be_visible()
    assert page.locator("td.number").first.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
