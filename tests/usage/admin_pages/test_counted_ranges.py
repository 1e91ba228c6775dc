"""Whatever range of time a page is asked for: what it says of its time is said of the calls that it has counted."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import product
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from proxyapi.models import AccessKey
from tests.support.ledger.ledgers import call
from tests.support.ledger.pages import DASHBOARD, ERRORS, make_call, stated_period, text_of, tiles
from tests.support.moved_clock import Traveller
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.filters import read_filters

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 15, 34, 20, tzinfo=UTC)  # a Tuesday
MINUTE = timedelta(minutes=1)
KEY = "counted"
OWN_FAILURES = re.compile(r'<section[^>]* aria-labelledby="own-failures">.*?</section>', re.S)
FAILED = {"outcome": "timeout", "status": 504, "error_code": "slow"}
MOMENT = r"\d{4}-\d\d-\d\d(?: \d\d:\d\d)?"


def times(first: str, last: str = "") -> dict[str, str]:
    return {"from": f"2026-11-{first}", "to": last and f"2026-11-{last}"}


ODD = [
    times("24T15:20", "24T15:30"),
    times("24T10:10", "24T12:20"),
    times("24T10:10:10", "24T12:20:40"),
    times("24T15:00", "24T16:00"),
    times("24T14:05"),
    times("23T09:07"),
    times("19T09:07"),
    {"to": "2026-11-24T11:11"},
    times("23T09:07", "25T01:01"),
    times("24T15:34", "24T15:50"),
    times("20T03:10", "20T03:50"),
    times("20T03:10", "23T22:22"),
    times("22T02:59", "24T15:33"),
]
NAMED = [
    {"range": name}
    for name in ("hour", "day", "week", "today", "yesterday", "this_week", "this_month", "2026-11-23", "2026-11-24")
]


def random_ranges(number: int) -> Iterator[dict[str, str]]:
    """Yields ranges of the last days; some have no end, or one in the future."""
    chance = random.Random(14)
    for _ in range(number):
        start = NOW - timedelta(minutes=chance.choice((200, 2000, 6000)) * chance.random())
        end = start + timedelta(minutes=chance.choice((70, 700, 5000)) * chance.random() + 1)
        yield {"from": f"{start:%Y-%m-%dT%H:%M:%S}", "to": chance.choice(("", f"{end:%Y-%m-%dT%H:%M}"))}


@pytest.fixture
def moments(time_machine: Traveller) -> Sequence[datetime]:
    """Sets the clock to `NOW`, and makes calls of the days before; returns when they began. Every third has failed."""
    time_machine.move_to(NOW.timestamp(), tick=False)
    chance = random.Random(7)
    made = [NOW - timedelta(seconds=1 + 1000 * number + chance.randrange(900)) for number in range(560)]
    rows = [
        call(at, key_name=KEY, owner="root", **(FAILED if number % 3 == 0 else {})) for number, at in enumerate(made)
    ]
    write_rows(Pricer().priced(rows))
    return made


@pytest.fixture
def dashboards(admin: Client) -> list[str]:
    """The addresses of three dashboards: of all calls, of one key in the admin, and of the same key in My usage."""
    key, _ = AccessKey.objects.issue(KEY)
    key.owner_user = User.objects.get(username="root")
    key.save(update_fields=["owner_user"])
    return [DASHBOARD, f"/admin/proxyapi/accesskey/{key.pk}/usage/", f"/my-usage/keys/{key.pk}/"]


def read(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def inputs(page: str) -> dict[str, str]:
    """Returns the values of the two inputs for the range of time."""
    return {name: re.findall(rf'name="{name}" value="([^"]*)"', page)[0] for name in ("from", "to")}


def calls_in(page: str) -> int:
    """Returns the number of calls that a dashboard shows."""
    found = re.match(r"Calls ([\d,]+)", tiles(page)["calls"])
    assert found is not None
    return int(found[1].replace(",", ""))


def links(page: str) -> Iterator[dict[str, str]]:
    """Yields the query parameters of each link from a dashboard to a list of calls that states a time."""
    for href in re.findall(r'href="([^"]*)"', page):
        address = urlsplit(unescape(href))
        query = dict(parse_qsl(address.query))
        if address.path.endswith(("/calls/", "/usage/request/")) and query.keys() & {"range", "from", "to"}:
            yield query


def linked(moments: Sequence[datetime], query: dict[str, str]) -> int:
    """Returns how many of the calls the list of requests has in the time that the query parameters state."""
    filters = read_filters(query, NOW)
    assert not filters.faults
    return count(moments, filters.since or moments[-1], filters.until or NOW)


def count(moments: Sequence[datetime], start: datetime, end: datetime) -> int:
    return sum(start <= moment < end for moment in moments)


def compared(page: str) -> list[tuple[datetime, datetime]]:
    """Returns the shown and the earlier range that a dashboard says that it compares; none if it shows no changes."""
    found = re.search(r"Changes compare (.*?) with (.*?), UTC", text_of(page))
    return [] if found is None else [stated_period(text) for text in found.groups()]


def pace(calls: int, passed: timedelta) -> str:
    minutes = max(passed, MINUTE) / MINUTE
    return f"{calls / minutes:,.1f} a minute" if calls / minutes >= 0.1 else f"{1440 * calls / minutes:,.1f} a day"


def test_a_dashboard_states_the_time_that_it_has_counted(
    admin: Client, moments: Sequence[datetime], dashboards: list[str]
) -> None:
    for address, query in product(dashboards, [{}, *NAMED, *ODD, *random_ranges(12)]):
        page = admin.get(address, query).content.decode()
        stated, where = inputs(page), (address, query)
        start, end = read(stated["from"]), read(stated["to"]) if stated["to"] else NOW
        calls, passed = calls_in(page), min(end, NOW) - start
        assert calls == count(moments, start, end), where
        assert f" {pace(calls, passed)}" in tiles(page)["calls"], where
        newest = OWN_FAILURES.search(page)  # their number is that of the last day, whatever the page's range
        for link in links(OWN_FAILURES.sub("", page)):
            listed = moments[::3] if link.get("outcome") == "failed" else moments
            assert linked(listed, link) == count(listed, start, end), (link, where)
        if address.startswith("/my-usage/"):
            assert newest is not None, where
            [link] = links(newest[0])
            assert f" {linked(moments[::3], link)} failed calls in the last 24 hours " in text_of(newest[0]), where
        again = admin.get(address, stated).content.decode()
        assert (inputs(again), calls_in(again)) == (stated, calls), where
        if times := compared(page):
            now, before = times
            assert now[1] - now[0] == before[1] - before[0], where
            assert start <= now[0] < now[1] <= min(end, NOW), where
            said = re.search(r" from ([\d,]+)(?: to ([\d,]+))?", tiles(page)["calls"])
            if said is not None:
                counted = [f"{count(moments, *one):,}" for one in (before, now)]
                assert [said[1], said[2] or f"{calls:,}"] == counted, where
        else:
            assert " from " not in tiles(page)["calls"], where


@pytest.mark.parametrize("query", [ODD[0], ODD[1], ODD[5], {"range": "day"}, {"range": "week"}], ids=str)
def test_a_change_is_shown_where_there_are_sums_to_compare(
    admin: Client, moments: Sequence[datetime], dashboards: list[str], query: dict[str, str]
) -> None:
    week_before = [call(at - timedelta(days=7), key_name=KEY) for at in moments]
    write_rows(Pricer().priced([*week_before, call(NOW - timedelta(days=15))]))  # the first call is counted then
    for address in dashboards:
        page = admin.get(address, query).content.decode()
        assert compared(page), address
        assert " from " in tiles(page)["calls"], address


def test_a_range_that_has_not_ended_goes_on_when_it_is_refreshed(
    admin: Client, time_machine: Traveller, moments: Sequence[datetime], dashboards: list[str]
) -> None:
    going_on = [*ODD[4:7], *ODD[8:10], {"range": "today"}, {"range": "this_week"}]
    ended = [*ODD[10:12], {"range": "yesterday"}]
    before = {}
    for address, query in product(dashboards, map(urlencode, (*going_on, *ended))):
        page = admin.get(f"{address}?{query}").content.decode()
        [data] = re.findall(r'data-url="([^"]*)"', page)
        before[unescape(data), query] = calls_in(page)
        assert calls_in(admin.get(unescape(data)).json()["fragments"]["tiles"]) == calls_in(page)
    time_machine.move_to((NOW + 5 * MINUTE).timestamp(), tick=False)
    make_call(key_name=KEY, started_at=NOW + 2 * MINUTE)
    for (data, query), calls in before.items():
        more = query in map(urlencode, going_on)
        assert calls_in(admin.get(data).json()["fragments"]["tiles"]) == calls + more, data


def test_a_group_of_errors_leads_to_as_many_calls_as_it_says(admin: Client, moments: Sequence[datetime]) -> None:
    failed = moments[::3]
    for query in [{}, *NAMED, *ODD, *random_ranges(12)]:
        answer = admin.get(ERRORS, query)
        page = text_of(answer.content.decode())
        [said] = re.findall(rf"failed calls?, ({MOMENT})[^<]*? UTC, by the hour", page)
        [(day, last)] = re.findall(r"failed calls?, [^<]*?(?:(\d{4}-\d\d-\d\d) )?(\d\d:\d\d|\d\d) UTC", page)
        assert len(last) == 2 or read(f"{day or said[:10]} {last}") <= NOW, query
        for group, calls_query, parts in answer.context["groups"]:
            link = dict(parse_qsl(calls_query))
            assert linked(failed, link) == group.calls == sum(group.trend) > 0, query
            assert read(said) == read(link["from"]), query
            for calls, part_query in [(part[1], part[2]) for _, _, first in parts for part in first]:
                assert linked(failed, dict(parse_qsl(part_query))) == calls, query
