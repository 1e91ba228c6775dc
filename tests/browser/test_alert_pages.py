"""The pages of alerts in a browser: a channel is set up and tried out, and each page has room on a phone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SignIn
from tests.support.alerts import SECRET, documented_check
from tests.support.servers.gateway import Gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

ALERTS, MESSAGES = "/admin/chatproxy/alert/", "/admin/chatproxy/alertmessage/"
RULES, CHANNELS = "/admin/chatproxy/alertrule/", "/admin/chatproxy/alertchannel/"
LOOKS = {
    "light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark-phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
}
# Two open alerts of other hosts, which the server does not look at, and one that is over; with messages.
FILLING = """
from datetime import timedelta
from django.utils import timezone
from chatproxy.alert_models import Alert, AlertAttempt, AlertChannel, AlertMessage, AlertRule
now = timezone.now()
channel = AlertChannel(name="On call", kind="slack")
channel.set_url("http://127.0.0.1:1/hook")
channel.save()
facts = (
    ("upstream_down", "", "gateway-6.internal.example.com:/srv/chatproxy/var", "Calls of"
     " gateway-6.internal.example.com:/srv/chatproxy/var do not reach upstream", "", None),
    ("disk", "", "gateway-7.internal.example.com:/srv/chatproxy/var", "The disk of"
     " gateway-7.internal.example.com:/srv/chatproxy/var is nearly full", "9.31 GB of 100 GB are free.", None),
    ("error_rate", "", "", "17 % of the calls fail", "18 of 104 calls in 1 h; usually 0.8 %.", now),
)
for kind, subject, host, title, detail, over in facts:
    alert = Alert.objects.create(
        rule=AlertRule.objects.filter(kind=kind).first(), subject=subject, host=host, title=title, detail=detail,
        since=now - timedelta(hours=3), resolved_at=over, sent_at=now)
    message = AlertMessage.objects.create(alert=alert, channel=channel, event="opened", notice={"title": title},
        made_at=now, attempts=2, failed_at=now)
    for _ in range(2):
        AlertAttempt.objects.create(message=message, at=now, was_sent=False, result="not reached: ConnectError")
print(alert.pk, message.pk, channel.pk, alert.rule.pk)
"""


@pytest.fixture(scope="module")
def pages(site: Gateway) -> list[str]:
    """Fills the tables of alerts, and returns the paths of the pages that show them."""
    made = site.manage("shell", "--no-imports", "-c", FILLING)
    assert made.returncode == 0, made.stderr
    alert, message, channel, rule = made.stdout.split()
    return [
        "/admin/", ALERTS, f"{ALERTS}?state=open", f"{ALERTS}{alert}/change/", MESSAGES, f"{MESSAGES}{message}/change/",
        RULES, f"{RULES}{rule}/change/", f"{RULES}add/", CHANNELS, f"{CHANNELS}{channel}/change/", f"{CHANNELS}add/",
        f"{CHANNELS}{channel}/test/",
    ]  # fmt: skip


@pytest.fixture
def listener() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as listener:
        yield listener


def test_a_channel_is_set_up_and_tried_out(site: Gateway, sign_in: SignIn, listener: FixedUpstream) -> None:
    page = sign_in(site)
    page.locator("#nav-sidebar, nav, aside").get_by_role("link", name="Channels").first.click()
    page.get_by_role("link", name="Add alert channel").first.click()
    page.fill("[name=name]", "Hooks")
    page.select_option("[name=kind]", "webhook")
    page.fill("[name=url]", f"{listener.base_url}/secret-path")
    page.fill("[name=secret]", SECRET)
    page.get_by_role("button", name="Save", exact=True).first.click()
    page.locator("#result_list").get_by_role("link", name="Hooks", exact=True).click()
    assert "secret-path" not in page.content()
    page.get_by_role("link", name="Send a test message").first.click()
    page.get_by_role("button", name="Send a test message").click()
    expect(page.locator("body")).to_contain_text("The test message was sent: status 200.")

    [(_, _, headers, body)] = listener.asked
    assert documented_check()(headers["chatproxy-signature"], body, SECRET)
    assert json.loads(body)["detail"] == "The channel Hooks works."
    page.goto(site.url + MESSAGES)
    expect(page.locator("#result_list")).to_contain_text("Test message from chatproxy")


def test_the_dashboard_leads_to_what_is_open(site: Gateway, pages: list[str], sign_in: SignIn) -> None:
    page = sign_in(site)
    page.goto(f"{site.url}/admin/")
    page.locator(".cp-statuses").get_by_role("link", name="is nearly full").click()
    expect(page.locator("#result_list")).to_contain_text("do not reach upstream")
    expect(page.locator("#result_list")).not_to_contain_text("17 % of the calls fail")
    page.locator("#result_list").get_by_role("link", name="The disk of").click()
    expect(page.locator("body")).to_contain_text("Free some space.")


@pytest.mark.parametrize("look", LOOKS)
def test_each_page_is_seen(site: Gateway, pages: list[str], sign_in: SignIn, look: str, tmp_path: Path) -> None:
    page = sign_in(site, **LOOKS[look])
    for number, path in enumerate(pages):
        page.goto(site.url + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        take(page, Path(os.environ.get("ALERT_SCREENS", tmp_path)) / f"{number:02}-{look}.png")


def take(page: Page, picture: Path) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=picture, full_page=True)
    assert picture.stat().st_size > 1000
