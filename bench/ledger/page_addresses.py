"""The addresses of all pages to measure, by the description of each in the results."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

import httpx2

from bench.ledger.filling.ledger_rows import RARE_ID, RARE_KEY, RARE_MODEL
from tests.support.servers.gateway import ACCESS_TOKEN

REQUESTS = "/admin/usage/request/"
USAGE = "/admin/usage/report/"
KEYS = "/admin/proxyapi/accesskey/"
TEAMS = "/admin/proxyapi/team/"
RANGES = ("hour", "day", "week", "month")
END_USER = "user-3-0"  # one of many of the key `team-3`
TOKEN = f"access_token={ACCESS_TOKEN}"


class SampleKeys(NamedTuple):
    """The ids of two keys whose pages are measured, one that makes many calls and one that makes few, and of a team."""

    busy: str
    quiet: str
    team: str


def pages(client: httpx2.Client, keys: SampleKeys) -> dict[str, str]:
    """Returns the addresses of all pages to measure, by the description of each; `client` is signed in to the admin."""
    listing = client.get(REQUESTS).text
    one = re.search(r"request/([0-9a-f-]{36})/change", listing)
    older = re.search(r'href="\?([^"]*before=[^"]*)"', client.get(f"{REQUESTS}?to=2999-01-01T00:00&key=team-3").text)
    assert one
    assert older
    ranges = {**{name: f"range={name}" for name in RANGES}, "year": _year()}
    lists = {
        "newest": {},
        "a key": {"key": "team-3"},
        "a rare key": {"key": RARE_KEY},
        "a rare model": {"model": RARE_MODEL},
        "a model": {"model": "gpt-4.1-2025-04-14"},
        "a model, any date": {"model": "gpt-4.1 (any date)"},
        "a key that never had that model": {"key": "team-3", "model": RARE_MODEL},
        "a route": {"route": "/v1/embeddings"},
        "failed": {"outcome": "failed"},
        "timeouts": {"outcome": "timeout"},
        "status 429": {"status": "429"},
        "status 418, none": {"status": "418"},
        "streamed": {"stream": "yes"},
        "an address, none": {"caller": "192.0.2.1"},
        "cost above $1": {"cost": "1"},
        "cost above $100, none": {"cost": "100"},
        "slower than a minute": {"slower": "60"},
        "last hour": {"range": "hour"},
        "calls of conversations": {"conversation": "yes"},
        "sorted by cost": {"sort": "cost"},
        "sorted by output tokens": {"sort": "output"},
        "a key, sorted by duration": {"key": "team-3", "sort": "duration"},
        "last week, sorted by duration": {"range": "week", "sort": "duration"},
        "a key's failures, streamed": {"key": "team-3", "outcome": "failed", "stream": "yes"},
        "text: an error": {"q": "took longer"},
        "text: nobody": {"q": "nobody-has-said-this"},
        "text: a key": {"q": "team-rar"},
        "text: all keys": {"q": "team"},
        "words in most prompts": {"text": "quick foxes"},
        "words in few prompts": {"text": f'"{"quick foxes " * 3}"'},
        "words in no prompt": {"text": "nobody-has-said-this"},
        "a team": {"team": "group-3"},
        "an owner": {"owner": "owner-3"},
        "an end user": {"end_user": END_USER},
        "an end user's failures": {"end_user": END_USER, "outcome": "failed"},
        "a tag": {"tag": "project=p3"},
        "a tag of few calls": {"tag": "batch-3"},
        "a tag that no call has": {"tag": "nothing"},
        "an incoming id": {"q": RARE_ID},
        "a request id": {"q": one[1]},
    }
    return {
        **{f"dashboard, {name}": f"/admin/?{query}" for name, query in ranges.items()},
        "dashboard's JSON, day": "/admin/usage/dashboard.json?range=day",
        **{f"requests, {name}": f"{REQUESTS}?{urlencode(query)}" for name, query in lists.items()},
        "requests, second page of a key": f"{REQUESTS}?{older[1].replace('&amp;', '&')}",
        "one request": f"{REQUESTS}{one[1]}/change/",
        **{f"errors, {name}": f"/admin/usage/errors/?{query}" for name, query in ranges.items()},
        **{f"needs a price, {name}": f"/admin/usage/needed-prices/?{query}" for name, query in ranges.items()},
        **{f"Usage, {name}": f"{USAGE}?{urlencode(query)}" for name, query in _usage_pages().items()},
        "keys": KEYS,
        "keys, page 20": f"{KEYS}?p=20",
        "keys, searched": f"{KEYS}?q=team-19",
        "keys, active ones": f"{KEYS}?state=active",
        "teams": TEAMS,
        "a team": f"{TEAMS}{keys.team}/change/",
        "keys of a team": f"{KEYS}?team={keys.team}",
        "a key": f"{KEYS}{keys.busy}/change/",
        **{f"a key's usage, {name}": f"{KEYS}{keys.busy}/usage/?{query}" for name, query in ranges.items()},
        "a quiet key's usage, year": f"{KEYS}{keys.quiet}/usage/?{_year()}",
        **{f"My usage, {name}": f"/my-usage/?range={name}" for name in ("day", "month")},
        "My usage's JSON, day": "/my-usage/data?range=day",
        "/usage, day by key": f"/usage?range=day&group_by=key&{TOKEN}",
        "/usage, month": f"/usage?range=month&{TOKEN}",
        "/usage, month by day and model": f"/usage?range=month&group_by=day,model&{TOKEN}",
        "/usage, month of a key by day": f"/usage?range=month&group_by=day&key=team-3&{TOKEN}",
        "/usage, month by team": f"/usage?range=month&group_by=team&{TOKEN}",
        "/usage, month by end user": f"/usage?range=month&group_by=end_user&{TOKEN}",
        "/usage, month of a key by end user": f"/usage?range=month&group_by=end_user&key=team-3&{TOKEN}",
        "/usage, month by tag and model": f"/usage?range=month&group_by=tag:project,model&{TOKEN}",
        "/log": f"/log?{TOKEN}",
        "/log_errors": f"/log_errors?{TOKEN}",
        "/metrics": f"/metrics?{TOKEN}",
        "/": "/",
    }


def _usage_pages() -> dict[str, dict[str, str]]:
    """Returns the queries of the pages *Usage* to measure, by the description of each."""
    now = datetime.now(UTC)
    month = {"range": "last_month"}  # the present one may have begun today
    days = {"first": f"{now - timedelta(days=27):%Y-%m-%d}", "last": f"{now:%Y-%m-%d}"}
    year = {"first": f"{now - timedelta(days=364):%Y-%m-%d}", "last": f"{now:%Y-%m-%d}"}
    return {
        "month by team and model": month | {"by": "team", "then": "model"},
        "month by owner": month | {"by": "owner"},
        "month by key and model": month | {"by": "key", "then": "model"},
        "month by day": month | {"by": "day"},
        "month by end user": month | {"by": "end_user"},
        "month by end user and model": month | {"by": "end_user", "then": "model"},
        "month by end user and day": month | {"by": "end_user", "then": "day"},
        "month by project and team": month | {"by": "tag:project", "then": "team"},
        "month by batch": month | {"by": "tag:batch-3"},
        "month by end user and project": month | {"by": "end_user", "then": "tag:project"},
        "month of a key by end user": month | {"by": "end_user", "key": "team-3"},
        "month of a project by key": month | {"by": "key", "tag": "project=p3"},
        "month of an end user by model": month | {"by": "model", "end_user": END_USER},
        "28 days by key and model": days | {"by": "key", "then": "model"},
        "28 days by end user": days | {"by": "end_user"},
        "week by end user": {"range": "this_week", "by": "end_user"},
        "year by team": year | {"by": "team"},
        "year by end user": year | {"by": "end_user"},
        "year by project": year | {"by": "tag:project"},
    }


def exports() -> dict[str, str]:
    """Returns the addresses of exports to measure: the time until their first calls arrive."""
    return {
        "export, all calls": f"{REQUESTS}export.json",
        "export, a key's failures": f"{REQUESTS}export.json?key=team-3&outcome=failed",
        "export, usage by end user": f"{USAGE}export.csv?range=last_month&by=end_user",
        "export, errors of a month": "/admin/usage/errors/export.json?range=month",
    }


def _year() -> str:
    """Returns the query string that selects the last 365 days."""
    now = datetime.now(UTC)
    return urlencode({"from": f"{now - timedelta(days=365):%Y-%m-%dT%H:%M}", "to": f"{now:%Y-%m-%dT%H:%M}"})
