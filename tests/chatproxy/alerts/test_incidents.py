"""Alerts: one for a fault, however many look; what is sent of it, to whom, and when."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, time, timedelta
from typing import Any

import pytest
from django.db import connections

from chatproxy.alert_models import Alert, AlertChannel, AlertEvent, AlertHost, AlertKind, AlertMessage, AlertRule
from chatproxy.alerts import incidents
from chatproxy.alerts.evaluation import AlertEvaluation
from chatproxy.alerts.kinds import FoundFault
from tests.support.alerts import GONE, START, make_channel, make_rule
from tests.support.polling import PATIENCE

pytestmark = pytest.mark.django_db
HOST = "web1:/srv/var"


def look(rule: AlertRule, now: datetime, *subjects: str, host: str = "") -> None:
    """Lets a rule have found faults with these subjects, and no others."""
    faults = [FoundFault(subject, f"Fault of {subject}", "Words.", now) for subject in subjects]
    incidents.record(rule, host, faults, now, channels())


def channels() -> list[AlertChannel]:
    return list(AlertChannel.objects.filter(enabled=True).prefetch_related("rules"))


def sent(found: Iterable[AlertMessage] | None = None) -> list[tuple[str, str]]:
    """The event and the title of each message, the oldest first."""
    messages = AlertMessage.objects.order_by("pk") if found is None else found
    return [(message.event, message.notice["title"]) for message in messages]


def try_all() -> None:
    """Lets each message have been tried, as the outbox does."""
    AlertMessage.objects.exclude(due_at=None).update(attempts=1, due_at=None, sent_at=START)


@pytest.fixture
def rule() -> AlertRule:
    return make_rule(AlertKind.BUDGET, 80, quiet_hours=2)


def test_it_works(rule: AlertRule) -> None:
    """One message when a fault is found, none while it stays, and one when it is over."""
    make_channel(GONE)
    for minutes in range(3):
        look(rule, START + timedelta(minutes=minutes), "team a")
    try_all()
    look(rule, START + timedelta(minutes=25))

    assert sent() == [("opened", "Fault of team a"), ("resolved", "Resolved: Fault of team a")]
    opened, resolved = AlertMessage.objects.order_by("pk")
    assert (opened.notice["since"], opened.notice["resolved_at"]) == ("2026-11-29T12:00:00+00:00", "")
    assert resolved.notice["resolved_at"] == "2026-11-29T12:25:00+00:00"
    assert opened.notice["alert"] == resolved.notice["alert"] == Alert.objects.get().pk


def test_each_subject_and_each_host_has_an_alert_of_its_own(rule: AlertRule) -> None:
    make_channel(GONE)
    look(rule, START, "a", "b")
    look(rule, START, "a", host=HOST)
    look(rule, START, "a")

    assert set(Alert.objects.filter(resolved_at=None).values_list("subject", "host")) == {("a", ""), ("a", HOST)}
    assert Alert.objects.count() == 3


def test_each_channel_gets_the_alerts_of_its_rules(rule: AlertRule) -> None:
    other = make_rule(AlertKind.DISK, 10, 5)
    make_channel(GONE, name="all")
    make_channel(GONE, name="budgets").rules.add(rule)
    make_channel(GONE, name="disks").rules.add(other)
    make_channel(GONE, name="off", enabled=False)
    look(rule, START, "team a")

    assert set(AlertMessage.objects.values_list("channel__name", flat=True)) == {"all", "budgets"}


def test_an_alert_without_a_channel_is_listed(rule: AlertRule) -> None:
    look(rule, START, "team a")
    assert Alert.objects.get().title == "Fault of team a"
    assert sent() == []


def test_an_alert_that_stays_open_is_repeated(rule: AlertRule) -> None:
    rule.repeat_hours = 4
    rule.save()
    make_channel(GONE)
    for hours in (0, 3.9, 4, 5, 8.1):
        look(rule, START + timedelta(hours=hours), "team a")

    assert sent() == [("opened", "Fault of team a"), *[("repeated", "Still open: Fault of team a")] * 2]


def test_an_alert_that_comes_and_goes_is_sent_once_in_its_quiet_hours(rule: AlertRule) -> None:
    make_channel(GONE)
    for minutes in (0, 10, 20, 110):
        look(rule, START + timedelta(minutes=minutes), "team a")
        try_all()
        look(rule, START + timedelta(minutes=minutes + 5))
        try_all()
    assert [event for event, _ in sent()] == ["opened", "resolved"]
    assert Alert.objects.count() == 4

    look(rule, START + timedelta(minutes=115), "team a")
    look(rule, START + timedelta(minutes=121), "team a")  # it is still there when they are over
    assert [event for event, _ in sent()] == ["opened", "resolved", "opened"]


def test_the_quiet_hours_of_one_subject_are_not_those_of_another(rule: AlertRule) -> None:
    make_channel(GONE)
    look(rule, START, "team a")
    look(rule, START + timedelta(minutes=1), "team a", "team b")

    assert sent() == [("opened", "Fault of team a"), ("opened", "Fault of team b")]


@pytest.mark.parametrize(
    ("begin", "end", "now", "expected"),
    [
        ("22:00", "07:00", "2026-11-29T23:00", "2026-11-30T07:00"),
        ("22:00", "07:00", "2026-11-30T06:59", "2026-11-30T07:00"),
        ("22:00", "07:00", "2026-11-30T07:00", "2026-11-30T07:00"),
        ("22:00", "07:00", "2026-11-29T21:59", "2026-11-29T21:59"),
        ("12:00", "13:00", "2026-11-29T12:30", "2026-11-29T13:00"),
        ("12:00", "13:00", "2026-11-29T13:00", "2026-11-29T13:00"),
        ("", "", "2026-11-29T03:00", "2026-11-29T03:00"),
    ],
)
def test_messages_wait_for_the_end_of_a_quiet_time(
    rule: AlertRule, begin: str, end: str, now: str, expected: str
) -> None:
    times: dict[str, Any] = (
        {"quiet_from": time.fromisoformat(begin), "quiet_until": time.fromisoformat(end)} if begin else {}
    )
    make_channel(GONE, **times)
    look(rule, datetime.fromisoformat(f"{now}+00:00"), "team a")

    assert AlertMessage.objects.get().due_at == datetime.fromisoformat(f"{expected}+00:00")


def test_what_is_over_before_the_end_of_a_quiet_time_is_never_sent(rule: AlertRule) -> None:
    make_channel(GONE, name="quiet", quiet_from=time(11), quiet_until=time(14))
    make_channel(GONE, name="awake")
    look(rule, START, "team a")
    AlertMessage.objects.filter(channel__name="awake").update(attempts=1, due_at=None, sent_at=START)
    look(rule, START + timedelta(minutes=5))

    assert [message.state for message in AlertMessage.objects.filter(channel__name="quiet")] == ["withdrawn"]
    assert sent(AlertMessage.objects.filter(channel__name="awake").order_by("pk")) == [
        ("opened", "Fault of team a"), ("resolved", "Resolved: Fault of team a"),
    ]  # fmt: skip


def test_a_rule_that_is_switched_off_closes_its_alerts_without_a_word(rule: AlertRule) -> None:
    make_channel(GONE)
    look(rule, START, "team a")
    try_all()
    incidents.close_others([], [], START + timedelta(minutes=1))

    assert Alert.objects.get().resolved_at is not None
    assert [event for event, _ in sent()] == ["opened"]


def test_messages_of_a_rule_that_is_switched_off_are_withdrawn(rule: AlertRule) -> None:
    """In a channel's quiet time: nobody must be told later of a fault that is looked for no more."""
    make_channel(GONE, quiet_from=time(0), quiet_until=time(23, 59))
    look(rule, START, "team a")
    rule.enabled = False
    rule.save()
    incidents.close_others([], [], START + timedelta(minutes=1))

    assert AlertMessage.objects.get().state == "withdrawn"


def test_messages_of_a_channel_that_is_switched_off_are_withdrawn(rule: AlertRule) -> None:
    channel = make_channel(GONE)
    look(rule, START, "team a")
    channel.enabled = False
    channel.save()
    incidents.close_others([rule], [], START)

    assert AlertMessage.objects.get().state == "withdrawn"


def test_alerts_of_a_host_that_is_gone_are_resolved(rule: AlertRule) -> None:
    make_channel(GONE)
    look(rule, START, "", host=HOST)
    try_all()
    Alert.objects.update(title="Fault" * 60)
    incidents.close_others([rule], [HOST], START + timedelta(days=1))

    opened, (event, title) = sent()
    assert (opened, event) == (("opened", "Fault of "), "resolved")
    assert title.startswith("Resolved: FaultFault")
    assert title.endswith("Fau (its host is no longer watched)")  # nobody knows whether the fault is over


def test_old_alerts_are_deleted_with_their_messages(rule: AlertRule) -> None:
    make_channel(GONE)
    look(rule, START, "over", "open")
    try_all()
    look(rule, START + timedelta(minutes=1), "open")
    incidents.delete_old(START + timedelta(days=91))

    assert [alert.subject for alert in Alert.objects.all()] == ["open"]
    assert {message.alert.subject for message in AlertMessage.objects.all() if message.alert} == {"open"}


@pytest.mark.django_db(transaction=True)
def test_two_that_look_at_once_send_once() -> None:
    """Twenty times: a rule of the ledger and one of the host, each with a channel."""
    AlertHost.objects.all().delete()
    AlertRule.objects.all().delete()
    rules = [make_rule(AlertKind.BUDGET, 80, quiet_hours=0), make_rule(AlertKind.DISK, 10, quiet_hours=0)]
    make_channel(GONE)
    lookers = 4
    barrier = threading.Barrier(lookers)
    faults: list[BaseException] = []

    def look_at_once() -> None:
        try:
            for number in range(20):
                for subjects in (["team a"], []):
                    barrier.wait(PATIENCE)
                    for rule in rules:
                        look(rule, START + timedelta(minutes=number), *subjects)
                    if barrier.wait(PATIENCE) == 0:  # one of them: updates of all rows could wait for each other
                        AlertMessage.objects.update(attempts=1, due_at=None)
        except BaseException as fault:
            faults.append(fault)
            barrier.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=look_at_once) for _ in range(lookers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert faults == []
    assert Alert.objects.filter(resolved_at=None).count() == 0
    assert Alert.objects.count() == 20 * len(rules)
    events = [event for event, _ in sent()]
    assert (events.count(AlertEvent.OPENED), events.count(AlertEvent.RESOLVED)) == (20 * len(rules), 20 * len(rules))


@pytest.mark.django_db(transaction=True)
def test_whoever_has_the_turn_looks_at_the_ledger_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one looks at the ledger, another looks at its host only."""
    looked: list[str] = []
    inside, over = threading.Event(), threading.Event()

    class Looker(AlertEvaluation):
        def __init__(self, name: str, waits: bool) -> None:
            super().__init__()
            self.name, self.waits = name, waits

        def _look_at_host(self, *_: object) -> None:
            looked.append(f"{self.name} host")

        def _look_at_ledger(self, *_: object) -> None:
            looked.append(f"{self.name} ledger")
            if self.waits:
                inside.set()
                over.wait(PATIENCE)

    first = threading.Thread(target=Looker("first", waits=True).work_once)
    first.start()
    assert inside.wait(PATIENCE)
    Looker("second", waits=False).work_once()
    over.set()
    first.join(PATIENCE)
    Looker("third", waits=False).work_once()

    assert looked == ["first host", "first ledger", "second host", "third host", "third ledger"]
