"""The usage page of a key in the admin shows the dashboard's numbers of this key alone, and the rest of its budgets."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.support.ledger.equal_sums import clock_at
from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import HOSTILE, charts, in_one_minute, make_call, make_failure, text_of, tiles
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.dashboard.dashboard_reader import read_key
from usage.sums.ranges import TimeRange

pytestmark = pytest.mark.django_db


@pytest.fixture
def key(db: None) -> AccessKey:
    return AccessKey.objects.issue(
        "team a", budget_day=Decimal("0.01"), requests_per_minute=60, max_output_tokens=2000
    )[0]


def page_of(key: AccessKey) -> str:
    return f"/admin/proxyapi/accesskey/{key.pk}/usage/"


def known_load(moment: datetime | None = None) -> None:
    """Writes 6 calls of the key in the last hours, 2 of them failed; 3 of yesterday; and many of another key."""
    now = moment or datetime.now(UTC)
    rows = [
        call(now - timedelta(minutes=2), key_name="team a", duration_ms=100.0 * (number + 1)) for number in range(4)
    ]
    rows += [call(now - timedelta(hours=30), key_name="team a", response_model="gpt-4o") for _ in range(3)]
    rows += [call(now, key_name="secret team", route="/secret", response_model="o3-secret") for _ in range(9)]
    rows.append(call(now - timedelta(days=3), key_name="secret team"))  # nothing is compared with days before the first
    write_rows(Pricer().priced(rows))
    for minutes in (1, 2):
        make_failure(minutes, key_name="team a", error_message=f"broke {minutes}")
    make_failure(key_name="secret team", error_message="secretly")


def test_it_works(admin: Client, key: AccessKey) -> None:
    known_load()
    page = admin.get(page_of(key)).content.decode()
    said = tiles(page)

    assert list(said) == ["calls", "errors", "dollars", "input_tokens", "output_tokens", "latency"]
    assert said["calls"].startswith("Calls 6 +100 %")
    assert said["errors"].startswith("Error rate 33 %")
    assert said["input_tokens"].startswith("Input tokens 6,000")
    assert "p95" in said["latency"]
    assert "upstream" not in said["latency"]
    text = text_of(unescape(page)).replace("\u202f", " ")
    assert "of $0.01 today" in text or "of $0.0100 today" in text
    assert "Requests per minute 60" in text
    assert "Tokens per minute no limit" in text
    assert "Output tokens per call 2,000" in text
    assert "broke 1" in text


def test_it_says_that_it_counts_by_the_hour_and_until_now(admin: Client, key: AccessKey) -> None:
    now = datetime.now(UTC)
    page = admin.get(page_of(key), {"range": "day"}).content.decode()
    start = f"{now - timedelta(days=1):%Y-%m-%dT%H:00}"
    assert f'name="from" value="{start}"' in page
    assert 'name="to" value=""' in page
    assert "Counted by the hour, until now" in text_of(page)
    past = admin.get(page_of(key), {"from": "2026-01-01T10:10", "to": "2026-01-01T12:20"}).content.decode()
    assert 'name="to" value="2026-01-01T13:00"' in past
    assert "Counted by the hour" in text_of(past)
    assert "until now" not in text_of(past)


def test_calls_without_a_price_are_told_beside_the_dollars(admin: Client, key: AccessKey) -> None:
    now = datetime.now(UTC)
    start = now - timedelta(days=1)
    write_rows(Pricer().priced([call(now, key_name="team a"), call(now, key_name="team a", response_model="gpt-99")]))
    tiles_of_page = admin.get(page_of(key), {"range": "day"}).content.decode()
    link = rf'<a href="/admin/usage/needed-prices/\?from={start:%Y-%m-%dT%H}[^"]*"><b>1</b> call needs a price</a>'
    assert re.search(link, tiles_of_page)
    row = text_of(admin.get("/admin/proxyapi/accesskey/").content.decode())
    assert "2 calls 0 % failed 1 needs a price" in row.replace("\u202f", " ")


def test_the_ceilings_of_its_team_are_in_it(admin: Client, key: AccessKey) -> None:
    key.team = Team.objects.found("the team", budget_month=Decimal(40), parallel_calls=7)
    key.save(update_fields=["team"])
    write_rows([call(datetime.now(UTC), key_name="another key", team="the team", cost="3", cost_kind="exact")])
    page = text_of(unescape(admin.get(page_of(key)).content.decode())).replace("\u202f", " ")
    team_page = admin.get(f"/admin/proxyapi/team/{key.team.pk}/change/").content.decode()

    assert "Spent by the team the team" in page
    assert "$3.00 of $40.00 this month" in page
    assert "Parallel calls 7" in page
    assert "another key" not in page
    assert "$3.00</b> of $40.00 this month" in team_page


def test_nothing_of_another_key_is_in_it(admin: Client, key: AccessKey) -> None:
    known_load()

    assert "secret" not in admin.get(page_of(key)).content.decode()
    assert "secret" not in admin.get(page_of(key).rstrip("/") + ".json").content.decode()


def test_the_charts_have_its_calls(admin: Client, key: AccessKey) -> None:
    known_load()
    for time in ("day", "week", "month"):
        drawn = charts(admin.get(page_of(key), {"range": time}).content.decode())
        of_time = {line["name"]: sum(line["values"]) for line in drawn["calls"]}
        assert of_time == {"Success": 4 if time == "day" else 7, "Timeout": 2}
        assert [line["name"] for line in drawn["latency"]] == ["p50", "p95", "p99"]
        assert any(drawn["latency"][0]["values"])
    assert {line["name"] for line in drawn["dollars"]} >= {"gpt-4o", "gpt-4o-mini (any date)"}


def test_a_time_of_years_has_its_calls_and_their_latency(admin: Client, key: AccessKey) -> None:
    known_load()
    drawn = charts(admin.get(page_of(key), {"from": "2019-01-01T00:00"}).content.decode())

    assert sum(drawn["calls"][0]["values"]) == 7
    assert any(drawn["latency"][0]["values"])


def test_latencies_are_of_the_calls_of_the_time_alone() -> None:
    """They are read from whole days, and from the hours at both ends."""
    start, end = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 21, 18, tzinfo=UTC)
    for hours in (-1, 0, 11, 12, 24, 200, 480, 485, 486, 490):
        make_call(key_name="team a", started_at=start + timedelta(hours=hours))
        make_call(key_name="other", started_at=start + timedelta(hours=hours))
    for until, calls in ((end, 7), (start + timedelta(hours=11), 1), (end - timedelta(hours=6), 5)):
        reading = read_key("team a", TimeRange("custom", start, until), end)
        counted = [(line.calls, sum(line.histograms["duration_ms"])) for line in reading.series.everything if line]

        assert reading.totals.calls == sum(reading.totals.histograms["duration_ms"]) == calls
        assert all(one == other for one, other in counted)


def test_the_json_says_what_the_page_says(admin: Client, key: AccessKey) -> None:
    known_load()
    page, answer = in_one_minute(
        lambda: (
            admin.get(page_of(key)).content.decode(),
            admin.get(page_of(key).rstrip("/") + ".json").json(),
        )
    )

    assert tiles(answer["fragments"]["tiles"]) == tiles(page)
    assert answer["charts"]["calls"] == charts(page)["calls"]
    assert set(answer["fragments"]) == {"budgets", "tiles", "used", "newest_errors"}
    assert admin.get(page_of(key).rstrip("/") + ".json", {"range": "year"}).status_code == 400


def test_its_links_stay_with_the_key(admin: Client, key: AccessKey) -> None:
    known_load()
    page = unescape(admin.get(page_of(key)).content.decode())

    assert '"/admin/usage/request/?key=team+a"' in page
    assert '"/admin/usage/request/?key=team+a&outcome=failed"' in page
    assert re.search(r'"/admin/usage/request/\?from=[-\dT]+:00&to=[-\dT]+:00&key=team\+a&route=%2Fopenai"', page)


def test_it_is_reached_from_the_list_and_the_form(admin: Client, key: AccessKey) -> None:
    for revoked in (False, True):
        if revoked:
            key.revoke()
        assert page_of(key) in admin.get("/admin/proxyapi/accesskey/").content.decode()
        assert page_of(key) in admin.get(f"/admin/proxyapi/accesskey/{key.pk}/change/").content.decode()
        assert admin.get(page_of(key)).status_code == 200


@pytest.mark.parametrize("codename", ["view_accesskey", "view_request"])
def test_it_takes_both_permissions(key: AccessKey, codename: str) -> None:
    user = User.objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename=codename))
    client = Client()
    client.force_login(user)

    assert client.get(page_of(key)).status_code == 403
    assert client.get(page_of(key).rstrip("/") + ".json").status_code == 403
    assert Client().get(page_of(key)).status_code == 302
    assert Client().get(page_of(key).rstrip("/") + ".json").status_code == 302


def test_hostile_names_are_only_text(admin: Client) -> None:
    key, _ = AccessKey.objects.issue(HOSTILE, owner=HOSTILE, allowed_models=[HOSTILE])
    make_call(key_name=HOSTILE, response_model=HOSTILE, route=HOSTILE)
    page = admin.get(page_of(key)).content.decode()

    assert tiles(page)["calls"].startswith("Calls 1")
    assert "<script>alert(1)" not in page


def test_it_costs_few_queries_whatever_the_time(admin: Client, key: AccessKey) -> None:
    middle = datetime.now(UTC).replace(day=15)  # no range has a whole month, for whose sums more queries are made
    known_load(middle)
    counts = []
    for time in ("day", "month"):
        with clock_at(middle), CaptureQueriesContext(connection) as queries:
            assert admin.get(page_of(key), {"range": time}).status_code == 200
        counts.append(len(queries))

    # The newest failures; over a month also those before the last week, and which of its sums are complete.
    assert max(counts) <= 13
