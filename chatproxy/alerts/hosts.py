"""Owns which hosts look for faults, and which of them have stopped to do so without a word."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from chatproxy.alert_models import AlertHost

FORGOTTEN_AFTER = timedelta(days=1)  # a host that an alert has named for longer is not expected to come back
FORGOTTEN_AFTER_STOP = timedelta(hours=1)  # a host that was stopped, and not for a restart


def note_host(name: str, now: datetime) -> datetime | None:
    """Notes that the host `name` looks for faults now, and returns when it did so before.

    Returns None if it is new, or had stopped as it should.
    """
    host, is_new = AlertHost.objects.get_or_create(name=name, defaults={"seen_at": now})
    if is_new:
        return None
    before = None if host.stopped_at else host.seen_at
    AlertHost.objects.filter(pk=host.pk).update(seen_at=now, stopped_at=None)
    return before


def note_stop(name: str, now: datetime) -> None:
    """Notes that the host `name` stops as it should, so that nobody is told that it is away."""
    AlertHost.objects.filter(name=name).update(stopped_at=now)


def find_hosts_away(now: datetime, window: timedelta) -> Iterator[AlertHost]:
    """Yields the hosts that have not looked for faults for as long as `window`, although they were not stopped."""
    yield from AlertHost.objects.filter(stopped_at=None, seen_at__lt=now - window)


def forget_hosts(now: datetime, longest_window: timedelta) -> list[str]:
    """Deletes the hosts that will not come back, since they were away or stopped for so long; returns their names.

    A host that is away stays until the rule with the `longest_window` has told of it for a day.
    """
    away = AlertHost.objects.filter(stopped_at=None, seen_at__lt=now - longest_window - FORGOTTEN_AFTER)
    stopped = AlertHost.objects.filter(stopped_at__lt=now - FORGOTTEN_AFTER_STOP)
    hosts = list(away | stopped)
    AlertHost.objects.filter(pk__in=[host.pk for host in hosts]).delete()
    return [host.name for host in hosts]
