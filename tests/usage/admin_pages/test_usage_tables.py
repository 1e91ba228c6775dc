"""The dashboard's tables of keys, models and routes: the costliest first, the rest in one row, and all in the total."""

from __future__ import annotations

from datetime import UTC, datetime
from html import unescape
from urllib.parse import parse_qsl

import pytest
from django.test import Client

from proxyapi.models import AccessKey
from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, listed, make_call, make_failure, tiles
from usage.journal_shipping.rows import write_rows
from usage.models import UsageHour, UsageTotal
from usage.money.row_pricing import Pricer
from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_content import MAX_TABLE_ROWS, UsageRow

pytestmark = pytest.mark.django_db


def tables(admin: Client, **query: str) -> dict[str, list[UsageRow]]:
    used: dict[str, list[UsageRow]] = admin.get(DASHBOARD, query).context["dashboard"].used
    return used


def test_it_works(admin: Client) -> None:
    """A key with one dear call comes before many keys with more calls, which cost less."""
    make_call(key_name="old-app", output_tokens=10_000_000)
    for number in range(MAX_TABLE_ROWS + 2):
        for _ in range(2):
            make_call(key_name=f"team-{number}", route=f"/v1/{number}")
    used = tables(admin)

    assert [(row.name, row.calls) for row in used["key"]] == [
        ("old-app", 1), *((f"team-{number}", 2) for number in range(MAX_TABLE_ROWS - 1)), ("3 others", 6), ("Total", 21)
    ]  # fmt: skip
    assert [row.name for row in used["route"]][-2:] == ["3 others", "Total"]


@pytest.mark.parametrize("range_name", ["hour", "month"])
def test_each_table_adds_up_to_the_tiles(admin: Client, range_name: str) -> None:
    now = datetime.now(UTC)
    models = [f"gpt-4o-{number}" for number in range(MAX_TABLE_ROWS + 1)]
    rows = [call(now, key_name=model, route=f"/v1/{model}", response_model=model, output_tokens=10**7, price=None)
            for model in models]  # fmt: skip
    write_rows(Pricer().priced(rows))
    make_failure()
    answer = admin.get(DASHBOARD, {"range": range_name})
    used, said = answer.context["dashboard"].used, tiles(answer.content.decode())

    for table in used.values():
        *parts, total = table
        assert total.name == "Total"
        assert sum(row.calls for row in parts) == total.calls == len(models) + 1
        assert sum(row.tokens for row in parts) == total.tokens
        assert said["calls"].startswith(f"Calls {total.calls} ")
        assert said["dollars"].startswith(f"Cost {total.cost}")
        assert total.errors == formatting.share(1, total.calls)


def test_one_that_is_left_is_one_other(admin: Client) -> None:
    for number in range(MAX_TABLE_ROWS + 1):
        make_call(key_name=f"team-{number}")
    assert [row.name for row in tables(admin)["key"]][-2:] == ["1 other", "Total"]


def test_a_single_row_needs_no_total(admin: Client) -> None:
    make_call()
    assert [row.name for row in tables(admin)["key"]] == ["default"]


def test_a_model_is_one_line_under_whatever_name_it_was_called(admin: Client) -> None:
    make_call(response_model="gpt-4o-2024-08-06")
    make_call(response_model="gpt-4o-2024-05-13")
    make_failure(request_model="gpt-4o")
    make_call(response_model="gpt-4o-mini-2024-07-18")
    by_name = {row.name: row for row in tables(admin)["model"]}

    assert set(by_name) == {"gpt-4o", "gpt-4o-mini-2024-07-18", "Total"}
    assert (by_name["gpt-4o"].calls, by_name["gpt-4o"].errors.replace("\u202f", " ")) == (3, "33 %")
    assert by_name["gpt-4o"].dates == "2024-05-13, 2024-08-06"
    chart = admin.get(DASHBOARD).context["charts"]["dollars"]
    assert [line["name"] for line in chart] == ["gpt-4o (any date)", "gpt-4o-mini-2024-07-18"]


@pytest.mark.parametrize(
    "more", [{}, {"key": "default"}, {"outcome": "failed"}, {"cost": "0"}, {"q": "gpt-4o"}], ids=str
)
def test_the_link_of_a_model_leads_to_all_of_its_calls(admin: Client, more: dict[str, str]) -> None:
    dated = [make_call(9, response_model="gpt-4o-2024-08-06"), make_call(7, response_model="gpt-4o-2024-05-13")]
    failed = make_failure(8, request_model="gpt-4o")
    make_call(response_model="gpt-4o-mini-2024-07-18")
    make_failure(request_model="gpt-4o-mini")
    page = admin.get(DASHBOARD).content.decode()
    links = [unescape(part.partition('"')[0]) for part in page.split('href="/admin/usage/request/?')]
    [query] = [dict(parse_qsl(link)) for link in links if "model=gpt-4o%20" in link]

    expected = [failed] if "outcome" in more else [dated[1], failed, dated[0]]
    assert listed(admin, **query, **more) == expected


def test_the_link_of_a_line_without_a_model_leads_to_its_calls(admin: Client) -> None:
    call_id = make_call(request_model="", response_model="")
    make_call()
    [row] = [row for row in tables(admin)["model"] if not row.name]
    assert listed(admin, model=str(row.filter_value)) == [call_id]


def test_each_row_has_the_duration_that_most_of_its_calls_have_not_exceeded(admin: Client) -> None:
    """Also the row of the others, and that of a model with several names."""
    for number in range(MAX_TABLE_ROWS):
        make_call(key_name=f"team-{number}", output_tokens=10_000_000, duration_ms=10.0 * 2**number)
    for key, milliseconds in (("a", 70.0), ("b", 90_000.0)):
        make_call(5, key_name=key, response_model="gpt-4o-mini-2024-07-19", duration_ms=milliseconds)
    used = tables(admin)

    for row, number in zip(used["key"], range(MAX_TABLE_ROWS), strict=False):
        assert seconds(row.p95) == pytest.approx(0.01 * 2**number, rel=0.06)
    others, total = used["key"][-2:]
    [model] = used["model"]
    assert others.name == "2 others"
    assert seconds(others.p95) == seconds(total.p95) == seconds(model.p95) == pytest.approx(90, rel=0.06)


@pytest.mark.parametrize("range_name", ["hour", "day", "week", "month"])
def test_durations_are_those_of_the_time_that_is_shown(admin: Client, range_name: str) -> None:
    days = {"hour": 0, "day": 0.5, "week": 5, "month": 25}[range_name]
    make_call(60 * 24 * days, duration_ms=20.0)
    make_call(60 * 24 * (days + 32), duration_ms=90_000.0)
    for table in tables(admin, range=range_name).values():
        assert [seconds(row.p95) for row in table] == [pytest.approx(0.02, rel=0.06)]


def test_of_durations_that_are_known_in_part_there_is_no_percentile(admin: Client) -> None:
    """As after an update, until `ledger sum` has added up those of the older calls; only all calls have theirs."""
    for number in range(MAX_TABLE_ROWS + 1):
        make_call(key_name=f"team-{number}")
    UsageTotal.objects.filter(dimension="key").update(durations=[])
    for number in range(2):
        make_call(key_name=f"team-{number}")
    used = tables(admin)

    assert [row.p95 for row in used["key"][:-1]] == [formatting.UNKNOWN] * (MAX_TABLE_ROWS + 1)
    assert formatting.UNKNOWN not in {used["key"][-1].p95, *(row.p95 for row in used["model"])}


def test_a_key_has_the_durations_of_its_models_and_routes(admin: Client) -> None:
    key, _ = AccessKey.objects.issue("ada")
    make_call(key_name="ada", duration_ms=20.0)
    make_call(key_name="ada", duration_ms=3000.0, response_model="gpt-5", route="/v1/responses")
    make_call(key_name="other", duration_ms=90_000.0)
    page = f"/admin/proxyapi/accesskey/{key.pk}/usage/"
    used = admin.get(page).context["dashboard"].used
    expected = {"gpt-5": 3.0, "/v1/responses": 3.0, "gpt-4o-mini-2024-07-18": 0.02, "/openai": 0.02, "Total": 3.0}
    assert {row.name: seconds(row.p95) for table in used.values() for row in table} == {
        name: pytest.approx(duration, rel=0.06) for name, duration in expected.items()
    }

    UsageHour.objects.update(durations=[])  # as of old hours
    used = admin.get(page).context["dashboard"].used
    assert {row.p95 for table in used.values() for row in table} == {formatting.UNKNOWN}


def seconds(duration: str) -> float:
    """Returns the number of seconds of a duration as the page shows it, such as "1 min 30 s" or "20 ms"."""
    units = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
    words = duration.replace(formatting.THIN, " ").split()
    return sum(float(number) * units[unit] for number, unit in zip(words[::2], words[1::2], strict=True))
