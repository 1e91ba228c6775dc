"""Sends messages about the one fault that cannot be stored in the database: that this host cannot use the database.

The rule and the channels are those that were read last before the outage. They are in memory only, so a shipper that is
started during an outage sends nothing. Each host sends its own messages. After the outage, the alert is stored in the
database with the messages that were sent, and the message about its end is sent in the usual way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.db import transaction

from chatproxy.alert_models import Alert, AlertAttempt, AlertChannel, AlertEvent, AlertKind, AlertMessage, AlertRule
from chatproxy.alerts.delivery import SendingResult, send
from chatproxy.alerts.host_conditions import host_name
from chatproxy.alerts.incidents import channels_for, resolve
from chatproxy.alerts.kinds import FoundFault, least_duration, page_of
from chatproxy.alerts.notice import Notice, notice_of
from chatproxy.alerts.outbox import MAX_ATTEMPTS
from usage.database.fault_words import words_of

logger = logging.getLogger(__name__)


class DatabaseOutage:
    """An outage of the database, recorded in memory: its beginning, the channels to alert, the messages sent so far."""

    def __init__(self) -> None:
        self._rule: AlertRule | None = None
        self._channels: list[AlertChannel] = []
        self._alert: Alert | None = None
        self._tries: list[tuple[AlertChannel, Notice, AlertAttempt]] = []

    def remember(self, rules: Iterable[AlertRule], channels: Sequence[AlertChannel]) -> None:
        """Keeps in memory the rule for outages of the database and the channels for its alerts, for use in an outage.

        The rule is chosen from `rules`, and the channels from `channels`. If there is no such rule, none is kept, and
        no channel either.
        """
        self._rule = next((rule for rule in rules if rule.kind == AlertKind.DATABASE), None)
        self._channels = channels_for(self._rule, channels) if self._rule else []

    def go_on(self, error: BaseException) -> None:
        """Records that the database fails with `error`; sends messages once the outage has lasted for the rule's time.

        If a channel fails or is in its quiet time, the next call of this method tries it again; after `MAX_ATTEMPTS`
        failures, the channel is given up. Without a rule for outages of the database, this method does nothing.
        """
        if self._rule is None:
            return
        now, host = datetime.now(UTC), host_name()
        fault = FoundFault("", f"The database is away for {host}", f"{words_of(error)}.", now)
        if self._alert is None:
            self._alert = Alert(rule=self._rule, host=host, since=now)
        self._alert.title, self._alert.detail = fault.title, fault.detail
        self._alert.page = page_of(self._rule, fault)
        if now - self._alert.since < least_duration(self._rule):
            return
        notice = notice_of(self._alert, AlertEvent.OPENED)
        for channel in self._channels:
            done = [attempt.was_sent for known, _, attempt in self._tries if known.pk == channel.pk]
            if not any(done) and len(done) < MAX_ATTEMPTS and not channel.is_quiet(now.time()):
                result = send(notice, channel, f"outage-{self._alert.since:%Y%m%d%H%M%S}")
                self._note(channel, notice, result)

    def end(self, now: datetime) -> None:
        """Records that the database works again, and forgets the outage.

        If sending messages about the outage was tried, its alert is stored in the database, with these messages, and
        resolved. It is not stored if its rule was deleted meanwhile.

        Raises:
            django.db.Error: the database does not answer.
        """
        alert, tries = self._alert, self._tries
        if alert is not None and tries and AlertRule.objects.filter(pk=alert.rule.pk).exists():
            with transaction.atomic():
                alert.sent_at = tries[0][2].at
                alert.save(force_insert=True)
                _store(alert, tries)
                resolve(alert, now)
        self._alert, self._tries = None, []

    def _note(self, channel: AlertChannel, notice: Notice, result: SendingResult) -> None:
        logger.warning("the alert channel %s was told that the database is away: %s", channel, result.words)
        attempt = AlertAttempt(at=datetime.now(UTC), was_sent=result.was_sent, result=result.words[:200])
        self._tries.append((channel, notice, attempt))


def _store(alert: Alert, tries: Iterable[tuple[AlertChannel, Notice, AlertAttempt]]) -> None:
    """Stores in the database the messages about an outage, sent or not, with the result of each try to send them.

    Messages of channels that were deleted meanwhile are left out. Call this when the outage is over.
    """
    messages: dict[int, AlertMessage] = {}
    present = set(AlertChannel.objects.values_list("pk", flat=True))  # one may have been deleted meanwhile
    for channel, notice, attempt in tries:
        if channel.pk not in present:
            continue
        message = messages.get(channel.pk)
        if message is None:
            message = messages[channel.pk] = AlertMessage.objects.create(
                alert=alert, channel=channel, event=AlertEvent.OPENED, notice=notice.as_json(), made_at=attempt.at
            )
        message.attempts += 1
        message.sent_at = attempt.at if attempt.was_sent else message.sent_at
        message.failed_at = None if message.sent_at else attempt.at
        message.save(update_fields=["attempts", "sent_at", "failed_at"])
        attempt.message = message
        attempt.save(force_insert=True)
