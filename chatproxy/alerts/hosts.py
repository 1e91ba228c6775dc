"""Stores which hosts look for faults, and finds those that have stopped without having been shut down."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from chatproxy.alert_models import AlertHost

FORGOTTEN_AFTER = timedelta(days=1)  # a host that an alert has named for longer is not expected to come back
FORGOTTEN_AFTER_STOP = timedelta(hours=1)  # a host that was stopped, and not for a restart


def note_host(name: str, now: datetime) -> datetime | None:
    """Records that the host `name` looks for faults now; returns the time when it looked for faults before.

    Returns None if the host is new, or was stopped properly.
    """
    host, is_new = AlertHost.objects.get_or_create(name=name, defaults={"seen_at": now})
    if is_new:
        return None
    before = None if host.stopped_at else host.seen_at
    AlertHost.objects.filter(pk=host.pk).update(seen_at=now, stopped_at=None)
    return before


def note_stop(name: str, now: datetime) -> None:
    """Records that the host `name` is stopped properly, so that no alert says that the host is away."""
    AlertHost.objects.filter(name=name).update(stopped_at=now)


def find_hosts_away(now: datetime, window: timedelta) -> Iterator[AlertHost]:
    """Yields the hosts whose server last searched for faults more than `window` ago, and was not stopped properly."""
    yield from AlertHost.objects.filter(stopped_at=None, seen_at__lt=now - window)


def forget_hosts(now: datetime, longest_window: timedelta) -> list[str]:
    """Deletes the records of hosts that are not expected to come back; returns the names of these hosts.

    A host that was stopped properly is deleted one hour after its stop. Any other host is deleted when it was not seen
    for `longest_window` (the longest time that a rule waits before its alert) and one more day: then people have had
    time to see the alert.
    """
    away = AlertHost.objects.filter(stopped_at=None, seen_at__lt=now - longest_window - FORGOTTEN_AFTER)
    stopped = AlertHost.objects.filter(stopped_at__lt=now - FORGOTTEN_AFTER_STOP)
    hosts = list(away | stopped)
    AlertHost.objects.filter(pk__in=[host.pk for host in hosts]).delete()
    return [host.name for host in hosts]
