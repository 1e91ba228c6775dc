"""Finds faults of this host from the files of its processes, its journals and its disk, without the database."""

from __future__ import annotations

import shutil
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from chatproxy.alert_models import MAX_HOST_LENGTH, AlertKind, AlertRule
from chatproxy.alerts.kinds import FoundFault
from usage.live.shipping_state import NOT_RUNNING
from usage.live.status import ServerStatus, read_status
from usage.page_data.formatting import count, duration, size

PLENTY_BYTES = 20e9  # a disk with more free space than this is never nearly full
LOGIN_REFUSALS = ("refused", "login_throttled")  # the counter, as in /metrics
LONGEST_WINDOW = timedelta(days=7)


def host_name() -> str:
    """Returns the name of this host in alerts: its hostname and DATA_DIR, such as `web1:/srv/var`."""
    return f"{socket.gethostname()}:{settings.DATA_DIR}"[:MAX_HOST_LENGTH]


@dataclass(frozen=True)
class HostFacts:
    """The facts about this host in which faults are looked for: processes, disk in bytes, and refused logins.

    `away_since` is None, unless no process looked for faults for a long time before this process began: then it is the
    time at which that was done last.
    """

    host: str
    status: ServerStatus
    free_bytes: int
    disk_bytes: int
    logins: LoginRefusals
    away_since: datetime | None = None


class LoginRefusals:
    """The history of this host's refused logins in the last seven days.

    Each entry is a time, and the number of logins that had been refused until then. Each search for faults adds one.
    """

    def __init__(self) -> None:
        self._counts: deque[tuple[datetime, float]] = deque()

    def add(self, now: datetime, refused: float) -> None:
        """Stores the running total of refused logins at the time `now`; drops totals older than `LONGEST_WINDOW`."""
        self._counts.append((now, refused))
        while self._counts[0][0] < now - LONGEST_WINDOW:
            self._counts.popleft()

    def since(self, moment: datetime) -> float:
        """Returns how many logins were refused after `moment`, as the difference of two of the stored totals.

        The total stored last before `moment` (if there is none, the oldest) is subtracted from the newest.
        """
        before = [refused for at, refused in self._counts if at <= moment]
        return self._counts[-1][1] - (before[-1] if before else self._counts[0][1])


def read_host_facts(now: datetime, logins: LoginRefusals, away_since: datetime | None = None) -> HostFacts:
    """Reads the state of this host's processes and disk; returns it as `HostFacts`, in which the rules look for faults.

    Adds the present total of refused logins to the history `logins`. The result also has `logins`, and `away_since`:
    the time at which an earlier process last looked for faults, if that is long ago.
    """
    status, disk = read_status(), shutil.disk_usage(settings.DATA_DIR)
    logins.add(now, status.counted.values.get(LOGIN_REFUSALS, 0))
    return HostFacts(host_name(), status, disk.free, disk.total, logins, away_since)


HostCondition = Callable[[AlertRule, HostFacts, datetime], Iterator[FoundFault]]


def find_upstream_down(_rule: AlertRule, facts: HostFacts, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if the newest call of this host did not reach upstream."""
    if facts.status.upstream == "unreachable":
        yield FoundFault("", f"Calls of {facts.host} do not reach upstream", "", now)


def find_backlog(rule: AlertRule, facts: HostFacts, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if the oldest record in this host's journals has waited too long for the database.

    Journals are the files to which calls are written first. Too long means at least the rule's threshold, in seconds.
    """
    shipping = facts.status.shipping
    if shipping.lag_seconds >= float(rule.threshold or 0) and shipping.waiting_bytes:
        title = f"The ledger is {duration(shipping.lag_seconds * 1000)} behind on {facts.host}"
        yield FoundFault("", title, f"{size(shipping.waiting_bytes)} wait in the journal.", now)


def find_failing_shipper(_rule: AlertRule, facts: HostFacts, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if this host's shipper fails with an error in its own code, or was not running for a long time.

    The shipper is the process that copies the journals, the files about calls, to the database.
    """
    fault = facts.status.shipping.shipper_fault
    if fault and fault != NOT_RUNNING:  # this is the shipper: its report is missing, perhaps since the disk is full
        yield FoundFault("", f"The shipper of {facts.host} fails", f"Its error: {fault}.", now)
    elif facts.away_since is not None:
        yield shipper_away(facts.host, facts.away_since)


def shipper_away(host: str, since: datetime) -> FoundFault:
    """Creates the fault that a host's shipper, which copies records of calls to the database, does not run.

    `since` is the time when the shipper last looked for faults.
    """
    return FoundFault("", f"The shipper of {host} does not run", "", since)


def find_full_disk(rule: AlertRule, facts: HostFacts, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if calls are refused because the disk of DATA_DIR is full, or if that disk is nearly full.

    A disk is nearly full if less of it is free than the rule's threshold, in percent, and also less than
    `PLENTY_BYTES`.
    """
    free = facts.free_bytes
    is_low = 100 * free < float(rule.threshold or 0) * facts.disk_bytes and free < PLENTY_BYTES
    if is_low or facts.status.journal_full:
        refuses = "; calls are refused" if facts.status.journal_full else ""
        detail = f"{size(free)} of {size(facts.disk_bytes)} are free."
        yield FoundFault("", f"The disk of {facts.host} is nearly full{refuses}", detail, now)


def find_refused_logins(rule: AlertRule, facts: HostFacts, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if this host has refused at least as many sign-ins as the rule's threshold, in the rule's window.

    The window is a number of minutes up to `now`.
    """
    refused = facts.logins.since(now - timedelta(minutes=rule.window_minutes or 1))
    if refused >= max(1.0, float(rule.threshold or 0)):
        title = f"Attempts to sign in are refused on {facts.host}"
        yield FoundFault("", title, f"Refused attempts in {rule.window_minutes} min: {count(refused)}.", now)


HOST_CONDITIONS: dict[str, HostCondition] = {
    AlertKind.UPSTREAM_DOWN: find_upstream_down,
    AlertKind.BACKLOG: find_backlog,
    AlertKind.SHIPPER: find_failing_shipper,
    AlertKind.DISK: find_full_disk,
    AlertKind.LOGIN: find_refused_logins,
}
