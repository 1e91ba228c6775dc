"""`manage.py doctor` says which months of the ledger have no partition, and whether calls are in none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chatproxy.doctor.finding import Level
from chatproxy.doctor.ledger_checks import check_months
from tests.support.ledger.ledgers import call, end, ship
from tests.support.ledger.months import months
from usage.sums.totals_reader import next_month
from usage.upkeep.months import month_of

pytestmark = pytest.mark.django_db(transaction=True)

NOW = datetime.now(UTC)


@pytest.fixture
def _both() -> Iterator[None]:
    with months(month_of(NOW), next_month(NOW)):
        yield


@pytest.mark.usefixtures("_both")
def test_all_is_well() -> None:
    assert list(check_months()) == []


def test_a_missing_month_is_named() -> None:
    with months(month_of(NOW)):
        [finding] = check_months()
    assert finding.level is Level.WARNING
    for table in ("usage_request", "usage_requestbody"):
        assert f"{table}_{next_month(NOW):%Y_%m}" in finding.words


@pytest.mark.usefixtures("_both")
def test_calls_that_are_in_no_month_are_mentioned(tmp_path: Path) -> None:
    ship(tmp_path, end(call(NOW + timedelta(days=500))))
    [finding] = check_months()
    assert finding.level is Level.WARNING
    assert finding.words.startswith("usage_request_default has rows")


def test_before_the_migration_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatproxy.doctor.ledger_checks.partitions", lambda _: [])
    [finding] = check_months()
    assert finding.level is Level.OK
