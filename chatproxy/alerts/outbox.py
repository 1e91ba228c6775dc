"""Sends the messages that are due, tries failed ones again, and stores the result of each try.

A message is claimed before it is sent: the time of its next try is set in advance. So other processes leave it alone
meanwhile, and one of them sends it if this process dies before marking the message as sent.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import connection, transaction
from django.db.models import Exists, OuterRef

from chatproxy.alert_models import AlertAttempt, AlertChannel, AlertEvent, AlertMessage
from chatproxy.alerts.delivery import SendingResult, send
from chatproxy.alerts.notice import Notice, notice_of_test
from usage.database.clock import database_now
from usage.database.query_deadline import limit_query_time
from usage.upkeep.periodic_thread import PeriodicThread

logger = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
STOP_SECONDS = 2.0
MAX_ATTEMPTS = 8  # over an hour or so
FIRST_BACKOFF = timedelta(seconds=30)  # longer than one try takes; doubled after each try


class AlertOutbox(PeriodicThread):
    """The thread that sends the messages about alerts. Each host has one; the threads share the messages.

    If the thread is stopped while it sends a message, the message may be sent again later.
    """

    name = "alert messages"
    first_seconds = every_seconds = EVERY_SECONDS
    stop_seconds = STOP_SECONDS
    failure = "messages about alerts were not sent, and it is tried again"

    def work(self) -> None:
        while not self.stopping.is_set() and has_waiting() and send_next():
            pass


def has_waiting() -> bool:
    """Returns whether any alert message waits to be sent, be it due now or later.

    Raises:
        django.db.Error: the database does not answer.
    """
    # By far most looks find none, and this costs a tenth of a claim.
    with limit_query_time(), connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM chatproxy_alertmessage WHERE due_at IS NOT NULL)")
        [(found,)] = cursor.fetchall()
    return bool(found)


def send_next() -> bool:
    """Sends the alert message that has been due longest, and stores the result; returns False if none is due.

    Raises:
        django.db.Error: the database does not answer.
    """
    with limit_query_time():
        message = _claim()
    if message is None:
        return False
    result = send(Notice.from_json(message.notice), message.channel, str(message.pk))
    with limit_query_time():
        _store(message, result, is_last=message.attempts >= MAX_ATTEMPTS)
    return True


def send_test(channel: AlertChannel) -> SendingResult:
    """Sends a test message through a channel at once, stores it with its result, and returns the result.

    The message is tried once only, since somebody waits for the result.
    """
    now = database_now()
    message = AlertMessage.objects.create(
        channel=channel, event=AlertEvent.TEST, notice=notice_of_test(channel.name, now).as_json(), made_at=now,
        attempts=1,
    )  # fmt: skip
    result = send(Notice.from_json(message.notice), channel, str(message.pk))
    _store(message, result, is_last=True)
    return result


def _claim() -> AlertMessage | None:
    """Claims the message that has been due for the longest time, and returns it; None if none is due.

    A claimed message counts as tried, and its next try is later, so that no other process sends it meanwhile. Messages
    to a channel that is switched off are not claimed. Nor is a message while an earlier one about the same alert to the
    same channel waits: nobody must read that an alert is over before reading that it is open.
    """
    earlier = AlertMessage.objects.filter(
        alert=OuterRef("alert"), channel=OuterRef("channel"), pk__lt=OuterRef("pk"), due_at__isnull=False
    )
    with transaction.atomic():
        now = database_now()
        due = AlertMessage.objects.select_for_update(skip_locked=True, of=("self",)).select_related("channel")
        message = due.filter(~Exists(earlier), due_at__lte=now, channel__enabled=True).order_by("due_at", "pk").first()
        if message is not None:
            message.attempts += 1
            message.due_at = now + FIRST_BACKOFF * 2 ** (message.attempts - 1)
            message.save(update_fields=["attempts", "due_at"])
    return message


@transaction.atomic
def _store(message: AlertMessage, result: SendingResult, *, is_last: bool) -> None:
    """Records one attempt to send an alert message; marks the message as sent or, after the last attempt, as given up.

    `is_last` says whether this was the last attempt. A message that another process has sent meanwhile stays marked as
    sent.
    """
    now = database_now()
    AlertAttempt.objects.create(message=message, at=now, was_sent=result.was_sent, result=result.words[:200])
    this = AlertMessage.objects.filter(pk=message.pk)
    if result.was_sent:
        this.update(sent_at=now, failed_at=None, due_at=None)
    elif is_last:
        this.filter(sent_at=None).update(failed_at=now, due_at=None)
        logger.warning("a message for the alert channel %s was given up: %s", message.channel, result.words)
