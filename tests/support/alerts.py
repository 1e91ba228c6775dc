"""Makes rules, channels, alerts and a host with faults for tests; has the check of webhooks from docs/alerts.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from chatproxy.alert_models import Alert, AlertChannel, AlertKind, AlertRule, ChannelKind
from chatproxy.alerts.evaluation import AlertEvaluation
from tests.support.documentation import blocks
from usage.database.clock import database_now
from usage.live.shipping_state import ShippingState
from usage.live.status import ServerStatus
from usage.metric_counters import ServerCounters

SECRET = "a secret of webhooks"
GONE = "http://127.0.0.1:1/hook"  # nobody listens there
START = datetime(2026, 11, 29, 12, tzinfo=UTC)
HEALTHY = ServerStatus(
    workers=1, in_flight=0, draining=0, journal_full=False, shipping=ShippingState(0, 0.0, "", ""),
    upstream_answered_at=2.0, upstream_failed_at=1.0, counted=ServerCounters(), gauges={},
)  # fmt: skip
PLENTY, LITTLE = 90e9, 9e9  # bytes of 100e9 that are free


def make_rule(kind: AlertKind, threshold: float | None = None, window: int | None = None, **fields: Any) -> AlertRule:
    """Creates an alert rule of the kind `kind`, and deletes the rules of this kind that the migration has made."""
    AlertRule.objects.filter(kind=kind).delete()
    number = None if threshold is None else Decimal(str(threshold))
    return AlertRule.objects.create(kind=kind, threshold=number, window_minutes=window, **fields)


def make_channel(
    url: str, kind: ChannelKind = ChannelKind.WEBHOOK, name: str = "a channel", **fields: Any
) -> AlertChannel:
    """Creates a channel that posts to `url`; if it is a webhook, it signs its messages with `SECRET`."""
    channel = AlertChannel(name=name, kind=kind, **fields)
    channel.set_url(url)
    channel.set_secret(SECRET)
    channel.save()
    return channel


def make_alert(title: str = "A fault", **fields: Any) -> Alert:
    """Creates an open alert, with a new rule for it."""
    rule = fields.pop("rule", None) or make_rule(AlertKind.DISK, 10, 5)
    return Alert.objects.create(rule=rule, title=title, since=fields.pop("since", START), **fields)


def documented_check() -> Callable[[str, bytes, str], bool]:
    """Returns the function in docs/alerts.md with which receivers should check the signature of a webhook."""
    [block] = blocks("py", "docs/alerts.md")
    names: dict[str, Any] = {}
    exec(block, names)  # noqa: S102  (the example, as a reader would copy it)
    check: Callable[[str, bytes, str], bool] = names["is_genuine"]
    return check


@dataclass
class Host:
    """A host under test: sets the state that it reports, and looks for its faults, some minutes after the start."""

    status: ServerStatus
    free: float
    evaluation: AlertEvaluation
    start: datetime

    @classmethod
    def healthy(cls) -> Host:
        """Returns a host without a fault, which looks for faults from now on."""
        return cls(HEALTHY, PLENTY, AlertEvaluation(), database_now())

    def look(self, minutes: float = 0) -> None:
        self.evaluation.look_for_faults(self.start + timedelta(minutes=minutes))

    def report(self, **changes: Any) -> None:
        self.status = replace(self.status, **changes)


def open_titles() -> list[str]:
    """Returns the titles of all open alerts, sorted."""
    return [alert.title for alert in Alert.objects.filter(resolved_at=None).order_by("title")]
