"""The dashboard shows the numbers of a known load and their change against the time before; so does its refresh."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.support.ledger.equal_sums import clock_at
from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, charts, in_one_minute, make_call, make_failure, tiles
from usage.journal_shipping.rows import write_rows
from usage.live import status as live_module
from usage.live.shipping_state import NOT_RUNNING, ShippingState
from usage.live.status import ServerStatus
from usage.live.worker_files import WorkerReports
from usage.metric_counters import ServerCounters
from usage.money.row_pricing import Pricer

pytestmark = pytest.mark.django_db
JSON = "/admin/usage/dashboard.json"
CALM = ServerStatus(
    workers=2, in_flight=7, draining=0, journal_full=False, upstream_answered_at=None, upstream_failed_at=None,
    shipping=ShippingState(waiting_bytes=0, lag_seconds=0.0, database_fault="", shipper_fault=""),
    counted=ServerCounters(), gauges={},
)  # fmt: skip


def known_load(moment: datetime | None = None) -> None:
    """Writes 10 calls of the last hour, 2 of them failed, 5 successful ones of the hour before, and an older one."""
    now = moment or datetime.now(UTC)
    rows = [
        call(now - timedelta(minutes=3 * number + 1), duration_ms=100.0 * (number + 1), overhead_ms=float(number + 1))
        for number in range(8)
    ]
    failed = {"outcome": "timeout", "status": 504, "error_code": "slow", "response_model": "", "input_tokens": 0,
              "cached_tokens": 0, "output_tokens": 0}  # fmt: skip
    rows += [call(now - timedelta(minutes=70 + number)) for number in range(5)]
    rows.append(call(now - timedelta(days=2)))  # nothing is compared with days before the first call
    unpriced = [call(now - timedelta(minutes=5), key_name="other", duration_ms=60_000.0, **failed) for _ in range(2)]
    write_rows([*Pricer().priced(rows), *unpriced])


def test_it_works(admin: Client) -> None:
    known_load()
    page = admin.get(DASHBOARD, {"range": "hour"}).content.decode()
    said = tiles(page)

    assert said["calls"].startswith("Calls 10 +100 %")
    assert said["errors"].startswith("Error rate 20 %")
    assert "2 failed" in said["errors"]
    assert said["dollars"].startswith("Cost $0.003480")
    assert "2 calls need a price" in said["dollars"]
    assert said["input_tokens"].startswith("Input tokens 8,000 +60 %")
    assert "20 % cached" in said["input_tokens"]
    assert said["output_tokens"].startswith("Output tokens 4,000")
    assert "+100 % from 5" in said["calls"]


def test_the_failed_calls_lead_to_the_newest_errors(admin: Client) -> None:
    link = '<a href="#newest-errors">'
    assert link not in admin.get(DASHBOARD).content.decode()
    make_failure(error_message="broke")
    page = admin.get(DASHBOARD).content.decode()
    assert link in page
    assert page.count('id="newest-errors"') == 1


@pytest.mark.parametrize("address", [DASHBOARD, JSON])
def test_the_change_says_against_what(admin: Client, address: str) -> None:
    query = {"from": "2026-11-16", "to": "2026-11-23"}
    make_call(started_at=datetime(2026, 11, 20, tzinfo=UTC))
    make_call(started_at=datetime(2026, 11, 8, 23, tzinfo=UTC))
    none = "No change is shown: there were no calls in the time before (2026-11-09 to 2026-11-15 UTC)"
    assert none in admin.get(address, query).content.decode()
    make_call(started_at=datetime(2026, 11, 12, tzinfo=UTC))
    page = admin.get(address, query).content.decode()
    assert "Changes compare 2026-11-16 to 2026-11-22 with 2026-11-09 to 2026-11-15, UTC" in page


def test_latencies_are_within_a_bucket_of_the_truth(admin: Client) -> None:
    known_load()
    said = tiles(admin.get(DASHBOARD, {"range": "hour"}).content.decode())
    median = float(re.findall(r"([\d.]+) ms", said["latency"])[0])
    [p95] = re.findall(r"([\d.]+) (?:s|min \d+ s) p95", said["latency"])
    ours = float(re.findall(r"([\d.]+) ms", said["overhead"])[0])

    assert median == pytest.approx(500, rel=0.06)
    assert float(p95) == pytest.approx(60, rel=0.06) or p95 == "1"
    assert ours == pytest.approx(4.5, rel=0.2)


@pytest.mark.parametrize(
    ("before", "now", "change"), [(100, 104, ""), (100, 109, ""), (100, 125, "+"), (100, 80, "\N{MINUS SIGN}")]
)
def test_a_latency_has_changed_if_its_bucket_has_by_more_than_one(
    admin: Client, before: float, now: float, change: str
) -> None:
    """Neighbouring buckets may have nearly the same latencies on both sides of their border."""
    moment = datetime.now(UTC)
    make_call(started_at=moment - timedelta(days=2))  # nothing is compared with days before the first call
    make_call(started_at=moment - timedelta(minutes=90), duration_ms=before)
    make_call(started_at=moment - timedelta(minutes=5), duration_ms=now)
    said = tiles(admin.get(DASHBOARD, {"range": "hour"}).content.decode())["latency"]
    assert re.findall(" ms ([+\N{MINUS SIGN}]?)", said)[0] == change


def test_the_charts_have_the_same_calls(admin: Client) -> None:
    known_load()
    drawn = charts(admin.get(DASHBOARD, {"range": "hour"}).content.decode())

    assert {line["name"]: sum(line["values"]) for line in drawn["calls"]} == {"Success": 8, "Timeout": 2}
    assert {line["name"]: sum(line["values"]) for line in drawn["tokens"]} == {
        "Input, not cached": 6400, "Input, cached": 1600, "Output": 4000
    }  # fmt: skip
    [dollars] = drawn["dollars"]
    assert dollars["name"] == "gpt-4o-mini (any date)"
    assert sum(dollars["values"]) == pytest.approx(8 * 0.000435)
    assert 60 <= len(drawn["times"]) <= 61
    assert max(value for value in drawn["latency"][0]["values"] if value) > 10_000


def test_who_and_what_was_used_most(admin: Client) -> None:
    known_load()
    answer = admin.get(DASHBOARD, {"range": "hour"})
    used = answer.context["dashboard"].used

    assert [(row.name, row.calls, row.share) for row in used["key"]] == [
        ("default", 8, 100), ("other", 2, 0), ("Total", 10, 100)
    ]  # fmt: skip
    assert [(row.name, row.calls, row.dates) for row in used["model"]] == [("gpt-4o-mini", 10, "2024-07-18")]
    assert [row.name for row in used["route"]] == ["/openai"]
    assert used["key"][1].errors.startswith("100")
    assert "/admin/usage/request/?range=hour&amp;key=other" in answer.content.decode().replace(
        "hour&key", "hour&amp;key"
    )


def test_the_newest_errors_are_there(admin: Client) -> None:
    ids = [make_failure(minutes, error_message=f"broke {minutes}") for minutes in range(10)]
    page = admin.get(DASHBOARD).content.decode()

    assert [f"/admin/usage/request/{request_id}/change/" in page for request_id in ids] == [True] * 8 + [False] * 2
    assert "broke 7" in page


@pytest.mark.parametrize("address", [DASHBOARD, JSON])
@pytest.mark.parametrize(
    ("chosen", "shown"), [("hour", ["new"]), ("day", ["new", "hours old"]), ("month", ["new", "hours old", "days old"])]
)
def test_the_newest_errors_are_those_of_the_time_shown(
    admin: Client, address: str, chosen: str, shown: list[str]
) -> None:
    for minutes, name in ((5, "new"), (5 * 60, "hours old"), (5 * 24 * 60, "days old")):
        make_failure(minutes, error_message=f"{name} one")
    page = admin.get(address, {"range": chosen}).content.decode()

    assert [name for name in ("new", "hours old", "days old") if f"{name} one" in page] == shown


def test_the_json_says_what_the_page_says(admin: Client) -> None:
    known_load()
    page, answer = in_one_minute(
        lambda: (
            admin.get(DASHBOARD, {"range": "hour"}).content.decode(),
            admin.get(JSON, {"range": "hour"}).json(),
        )
    )

    assert tiles(answer["fragments"]["tiles"]) == tiles(page)
    assert answer["charts"]["calls"] == charts(page)["calls"]
    make_call()
    assert tiles(admin.get(JSON, {"range": "hour"}).json()["fragments"]["tiles"])["calls"].startswith("Calls 11")


@pytest.mark.parametrize("query", [{"range": "year"}, {"from": "then"}])
def test_a_time_that_cannot_be_read_is_said(admin: Client, query: dict[str, str]) -> None:
    assert 'role="alert"' in admin.get(DASHBOARD, query).content.decode()
    assert admin.get(JSON, query).status_code == 400


def test_a_time_of_ones_own(admin: Client) -> None:
    make_call(started_at=datetime(2026, 3, 1, 12, 30, tzinfo=UTC))
    page = admin.get(DASHBOARD, {"from": "2026-03-01T00:00", "to": "2026-03-02T00:00"}).content.decode()

    assert tiles(page)["calls"].startswith("Calls 1 ")
    assert len(charts(page)["times"]) == 24


def test_a_newcomer_is_told_what_to_do(admin: Client, settings: Any) -> None:
    settings.OPENAI_API_KEY = None
    page = admin.get(DASHBOARD).content.decode()

    assert "curl http://testserver/openai" in page
    assert "$CHATPROXY_API_KEY" in page
    assert "OPENAI_API_KEY" in page
    assert settings.SECURITY_KEY not in page
    make_call()
    assert "Make the first one" not in admin.get(DASHBOARD).content.decode()


@pytest.mark.parametrize(
    ("state", "words", "tone"),
    [
        ({}, "no call yet", ""),
        ({"upstream_answered_at": 5.0}, "answered", "good"),
        ({"upstream_answered_at": 5.0, "upstream_failed_at": 6.0}, "not reached", "bad"),
        ({"upstream_answered_at": 6.0, "upstream_failed_at": 5.0}, "answered", "good"),
        ({"shipping": {"database_fault": "OperationalError"}}, "away (OperationalError); calls go on", "bad"),
        ({"shipping": {"waiting_bytes": 5000, "lag_seconds": 90.0}}, "1 min 30 s behind", "bad"),
        ({"shipping": {"waiting_bytes": 5000, "lag_seconds": 0.3}}, "5.00 kB waiting", "good"),
        ({"shipping": {"shipper_fault": "ValueError"}}, "stuck (ValueError)", "bad"),
        ({"shipping": {"shipper_fault": NOT_RUNNING}}, "the shipper does not run", "bad"),
        ({"journal_full": True}, "new calls are refused", "bad"),
        ({}, "Redis not configured", ""),
        ({"gauges": {"redis_away_seconds": 0.0}}, "Redis up", "good"),
        ({"gauges": {"redis_away_seconds": 90.0}}, "Redis away for 1 min 30 s; each worker counts alone", "bad"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(
    admin: Client, monkeypatch: pytest.MonkeyPatch, state: dict[str, Any], words: str, tone: str
) -> None:
    state = {**state, "shipping": replace(CALM.shipping, **state.get("shipping", {}))}
    monkeypatch.setattr("usage.admin_pages.dashboard.read_status", lambda: replace(CALM, **state))
    answer = admin.get(DASHBOARD)
    statuses = {
        f"{one.label} {one.text}".replace("\u202f", " "): one.tone for one in answer.context["dashboard"].statuses
    }

    [found] = [text for text in statuses if words in text]
    assert statuses[found] == tone
    assert tiles(answer.content.decode())["in_flight"].startswith("In flight now 7 2 workers")


def test_who_may_not_view_requests_sees_none(admin: Client) -> None:
    make_call(key_name="secret-team")
    client = Client()
    client.force_login(User.objects.create_user("staff", is_staff=True))
    page = client.get(DASHBOARD)

    assert page.status_code == 200
    assert "secret-team" not in page.content.decode()
    assert "may not view requests" in page.content.decode()


def test_the_dashboard_reads_few_rows_in_few_queries(admin: Client) -> None:
    middle = datetime.now(UTC).replace(day=15)  # no range has a whole month, for whose sums more queries are made
    known_load(middle)
    counts = []
    for time in ("hour", "month"):
        with clock_at(middle), CaptureQueriesContext(connection) as queries:
            assert admin.get(DASHBOARD, {"range": time}).status_code == 200
        counts.append(len(queries))
        of_rows = [query["sql"] for query in queries if '"usage_request"' in query["sql"]]
        assert len(of_rows) == 1  # the newest errors
        assert "LIMIT" in of_rows[0]

    assert max(counts) <= 13


def test_live_numbers_are_of_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {
        "in_flight": 3, "draining": False, "gauges": {"keyring_age_seconds": 1.0}, "journal_full": False,
        "upstream_answered_at": 1.0, "upstream_failed_at": None,
    }  # fmt: skip
    other = {**state, "in_flight": 4, "gauges": {"keyring_age_seconds": 9.0, "new": None}}
    shipper = {"shipped_bytes": {}, "shipped_until": 0.0, "database": "OperationalError", "shipper": ""}
    monkeypatch.setattr(live_module, "read_worker_reports", lambda: WorkerReports([state, other], shipper))
    live = live_module.read_status()

    assert (live.in_flight, live.shipping.database_fault, live.upstream) == (7, "OperationalError", "ok")
    assert live.gauges == {"keyring_age_seconds": 9.0}


@pytest.mark.parametrize("page", [DASHBOARD, "/admin/usage/errors/", "/admin/usage/request/"])
def test_a_page_of_a_calendar_month_says_which_it_shows(admin: Client, page: str) -> None:
    before = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    for name, label in (("last_month", "last month"), (before, before)):
        html = admin.get(page, {"range": name}).content.decode().lower()
        times = html.rpartition('aria-label="time"')[2]
        said, *_ = re.findall(r'aria-current="true">([^<]*)</a>|value="[^"]*" selected>([^<]*)</option>', times)
        assert "".join(said) == label
        assert f"range={name}" in html
