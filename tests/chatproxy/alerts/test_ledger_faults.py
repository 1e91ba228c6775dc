"""Faults in the ledger: when the rule of each kind opens an alert, when it does not, and when the alert is resolved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from chatproxy.alert_models import Alert, AlertKind, AlertRule
from chatproxy.alerts import evaluation
from chatproxy.alerts.evaluation import AlertEvaluation
from chatproxy.alerts.kinds import FoundFault
from chatproxy.alerts.ledger_conditions import BUDGET_CODE
from proxyapi.exceptions import BudgetExceeded
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.support.alerts import Host, make_rule, open_titles
from tests.support.ledger.ledgers import call
from usage.database.clock import database_now
from usage.journal_shipping.rows import write_rows
from usage.models import Hold, TeamDay, UsageDay, UsageTotal
from usage.money.row_pricing import Pricer

pytestmark = pytest.mark.django_db


def write_calls(host: Host, number: int, ago: timedelta = timedelta(minutes=3), **columns: Any) -> None:
    moment = host.start - ago
    write_rows(Pricer().priced([call(moment, **columns) for _ in range(number)]))


def spend(key: str, dollars: str) -> None:
    """Lets a key have spent so many dollars today."""
    UsageDay.objects.update_or_create(
        day=database_now().date(), key_name=key,
        defaults={"cost": Decimal(dollars), "calls": 1, "unpriced_calls": 0, "input_tokens": 0, "output_tokens": 0,
                  "estimated_cost": 0, "provisional_cost": 0},
    )  # fmt: skip


def test_a_budget(host: Host) -> None:
    make_rule(AlertKind.BUDGET, 80)
    key, _ = AccessKey.objects.issue("team a", budget_day=Decimal(10), budget_total=Decimal(100))
    AccessKey.objects.issue("free")
    spend("free", "1000")
    spend("team a", "7.99")
    host.look()
    assert open_titles() == []

    spend("team a", "8")
    host.look(1)
    assert open_titles() == ["Key team a has spent 80 % of its budget for today (threshold 80 %)"]
    [alert] = Alert.objects.all()
    assert (alert.subject, alert.detail) == ("team a, day", "$8.00 of $10.00 spent, $0.00 more reserved.")
    assert alert.page == "admin/proxyapi/accesskey/?q=team+a"

    key.budget_day = Decimal(20)
    key.save(update_fields=["budget_day"])
    host.look(2)
    assert open_titles() == []


def test_each_threshold_has_its_words(host: Host) -> None:
    """A percentage is rounded down, as on the pages of keys."""
    make_rule(AlertKind.BUDGET, 80)
    AlertRule.objects.create(kind=AlertKind.BUDGET, threshold=90)
    AccessKey.objects.issue("team a", budget_day=Decimal(10))
    spend("team a", "9.27")
    host.look()

    words = "Key team a has spent 92 % of its budget for today (threshold {} %)"
    assert sorted(open_titles()) == [words.format(80), words.format(90)]


@pytest.mark.parametrize("dollars", [29, 57, 58, 115])
def test_a_budget_has_the_percent_of_its_bar(host: Host, dollars: int) -> None:
    """As a float, 0.57 * 100 is less than 57."""
    make_rule(AlertKind.BUDGET, dollars)
    AccessKey.objects.issue("team a", budget_day=Decimal(100))
    spend("team a", str(dollars))
    host.look()
    assert open_titles() == [f"Key team a has spent {dollars} % of its budget for today (threshold {dollars} %)"]


def test_a_budget_of_a_team(host: Host) -> None:
    """A key with the same name has an alert of its own."""
    make_rule(AlertKind.BUDGET, 80)
    Team.objects.found("team a", budget_day=Decimal(10))
    AccessKey.objects.issue("team a", budget_day=Decimal(10))
    spend("team a", "9")
    write_calls(host, 1, timedelta(0), key_name="of the team", team="team a", cost="9", cost_kind="exact")
    TeamDay.objects.update(day=database_now().date(), cost=Decimal(9))
    host.look()

    of_team, of_key = Alert.objects.order_by("subject")
    assert of_key.title == "Key team a has spent 90 % of its budget for today (threshold 80 %)"
    assert of_team.title == "Team team a has spent 90 % of its budget for today (threshold 80 %)"
    assert of_team.page == "admin/proxyapi/team/?q=team+a"


def test_what_is_reserved_is_not_spent(host: Host) -> None:
    make_rule(AlertKind.BUDGET, 80)
    AccessKey.objects.issue("team a", budget_day=Decimal(10))
    spend("team a", "7")
    Hold.objects.create(
        request_id="01900000-0000-7000-8000-000000000000", key_name="team a", day=database_now().date(), dollars=3
    )
    host.look()

    assert open_titles() == []


def test_refusals_by_a_budget(host: Host) -> None:
    make_rule(AlertKind.BUDGET_REFUSALS, 2, 60)
    refused: dict[str, Any] = {"outcome": "rejected", "status": 429, "error_code": BUDGET_CODE, "key_name": "team a"}
    write_calls(host, 1, **refused)
    write_calls(host, 9, **{**refused, "error_code": "rate_limited"})
    host.look()
    assert open_titles() == []

    write_calls(host, 1, **refused)
    host.look(1)
    assert open_titles() == ["Calls of key team a are refused, because its budget has no room for them"]

    host.look(3 * 60)
    assert open_titles() == []


def test_the_code_of_a_refusal_is_that_of_the_error() -> None:
    assert BudgetExceeded.code == BUDGET_CODE


def test_the_error_rate(host: Host) -> None:
    make_rule(AlertKind.ERROR_RATE, 5, 60)
    write_calls(host, 9, outcome="upstream_error", status=500)
    host.look()
    assert open_titles() == []  # too few calls to judge

    write_calls(host, 91)
    host.look(1)
    assert open_titles() == ["9 % of the calls fail"]
    assert Alert.objects.get().detail == "9 of 100 calls in 1 h; too few calls to compare."

    write_calls(host, 100)
    host.look(2)
    assert open_titles() == []


def test_the_usual_error_rate_is_no_fault(host: Host) -> None:
    make_rule(AlertKind.ERROR_RATE, 5, 60)
    for days in (1, 2):
        yesterday = timedelta(days=days, minutes=10)
        write_calls(host, 5, yesterday, outcome="timeout", status=504)
        write_calls(host, 95, yesterday)
    write_calls(host, 14, outcome="timeout", status=504)
    write_calls(host, 86)
    host.look()
    assert open_titles() == []  # less than three times the usual 5 %

    write_calls(host, 4, outcome="unreachable", status=502)
    host.look(1)
    assert open_titles() == ["17 % of the calls fail"]


def test_what_the_gateway_refuses_is_no_failed_call(host: Host) -> None:
    make_rule(AlertKind.ERROR_RATE, 5, 60)
    write_calls(host, 30)
    write_calls(host, 30, outcome="rejected", status=429)
    write_calls(host, 30, outcome="client_cancelled", status=None)
    host.look()

    assert open_titles() == []


def test_a_slow_upstream(host: Host) -> None:
    make_rule(AlertKind.UPSTREAM_SLOW, 3, 60)
    write_calls(host, 30, timedelta(days=1, minutes=10), upstream_ms=2000.0)
    write_calls(host, 30, upstream_ms=5500.0)
    host.look()
    assert open_titles() == []

    write_calls(host, 30, upstream_ms=9000.0)
    host.look(1)
    assert open_titles() == ["Upstream is slow"]

    host.look(2 * 60)
    assert open_titles() == []


def test_a_slow_upstream_is_usual_if_nothing_is_known_of_other_days(host: Host) -> None:
    make_rule(AlertKind.UPSTREAM_SLOW, 3, 60)
    write_calls(host, 30, upstream_ms=60_000.0)
    host.look()

    assert open_titles() == []


def test_a_missing_price(host: Host) -> None:
    make_rule(AlertKind.UNPRICED, 1, 1440)
    write_calls(host, 2)
    host.look()
    assert open_titles() == []

    write_calls(host, 1, response_model="nobody-knows", request_model="nobody-knows")
    host.look(1)
    assert open_titles() == ["No price is known for nobody-knows"]

    UsageTotal.objects.filter(value="nobody-knows").update(unpriced_calls=0)  # as repricing does
    host.look(2)
    assert open_titles() == []


def test_a_key_about_to_expire_for_a_rule_with_any_number_of_days(host: Host) -> None:
    make_rule(AlertKind.KEY_EXPIRY, 9999999999)
    AccessKey.objects.issue("late", expires_at=host.start + timedelta(days=30000))
    host.look()
    assert len(open_titles()) == 1


def test_a_key_about_to_expire(host: Host) -> None:
    make_rule(AlertKind.KEY_EXPIRY, 7)
    soon, later = host.start + timedelta(days=6.9), host.start + timedelta(days=7.1)
    AccessKey.objects.issue("later", expires_at=later)
    AccessKey.objects.issue("expired", expires_at=host.start - timedelta(days=1))
    AccessKey.objects.issue("off", expires_at=soon, active=False)
    host.look()
    assert open_titles() == []

    key, _ = AccessKey.objects.issue("soon", expires_at=soon)
    host.look(1)
    assert open_titles() == [f"Key soon expires on {soon:%Y-%m-%d}"]

    key.expires_at = later
    key.save(update_fields=["expires_at"])
    host.look(2)
    assert open_titles() == []


def test_names_of_strangers_are_one_short_line(host: Host) -> None:
    make_rule(AlertKind.UNPRICED, 1, 1440)
    model = "evil\n\u202emodel " + "x" * 180
    write_calls(host, 1, response_model=model, request_model=model)
    host.look()

    [title] = open_titles()
    assert title.startswith("No price is known for evil <U+202E>model xxx")
    assert "\n" not in title
    assert len(title) < 120


@pytest.mark.django_db(transaction=True)
def test_a_query_that_fails_hides_no_other_rule(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database refuses a query of one rule: that is logged, and the rules after it are looked at."""
    looked_for: list[AlertRule] = []

    def refused(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")
        yield from ()

    def quiet(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
        looked_for.extend(AlertRule.objects.filter(pk=rule.pk))
        yield from ()

    rules = [make_rule(AlertKind.BUDGET, 80), make_rule(AlertKind.UNPRICED, 1, 60)]
    monkeypatch.setattr(evaluation, "LEDGER_CONDITIONS", {AlertKind.BUDGET: refused, AlertKind.UNPRICED: quiet})
    AlertEvaluation().work_once()

    assert looked_for == rules[1:]
    assert "the alert rule Budget used: 80 % fails" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_an_outage_goes_on_while_some_queries_fail(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger cannot be looked at, again and again: it is one outage, which lasts, and is over with the last one."""
    make_rule(AlertKind.DATABASE, None, 5)
    make_rule(AlertKind.BUDGET, 80)
    looker, since = AlertEvaluation(), []

    def too_slow(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)")
        yield from ()

    monkeypatch.setattr(evaluation, "LEDGER_CONDITIONS", {AlertKind.BUDGET: too_slow})
    for _ in range(3):
        looker.work_once()
        since.append(looker._outage._alert and looker._outage._alert.since)
    monkeypatch.setattr(evaluation, "LEDGER_CONDITIONS", {})
    looker.work_once()

    assert None not in since
    assert len(set(since)) == 1
    assert looker._outage._alert is None
