"""A real server tells of a fault, of the loss of its database while that is away, and of its return."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from chatproxy.alert_models import Alert, AlertAttempt, AlertChannel, AlertKind, AlertMessage, AlertRule
from chatproxy.alerts import outage as outage_module
from chatproxy.alerts.delivery import SendingResult
from chatproxy.alerts.outage import DatabaseOutage
from chatproxy.alerts.outbox import MAX_ATTEMPTS
from tests.chaos.lab import Postgres
from tests.support.alerts import GONE, SECRET, documented_check, make_channel, make_rule
from tests.support.polling import wait_until
from tests.support.servers.gateway import Gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream
from usage.database.clock import database_now

# A window of nothing, which no form takes: the outage is told at the first look.
SETTING_UP = """
import sys
from datetime import timedelta
from django.utils import timezone
from chatproxy.alert_models import AlertChannel, AlertRule
from proxyapi.models import AccessKey
AlertRule.objects.filter(kind="database").update(window_minutes=0)
channel = AlertChannel(name="hooks", kind="webhook")
channel.set_url({url!r})
channel.set_secret({secret!r})
channel.save()
AccessKey.objects.issue("team a", expires_at=timezone.now() + timedelta(days=2))
"""
AWAY = OperationalError("connection refused")


@pytest.fixture
def listener() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as listener:
        yield listener


def told(listener: FixedUpstream) -> list[tuple[str, str]]:
    bodies = [json.loads(body) for _, _, _, body in listener.asked]
    return [(body["event"], body["kind"]) for body in bodies]


def test_a_server_tells_without_its_database(outage: tuple[Gateway, Postgres], listener: FixedUpstream) -> None:
    gateway, postgres = outage
    made = gateway.manage("shell", "--no-imports", "-c", SETTING_UP.format(url=listener.base_url, secret=SECRET))
    assert made.returncode == 0, made.stderr
    wait_until(lambda: ("opened", "key_expiry") in told(listener))
    postgres.stop()
    wait_until(lambda: ("opened", "database") in told(listener))
    postgres.start()
    wait_until(lambda: ("resolved", "database") in told(listener))

    assert [one for one in told(listener) if one[1] == "database"] == [("opened", "database"), ("resolved", "database")]
    assert told(listener).count(("opened", "key_expiry")) == 1
    for _, _, headers, body in listener.asked:
        assert documented_check()(headers["chatproxy-signature"], body, SECRET)
    title = json.loads(next(body for _, _, _, body in listener.asked if b'"database"' in body))["title"]
    assert title.startswith("The database is away for ")


# The memory of an outage


def remembered(*channels: AlertChannel, window: int = 0) -> DatabaseOutage:
    found = DatabaseOutage()
    found.remember([make_rule(AlertKind.DATABASE, None, window)], channels)
    return found


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was sent: each channel, with the words of the notice; a channel named "gone" takes nothing."""
    found: list[Any] = []

    def send(notice: Any, channel: AlertChannel, _message_id: str) -> Any:
        found.append((channel.name, notice.title, notice.detail))
        return SendingResult(channel.name != "gone", "words")

    monkeypatch.setattr(outage_module, "send", send)
    return found


@pytest.mark.django_db
def test_it_is_told_once_through_each_channel(tries: list[Any]) -> None:
    found = remembered(make_channel(GONE, name="works"), make_channel(GONE, name="gone"))
    for _ in range(MAX_ATTEMPTS + 2):
        found.go_on(AWAY)

    assert [name for name, _, _ in tries].count("works") == 1
    assert [name for name, _, _ in tries].count("gone") == MAX_ATTEMPTS
    assert tries[0][2] == "OperationalError: it cannot be reached."


@pytest.mark.django_db
def test_afterwards_it_is_in_the_tables(tries: list[Any]) -> None:
    found = remembered(make_channel(GONE, name="works"), make_channel(GONE, name="gone"))
    for _ in range(3):
        found.go_on(AWAY)
    found.end(database_now())

    alert = Alert.objects.get()
    assert alert.rule.kind == AlertKind.DATABASE
    assert alert.resolved_at is not None
    messages = [(one.channel.name, one.event, one.attempts, one.state) for one in AlertMessage.objects.order_by("pk")]
    assert sorted(messages[:2]) == [("gone", "opened", 3, "failed"), ("works", "opened", 1, "sent")]
    assert sorted(messages[2:]) == [("gone", "resolved", 0, "waiting"), ("works", "resolved", 0, "waiting")]
    assert AlertAttempt.objects.count() == 4
    found.go_on(AWAY)
    found.end(database_now())
    assert Alert.objects.count() == 2


@pytest.mark.django_db
def test_a_short_outage_is_told_to_nobody(tries: list[Any]) -> None:
    found = remembered(make_channel(GONE), window=3)
    found.go_on(AWAY)
    found.end(database_now())

    assert (tries, Alert.objects.count()) == ([], 0)


@pytest.mark.django_db
def test_a_channel_in_its_quiet_time_is_left_alone(tries: list[Any]) -> None:
    now = database_now()
    begin, end = (now - timedelta(hours=1)).time(), (now + timedelta(hours=1)).time()
    remembered(make_channel(GONE, quiet_from=begin, quiet_until=end)).go_on(AWAY)

    assert tries == []


@pytest.mark.django_db
def test_what_was_deleted_meanwhile_is_no_error(tries: list[Any]) -> None:
    channel = make_channel(GONE, name="deleted")
    found = remembered(channel, make_channel(GONE, name="stays"))
    found.go_on(AWAY)
    channel.delete()
    found.end(database_now())
    assert {one.channel.name for one in AlertMessage.objects.all()} == {"stays"}

    found.go_on(AWAY)
    AlertRule.objects.all().delete()
    found.end(database_now())


@pytest.mark.django_db
def test_without_a_rule_nothing_is_told(tries: list[Any]) -> None:
    found = DatabaseOutage()
    found.go_on(AWAY)
    found.remember([make_rule(AlertKind.DISK, 10, 5)], [make_channel(GONE)])
    found.go_on(AWAY)

    assert tries == []
