"""The pages of alerts: rules and channels are set up there, tried out, and what was found and sent is listed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import resolve

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from chatproxy.alert_models import AlertAttempt, AlertChannel, AlertEvent, AlertKind, AlertMessage, AlertRule
from chatproxy.alerts import incidents
from chatproxy.alerts.forms import AlertRuleForm
from chatproxy.alerts.kinds import KINDS
from chatproxy.alerts.notice import notice_of
from tests.support.alerts import GONE, SECRET, START, make_alert, make_channel, make_rule
from tests.support.callers.roles import browser_of, have_groups, person
from tests.support.documentation import rows_of
from tests.support.ledger.pages import text_of
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream
from usage.database.clock import database_now

pytestmark = pytest.mark.django_db
ALERTS, MESSAGES = "/admin/chatproxy/alert/", "/admin/chatproxy/alertmessage/"
RULES, CHANNELS = "/admin/chatproxy/alertrule/", "/admin/chatproxy/alertchannel/"
migration = import_module("chatproxy.migrations.0004_alerts")


@pytest.fixture
def listener() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as listener:
        yield listener


def add_channel(admin: Client, fields: dict[str, str]) -> Any:
    form = {
        "name": "hooks",
        "kind": "webhook",
        "enabled": "on",
        "secret": SECRET,
        "recipients": "",
        **fields,
    }
    return admin.post(f"{CHANNELS}add/", form)


def errors_of(answer: Any) -> dict[str, list[str]]:
    assert answer.status_code == 200
    errors: dict[str, list[str]] = json.loads(answer.context["adminform"].form.errors.as_json())
    return errors


def test_a_channel_is_made_and_sends_a_test_message(admin: Client, listener: FixedUpstream) -> None:
    assert add_channel(admin, {"url": listener.base_url}).status_code == 302
    channel = AlertChannel.objects.get()
    path = f"{CHANNELS}{channel.pk}/test/"
    asked = admin.get(path)
    assert "sends one message now" in text_of(asked.content.decode())
    assert listener.asked == []  # a link sends nothing

    answer = admin.post(path, follow=True)
    assert "The test message was sent: status 200." in text_of(answer.content.decode())
    [(_, _, _, body)] = listener.asked
    assert json.loads(body)["title"] == "Test message from chatproxy"
    assert "Test message: status 200." in LogEntry.objects.latest("pk").get_change_message()


def test_a_test_message_that_fails_says_why(admin: Client) -> None:
    channel = make_channel(GONE)
    answer = admin.post(f"{CHANNELS}{channel.pk}/test/", follow=True)

    assert "The test message was not sent: not reached: ConnectError." in text_of(answer.content.decode())


def test_what_is_secret_of_a_channel_is_shown_nowhere(admin: Client, listener: FixedUpstream, caplog: Any) -> None:
    url = f"{listener.base_url}/secret-path-of-the-hook"
    add_channel(admin, {"url": url})
    channel = AlertChannel.objects.get()
    assert (channel.url, channel.secret, channel.host) == (url, SECRET, "127.0.0.1")
    admin.post(f"{CHANNELS}{channel.pk}/test/")
    listener.status = 500
    admin.post(f"{CHANNELS}{channel.pk}/test/")
    message = AlertMessage.objects.latest("pk")
    of_channel = f"{CHANNELS}{channel.pk}/"
    paths = [
        CHANNELS, f"{of_channel}change/", f"{of_channel}test/", f"{of_channel}history/", MESSAGES,
        f"{MESSAGES}{message.pk}/change/", "/admin/", "/admin/admin/logentry/",
    ]  # fmt: skip
    shown = "".join(admin.get(path).content.decode() for path in paths)
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(c)::text FROM chatproxy_alertchannel AS c")
        [(row,)] = cursor.fetchall()

    assert "127.0.0.1/…" in shown
    for text in (shown, row, caplog.text, *LogEntry.objects.values_list("change_message", flat=True)):
        assert "secret-path" not in text
        assert SECRET not in text


def test_a_change_keeps_address_and_secret_that_are_not_entered(admin: Client) -> None:
    channel = make_channel(GONE)
    form = {"name": "renamed", "enabled": "on", "url": "", "secret": "", "recipients": ""}
    assert admin.post(f"{CHANNELS}{channel.pk}/change/", form).status_code == 302
    channel.refresh_from_db()

    assert (channel.name, channel.kind, channel.url, channel.secret) == ("renamed", "webhook", GONE, SECRET)


@pytest.mark.parametrize("list_page", [RULES, CHANNELS])
@pytest.mark.parametrize("by_action", [False, True], ids=["by its page", "by the list"])
def test_a_rule_and_a_channel_are_deleted_with_their_messages(admin: Client, list_page: str, by_action: bool) -> None:
    alert, channel = make_alert(), make_channel(GONE)
    incidents.write_messages(alert, AlertEvent.OPENED, database_now(), [channel])
    pk = alert.rule.pk if list_page == RULES else channel.pk
    if by_action:
        form: dict[str, Any] = {"action": "delete_selected", "_selected_action": [pk], "post": "yes"}
        answer = admin.post(list_page, form)
    else:
        answer = admin.post(f"{list_page}{pk}/delete/", {"post": "yes"})

    assert answer.status_code == 302
    assert AlertMessage.objects.count() == 0
    assert (AlertRule if list_page == RULES else AlertChannel).objects.filter(pk=pk).count() == 0
    assert admin.get(f"{ALERTS}{make_alert().pk}/delete/").status_code == 403  # by itself, none can be deleted


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": ""}, "url"),
        ({"url": "hooks.example.com"}, "url"),
        ({"url": "ftp://hooks.example.com"}, "url"),
        ({"url": "https://"}, "url"),
        ({"url": "https://user:password@hooks.example.com"}, "url"),
        ({"url": "https://hooks.example.com:99999/"}, "url"),
        ({"secret": ""}, "secret"),
        ({"secret": "short"}, "secret"),
        ({"kind": "slack", "url": ""}, "url"),
        ({"kind": "email", "recipients": ""}, "recipients"),
        ({"kind": "email", "recipients": "nobody"}, "recipients"),
        ({"kind": "email", "recipients": "a@example.com"}, "kind"),  # EMAIL_URL is not set
        ({"quiet_from": "22:00"}, "quiet_until"),
        ({"quiet_from": "22:00", "quiet_until": "22:00"}, "quiet_until"),
    ],
)
def test_a_channel_that_cannot_work_is_refused(admin: Client, fields: dict[str, str], field: str) -> None:
    errors = errors_of(add_channel(admin, {"url": "https://hooks.example.com/x", **fields}))

    assert field in errors
    assert AlertChannel.objects.count() == 0


def test_a_channel_of_emails(admin: Client, settings: LazySettings) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1"
    answer = add_channel(admin, {"kind": "email", "secret": "", "recipients": "a@example.com, b@example.com"})

    assert answer.status_code == 302
    assert AlertChannel.objects.get().recipients == ["a@example.com", "b@example.com"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "budget", "threshold": ""}, "threshold"),
        ({"kind": "login", "threshold": "1", "window_minutes": ""}, "window_minutes"),
        ({"kind": "upstream_down", "window_minutes": "0"}, "window_minutes"),
        ({"kind": "budget", "threshold": "-1"}, "threshold"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(admin: Client, fields: dict[str, str], field: str) -> None:
    form = {"threshold": "50", "window_minutes": "5", "quiet_hours": "1", "enabled": "on", **fields}
    assert field in errors_of(admin.post(f"{RULES}add/", form))


def test_a_rule_has_no_number_that_its_kind_does_not_use(admin: Client) -> None:
    AlertRule.objects.all().delete()
    form = {"kind": "upstream_down", "threshold": "50", "window_minutes": "5", "quiet_hours": "1", "enabled": "on"}
    assert admin.post(f"{RULES}add/", form).status_code == 302
    rule = AlertRule.objects.get()

    assert (rule.threshold, rule.window_minutes) == (None, 5)
    assert "did not reach upstream" in text_of(admin.get(f"{RULES}{rule.pk}/change/").content.decode())


def test_the_first_rules_are_those_of_the_documentation() -> None:
    AlertRule.objects.all().delete()
    migration.make_rules(apps, SimpleNamespace(connection=connection))
    numbers: dict[str, set[str]] = {}
    for rule in AlertRule.objects.all():
        found = numbers.setdefault(rule.get_kind_display(), set())
        found |= {f"{number:.0f}" for number in (rule.threshold, rule.window_minutes) if number is not None}
        form = AlertRuleForm({**{name: getattr(rule, name) for name in ("threshold", "window_minutes", "quiet_hours",
            "repeat_hours", "enabled")}, "kind": rule.kind}, instance=rule)  # fmt: skip
        assert form.is_valid(), form.errors
    documented = rows_of("kind | an alert is opened when | default")

    assert numbers == {kind: set(re.findall(r"\d+", default)) for kind, _, default in documented}
    assert set(AlertRule.objects.values_list("kind", flat=True)) == set(AlertKind.values)


def test_each_kind_leads_to_a_page_that_is_there() -> None:
    assert set(KINDS) == set(AlertKind)
    for facts in KINDS.values():
        assert resolve(f"/{facts.page}")


def test_open_alerts_are_listed_and_on_the_dashboard(admin: Client) -> None:
    assert "Alerts</b>" not in admin.get("/admin/").content.decode()
    rule = make_rule(AlertKind.BUDGET, 80)
    for name in ("<b>first\u202e</b>", "second", "third"):
        make_alert(f"Fault of {name}", rule=rule, subject=name)
    make_alert("An old fault", rule=rule, subject="old", resolved_at=START)
    dashboard, data = admin.get("/admin/").content.decode(), admin.get("/admin/usage/dashboard.json").json()

    for html in (dashboard, data["fragments"]["statuses"]):
        assert '<a href="/admin/chatproxy/alert/?state=open">Fault of third; Fault of second; and 1 more</a>' in html
    listed = admin.get(ALERTS, {"state": "open"}).content.decode()
    assert "An old fault" not in listed
    assert "Fault of &lt;b&gt;first&lt;U+202E&gt;&lt;/b&gt;" in listed
    assert "An old fault" in admin.get(ALERTS, {"state": "resolved"}).content.decode()


def test_an_alert_and_its_messages_say_what_was_sent(admin: Client, settings: LazySettings) -> None:
    settings.PUBLIC_URL = "https://ai.example.com"
    alert = make_alert("Fault of team a", subject="team a", detail="In numbers.", page="admin/usage/errors/?x=1")
    channel = make_channel(GONE, name="the hooks")
    incidents.write_messages(alert, AlertEvent.OPENED, database_now(), [channel])
    message = AlertMessage.objects.get()
    AlertAttempt.objects.create(message=message, at=database_now(), was_sent=False, result="status 503")
    of_alert = text_of(admin.get(f"{ALERTS}{alert.pk}/change/").content.decode())
    of_message = text_of(admin.get(f"{MESSAGES}{message.pk}/change/").content.decode())

    for words in ("Fault of team a", "In numbers.", "Free some space.", "the hooks", "waiting"):
        assert words in of_alert
    assert "status 503" in of_message
    assert "status 503" in text_of(admin.get(MESSAGES).content.decode())
    assert 'href="/admin/usage/errors/?x=1"' in admin.get(f"{ALERTS}{alert.pk}/change/").content.decode()
    assert notice_of(alert, AlertEvent.OPENED).url == "https://ai.example.com/admin/usage/errors/?x=1"


def test_without_a_public_address_there_is_no_link(settings: LazySettings) -> None:
    settings.PUBLIC_URL = None
    assert notice_of(make_alert(), AlertEvent.OPENED).url == ""


def test_a_rule_is_named_by_its_threshold() -> None:
    assert str(AlertRule(kind="budget", threshold=Decimal("80.00"))) == "Budget used: 80 %"
    assert str(AlertRule(kind="database")) == "Database away"


def test_an_alert_that_no_channel_sends_says_so(admin: Client) -> None:
    page, add = f"{ALERTS}{make_alert().pk}/change/", f"{CHANNELS}add/"
    make_channel(GONE, name="of another rule").rules.add(make_rule(AlertKind.DATABASE))
    make_channel(GONE, name="switched off", enabled=False)
    seen = admin.get(page).content.decode()
    assert "No channel: nobody is told." in seen
    assert f'href="{add}"' in seen
    have_groups()
    assert add not in (of_viewer := browser_of(person("viewer")).get(page).content.decode())
    assert "nobody is told" not in of_viewer

    make_channel(GONE)
    seen = admin.get(page).content.decode()
    assert "1 channel; the messages are below" in seen
    assert "nobody is told" not in seen


def test_the_form_of_a_new_rule_explains_each_kind(admin: Client) -> None:
    page = admin.get(f"{RULES}add/").content.decode()
    for kind in AlertKind:
        assert f'<p data-kind="{kind.value}">' in page
    assert "docs/alerts.md" not in page


def test_a_new_channel_has_nothing_to_keep(admin: Client) -> None:
    words = "Leave empty to keep it."
    assert words not in admin.get(f"{CHANNELS}add/").content.decode()
    channel = make_channel(GONE)
    assert words in admin.get(f"{CHANNELS}{channel.pk}/change/").content.decode()
