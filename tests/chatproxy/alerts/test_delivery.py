"""What goes over the wire: to a webhook, to Slack, to Teams, and to a real mail server."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from types import SimpleNamespace
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.conf import LazySettings

from chatproxy.alert_models import AlertChannel, AlertEvent, AlertKind, ChannelKind
from chatproxy.alerts import delivery
from chatproxy.alerts.delivery import send
from chatproxy.alerts.notice import Notice
from tests.support.alerts import GONE, SECRET, documented_check, make_channel
from tests.support.documentation import rows_of
from tests.support.polling import PATIENCE
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

pytestmark = pytest.mark.django_db
EVIL = "evil <!channel> [link](http://x) & *bold*"
NOTICE = Notice(
    event="opened", alert=7, kind="budget", subject="team-a, month", host="", title=f"Key {EVIL} has spent 83 %",
    detail="$83.20 of $100.00 spent.", action="Raise the budget.", since="2026-11-29T12:30:00+00:00", resolved_at="",
    url="https://ai.example.com/admin/?q=a&b=c",
)  # fmt: skip


@pytest.fixture
def listener() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as listener:
        yield listener


def test_a_webhook_is_signed_as_documented(listener: FixedUpstream) -> None:
    result = send(NOTICE, make_channel(listener.base_url), "42")
    [(method, path, headers, body)] = listener.asked
    is_genuine = documented_check()

    assert result == (True, "status 200")
    assert (method, path, headers["content-type"]) == ("POST", "/v1", "application/json")
    assert is_genuine(headers["chatproxy-signature"], body, SECRET)
    assert not is_genuine(headers["chatproxy-signature"], body + b" ", SECRET)
    assert not is_genuine(headers["chatproxy-signature"], body, "another secret")
    assert json.loads(body) == {"version": 1, "id": "42", **NOTICE.as_json()}


def test_a_webhook_that_was_overheard_is_refused_later(
    listener: FixedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "time", SimpleNamespace(time=lambda: time.time() - 301))
    send(NOTICE, make_channel(listener.base_url), "42")
    [(_, _, headers, body)] = listener.asked

    assert not documented_check()(headers["chatproxy-signature"], body, SECRET)


def test_the_documented_fields_are_those_that_are_sent(listener: FixedUpstream) -> None:
    send(NOTICE, make_channel(listener.base_url), "42")
    documented = [name.strip(" `") for row in rows_of("field | meaning") for name in row[0].split(",")]

    assert sorted(documented) == sorted(json.loads(listener.asked[0][3]))


def test_the_documented_kinds_and_events_are_those_of_the_code() -> None:
    told = {row[0]: row[1] for row in rows_of("field | meaning")}
    assert all(f"`{kind}`" in told["`kind`"] for kind in AlertKind.values)
    assert all(f"`{event}`" in told["`event`"] for event in AlertEvent.values)
    assert [row[0] for row in rows_of("kind | an alert is opened when | default")] == list(AlertKind.labels)


def test_slack_gets_a_text_without_mentions(listener: FixedUpstream) -> None:
    send(NOTICE, make_channel(listener.base_url, ChannelKind.SLACK), "42")
    [(_, _, headers, body)] = listener.asked

    assert "chatproxy-signature" not in headers
    lines = [
        "*Key evil &lt;!channel&gt; [link](http://x) &amp; *bold* has spent 83 %*",
        "$83.20 of $100.00 spent.",
        "Since 2026-11-29 12:30 UTC.",
        "Raise the budget.",
        "<https://ai.example.com/admin/?q=a&amp;b=c|Open in chatproxy>",
    ]
    message = json.loads(body)
    assert message["text"].splitlines() == lines
    texts = [block["text"] for block in message["blocks"]]
    assert texts == [{"type": "mrkdwn", "text": line, "verbatim": True} for line in lines]  # addresses are no links


def test_no_line_is_too_long_for_slack(listener: FixedUpstream) -> None:
    long = Notice(**{**NOTICE.as_json(), "title": "&" * 5000, "detail": "<" * 5000})
    send(long, make_channel(listener.base_url, ChannelKind.SLACK), "42")
    blocks = json.loads(listener.asked[0][3])["blocks"]
    assert all(len(block["text"]["text"]) <= 3000 for block in blocks)


def test_teams_gets_a_card_without_markdown(listener: FixedUpstream) -> None:
    listener.status = 202
    result = send(NOTICE, make_channel(listener.base_url, ChannelKind.TEAMS), "42")
    message = json.loads(listener.asked[0][3])
    [attachment] = message["attachments"]
    card = attachment["content"]

    assert result.was_sent
    assert (message["type"], attachment["contentType"]) == ("message", "application/vnd.microsoft.card.adaptive")
    assert {block["type"] for block in card["body"]} == {"RichTextBlock"}
    assert [block["inlines"][0]["text"] for block in card["body"]] == [NOTICE.title, *NOTICE.lines]
    assert card["actions"] == [{"type": "Action.OpenUrl", "title": "Open in chatproxy", "url": NOTICE.url}]


def test_the_end_says_how_long_it_lasted() -> None:
    over = Notice(**{**NOTICE.as_json(), "event": "resolved", "resolved_at": "2026-11-29T13:00:00+00:00"})
    assert over.lines == ["It lasted from 2026-11-29 12:30 to 2026-11-29 13:00 UTC (30\u202fmin 00\u202fs)."]


def test_a_redirect_is_not_followed(listener: FixedUpstream) -> None:
    with run_fixed_upstream() as inside:
        listener.status, listener.headers = 307, {"Location": inside.base_url}
        result = send(NOTICE, make_channel(listener.base_url), "42")
        assert inside.asked == []
    assert result == (False, "status 307")


def test_a_channel_that_does_not_answer_takes_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, listener: FixedUpstream
) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        result = send(NOTICE, make_channel(f"http://127.0.0.1:{silent.getsockname()[1]}/secret-path"), "42")

    assert result == (False, "no answer in 0.2 seconds")


def test_no_result_has_a_part_of_the_address(listener: FixedUpstream) -> None:
    listener.status, listener.body = 500, b"secret-words of the answer"
    addresses = (f"{listener.base_url}/secret-path", "http://127.0.0.1:1/secret-path", "https://secret-host.invalid/x")
    for number, url in enumerate(addresses):
        result = send(NOTICE, make_channel(url, name=str(number)), "42")
        assert not result.was_sent
        assert "secret" not in result.words


def test_a_proxy_is_used_as_for_calls(listener: FixedUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = listener.base_url.removesuffix("/v1")
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "10.0.0.0/8")
    channel = make_channel("http://hooks.example/path")
    assert send(NOTICE, channel, "42").was_sent
    assert listener.asked[0][1] == "http://hooks.example/path"

    channel.set_url("http://10.255.255.1:1/path")
    monkeypatch.setattr(delivery, "TIMEOUT_SECONDS", 0.2)
    send(NOTICE, channel, "42")
    assert len(listener.asked) == 1


def test_a_channel_of_another_secret_says_so(settings: LazySettings) -> None:
    channel = make_channel(GONE)
    channel.sealed_url = "not what was sealed"

    assert send(NOTICE, channel, "42") == (False, delivery.SEAL_FAULT)


# E-mail


class Mailbox:
    """The handler of a real SMTP server: it keeps what it gets, or refuses with `answer`, or refuses `nobody`."""

    def __init__(self) -> None:
        self.got: list[Envelope] = []
        self.answer = "250 OK"

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _: object) -> str:
        if address.startswith("nobody@"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.got.append(envelope)
        return self.answer


@pytest.fixture
def mailbox(settings: LazySettings) -> Iterator[Mailbox]:
    mailbox = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, ready_timeout=PATIENCE)
    controller.start()
    settings.EMAIL_URL = f"smtp://127.0.0.1:{port}"
    yield mailbox
    controller.stop()


def email_channel(*recipients: str) -> AlertChannel:
    return AlertChannel.objects.create(name="mail", kind=ChannelKind.EMAIL, recipients=list(recipients))


def test_an_email_is_sent(mailbox: Mailbox) -> None:
    result = send(NOTICE, email_channel("a@example.com", "b@example.com"), "42")
    [envelope] = mailbox.got
    message: Any = message_from_bytes(envelope.content or b"", policy=policy.default)  # type: ignore[arg-type]  # bytes

    assert result == (True, "taken by the mail server for 2 recipients")
    assert envelope.rcpt_tos == ["a@example.com", "b@example.com"]
    assert (message["Subject"], message["From"]) == (f"[chatproxy] {NOTICE.title}", "chatproxy@localhost")
    assert message["Auto-Submitted"] == "auto-generated"
    assert message.get_content().splitlines() == [NOTICE.title, "", *NOTICE.lines, "", NOTICE.url]


def test_a_mail_server_that_refuses_is_named_by_its_code(mailbox: Mailbox) -> None:
    mailbox.answer = "554 words of the server"
    assert send(NOTICE, email_channel("a@example.com"), "42") == (False, "the mail server answered 554")


def test_a_recipient_who_is_refused_is_counted(mailbox: Mailbox) -> None:
    result = send(NOTICE, email_channel("a@example.com", "nobody@example.com"), "42")

    assert result == (True, "taken by the mail server for 1 recipients, refused for 1")
    assert [envelope.rcpt_tos for envelope in mailbox.got] == [["a@example.com"]]


def test_a_mail_server_that_is_gone(mailbox: Mailbox, settings: LazySettings) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1:1"
    assert send(NOTICE, email_channel("a@example.com"), "42") == (False, "not sent: ConnectionRefusedError")


def test_without_a_mail_server_nothing_is_sent(settings: LazySettings) -> None:
    settings.EMAIL_URL = None
    assert send(NOTICE, email_channel("a@example.com"), "42") == (False, "EMAIL_URL is not set")


def test_a_title_ends_no_header(mailbox: Mailbox) -> None:
    hostile = Notice(**{**NOTICE.as_json(), "title": "a\r\nBcc: everybody@example.com"})
    result = send(hostile, email_channel("a@example.com"), "42")

    assert not result.was_sent
    assert mailbox.got == []
