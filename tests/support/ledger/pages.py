"""Helpers for tests of the admin's pages: make calls to show, and read the pages."""

from __future__ import annotations

import csv
import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from django.test import Client

from tests.support.ledger.ledgers import call, call_id
from usage.journal_shipping.rows import write_rows
from usage.money.row_pricing import Pricer
from usage.page_data.errors.error_groups import ErrorGroup

T = TypeVar("T")
REQUESTS = "/admin/usage/request/"
ERRORS = "/admin/usage/errors/"
DASHBOARD = "/admin/"
USAGE, USAGE_CSV = "/admin/usage/report/", "/admin/usage/report/export.csv"
OVERRIDE, ISOLATE, ZERO_WIDTH = "\u202e", "\u2067", "\u200b"
HOSTILE = "<script>alert(1)</script>{{ 7*7 }}\"'&"


def midnight() -> datetime:
    """Returns when the present day began, in UTC. A constant would be the day on which the tests were collected."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def this_month() -> datetime:
    """Returns when the present month began, in UTC."""
    return midnight().replace(day=1)


def last_month() -> datetime:
    """Returns when the month before the present one began, in UTC."""
    return (this_month() - timedelta(days=1)).replace(day=1)


def make_call(minutes_ago: float = 0.0, /, **columns: Any) -> str:
    """Adds a call to the ledger, as a row and in the sums, and returns the call's id.

    The call began `minutes_ago` minutes ago, unless `columns` has `started_at`.
    """
    moment = columns.pop("started_at", datetime.now(UTC) - timedelta(minutes=minutes_ago))
    row = call(moment, request_id=columns.pop("request_id", call_id(moment)), **columns)
    write_rows(Pricer().priced([row]))
    return str(row["request_id"])


def make_failure(minutes_ago: float = 0.0, /, **columns: Any) -> str:
    failure = {
        "outcome": "timeout",
        "status": 504,
        "error_code": "upstream_timeout",
        "error_message": "It took too long.",
    }
    return make_call(minutes_ago, **{**failure, "response_model": "", **columns})


def make_upstream_failure(minutes_ago: float = 0.0, message: str = "Bad gateway", **columns: Any) -> str:
    failure = {"outcome": "upstream_error", "status": 502, "error_code": "", "error_message": message}
    return make_failure(minutes_ago, **{**failure, **columns})


def error_groups(admin: Client, **query: str) -> list[ErrorGroup]:
    """Requests the errors page with the query parameters `query`; returns its groups."""
    answer = admin.get(ERRORS, query)
    assert answer.status_code == 200
    return [group for group, *_ in answer.context["groups"]]


def listed(admin: Client, **query: str) -> list[str]:
    """Requests the admin's list of calls, with the query parameters `query`; returns the calls' ids in its order."""
    answer = admin.get(REQUESTS, query)
    assert answer.status_code == 200
    return [str(call.pk) for call in answer.context["calls"]]


def usage_lines(admin: Client, **query: str) -> list[dict[str, str]]:
    """Requests the CSV file of the page Usage, with the query parameters `query`; returns its lines."""
    answer = admin.get(USAGE_CSV, query)
    assert answer.status_code == 200
    assert answer.content.startswith("\ufeff".encode())
    return list(csv.DictReader(answer.content.decode("utf-8-sig").splitlines()))


def page_of(request_id: str) -> str:
    return f"{REQUESTS}{uuid.UUID(request_id)}/change/"


def text_of(page: str) -> str:
    """Returns the text of a page without its tags, on one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def stated_period(text: str) -> tuple[datetime, datetime]:
    """Reads a range of time as pages state it: "2026-11-16 to 2026-11-22" or "2026-11-16 08:00 to 12:00"."""
    text = re.sub(r" \(\d+ days\)$", "", text)
    first, _, last = text.partition(" to ")
    last = f"{first[:10]} {last}" if len(last) == len("12:00") else last or first
    start, end = (datetime.fromisoformat(one).replace(tzinfo=UTC) for one in (first, last))
    return start, end if ":" in last else end + timedelta(days=1)


def tiles(page: str) -> dict[str, str]:
    """Returns the text of each tile of a page, by the tile's name."""
    found = re.findall(r'data-tile="(\w+)">(.*?)</div>', page, flags=re.S)
    return {name: text_of(unescape(text)).replace("\u202f", " ").strip() for name, text in found}


def charts(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="charts" type="application/json">(.*?)</script>', page, flags=re.S)
    assert found
    return dict(json.loads(found[1]))


def in_one_minute(read: Callable[[], T]) -> T:
    """Calls the function `read`, again if the minute has changed meanwhile, and returns the result.

    Two pages of different minutes differ, since a chart of the last hour has a column for each minute.
    """
    while True:
        minute = time.time() // 60
        found = read()
        if time.time() // 60 == minute:
            return found


def pieces_of(answer: Any) -> list[bytes]:
    async def read() -> list[bytes]:
        return [piece async for piece in answer.streaming_content]

    return async_to_sync(read)()
