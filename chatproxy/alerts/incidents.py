"""Opens, repeats and resolves alerts, and stores messages about them in the same transactions.

Several processes may do this at once with the same faults. A unique constraint lets only one of them open an alert, and
each update succeeds only from the expected state, so that only one process stores the messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max, Q, QuerySet

from chatproxy.alert_models import (
    MAX_SUBJECT_LENGTH,
    MAX_TITLE_LENGTH,
    Alert,
    AlertChannel,
    AlertEvent,
    AlertMessage,
    AlertRule,
)
from chatproxy.alerts.kinds import FoundFault, least_duration, page_of
from chatproxy.alerts.notice import notice_of

KEPT = timedelta(days=90)  # alerts that are over, and their messages
UNWATCHED = " (its host is no longer watched)"


def record(
    rule: AlertRule, host: str, faults: Iterable[FoundFault], now: datetime, channels: Sequence[AlertChannel]
) -> None:
    """Opens, updates and resolves the alerts of one rule, so that they agree with the faults that were just found.

    `faults` are all faults that the rule has found: those on `host` or, if `host` is empty, those in the database's
    tables. A fault opens an alert once it has lasted for as long as the rule demands. An open alert whose fault is not
    among `faults` is resolved. Messages that are due are stored for the rule's channels (`_announce_if_due`,
    `resolve`).
    """
    open_alerts = Alert.objects.filter(rule=rule, host=host, resolved_at=None).select_related("rule")
    alerts = {alert.subject: alert for alert in open_alerts}
    for fault in faults:
        subject = fault.subject[:MAX_SUBJECT_LENGTH]
        alert = alerts.pop(subject, None)
        if alert is None and now - fault.since < least_duration(rule):
            continue
        with transaction.atomic():
            alert = _update_words(alert or _find_or_open(rule, host, subject, fault), fault)
            _announce_if_due(alert, now, channels)
    for alert in alerts.values():
        resolve(alert, now)


def resolve(alert: Alert, now: datetime) -> None:
    """Marks an alert as over, and stores a message about this for each channel that may know of the alert.

    A channel may know of the alert if an earlier message about it was sent there, or if sending one was tried. Earlier
    messages that were not tried yet, for example in a channel's quiet time, are withdrawn. An alert that is over
    already is left as it is.
    """
    with transaction.atomic():
        if not Alert.objects.filter(pk=alert.pk, resolved_at=None).update(resolved_at=now):
            return
        alert.resolved_at = now
        alert.messages.filter(attempts=0).exclude(due_at=None).update(due_at=None)
        told = AlertChannel.objects.filter(messages__alert=alert, messages__attempts__gt=0).distinct()
        write_messages(alert, AlertEvent.RESOLVED, now, told)


def channels_for(rule: AlertRule, channels: Iterable[AlertChannel]) -> list[AlertChannel]:
    """Returns those channels that send the alerts of a rule: channels that name this rule, or that name no rules."""
    return [channel for channel in channels if not (chosen := list(channel.rules.all())) or rule in chosen]


def write_messages(alert: Alert, event: AlertEvent, now: datetime, channels: Iterable[AlertChannel]) -> None:
    """Stores one message about an alert for each channel, to be sent now or when the channel's quiet time ends."""
    notice = notice_of(alert, event).as_json()
    for channel in channels:
        AlertMessage.objects.create(
            alert=alert, channel=channel, event=event, notice=notice, made_at=now, due_at=channel.sends_from(now)
        )


def close_others(rules: Iterable[AlertRule], forgotten_hosts: Iterable[str], now: datetime) -> None:
    """Resolves open alerts that no rule checks any more: their rule is switched off, or their host is gone.

    If the rule is switched off, no message is sent. If the host is gone, the alert's title states this reason, since
    the fault may still be there. Also withdraws waiting messages whose rule or channel is switched off.
    """
    opened = Alert.objects.filter(resolved_at=None)
    opened.exclude(rule__in=list(rules)).update(resolved_at=now)
    for alert in opened.filter(host__in=list(forgotten_hosts)).select_related("rule"):
        alert.title = alert.title[: MAX_TITLE_LENGTH - len(UNWATCHED)] + UNWATCHED
        alert.save(update_fields=["title"])
        resolve(alert, now)
    is_off = Q(channel__enabled=False) | Q(alert__rule__enabled=False)
    AlertMessage.objects.filter(is_off, due_at__isnull=False).update(due_at=None)


def delete_old(now: datetime) -> None:
    """Deletes alerts that have been over for 90 days (`KEPT`), with their messages, and test messages of that age."""
    Alert.objects.filter(resolved_at__lt=now - KEPT).delete()
    AlertMessage.objects.filter(alert=None, made_at__lt=now - KEPT).delete()


def _find_or_open(rule: AlertRule, host: str, subject: str, fault: FoundFault) -> Alert:
    """Returns the open alert about a fault; stores a new one if there is none."""
    facts = {"since": fault.since, "title": fault.title[:MAX_TITLE_LENGTH]}
    alert, _ = Alert.objects.get_or_create(rule=rule, host=host, subject=subject, resolved_at=None, defaults=facts)
    return alert


def _update_words(alert: Alert, fault: FoundFault) -> Alert:
    """Updates the title, the details and the link of an open alert to those of `fault`; returns the alert."""
    words = {"title": fault.title[:MAX_TITLE_LENGTH], "detail": fault.detail, "page": page_of(alert.rule, fault)}
    if any(getattr(alert, name) != text for name, text in words.items()):
        Alert.objects.filter(pk=alert.pk).update(**words)
        for name, text in words.items():
            setattr(alert, name, text)
    return alert


def _announce_if_due(alert: Alert, now: datetime, channels: Sequence[AlertChannel]) -> None:
    """Stores messages that an alert is open, one for each channel of its rule, if such messages are due now.

    The first messages ("opened") are due at once; but if an alert about the same subject was announced before, only
    `quiet_hours` after that. Further ones ("still open") are due every `repeat_hours`. Both numbers of hours are the
    rule's; without `repeat_hours`, there are no further messages.
    """
    rule = alert.rule
    if alert.sent_at is None:
        event = AlertEvent.OPENED
        last = _same_subject(alert).aggregate(last=Max("sent_at"))["last"]
        is_due = last is None or now - last >= timedelta(hours=rule.quiet_hours)
    else:
        event = AlertEvent.REPEATED
        is_due = rule.repeat_hours is not None and now - alert.sent_at >= timedelta(hours=rule.repeat_hours)
    if is_due and Alert.objects.filter(pk=alert.pk, sent_at=alert.sent_at).update(sent_at=now):
        write_messages(alert, event, now, channels_for(rule, channels))


def _same_subject(alert: Alert) -> QuerySet[Alert]:
    return Alert.objects.filter(rule=alert.rule, subject=alert.subject, host=alert.host)
