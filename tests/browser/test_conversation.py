"""The conversation on the page of a call: as somebody reads it who did not write the call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import LOOKS, SignIn, take
from tests.support.ledger.logged_conversations import ANSWERED, ASKED, RESPONSE, RESPONSE_ASKED, STREAMED
from tests.support.polling import repeat_until
from tests.support.servers.gateway import Gateway

MAKE = """
import json, sys
from datetime import UTC, datetime, timedelta
from tests.support.ledger.ledgers import call
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
rows = [call(datetime.now(UTC) - timedelta(minutes=10 - number), **columns)
        for number, columns in enumerate(json.loads(sys.stdin.read()))]
write_rows(Pricer().priced(rows))
print(*(row["request_id"] for row in rows))
"""
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> ![p](https://evil.example/p.png) [l](javascript:alert(3))"
)


@pytest.fixture(scope="module")
def pages(site: Gateway) -> dict[str, str]:
    """Puts calls into the ledger whose bodies are conversations, and returns the paths of their pages."""
    hostile = f"{HOSTILE} \u202e\u2067\0 " + "long" * 60_000
    long = json.dumps({"messages": [{"role": "user", "content": "words " * 4000}]})
    bodies: dict[str, dict[str, Any]] = {
        "chat": {"route": "/v1/chat/completions", "request": ASKED, "response": ANSWERED},
        "response": {"route": "/v1/responses", "request": RESPONSE_ASKED, "response": RESPONSE},
        "streamed": {"route": "/openai2", "stream": True, "request": {"input": "Rain?"}, "response": STREAMED},
        "cut": {
            "route": "/openai", "stream": True, "request": f"{long[:16_000]}… <41,600 bytes cut>",
            "response": "An answer that is cut… <50,000 bytes cut>",
        },
        "hostile": {
            "route": "/openai", "request": {"messages": [{"role": hostile[:300], "content": hostile}]},
            "response": {"choices": [{"message": {"content": hostile}}]},
        },
    }  # fmt: skip
    calls = [
        {name: value for name, value in one.items() if name not in ("request", "response")}
        | {f"{name}_body": text_of(one[name]) for name in ("request", "response")}
        | {"session": "trip-77"}
        for one in bodies.values()
    ]
    made = site.manage("shell", "--no-imports", "-c", MAKE, said=json.dumps(calls))
    assert made.returncode == 0, made.stderr
    ids = made.stdout.split()
    return {name: f"/admin/usage/request/{one}/change/" for name, one in zip(bodies, ids, strict=True)}


def text_of(body: object) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    return text.replace("\0", "\ufffd")


def test_words_of_a_prompt_are_found(site: Gateway, pages: dict[str, str], sign_in: SignIn, tmp_path: Path) -> None:
    for look in ("light", "phone"):
        page = sign_in(site, **LOOKS[look])
        page.goto(f"{site.url}/admin/usage/request/")
        page.get_by_label("Text").fill('"Invoice 4711"')
        page.get_by_label("Text").press("Enter")
        words = page.locator(".cp-words")
        expect(words.locator("mark")).to_have_text("invoice 4711")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        take(page, f"words-{look}", tmp_path)
        words.click()
        page.wait_for_url(f"**{pages['chat']}?text=*")


def test_hits_in_hostile_prompts_are_inert(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(f"{site.url}/admin/usage/request/?text=onerror")

    expect(page.locator(".cp-words mark").first).to_have_text("onerror")
    expect(page.locator(".cp-words").first).to_contain_text("<script>alert(1)</script><img src=x onerror=alert(2)>")
    assert page.locator(".cp-words :is(img, script, a)").count() == 0


def test_a_chat_is_read_as_one(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(site.url + pages["chat"])
    turns = page.locator(".cp-turn")

    expect(page.get_by_role("heading", name="Conversation")).to_be_visible()
    expect(turns.get_by_text("invoice 4711")).to_be_hidden()
    page.get_by_text("3 earlier messages").click()
    expect(turns.get_by_text("invoice 4711")).to_be_visible()
    tool = turns.locator(".cp-tool").first
    expect(tool).to_contain_text("get_weather")
    expect(tool.locator(".cp-results")).to_contain_text("sunny, 20 degrees")
    answer = turns.last
    expect(answer.get_by_role("heading", name="Weather in Paris")).to_be_visible()
    expect(answer.locator("td").first).to_have_text("Mon")
    expect(answer.get_by_text("length", exact=True)).to_be_visible()
    expect(answer.get_by_role("link", name="Forecast for Paris")).to_have_attribute(
        "rel", "noopener noreferrer nofollow"
    )
    expect(answer.get_by_text("The user asks for the weather.")).to_be_hidden()
    answer.get_by_text("Reasoning").click()
    expect(answer.get_by_text("The user asks for the weather.")).to_be_visible()
    expect(page.locator(".cp-media").first).to_contain_text("image/png, 34,560 bytes")


def test_the_json_is_beside_it(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(site.url + pages["chat"])
    page.get_by_role("link", name="JSON", exact=True).click()

    expect(page.locator("#body-1")).to_contain_text('"role": "system"')
    page.get_by_role("link", name="Conversation", exact=True).click()
    expect(page.locator(".cp-turn").last).to_contain_text("Weather in Paris")


def test_a_cut_is_seen_where_it_is(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(site.url + pages["cut"])

    expect(page.locator(".cp-cut").first).to_contain_text("The request was cut here. First 16.0 kB of 57.6 kB kept.")
    expect(page.locator(".cp-cut").last).to_contain_text("The answer was cut here.")
    page.goto(f"{site.url}{pages['cut']}?view=json")
    expect(page.locator(".cp-downloads .cp-badge").first).to_have_text("cut: first 16.0 kB of 57.6 kB")


def test_a_stored_body_is_downloaded_whole(
    site: Gateway, pages: dict[str, str], sign_in: SignIn, tmp_path: Path
) -> None:
    page = sign_in(site)
    page.goto(site.url + pages["response"])
    with page.expect_download() as download:
        page.locator(".cp-downloads").get_by_role("link", name="answer").click()
    download.value.save_as(tmp_path / "answer.txt")

    assert json.loads((tmp_path / "answer.txt").read_text()) == RESPONSE


def test_calls_are_read_one_after_another(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(f"{site.url}/admin/usage/request/?route=/openai")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{pages['cut']}?route=%2Fopenai")
    page.keyboard.press("k")
    page.wait_for_url(f"**{pages['hostile']}?route=%2Fopenai")
    page.get_by_role("link", name="Matching calls").click()
    page.locator("[data-rows] tbody tr").last.locator("td").nth(3).click()
    page.wait_for_url(f"**{pages['cut']}?route=%2Fopenai")


def test_a_session_is_read_on_one_page(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(site.url + pages["response"])
    page.get_by_role("link", name="whole conversation", exact=True).click()
    page.wait_for_url("**/in-order/?session=trip-77&call=*")
    said = page.locator(".cp-call-text")

    repeat_until(lambda: said.count() == 5, page.reload)  # a page reads for a short time only
    expect(said.first.locator(".cp-turn").last).to_contain_text("Weather in Paris")
    expect(said.first.locator(".cp-markdown td").first).to_have_css("border-left-width", "1px")
    expect(said.last.locator("p").last).to_contain_text("Shortened: the whole text")
    assert page.locator(".cp-call-text img, .cp-call-text script, a[href^=javascript]").count() == 0
    said.first.locator(".cp-markdown td").first.click()  # the first link near it is one of the answer's
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert "in-order/?session=trip-77" in page.url
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{pages['response']}?session=trip-77")


def test_a_bar_leads_to_its_calls(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(f"{site.url}/admin/?range=hour")
    page.locator("[data-chart=calls] .cp-plot svg rect[fill]").last.click(force=True)  # the cursor is above it
    page.wait_for_url("**/admin/usage/request/?*from=*")
    expect(page.locator("[data-rows] tbody tr").first).to_contain_text("success")


def test_the_dialog_opens_a_call(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.keyboard.press("Control+k")
    page.locator("#search-input-command").press_sequentially(pages["chat"].split("/")[4])
    page.locator("#command-results a").first.click()
    page.wait_for_url(f"**{pages['chat']}")


def test_hostile_words_are_only_words(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    page = sign_in(site)
    for view in ("", "?view=json"):
        page.goto(site.url + pages["hostile"] + view)
        page.evaluate("document.querySelectorAll('.cp details').forEach(details => { details.open = true })")
        assert page.locator(".cp img, .cp script").count() == 0
        assert page.locator("a[href^=javascript]").count() == 0
        assert "\u202e" not in page.locator(".cp").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]  # it has a size


def test_it_can_be_read_without_javascript(site: Gateway, pages: dict[str, str], sign_in: SignIn) -> None:
    cookies = sign_in(site).context.cookies()
    page = sign_in(site)
    without = page.context.browser.new_context(java_script_enabled=False)  # type: ignore[union-attr]  # it was launched
    without.add_cookies(cookies)  # type: ignore[arg-type]  # as they came
    try:
        page = without.new_page()
        page.goto(site.url + pages["response"])
        assert "All is well." in page.content().replace("<strong>", "").replace("</strong>", "")
    finally:
        without.close()


@pytest.mark.parametrize("look", LOOKS)
def test_conversations_are_seen(
    site: Gateway, pages: dict[str, str], sign_in: SignIn, look: str, tmp_path: Path
) -> None:
    page = sign_in(site, **LOOKS[look])
    in_order = {"in-order": "/admin/usage/request/in-order/?session=trip-77"}
    for name, path in (pages | in_order).items():
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= LOOKS[look]["viewport"]["width"]
        expect(page.locator("#bodies, #in-order")).to_be_visible()
        take(page, f"conversation-{name}-{look}", tmp_path)
