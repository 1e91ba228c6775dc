"""A response outlives the rows of its calls: upstream keeps it for 30 days, however short RETENTION_DAYS is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pytest_django.fixtures import Settings

from tests.support.ledger.ledgers import Row
from tests.support.ledger.months import months
from tests.support.ledger.response_rows import EXACT, about, cost_of, counted, deliver, seen
from usage.journal_shipping.response_billing import COUNTED_BEFORE
from usage.journal_shipping.stored_object_rows import makers
from usage.models import CountedResponse, Request, StoredObject
from usage.sums.totals_reader import next_month
from usage.upkeep.months import month_of
from usage.upkeep.retention import DAY, prune

pytestmark = pytest.mark.django_db

THIS_MONTH = month_of(datetime.now(UTC) - timedelta(days=40))
LAST_MONTH = month_of(THIS_MONTH - DAY)
MADE_AT = THIS_MONTH - 2 * DAY
NOW = THIS_MONTH + timedelta(days=8)
COMPLETED: Row = {"response_status": "completed", "usage": {"input_tokens": 4005}, **EXACT}


@pytest.fixture(autouse=True)
def _settings(settings: Settings) -> None:
    settings.RETENTION_DAYS, settings.BODY_RETENTION_DAYS = 7, 0


def make_response() -> None:
    deliver([about(moment=MADE_AT, objects=["resp_1"], objects_last=False, **COMPLETED)])


@pytest.mark.parametrize("is_by_month", [True, False])
def test_a_response_that_is_read_after_its_row_was_pruned_is_not_counted_again(*, is_by_month: bool) -> None:
    with months(*([LAST_MONTH, THIS_MONTH, next_month(THIS_MONTH)] if is_by_month else [])):
        make_response()
        prune(NOW)
        assert not Request.objects.exists()
        deliver([seen(moment=NOW)])

        assert counted() == (4005, 500, cost_of(EXACT))
        assert Request.objects.get().price == COUNTED_BEFORE


def test_its_key_may_still_name_it() -> None:
    make_response()
    prune(NOW)
    assert makers(["resp_1"]) == {"resp_1": "default"}


@pytest.mark.parametrize("first", [8, 27, 400])
@pytest.mark.parametrize("step", [2, 20])
def test_once_upstream_has_deleted_it_nothing_is_kept(first: int, step: int) -> None:
    make_response()
    days = range(first, max(first, 30) + 2 * step, step)
    for day in days:
        is_kept_upstream = day <= 30
        prune(MADE_AT + timedelta(days=day))
        assert not Request.objects.exists()
        assert CountedResponse.objects.exists() == StoredObject.objects.exists() == is_kept_upstream
    assert days[-1] > 30
