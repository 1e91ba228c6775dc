"""`GET /usage` shows a key its own numbers, and the access token everybody's, in groups, of any range of time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.simulator.server import Simulator
from tests.support.ledger.ledgers import NOON, call
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, run_gateway
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.sums.ranges import TimeRange
from usage.sums.report_reader import read_report

KEY = {"authorization": f"Bearer {SECURITY_KEY}"}
TOKEN = {"authorization": f"Bearer {ACCESS_TOKEN}"}


@pytest.fixture(scope="module")
def used(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """Starts a server and makes four calls: three with the key, one with the access token."""
    with (
        new_database(gateway_database) as url,
        run_gateway(_simulator.base_url, url, tmp_path_factory.mktemp("usage")) as gateway,
    ):
        for model in ("gpt-4o-mini", "gpt-4o-mini", "gpt-nope"):
            gateway.post("/openai", {"model": model, "messages": [{"role": "user", "content": "hi"}]})
        gateway.http.get("/health", headers=TOKEN)
        gateway.rows(at_least=4)
        yield gateway


def test_it_works(used: Gateway) -> None:
    answer = used.http.get("/usage", headers=KEY)
    rows = used.rows("WHERE key_name = 'default'")

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["object"], told["key"]) == ("usage", "default")
    total = told["total"]
    assert (total["calls"], total["errors"]) == (3, 1)
    assert total["input_tokens"] == sum(row["input_tokens"] or 0 for row in rows)
    assert total["cost"] == pytest.approx(float(sum(row["cost"] or 0 for row in rows)))


@pytest.mark.parametrize(
    "way", [{"headers": {"x-security-key": SECURITY_KEY}}, {"params": {"security_key": SECURITY_KEY}}]
)
def test_a_key_is_given_as_in_any_call(used: Gateway, way: dict[str, Any]) -> None:
    assert used.http.get("/usage", **way).json()["key"] == "default"


def test_the_access_token_sees_everybody(used: Gateway) -> None:
    told = used.http.get("/usage", headers=TOKEN, params={"group_by": "key"}).json()

    assert told["key"] is None
    assert {group["key"]: group["calls"] for group in told["groups"]} == {"access token": 1, "default": 3}
    assert (
        used.http.get("/usage", params={"access_token": ACCESS_TOKEN, "key": "default"}).json()["total"]["calls"] == 3
    )


def test_a_key_cannot_ask_for_another(used: Gateway) -> None:
    told = used.http.get("/usage", headers=KEY, params={"key": "access token", "group_by": "key"}).json()

    assert (told["total"]["calls"], told["groups"]) == (0, [])


@pytest.mark.parametrize(
    "options", [{}, {"headers": {"authorization": "Bearer wrong"}}, {"params": {"access_token": SECURITY_KEY}}]
)
def test_a_stranger_sees_nothing(used: Gateway, options: dict[str, Any]) -> None:
    answer = used.http.get("/usage", **options)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "invalid_key"


@pytest.mark.parametrize(
    "query",
    [
        {"range": "year"},
        {"from": "x"},
        {"group_by": "mood"},
        {"group_by": "key,'; DROP TABLE"},
        {"group_by": "tag:"},
        {"group_by": "team,hour"},
        {"team": "red", "outcome": "success"},
        {"format": "xml"},
        {"range": "2026-01", "from": "", "group_by": "end_user,tag:a,model", "key": "other"},
        {"from": "2026-02-01", "to": "2026-01-01"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_is_said(used: Gateway, query: dict[str, str]) -> None:
    answer = used.http.get("/usage", headers=KEY, params=query)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_labels_are_summed_and_exported(used: Gateway) -> None:
    headers = {**TOKEN, "x-proxy-end-user": "=1+1"}
    calls = used.rows()
    query = {"range": "today", "group_by": "team, end_user, model"}
    told = used.http.get("/usage", headers=headers, params=query).json()
    assert told["group_by"] == ["team", "end_user", "model"]
    assert {group["end_user"] for group in told["groups"]} == {None}
    assert told["total"]["calls"] == sum(group["calls"] for group in told["groups"]) == len(calls)
    assert told["total"]["cost"] == pytest.approx(float(sum(row["cost"] or 0 for row in calls)))
    own = used.http.get("/usage", headers=KEY, params={**query, "group_by": "owner"}).json()
    assert own["total"]["calls"] == 3

    answer = used.http.get("/usage", headers=TOKEN, params={**query, "format": "csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    lines = list(csv.DictReader(answer.text.splitlines()))
    assert [line["model"] for line in lines] == [group["model"] for group in told["groups"]]
    assert sum(Decimal(line["cost"]) for line in lines) == sum(row["cost"] or 0 for row in calls)
    by_hour = used.http.get("/usage", headers=TOKEN, params={"group_by": "hour,key", "format": "csv"})
    assert by_hour.text.splitlines()[0].startswith("hour,key,calls,")
    assert used.http.get("/usage", headers=TOKEN, params={"format": "csv"}).text.count("\n") == 2


def test_a_key_sees_its_own_labels_only(used: Gateway) -> None:
    answer = used.http.get("/usage", headers=KEY, params={"group_by": "team", "key": "access token"})
    assert answer.status_code == 400
    found = used.http.get("/usage", headers=TOKEN, params={"tag": "none=x"}).json()
    assert found["total"]["calls"] == 0


def test_it_is_documented(used: Gateway) -> None:
    described = used.http.get("/openapi.json").json()["paths"]

    assert {parameter["name"] for parameter in described["/usage"]["get"]["parameters"]} >= {
        "range",
        "from",
        "to",
        "group_by",
    }
    assert "/metrics" in described


# The numbers themselves


@pytest.mark.django_db
def test_groups_add_up_to_the_total() -> None:
    moments = [NOON + timedelta(hours=hours) for hours in (0, 0, 1, 30)]
    rows = [call(moment, key_name=f"k{number % 2}") for number, moment in enumerate(moments)]
    write_rows(Pricer().priced([*rows, call(NOON - timedelta(days=9))]))
    time = TimeRange("custom", NOON - timedelta(hours=1), NOON + timedelta(days=3))
    report = read_report(time, ("day", "key"))

    assert [(group["day"], group["key"], group["calls"]) for group in report["groups"]] == [
        ("2026-11-01T00:00:00+00:00", "k0", 2),
        ("2026-11-01T00:00:00+00:00", "k1", 1),
        ("2026-11-02T00:00:00+00:00", "k1", 1),
    ]
    assert report["total"]["calls"] == 4
    for name in ("cost", "input_tokens", "audio_seconds"):
        assert report["total"][name] == pytest.approx(sum(group[name] for group in report["groups"]))
    assert read_report(time, key="k0")["total"]["calls"] == 2
    assert read_report(time, only={"key": "k1", "outcome": "timeout"})["total"]["calls"] == 0


@pytest.mark.django_db
def test_the_ends_of_a_time_are_whole_hours() -> None:
    write_rows([call(NOON + timedelta(minutes=minutes)) for minutes in (0, 30, 59, 60)])
    half_past = NOON + timedelta(minutes=30)
    report = read_report(TimeRange("custom", half_past, half_past + timedelta(minutes=1)))

    assert (report["start"], report["end"]) == (NOON.isoformat(), (NOON + timedelta(hours=1)).isoformat())
    assert report["total"]["calls"] == 3


@pytest.mark.django_db
def test_it_reads_sums_only() -> None:
    now = datetime.now(UTC)
    write_rows([call(now)])
    with CaptureQueriesContext(connection) as queries:
        read_report(TimeRange("day", now - timedelta(days=1), now), ("key", "model", "route", "outcome", "hour"))

    assert len(queries) == 1
    assert not any("usage_request" in query["sql"] for query in queries)


@pytest.mark.django_db
def test_the_total_is_of_all_groups_however_many_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage.sums.report_reader.MOST_GROUPS", 2)
    write_rows([call(NOON, key_name=f"k{number}") for number in range(3)])
    report = read_report(TimeRange("custom", NOON, NOON + timedelta(hours=1)), ("key",))

    assert [group["key"] for group in report["groups"]] == ["k0", "k1"]
    assert report["total"]["calls"] == 3
