"""Each kind of page reads the ledger's tables along indexes, and of the calls only the months of its range of time.

PostgreSQL plans each query of a page with sequential scans switched off: one that remains has no index that it could
use. An index that is read without a condition is read from one end to the other, unless the query stops early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from proxyapi.models import AccessKey
from tests.support.ledger.ledgers import call
from tests.support.ledger.months import months
from usage.journal_shipping.rows import write_rows
from usage.models import Span
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_durations_of_key
from usage.sums.breakdown_reader import rows_of_range
from usage.sums.ranges import CUSTOM, TimeRange
from usage.sums.report_reader import read_report
from usage.sums.totals_reader import next_month
from usage.upkeep.months import month_of

pytestmark = pytest.mark.django_db(transaction=True)
NOW = datetime.now(UTC)
MONTHS = [month_of(NOW)]  # the newest first
for _ in range(4):
    MONTHS.append(month_of(MONTHS[-1] - timedelta(days=1)))
KEY = "ada"
MARKS = "usage_knownerror"  # people make its rows, one by one: all of them are few
SUMS = ("usage_usagetotal", "usage_usagehour", "usage_usagebreakdown", "usage_errortotal")


class Kind(NamedTuple):
    """A kind of page: its address, and how many of the newest months of calls its queries may read.

    `walks` is true if a query reads calls in the order of an index without a condition, and stops early.
    """

    address: str
    months: int
    walks: bool = False


def custom(start: datetime, end: datetime) -> str:
    return f"from={start:%Y-%m-%dT%H:%M}&to={end:%Y-%m-%dT%H:%M}"


THIS_MONTH, WHOLE = "range=this_month", custom(MONTHS[4], NOW)
KINDS = {
    "dashboard, this month": Kind(f"/admin/?{THIS_MONTH}", 1),
    "dashboard, all": Kind(f"/admin/?{WHOLE}", 5),
    "errors, this month": Kind(f"/admin/usage/errors/?{THIS_MONTH}", 1),
    "errors, all": Kind(f"/admin/usage/errors/?{WHOLE}", 5),
    "needs a price, this month": Kind(f"/admin/usage/needed-prices/?{THIS_MONTH}", 1),
    "requests, this month": Kind(f"/admin/usage/request/?{THIS_MONTH}", 1),
    "requests, newest": Kind("/admin/usage/request/", 5, walks=True),
    "requests, a key": Kind(f"/admin/usage/request/?key={KEY}&{THIS_MONTH}", 1),
    "requests, a model": Kind(f"/admin/usage/request/?model=gpt-4.1&{THIS_MONTH}", 1),
    "requests, a route": Kind(f"/admin/usage/request/?route=/openai&{THIS_MONTH}", 1),
    "requests, failed": Kind(f"/admin/usage/request/?outcome=failed&{THIS_MONTH}", 1),
    "requests, a status": Kind(f"/admin/usage/request/?status=504&{THIS_MONTH}", 1),
    "requests, a text": Kind(
        f"/admin/usage/request/?q=timeout&{THIS_MONTH}", 5, walks=True
    ),  # which may be an id of any month
    "requests, words": Kind(f"/admin/usage/request/?text=invoice&{THIS_MONTH}", 1),
    "requests, words of a key": Kind(f"/admin/usage/request/?text=invoice&key={KEY}&{THIS_MONTH}", 1),
    "requests, words at any time": Kind("/admin/usage/request/?text=invoice", 5, walks=True),
    "a key's usage, this month": Kind(f"/admin/proxyapi/accesskey/KEY/usage/?{THIS_MONTH}", 1),
    "a key's usage, all": Kind(f"/admin/proxyapi/accesskey/KEY/usage/?{WHOLE}", 5),
    "requests, a key's failures": Kind(f"/admin/usage/request/?key={KEY}&outcome=failed&{THIS_MONTH}", 1),
}


@pytest.fixture(autouse=True)
def _calls() -> Iterator[None]:
    """Calls of five months, of which each fourth has failed."""
    with months(*MONTHS, next_month(NOW)):
        rows = []
        for month in MONTHS:
            days = [month + timedelta(hours=7 * number) for number in range(90)]
            for number, moment in enumerate(moment for moment in days if moment < NOW):
                failed = {"outcome": "timeout", "status": 504, "error_code": "slow"} if number % 4 == 0 else {}
                rows.append(call(moment, key_name=KEY if number % 3 else "other", **failed))
        write_rows(Pricer().priced(rows))
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        yield


def plans_of(queries: list[str]) -> list[dict[str, Any]]:
    """Returns the nodes of the plans of all queries that read one of the ledger's large tables."""
    found = []
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in queries:
            if re.match(r"\s*(SELECT|WITH)\b", query) and re.search(
                rf"usage_request(?:body)?\b|{'|'.join(SUMS)}", query
            ):
                cursor.execute("EXPLAIN (FORMAT JSON) " + query.replace("%", "%%"), [])
                [(plan,)] = cursor.fetchall()
                parsed = json.loads(plan) if isinstance(plan, str) else plan
                found += list(nodes(parsed[0]["Plan"]))
    return found


def nodes(plan: dict[str, Any], limited: bool = False) -> Iterator[dict[str, Any]]:
    """Yields the nodes of a plan; `limited` in each says whether it is below one that stops early."""
    limited = limited or plan["Node Type"] == "Limit"
    yield plan | {"limited": limited}
    for part in plan.get("Plans", ()):
        yield from nodes(part, limited)


def reads_much(found: list[dict[str, Any]], kind: Kind) -> list[str]:
    """Returns what the plans of a page read that they should not: whole tables, other months, whole indexes."""
    of_tables = [node for node in found if node.get("Relation Name", "").startswith("usage_")]
    allowed = {f"usage_request_{month:%Y_%m}" for month in MONTHS[: kind.months]}
    allowed |= {f"usage_request_{next_month(NOW):%Y_%m}", "usage_request_default"}
    wrong = []
    for node in of_tables:
        table, is_walk = node["Relation Name"], kind.walks and node["limited"]
        if node["Node Type"] == "Seq Scan" and is_large(table):
            wrong.append(f"all of {table}")
        if table.startswith("usage_request_") and table not in allowed:
            wrong.append(f"another month: {table}")
        if "Index Name" in node and "Index Cond" not in node and not is_walk and table != MARKS:
            wrong.append(f"all of {node['Index Name']}")
    return wrong


def is_large(table: str) -> bool:
    return table in SUMS or (table.startswith("usage_request_") and table != "usage_request_default")


def test_pages_read_along_indexes(admin: Client) -> None:
    key, _ = AccessKey.objects.issue(KEY)
    wrong = {}
    for name, kind in KINDS.items():
        with CaptureQueriesContext(connection) as queries:
            assert admin.get(kind.address.replace("KEY", str(key.pk))).status_code == 200
        found = plans_of([query["sql"] for query in queries])
        assert found, name
        wrong[name] = reads_much(found, kind)
    assert {name: faults for name, faults in wrong.items() if faults} == {}


def test_reports_read_along_indexes() -> None:
    wrong = {}
    for key in (None, KEY):
        for groups in ((), ("day", "model"), ("key",), ("hour",)):
            with CaptureQueriesContext(connection) as queries:
                read_report(TimeRange(CUSTOM, MONTHS[2], NOW), groups, key=key)
            wrong[key, groups] = reads_much(plans_of([query["sql"] for query in queries]), Kind("", 0))
    assert {name: faults for name, faults in wrong.items() if faults} == {}


def test_the_sums_of_a_key_over_months_are_not_read_from_hours() -> None:
    rows = rows_of_range(MONTHS[3], MONTHS[0], ("calls",), {"key_name": KEY}, coarsest=Span.MONTH, by_key=True)
    assert "usage_usagehour" not in rows.sql
    with CaptureQueriesContext(connection) as queries:
        read_durations_of_key(KEY, TimeRange(CUSTOM, MONTHS[3], MONTHS[0]), {"model": [], "route": []})
    found = plans_of([query["sql"] for query in queries])
    assert {node["Relation Name"] for node in found if "Index Cond" in node and "Relation Name" in node} == {
        "usage_usagetotal", "usage_usagebreakdown"
    }  # fmt: skip
