"""Faults of a host: when the rule of each kind opens an alert, when it does not, and when the alert is resolved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from chatproxy.alert_models import Alert, AlertHost, AlertKind
from chatproxy.alerts import host_conditions
from chatproxy.alerts.evaluation import AlertEvaluation
from chatproxy.alerts.hosts import note_stop
from tests.support.alerts import HEALTHY, LITTLE, PLENTY, Host, make_rule, open_titles
from usage.live.shipping_state import ShippingState

pytestmark = pytest.mark.django_db
FaultOfHost = Callable[[Host], None]


def upstream_fails(host: Host) -> None:
    host.report(upstream_failed_at=3.0)


def the_shipper_fails(host: Host) -> None:
    host.report(shipping=ShippingState(0, 0.0, "", "KeyError"))


def the_disk_fills(host: Host) -> None:
    host.free = LITTLE


def the_disk_is_full(host: Host) -> None:
    host.report(journal_full=True)


@pytest.mark.parametrize(
    ("kind", "threshold", "breaks", "title"),
    [
        (AlertKind.UPSTREAM_DOWN, None, upstream_fails, "Calls of {} do not reach upstream"),
        (AlertKind.SHIPPER, None, the_shipper_fails, "The shipper of {} fails"),
        (AlertKind.DISK, 10, the_disk_fills, "The disk of {} is nearly full"),
        (AlertKind.DISK, 10, the_disk_is_full, "The disk of {} is nearly full; calls are refused"),
    ],
)
def test_a_fault_of_this_host_must_last(
    host: Host, kind: AlertKind, threshold: int | None, breaks: FaultOfHost, title: str
) -> None:
    make_rule(kind, threshold, 5)
    host.look()
    breaks(host)
    host.look(1)
    host.look(5.9)
    assert open_titles() == []

    host.look(6.1)
    name = host_conditions.host_name()
    assert open_titles() == [title.format(name)]
    [alert] = Alert.objects.all()
    assert (alert.host, alert.since) == (name, host.start + timedelta(minutes=1))

    host.report(**vars(HEALTHY))
    host.free = PLENTY
    host.look(7)
    assert open_titles() == []


def test_a_fault_that_passes_in_between_begins_anew(host: Host) -> None:
    make_rule(AlertKind.UPSTREAM_DOWN, None, 5)
    for minutes, failed_at in ((0, 3.0), (3, 1.0), (4, 3.0), (8, 3.0)):
        host.report(upstream_failed_at=failed_at)
        host.look(minutes)

    assert open_titles() == []


def test_an_open_alert_stays_open_when_the_shipper_is_started_anew(host: Host) -> None:
    make_rule(AlertKind.UPSTREAM_DOWN, None, 5)
    upstream_fails(host)
    host.look()
    host.look(6)
    host.evaluation = AlertEvaluation()
    host.look(7)

    assert len(open_titles()) == 1


def test_a_large_disk_has_plenty(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    make_rule(AlertKind.DISK, 10, 0)
    disk = SimpleNamespace(disk_usage=lambda _: SimpleNamespace(total=10e12, free=25e9))
    monkeypatch.setattr(host_conditions, "shutil", disk)
    host.look()

    assert open_titles() == []


def test_a_backlog(host: Host) -> None:
    make_rule(AlertKind.BACKLOG, 300)
    host.report(shipping=ShippingState(5_000_000, 299.0, "", ""))
    host.look()
    assert open_titles() == []

    host.report(shipping=ShippingState(5_000_000, 300.0, "", ""))
    host.look(1)
    assert open_titles() == [f"The ledger is 5\u202fmin 00\u202fs behind on {host_conditions.host_name()}"]

    host.report(shipping=ShippingState(0, 0.0, "", ""))
    host.look(2)
    assert open_titles() == []


def test_refused_logins(host: Host) -> None:
    make_rule(AlertKind.LOGIN, 3, 15)
    counted = host.status.counted
    counted.values[host_conditions.LOGIN_REFUSALS] = 100  # before this shipper began
    host.look()
    counted.values[host_conditions.LOGIN_REFUSALS] = 102
    host.look(1)
    assert open_titles() == []

    counted.values[host_conditions.LOGIN_REFUSALS] = 103
    host.look(2)
    assert open_titles() == [f"Attempts to sign in are refused on {host_conditions.host_name()}"]

    host.look(17.5)
    assert open_titles() == []


@pytest.mark.parametrize("window", [5, 3 * 24 * 60])
def test_a_shipper_that_is_away(host: Host, window: int) -> None:
    """Another host tells of it. It is over when that one has been away for so long that it will not come back."""
    make_rule(AlertKind.SHIPPER, None, window)
    AlertHost.objects.create(name="other:/var", seen_at=host.start)
    host.look(window - 0.1)
    assert open_titles() == []

    host.look(window + 0.1)
    host.look(window + 1)
    assert open_titles() == ["The shipper of other:/var does not run"]
    [alert] = Alert.objects.all()
    assert (alert.host, alert.since) == ("other:/var", host.start)

    host.look(window + 24 * 60 + 1)
    assert open_titles() == []
    assert [one.name for one in AlertHost.objects.all()] == [host_conditions.host_name()]


def test_a_shipper_that_was_stopped_is_not_away(host: Host) -> None:
    make_rule(AlertKind.SHIPPER, None, 5)
    host.look()
    note_stop(host_conditions.host_name(), host.start)
    host.evaluation = AlertEvaluation()
    host.look(60)

    assert open_titles() == []


def test_a_shipper_that_was_away_tells_of_it_when_it_is_back(host: Host) -> None:
    make_rule(AlertKind.SHIPPER, None, 5)
    host.look()
    host.evaluation = AlertEvaluation()
    host.look(12)
    assert open_titles() == [f"The shipper of {host_conditions.host_name()} does not run"]
    assert Alert.objects.get().since == host.start

    host.look(12.5)
    assert open_titles() == []


def test_a_rule_that_fails_holds_up_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    make_rule(AlertKind.BACKLOG, 0)
    make_rule(AlertKind.DISK, 10, 0)
    monkeypatch.setitem(host_conditions.HOST_CONDITIONS, AlertKind.BACKLOG, lambda *_: iter([1 / 0]))
    the_disk_fills(host)
    host.look()

    assert len(open_titles()) == 1
