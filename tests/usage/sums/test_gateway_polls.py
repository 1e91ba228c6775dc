"""The gateway's own looks at responses: usage and cost of the key, but no calls of it, in sums and on pages."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from io import StringIO
from pathlib import Path

import orjson
import pytest
from django.db import connection
from django.test import Client

from tests.support.ledger.ledgers import NOON, Row, assert_sums_are_right, call
from usage.journal_shipping.digests import VERSIONS
from usage.journal_shipping.rows import DEFAULTS, write_rows
from usage.journal_shipping.stub_rows import least_stub, stub
from usage.models import Dimension, ErrorTotal, Request, UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.money.spent_and_reserved import spent_by
from usage.page_data.dashboard.dashboard_content import read_key_dashboard
from usage.page_data.exports import export_calls
from usage.page_data.filters import Filters
from usage.page_data.newest_calls import read_counters, read_newest_calls, read_newest_calls_of_key
from usage.sums.pruned_calls import hours_with_pruned_calls
from usage.sums.ranges import TimeRange
from usage.sums.report_reader import read_report
from usage.sums.totals_reader import read_by_value
from usage.upkeep.rebuild_totals import rebuild_totals
from usage.upkeep.verify import changed_rows, find_faults

pytestmark = pytest.mark.django_db

RANGE = TimeRange("custom", NOON - timedelta(hours=1), NOON + timedelta(hours=3))
LATER = NOON + timedelta(hours=1)  # an hour in which no call was made


@pytest.fixture
def made() -> Row:
    """A call; the look at its response is in the table, too."""
    made = call(route="/v1/responses", response_id="resp_1", usage=None, usage_source="unknown", input_tokens=None)
    look = call(
        LATER, route="/v1/responses", method="GET", response_id="resp_1", by_gateway=True, tags=["background"],
        incoming_request_id=made["request_id"],
    )  # fmt: skip
    write_rows(Pricer().priced([made, look]))
    return made


def test_they_add_usage_and_cost_and_nothing_else(made: Row) -> None:
    hour = UsageHour.objects.get(hour=LATER)
    assert (hour.calls, hour.input_tokens, hour.output_tokens) == (0, 1000, 500)
    assert hour.cost > 0
    assert (hour.duration_ms, hour.max_duration_ms, hour.response_bytes, hour.durations) == (0, 0, 0, [])
    assert UsageTotal.objects.get(span="day", dimension="key").calls == 1
    assert read_counters()["requests"] == 1
    assert_sums_are_right()


def test_one_that_could_not_be_written_is_no_failure_of_the_key(made: Row) -> None:
    look = call(LATER, by_gateway=True, outcome="odd", input_tokens=7)
    for row in (stub(look), least_stub(call(LATER, by_gateway=True, outcome="odd"))):
        write_rows(Pricer().priced([row]))
    assert not ErrorTotal.objects.exists()
    assert UsageTotal.objects.get(span="day", dimension="all").calls == 1
    assert_sums_are_right()


def test_an_hour_of_looks_alone_is_in_reports(made: Row) -> None:
    report = read_report(RANGE, ("hour", "route"))
    assert [(group["calls"], group["input_tokens"]) for group in report["groups"]] == [(1, 0), (0, 1000)]
    assert (report["total"]["calls"], report["total"]["input_tokens"]) == (1, 1000)
    [[route, totals]] = read_by_value([Dimension.ROUTE], LATER, RANGE.end, RANGE.end)["route"].items()
    assert (route, totals.calls, totals.input_tokens) == ("/v1/responses", 0, 1000)
    assert read_key_dashboard("default", RANGE, RANGE.end).used["route"][0].calls == 1


def test_sums_made_anew_are_the_same(made: Row) -> None:
    before = sorted(UsageTotal.objects.exclude(span="minute").values_list())
    rebuild_totals(RANGE.end)
    assert sorted(UsageTotal.objects.exclude(span="minute").values_list()) == before


def test_a_key_was_not_used_by_them() -> None:
    write_rows(Pricer().priced([call(), call(NOON + timedelta(days=2), by_gateway=True, method="GET")]))
    assert spent_by("key", ["default"], date(2026, 11, 3))["default"].last_day == NOON.date()


def test_they_hide_no_pruned_calls(made: Row) -> None:
    assert hours_with_pruned_calls({NOON, LATER}) == set()
    Request.objects.filter(by_gateway=False).delete()
    assert hours_with_pruned_calls({NOON, LATER}) == {NOON}


def test_a_mark_that_is_changed_is_noticed(made: Row) -> None:
    assert list(find_faults(Path("/nonexistent"))) == []
    Request.objects.filter(by_gateway=True).update(by_gateway=False)
    faults = list(find_faults(Path("/nonexistent")))
    assert any("was changed" in fault for fault in faults)
    assert any("is not the sum" in fault for fault in faults)


def test_a_row_of_older_code_is_a_call_and_its_digest_is_right() -> None:
    """Old code knows nothing of the marks while it still runs."""
    names = ", ".join(VERSIONS[0].columns)
    row = {**DEFAULTS, **Pricer().priced([call()])[0]}
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO usage_request ({names}, digest) SELECT {names}, md5(ROW({names})::text)"  # noqa: S608  (our own names)
            " FROM jsonb_populate_recordset(NULL::usage_request, %s::jsonb)",
            [orjson.dumps([row]).decode()],
        )
    assert list(changed_rows(None)) == []
    assert not Request.objects.get().by_gateway


def test_they_are_marked_wherever_rows_are_listed(made: Row, admin: Client) -> None:
    look = Request.objects.get(by_gateway=True)
    assert [str(row.pk) for row in read_newest_calls(failed_only=False)] == [made["request_id"]]
    assert [str(row.pk) for row in read_newest_calls_of_key("default", RANGE, 10)] == [made["request_id"]]
    assert admin.get("/admin/usage/request/").content.decode().count(">by the gateway<") == 1
    page = admin.get(f"/admin/usage/request/{look.pk}/change/").content.decode()
    assert f"/admin/usage/request/{made['request_id']}/change/" in page
    assert "counts as no call of the key" in page
    creation = admin.get(f"/admin/usage/request/{made['request_id']}/change/").content.decode()
    assert "counted elsewhere" in creation
    newest, oldest = csv.DictReader(StringIO(b"".join(export_calls(Filters(), "csv")).decode()))
    assert (newest["by_gateway"], oldest["by_gateway"]) == ("True", "False")
