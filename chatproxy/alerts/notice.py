"""The content of a message about an alert: the same facts for every channel, as values for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from django.conf import settings

from chatproxy.alert_models import Alert, AlertEvent, AlertKind
from chatproxy.alerts.kinds import KINDS
from usage.page_data.formatting import duration

TITLES = {AlertEvent.REPEATED: "Still open: ", AlertEvent.RESOLVED: "Resolved: "}


@dataclass(frozen=True)
class Notice:
    """The content of a message about an alert: what is wrong, since when, what to do, and a link.

    Times are texts in ISO 8601, in UTC. `alert` is the id of the alert, which is the same in all messages about it.
    `resolved_at` is empty while the alert is open. `url` is empty if the setting PUBLIC_URL is not set.
    """

    event: str
    alert: int | None
    kind: str
    subject: str
    host: str
    title: str
    detail: str
    action: str
    since: str
    resolved_at: str
    url: str

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Notice:
        return cls(**values)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def lines(self) -> list[str]:
        """The lines of text below the title of a message about an alert, without the link.

        For an open alert, these are its details, since when it is open, and what to do. For one that is over, one line
        says from when until when it lasted. For a test message, the details are the only line.
        """
        if self.event == AlertEvent.TEST:
            return [self.detail]
        since = datetime.fromisoformat(self.since)
        if self.resolved_at:
            until = datetime.fromisoformat(self.resolved_at)
            took = duration((until - since).total_seconds() * 1000)
            return [f"It lasted from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC ({took})."]
        return [line for line in (self.detail, f"Since {since:%Y-%m-%d %H:%M} UTC.", self.action) if line]


def notice_of(alert: Alert, event: AlertEvent) -> Notice:
    """Creates the content of a message about an alert.

    `event` says whether the alert has opened, is still open or is over.
    """
    kind = AlertKind(alert.rule.kind)
    return Notice(
        event=event.value,
        alert=alert.pk,
        kind=kind.value,
        subject=alert.subject,
        host=alert.host,
        title=TITLES.get(event, "") + alert.title,
        detail=alert.detail,
        action=KINDS[kind].action,
        since=_text(alert.since),
        resolved_at=_text(alert.resolved_at) if alert.resolved_at else "",
        url=_url(alert.page),
    )


def notice_of_test(channel: str, now: datetime) -> Notice:
    """Creates the content of a test message for the channel with the name `channel`."""
    return Notice(
        event=AlertEvent.TEST.value,
        alert=None,
        kind="",
        subject="",
        host="",
        title="Test message from chatproxy",
        detail=f"The channel {channel} works.",
        action="",
        since=_text(now),
        resolved_at="",
        url=_url("admin/"),
    )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


def _url(page: str) -> str:
    return f"{settings.PUBLIC_URL}/{page}" if settings.PUBLIC_URL else ""
