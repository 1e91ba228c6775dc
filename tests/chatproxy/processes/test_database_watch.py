"""What the shipper measures for `/metrics`: the fullest budgets of active keys, and the difference of the clocks."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from chatproxy.processes.database_watch import fullest_budgets
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.support.callers.metrics import value, wait_until
from tests.support.moved_clock import PutClock
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import Gateway
from usage.database.clock import clock_difference, database_now
from usage.live.shipping_state import BudgetUse
from usage.models import TeamDay, UsageDay


def make_key(name: str, cost: str, **fields: Decimal) -> AccessKey:
    """Creates a key with budgets that has spent `cost` dollars today."""
    key, _ = AccessKey.objects.issue(name, upstream_key="", **fields)
    UsageDay.objects.create(
        day=database_now().date(), key_name=name, cost=Decimal(cost), calls=1, unpriced_calls=0, input_tokens=0,
        output_tokens=0, estimated_cost=0, provisional_cost=0,
    )  # fmt: skip
    return key


@pytest.mark.django_db
def test_the_fullest_budgets_come_first_and_are_few() -> None:
    make_key("half", "5", budget_day=Decimal(10), budget_total=Decimal(20))
    make_key("over", "12", budget_month=Decimal(10))
    make_key("free", "100")
    make_key("revoked", "100", budget_day=Decimal(1)).revoke()
    expected = [BudgetUse("over", "month", 1.2), BudgetUse("half", "day", 0.5), BudgetUse("half", "total", 0.25)]
    assert fullest_budgets(20) == expected
    assert fullest_budgets(2) == expected[:2]


@pytest.mark.django_db
def test_budgets_of_teams_are_among_them() -> None:
    make_key("key", "5", budget_day=Decimal(10))
    for name, is_active in (("team", True), ("archived", False)):
        Team.objects.found(name, budget_month=Decimal(10), active=is_active)
        TeamDay.objects.create(
            day=database_now().date(), team=name, cost=Decimal(8), calls=1, unpriced_calls=0, input_tokens=0,
            output_tokens=0, estimated_cost=0, provisional_cost=0,
        )  # fmt: skip
    assert fullest_budgets(20) == [BudgetUse("team", "month", 0.8, "team"), BudgetUse("key", "day", 0.5)]


@pytest.mark.django_db
def test_a_budget_of_nothing_is_full() -> None:
    make_key("nothing", "0", budget_day=Decimal(0))
    assert fullest_budgets(20) == [BudgetUse("nothing", "day", 1.0)]


@pytest.mark.django_db
def test_without_budgets_there_is_nothing_to_measure() -> None:
    make_key("free", "1")
    assert fullest_budgets(20) == []


@pytest.mark.django_db
@pytest.mark.parametrize("seconds", [7200.0, -7200.0, 0.0])
def test_a_clock_that_is_ahead_is_positive(put_clock: PutClock, seconds: float) -> None:
    put_clock(timedelta(seconds=seconds))
    assert clock_difference() == pytest.approx(seconds, abs=PATIENCE)


def test_metrics_say_what_processes_take_and_which_version_runs(gateway: Gateway) -> None:
    samples = wait_until(gateway, lambda found: ("chatproxy_clock_difference_seconds", ()) in found)
    assert value(samples, "chatproxy_build_info") == 1
    for process in ("worker", "shipper"):
        memory = value(samples, "chatproxy_process_resident_bytes", process=process)
        assert 10e6 < memory < 4e9
        assert value(samples, "chatproxy_process_cpu_seconds", process=process) > 0
        files = value(samples, "chatproxy_process_open_files", process=process)
        assert 3 < files < value(samples, "chatproxy_process_allowed_files", process=process)
    pids = {dict(labels)["pid"] for name, labels in samples if name == "chatproxy_process_open_files"}
    assert {str(pid) for pid in gateway.worker_pids} <= pids
    assert value(samples, "chatproxy_budgets_failing") == 0
    assert ("chatproxy_pool_connections", ()) in samples
