"""The calls of a key in "My usage": a list, a page for each, a download; no call of another key or person, ever.

Over 300 lines, since its tests share the people who look at their calls.
"""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from html import unescape
from io import StringIO
from math import inf
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from proxyapi.keys import snapshots as key_snapshots
from proxyapi.keys.callers import Caller, caller_of
from proxyapi.keys.keyring import KeyInForce
from proxyapi.models import AccessKey
from proxyapi.pages import key_sessions, my_keys
from proxyapi.pages.key_usage import KeyFacts
from proxyapi.pages.own_calls.viewers import Viewer
from proxyapi.team_models import Team, TeamMember
from tests.support.callers.roles import browser_of
from tests.support.ledger.pages import HOSTILE, make_call, make_failure, pieces_of, text_of
from usage.admin_pages import export
from usage.journal_shipping.response_billing import COUNTED_LATER
from usage.models import Request
from usage.money.spent_and_reserved import Spent
from usage.page_data import search
from usage.page_data.call_search import index_scan, list_sums
from usage.page_data.key_summary import month_pace
from usage.page_data.search import plan_scans
from usage.sums.summed_names import UNKNOWN_MODEL

pytestmark = pytest.mark.django_db
SITE = "/my-usage/"
CALLS = f"{SITE}calls/"
LONG = "The whole of a long error. " * 30
BODIES = {"request_body": '{"messages": [{"role": "user", "content": "words of a prompt"}]}', "response_body": "told"}


@pytest.fixture
def holder(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A browser that is signed in with the key `mine`."""
    signed_in = KeyInForce(Caller("mine"), inf)
    monkeypatch.setattr(key_sessions, "find_signed_in", lambda _: signed_in)
    return Client()


@pytest.fixture
def people() -> dict[str, tuple[Client, str]]:
    """Signs in a member, a colleague and the lead of a team; returns the browser and the calls' address of each."""
    team = Team.objects.found("research", self_service=True)
    found = {}
    for name in ("member", "colleague", "lead"):
        user = User.objects.create_user(name)
        TeamMember.objects.create(team=team, user=user, role="lead" if name == "lead" else "member")
        key, _ = AccessKey.objects.issue(f"{name}s key", team=team, owner_user=user)
        found[name] = (browser_of(user), f"{SITE}keys/{key.pk}/calls/")
    return found


def listed(client: Client, address: str, **query: str) -> list[str]:
    answer = client.get(address, query)
    assert answer.status_code == 200
    return [str(call.pk) for call in answer.context["page"].calls]


def exported(client: Client, address: str, **query: str) -> list[dict[str, str]]:
    text = b"".join(pieces_of(client.get(f"{address}export.csv", query))).decode()
    return list(csv.DictReader(StringIO(text)))


def test_it_works(holder: Client) -> None:
    good = make_call(3, key_name="mine", **BODIES)
    bad = make_failure(2, key_name="mine", error_message=LONG)
    make_call(1, key_name="mine", by_gateway=True)

    assert listed(holder, CALLS) == [bad, good]
    for address in (SITE, CALLS, f"{CALLS}{bad}/"):
        assert "Sign out" in holder.get(address).content.decode()
    assert f"{CALLS}{bad}/" in holder.get(SITE).content.decode()
    page = text_of(unescape(holder.get(f"{CALLS}{bad}/").content.decode()))
    for words in (LONG.strip(), "upstream_timeout", "504 OpenAI", "did not answer in time", bad, "Bill", "Duration"):
        assert words in page
    assert "words of a prompt" not in holder.get(f"{CALLS}{good}/").content.decode()
    rows = exported(holder, CALLS, outcome="failed")
    assert [(row["request_id"], row["error_message"]) for row in rows] == [(bad, LONG)]


def test_the_newest_failures_come_first(holder: Client) -> None:
    for minutes, code in ((1500, "before"), (9, "oldest"), (8, "third"), (3, "second")):
        make_failure(minutes, key_name="mine", error_code=code)
    newest = make_failure(2, key_name="mine", error_code="first", error_message=f"<b>{LONG}")
    make_failure(1, key_name="mine", by_gateway=True)
    make_failure(1, key_name="other", error_code="of another")
    make_call(1, key_name="mine")
    page = unescape(holder.get(SITE).content.decode())

    shown = text_of(page)
    assert "4 failed calls in the last 24 hours" in shown
    panel = page[page.index('id="part-own_failures"') : page.index('id="part-budgets"')]
    assert [code for code in ("first", "second", "third", "oldest", "before") if code in panel] == [
        "first", "second", "third",
    ]  # fmt: skip
    assert LONG[:200] in panel
    assert panel.index(f"{CALLS}{newest}/") < panel.index("second")
    assert listed(holder, CALLS, range="day", outcome="failed")[0] == newest
    assert "of another" not in page
    assert "4 failed calls" in holder.get(f"{SITE}data").json()["fragments"]["own_failures"]


def test_no_failure_is_said_so(holder: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_call(1, key_name="mine")
    assert "No failed calls in the last 24 hours" in text_of(holder.get(SITE).content.decode())
    make_failure(5, key_name="mine")
    for number in range(4):
        make_call(number, key_name="mine")
    monkeypatch.setattr(index_scan, "FIRST_SLICE", 2)
    monkeypatch.setattr(search, "PAGE_SECONDS", 0.0)
    monkeypatch.setattr(list_sums, "SECONDS", 0.0)
    assert "No failed calls since 20" in text_of(holder.get(SITE).content.decode())


def test_a_person_sees_the_newest_failures_of_all_own_keys(people: dict[str, tuple[Client, str]]) -> None:
    (member, calls), (lead, _) = people["member"], people["lead"]
    made = make_failure(2, key_name="members key", owner="member", error_code="mine")
    make_failure(1, key_name="members key", owner="colleague", error_code="of the one before")
    make_failure(1, key_name="colleagues key", owner="member", error_code="no longer mine")
    page = member.get(SITE).content.decode()

    assert "1 failed call in the last 24 hours" in text_of(page)
    assert f"{calls}{made}/" in page
    for other in ("of the one before", "no longer mine"):
        assert other not in page
    assert "No failed calls in the last 24 hours" in text_of(lead.get(SITE).content.decode())
    AccessKey.objects.filter(name="leads key").update(owner_user=None)
    assert "failed call" not in lead.get(SITE).content.decode()  # without a key of one's own


def test_the_newest_failures_are_also_those_of_keys_that_are_not_listed(
    people: dict[str, tuple[Client, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(my_keys, "MAX_KEYS", 0)
    member, calls = people["member"]
    made = make_failure(2, key_name="members key", owner="member", error_code="mine")
    assert f"{calls}{made}/" in member.get(SITE).content.decode()


def test_prompts_are_seen_if_the_setting_says_so(holder: Client, settings: Any) -> None:
    request_id = make_call(key_name="mine", **BODIES)
    settings.MY_USAGE_BODIES = True

    for query in ({}, {"view": "json"}):
        page = holder.get(f"{CALLS}{request_id}/", query).content.decode()
        assert "words of a prompt" in page
        assert "/admin/" not in page


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"outcome": "failed"}, ["slow", "left"]),
        ({"outcome": "timeout"}, ["slow"]),
        ({"status": "none"}, ["left"]),
        ({"code": "slow"}, ["slow"]),
        ({"model": "gpt-5"}, ["dear"]),
        ({"route": "/openai2"}, ["dear"]),
        ({"stream": "yes"}, ["dear"]),
        ({"cost": "1"}, ["dear"]),
        ({"slower": "60"}, ["dear"]),
        ({"range": "hour"}, ["dear", "slow", "left"]),
        ({"from": "2020-01-01", "to": "2020-01-02"}, []),
    ],
    ids=str,
)
def test_filters(holder: Client, query: dict[str, str], wanted: list[str]) -> None:
    made = {
        make_failure(5, key_name="mine", outcome="client_cancelled", status=None, error_code=""): "left",
        make_failure(4, key_name="mine", error_code="slow"): "slow",
        make_call(3, key_name="mine", route="/openai2", response_model="gpt-5", output_tokens=10**6, stream=True,
                  duration_ms=61_000.0): "dear",
    }  # fmt: skip
    make_failure(3, key_name="other", error_code="slow", route="/openai2")

    assert [made[one] for one in listed(holder, CALLS, **query)] == wanted
    assert [made[row["request_id"]] for row in exported(holder, CALLS, **query)] == wanted


@pytest.mark.parametrize("name", ["range", "from", "outcome", "status", "stream", "slower", "cost"])
def test_an_export_with_an_unreadable_filter_is_refused(holder: Client, name: str) -> None:
    made = make_call(1, key_name="mine")
    assert listed(holder, CALLS, **{name: "odd"}) == [made]
    assert holder.get(f"{CALLS}export.csv", {name: "odd"}).status_code == 400


def test_pages_of_a_list(holder: Client) -> None:
    made = [make_call(60 - number, key_name="mine") for number in range(55)]
    first = holder.get(CALLS)
    older = holder.get(f"{CALLS}?{first.context['older']}")

    assert [str(call.pk) for one in (first, older) for call in one.context["page"].calls] == made[::-1]


@pytest.mark.parametrize("setting", [False, True])
def test_no_call_of_another_key_is_reached(holder: Client, settings: Any, setting: bool) -> None:
    settings.MY_USAGE_BODIES = setting
    other = make_failure(key_name="other", error_message="another's words", incoming_request_id="id-1", **BODIES)
    make_call(key_name="mine")
    for query in (
        {"key": "other"},
        {"q": other},
        {"q": "id-1"},
        {"owner": ""},
        {"text": "words"},
        {"outcome": "failed"},
    ):
        assert other not in listed(holder, CALLS, **query)
        assert other not in {row["request_id"] for row in exported(holder, CALLS, **query)}

    assert holder.get(f"{CALLS}{other}/").status_code == 404
    assert "words" not in holder.get(CALLS, {"before": "ffffffff-ffff-7fff-bfff-ffffffffffff"}).content.decode()


@pytest.mark.parametrize("setting", [False, True])
def test_a_member_reaches_only_own_calls(people: dict[str, tuple[Client, str]], settings: Any, setting: bool) -> None:
    settings.MY_USAGE_BODIES = setting
    calls = {name: make_failure(key_name=f"{name}s key", owner=name, **BODIES) for name in people}
    # Of the member's key, when it was somebody else's.
    calls["before"] = make_failure(key_name="members key", owner="colleague", **BODIES)
    for name, (client, _) in people.items():
        for owner, (_, address) in people.items():
            for request_id in calls.values():
                may_see = name == owner and request_id == calls[owner]
                assert client.get(f"{address}{request_id}/").status_code == (200 if may_see else 404)
            for path in ("", "export.csv"):
                assert client.get(f"{address}{path}").status_code == (200 if name == owner else 404)
        own = people[name][1]
        assert listed(client, own) == [calls[name]] == [row["request_id"] for row in exported(client, own)]


def test_polls_are_in_no_list_and_take_no_place_in_it(holder: Client) -> None:
    made = make_call(60, key_name="mine")
    for number in range(51):
        make_call(number / 60, key_name="mine", by_gateway=True)

    assert listed(holder, CALLS) == [made]
    assert [row["request_id"] for row in exported(holder, CALLS)] == [made]


@pytest.mark.parametrize("query", [{}, {"outcome": "failed"}, {"status": "504"}, {"code": "slow"}, {"model": "gpt-5"},
                                   {"route": "/openai"}, {"model": UNKNOWN_MODEL}], ids=str)  # fmt: skip
@pytest.mark.parametrize(("owner", "along"), [(None, "key_name = %s"), ("me", "owner <> '' AND owner = %s")])
def test_a_search_reads_no_calls_of_others(query: dict[str, str], owner: str | None, along: str) -> None:
    viewer = Viewer("mine", owner, CALLS, SITE)
    scans = plan_scans(viewer.filters(query, datetime.now(UTC)), None)

    assert [scan.along and scan.along.sql for scan in scans] == [along]


def test_the_bill_names_no_search_that_there_is_not(holder: Client) -> None:
    make_call(key_name="mine")
    Request.objects.update(price=COUNTED_LATER)
    page = holder.get(f"{CALLS}{Request.objects.get().pk}/").content.decode()

    assert "polls of the gateway are not listed" in page
    assert "search for" not in page


def test_the_old_secret_of_a_rotated_key_shows_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with_old = KeyInForce(Caller("mine"), inf, is_newest=False)
    monkeypatch.setattr(key_sessions, "find_signed_in", lambda _: with_old)
    made = make_failure(key_name="mine")
    page = Client().get(SITE).content.decode()

    for path in ("", "export.csv", f"{made}/"):
        assert Client().get(f"{CALLS}{path}")["Location"] == SITE
    assert "The key has a new secret." in page
    assert made not in page
    assert "own_calls" not in Client().get(f"{SITE}data").json()["fragments"]


def test_a_third_export_at_once_is_refused(holder: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_sent_to", Counter({"key mine": 2}))
    answer = holder.get(f"{CALLS}export.csv")

    assert (answer.status_code, answer["Retry-After"]) == (429, "10")
    assert "2 exports" in answer.content.decode()


def test_a_stranger_is_sent_to_the_form(people: dict[str, tuple[Client, str]]) -> None:
    request_id = make_call(key_name="members key", owner="member")
    for path in ("", "export.csv", f"{request_id}/"):
        assert Client().get(f"{CALLS}{path}")["Location"] == SITE
        assert Client().get(f"{people['member'][1]}{path}")["Location"].startswith("/admin/login/")
        assert Client().post(f"{CALLS}{path}").status_code == 405


def test_hostile_texts_are_inert(holder: Client, settings: Any) -> None:
    settings.MY_USAGE_BODIES = True
    texts = dict.fromkeys(
        ("error_message", "error_code", "error_type", "request_model", "user_agent", "session"), HOSTILE
    )
    request_id = make_failure(key_name="mine", **texts, request_body=HOSTILE, response_body=HOSTILE, tags=[HOSTILE])
    for path in ("", f"{request_id}/", f"?code={HOSTILE}&model={HOSTILE}"):
        page = holder.get(f"{CALLS}{path}").content.decode()
        assert "alert(1)" in page
        assert "<script>alert(1)" not in page


# Pace


@pytest.mark.parametrize(
    ("now", "spent", "budget", "words"),
    [
        ((11, 11), 10, None, "20 days left in this month. At this pace $30.00 by its end."),
        ((11, 11), 10, 30, "20 days left in this month. At this pace $30.00 by its end."),
        ((11, 11), 10, 15, "20 days left in this month. At this pace $30.00 by its end: "
                           "the budget would be used up on Nov 16."),
        ((11, 11), 10, 10, "20 days left in this month. At this pace $30.00 by its end; the budget is used up."),
        ((11, 1), 10, 5, "30 days left in this month."),
        ((11, 30), 0, 5, "1 day left in this month."),
        ((2, 15), 14, None, "14 days left in this month. At this pace $28.00 by its end."),
    ],
)  # fmt: skip
def test_the_pace_of_a_month(now: tuple[int, int], spent: int, budget: int | None, words: str) -> None:
    found = month_pace(
        Spent(month=Decimal(spent + 1), held=Decimal(1)),
        None if budget is None else Decimal(budget),
        datetime(2026, *now, tzinfo=UTC),
    )
    assert found == words


@pytest.mark.parametrize(
    ("now", "created", "words"),
    [
        ((11, 21, 0), (11, 11, 0), "10 days left in this month. At this pace $20.00 by its end."),
        ((11, 11, 0), (10, 11, 0), "20 days left in this month. At this pace $30.00 by its end."),
        ((11, 11, 12), (11, 11, 0), "19 days left in this month."),
    ],
)
def test_the_pace_of_a_key_made_within_the_month(
    now: tuple[int, int, int], created: tuple[int, int, int], words: str
) -> None:
    moment, created_at = (datetime(2026, *numbers, tzinfo=UTC) for numbers in (now, created))
    assert month_pace(Spent(month=Decimal(10)), None, moment, created_at) == words


def test_a_page_knows_when_the_key_and_its_team_were_made(db: None) -> None:
    key, _ = AccessKey.objects.issue("new", team=Team.objects.found("new team"))
    [record] = [one for one in key_snapshots.load("").records if one["name"] == "new"]
    [team] = key_snapshots.load("").teams
    for one in (key, caller_of(record, team)):
        facts = KeyFacts.of(one)
        assert facts.team
        assert facts.ceilings.created_at == key.created_at
        assert facts.team.created_at == Team.objects.get().created_at


def test_the_last_hours_of_a_month() -> None:
    assert month_pace(Spent(), None, datetime(2026, 12, 31, 12, tzinfo=UTC)) == "Less than a day left in this month."
