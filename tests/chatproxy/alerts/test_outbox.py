"""Messages: tried until they are sent or given up, by whichever process, in order, and seldom twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connections

from chatproxy.alert_models import AlertAttempt, AlertChannel, AlertEvent, AlertKind, AlertMessage
from chatproxy.alerts import incidents
from chatproxy.alerts.outbox import MAX_ATTEMPTS, send_next, send_test
from tests.support.alerts import GONE, make_alert, make_channel, make_rule
from tests.support.polling import PATIENCE
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream
from usage.database.clock import database_now

pytestmark = pytest.mark.django_db


@pytest.fixture
def listener() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as listener:
        yield listener


def open_alert(*channels: AlertChannel) -> None:
    alert = make_alert(rule=make_rule(AlertKind.DISK, 10, 5))
    incidents.write_messages(alert, AlertEvent.OPENED, database_now(), channels)


def make_due() -> None:
    """Lets the time of the next try have come."""
    AlertMessage.objects.exclude(due_at=None).update(due_at=database_now())


def events(listener: FixedUpstream) -> list[str]:
    return [json.loads(body)["event"] for _, _, _, body in listener.asked]


def test_it_works(listener: FixedUpstream) -> None:
    open_alert(make_channel(listener.base_url))

    assert [send_next(), send_next()] == [True, False]
    assert events(listener) == ["opened"]
    message = AlertMessage.objects.get()
    assert (message.state, message.attempts, message.due_at) == ("sent", 1, None)
    assert [(one.was_sent, one.result) for one in AlertAttempt.objects.all()] == [(True, "status 200")]


def test_a_message_that_fails_is_tried_again_later_and_has_the_same_id(listener: FixedUpstream) -> None:
    listener.queued = [(503, b""), (302, b""), (200, b"")]
    open_alert(make_channel(listener.base_url))
    waits = []
    for _ in range(2):
        before = database_now()
        assert send_next()
        due_at = AlertMessage.objects.get().due_at
        assert due_at is not None
        waits.append(round((due_at - before).total_seconds() / 30))
        assert not send_next()
        make_due()
    assert send_next()

    assert waits == [1, 2]
    assert [one.result for one in AlertAttempt.objects.all()] == ["status 503", "status 302", "status 200"]
    assert len({json.loads(body)["id"] for _, _, _, body in listener.asked}) == 1
    assert AlertMessage.objects.get().state == "sent"


def test_a_message_is_given_up_after_some_tries() -> None:
    open_alert(make_channel(GONE))
    for _ in range(MAX_ATTEMPTS):
        make_due()
        assert send_next()
    make_due()

    assert not send_next()
    message = AlertMessage.objects.get()
    assert (message.state, message.attempts) == ("failed", MAX_ATTEMPTS)
    assert {one.result for one in AlertAttempt.objects.all()} == {"not reached: ConnectError"}


def test_a_message_whose_sender_died_is_sent_by_another(
    listener: FixedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died after it had claimed the message, before or after it was sent: nobody knows which."""
    open_alert(make_channel(listener.base_url))
    with monkeypatch.context() as patch:
        patch.setattr("chatproxy.alerts.outbox.send", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            send_next()
    assert not send_next()  # the claim holds for a while
    make_due()

    assert send_next()
    assert events(listener) == ["opened"]
    assert AlertMessage.objects.get().state == "sent"


def test_the_end_is_told_after_the_beginning(listener: FixedUpstream) -> None:
    listener.queued = [(500, b"")]
    open_alert(make_channel(listener.base_url))
    send_next()
    message = AlertMessage.objects.get()
    assert message.alert is not None
    incidents.resolve(message.alert, database_now())
    assert not send_next()  # it waits for the first one
    make_due()
    while send_next():
        pass

    assert events(listener) == ["opened", "opened", "resolved"]


def test_a_slow_channel_keeps_no_message_of_another(listener: FixedUpstream) -> None:
    open_alert(make_channel(GONE, name="gone"), make_channel(listener.base_url, name="works"))
    while send_next():
        pass

    assert events(listener) == ["opened"]
    assert AlertMessage.objects.get(channel__name="gone").state == "waiting"


def test_a_message_that_is_not_due_waits(listener: FixedUpstream) -> None:
    open_alert(make_channel(listener.base_url))
    AlertMessage.objects.update(due_at=database_now() + timedelta(minutes=5))

    assert not send_next()


def test_a_test_message_is_tried_once(listener: FixedUpstream) -> None:
    listener.status = 404
    result = send_test(make_channel(listener.base_url))

    assert (result.was_sent, result.words) == (False, "status 404")
    message = AlertMessage.objects.get()
    assert (message.event, message.state, message.attempts) == ("test", "failed", 1)
    assert not send_next()


@pytest.mark.django_db(transaction=True)
def test_many_senders_send_each_message_once(listener: FixedUpstream) -> None:
    open_alert(*(make_channel(listener.base_url, name=f"channel {number}") for number in range(12)))

    def send_all() -> None:
        try:
            while send_next():
                pass
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(listener.asked) == 12
    assert {message.state for message in AlertMessage.objects.all()} == {"sent"}
