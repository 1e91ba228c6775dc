"""Every filter of every list is kept by its export: the file has what the page shows, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from tests.support.ledger.pages import ERRORS, REQUESTS, make_call, make_failure, pieces_of
from usage.kept_bodies.error_messages import group_of
from usage.models import ErrorState
from usage.page_data.errors.error_marks import ErrorKind, mark
from usage.page_data.filters import NOT_IN_QUERY, Filters
from usage.sums.ranges import LABELS

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def moment(**ago: float) -> str:
    return f"{NOW - timedelta(**ago):%Y-%m-%dT%H:%M}"


def identity(kind: Any) -> tuple[str, str]:
    return str(kind["error_code"]), str(kind["outcome"])


@dataclass(frozen=True)
class List:
    """A list of the admin with an export: its address, what its page shows, and a value of each of its filters."""

    address: str
    shown: Callable[[Any], Iterable[Any]]  # of the template's context
    exported: Callable[[Any], Any]  # of a row of the export
    filters: dict[str, tuple[str, ...]]


TIMES = {"range": tuple(LABELS), "from": (moment(days=3),), "to": (moment(hours=2),)}
LISTS = {
    "requests": List(
        REQUESTS,
        lambda context: [str(call.pk) for call in context["calls"]],
        lambda row: row["request_id"],
        {
            **TIMES,
            "q": ("market",), "text": ("invoice 4711",), "key": ("marketing",), "model": ("gpt-5", "(none)"),
            "route": ("/openai2",),
            "outcome": ("failed", "timeout"), "status": ("504", "none"), "code": ("slow",),
            "message": ("(none)", group_of("Bad gateway")), "stream": ("yes", "no"), "conversation": ("yes", "no"),
            "cost": ("0.1",), "slower": ("60",), "caller": ("192.0.2.7",), "team": ("red",), "owner": ("ann",),
            "end_user": ("customer-1",), "session": ("chat-1",), "tag": ("project", "project=x"),
        },
    ),
    "errors": List(
        ERRORS,
        lambda context: [identity(group.kind._asdict()) for group, *_ in context["groups"]],
        identity,
        {**TIMES, "state": ("all", "new", "known", "resolved"), "fault": ("caller", "openai")},
    ),
}  # fmt: skip
CASES = [  # with ids that are the same in each process of a run, though some values are times
    pytest.param(name, filter_name, value, id=f"{name}-{filter_name}-{number}")
    for name, one in LISTS.items()
    for filter_name, values in one.filters.items()
    for number, value in enumerate(values)
]


LABELLED = {"team": "red", "owner": "ann", "end_user": "customer-1", "session": "chat-1", "tags": ["project=x"]}


@pytest.fixture
def _calls() -> None:
    minutes = (1, 90, 60 * 20, 60 * 24 * 2, 60 * 24 * 5, 60 * 24 * 20, 60 * 24 * 40)
    for ago in minutes:
        make_call(ago)
        make_call(ago, key_name="marketing", route="/openai2", stream=True, client_address="192.0.2.7", **LABELLED,
                  request_body='{"input": "the Invoice\\n4711"}')  # fmt: skip
        make_call(ago, response_model="gpt-5", output_tokens=10**6, duration_ms=61_000.0)
        make_failure(ago, error_code="slow", request_model="")
        make_failure(ago, error_code=f"code-{ago}", status=None, outcome="client_cancelled")
    make_failure(1, outcome="upstream_error", error_code="", error_message="Bad gateway")
    mark(ErrorKind("timeout", "slow", ""), ErrorState.KNOWN, "a note", "somebody")
    mark(ErrorKind("client_cancelled", "code-90", ""), ErrorState.RESOLVED, "a note", "somebody")


def test_every_export_and_every_filter_is_tried() -> None:
    names = {item.name for item in fields(Filters)} - NOT_IN_QUERY - {"sort"}  # an order selects no calls
    assert LISTS["requests"].filters.keys() == names | TIMES.keys()
    exports = {name for name in get_resolver("usage.admin_pages.urls").reverse_dict if str(name).startswith("export_")}
    # That of the page Usage has its own test: its rows are sums (`spending.test_usage_page`).
    assert {f"export_{name}" for name in (*LISTS, "usage")} == exports


@pytest.mark.usefixtures("_calls")
@pytest.mark.parametrize(("name", "filter_name", "value"), CASES)
def test_an_export_has_what_its_page_shows(admin: Client, name: str, filter_name: str, value: str) -> None:
    one = LISTS[name]
    # Beside it a longer time, or a filter of the same kind as all calls: so that only this one makes the difference.
    query = {filter_name: value} if filter_name in TIMES else {"range": "month", filter_name: value}
    page = admin.get(one.address, query)
    shown = list(one.shown(page.context))
    links = re.findall(r'href="([^"]*/export\.json\?[^"]*)"', page.content.decode())
    assert len(links) == 1
    rows = json.loads(b"".join(pieces_of(admin.get(unescape(links[0])))))

    assert sorted(map(one.exported, rows)) == sorted(shown)
    everything = list(one.shown(admin.get(one.address, {"from": moment(days=50)}).context))
    assert (0 < len(shown) < len(everything)) or value in (
        "all",
        "yesterday",
        "this_week",
        "last_week",
        "this_month",
        "last_month",
    )


UNREADABLE = {
    "range": "nowhen", "from": "nowhen", "to": "nowhen", "outcome": "none", "status": "bad", "caller": "nowhere",
    "stream": "maybe", "conversation": "maybe", "cost": "much", "slower": "slow", "text": "word " * 60, "state": "odd",
    "fault": "nobody",
}  # fmt: skip


@pytest.mark.parametrize(("name", "filter_name"), [
    (name, filter_name) for name, one in LISTS.items() for filter_name in UNREADABLE if filter_name in one.filters
])  # fmt: skip
def test_an_export_with_an_unreadable_filter_is_refused(admin: Client, name: str, filter_name: str) -> None:
    make_failure(1)
    for kind in ("csv", "json"):
        answer = admin.get(f"{LISTS[name].address}export.{kind}", {filter_name: UNREADABLE[filter_name]})
        assert answer.status_code == 400
        assert answer.content.endswith(b".")  # a sentence for whoever reads it


def test_each_filter_is_unreadable_or_takes_any_text() -> None:
    any_text = {"q", "key", "model", "route", "code", "message", "team", "owner", "end_user", "session", "tag"}
    for one in LISTS.values():
        assert one.filters.keys() <= UNREADABLE.keys() | any_text
