"""The sums above the list of requests are those of the rows on all of its pages, whichever way they are read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from tests.support.ledger.ledgers import Row, call
from tests.support.ledger.pages import REQUESTS, make_call, text_of
from usage.journal_shipping.rows import write_rows
from usage.models import KnownName, LedgerState, Outcome, Request
from usage.money.row_pricing import Pricer
from usage.page_data.call_search import list_sums
from usage.page_data.call_search.index_scan import CallSums
from usage.page_data.call_search.list_sums import ListSums, read_list_sums
from usage.page_data.filters import read_filters
from usage.page_data.search import find, find_all
from usage.sums import summed_names
from usage.upkeep.retention import prune

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 24, 15, 34, 20, tzinfo=UTC)
MODELS = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "nobody-knows", "made-up")
# Filters that sums can answer, and filters that need the rows.
SUMMED: list[dict[str, str]] = [
    {},
    {"key": "one"},
    {"key": "nobody"},
    {"model": "gpt-4o (any date)"},
    {"model": "made-up"},
    {"model": "(none)"},
    {"model": summed_names.UNKNOWN_MODEL},
    {"route": "/v1/responses", "key": "two"},
    {"outcome": "failed"},
    {"outcome": "timeout", "model": "gpt-4o-mini-2024-07-18"},
    {"from": "2026-11-20T10:07", "to": "2026-11-24T11:12"},
    {"from": "2026-11-24T10:07", "to": "2026-11-24T10:40"},
    {"from": "2026-11-01T00:00", "outcome": "success"},
    {"to": "2026-12-24T11:12", "key": "one"},
]
OTHERS = [
    {"tag": "project=x"},
    {"end_user": "ada", "outcome": "failed"},
    {"cost": "0.001"},
    {"status": "504"},
    {"stream": "yes", "from": "2026-11-20T10:07"},
    {"q": "one"},
    {"q": "slow"},
]


def rows(number: int = 700) -> Iterator[Row]:
    """Yields calls of seventy days, and polls among them; some of them have no price, or a model that is not known."""
    chance = random.Random(4)
    for _ in range(number):
        outcome = chance.choice([Outcome.SUCCESS, Outcome.SUCCESS, Outcome.TIMEOUT])
        has_failed = outcome != Outcome.SUCCESS
        model = chance.choice(MODELS)
        yield call(
            NOW - timedelta(seconds=chance.random() * 70 * 86400),
            key_name=chance.choice(["one", "two"]),
            route=chance.choice(["/v1/responses", "/openai"]),
            request_model=model,
            response_model="" if has_failed or model == "made-up" else model,
            outcome=outcome,
            status=504 if has_failed else 200,
            error_code="slow" if has_failed else "",
            stream=chance.random() < 0.5,
            tags=["project=x"] if chance.random() < 0.3 else [],
            end_user=chance.choice(["ada", ""]),
            by_gateway=chance.random() < 0.05,
        )


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_sums, "SECONDS", 30.0)
    KnownName.objects.all().delete()
    write_rows(Pricer().priced(rows()))


def sums_of(calls: list[Request]) -> CallSums:
    return CallSums(
        sum(not row.by_gateway for row in calls),
        sum((row.cost or Decimal(0) for row in calls), Decimal(0)),
        sum(row.cost is None and row.price is None for row in calls),
    )


def read(query: dict[str, str]) -> ListSums | None:
    filters = read_filters(query, NOW, with_messages=True)
    return read_list_sums(filters, find(filters), NOW, is_first=True)


def listed(query: dict[str, str]) -> list[Request]:
    filters = read_filters(query, NOW, with_messages=True)
    return [row for batch in find_all(filters) for row in batch]


def assert_all_are_right() -> None:
    wrong = {}
    for query in (*SUMMED, *OTHERS):
        expected = ListSums(sums_of(listed(query)), True)
        if (found := read(query)) != expected:
            wrong[tuple(query.items())] = (found, expected)
    assert wrong == {}


def test_it_works(ledger: None) -> None:
    assert read({}) == ListSums(sums_of(list(Request.objects.all())), True)
    assert sums_of(listed({"model": "made-up"})).calls > 20
    assert_all_are_right()


def test_calls_that_are_pruned_are_counted_no_more(ledger: None, settings: Any) -> None:
    settings.RETENTION_DAYS = 20
    prune(NOW, all_at_once=True)
    assert 0 < Request.objects.count() < 650
    assert LedgerState.load().pruned_before
    assert_all_are_right()


def test_few_rows_are_read_where_sums_can_tell(ledger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_sums, "SECONDS", 0.0)  # no rows at all
    found = read({"from": "2026-10-20T10:00", "to": "2026-11-24T11:00", "key": "one", "outcome": "failed"})
    assert found is not None
    assert found.sums == sums_of(listed({"from": "2026-10-20T10:00", "to": "2026-11-24T11:00", "key": "one"}
                                        | {"outcome": "failed"}))  # fmt: skip


def test_what_takes_too_long_is_said_to_be_a_part(ledger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_sums, "MAX_FOUND", 60)
    for query in ({"q": "one"}, {"tag": "project"}):
        if "tag" in query:
            monkeypatch.setattr(list_sums, "SECONDS", 0.0)
        found = read(query)
        assert found is not None
        assert not found.is_whole
        assert found.sums.calls < len(listed(query))


@pytest.mark.parametrize(
    ("sums", "is_whole", "words"),
    [
        (CallSums(1, Decimal(2), 0), True, "1 call, $2.00"),
        (CallSums(1_234_567, Decimal("2.5"), 3), True, "1,234,567 calls, $2.50, 3 need a price"),
        (CallSums(0, Decimal(1), 1), True, "0 calls, $1.00, 1 needs a price"),
        (CallSums(50, Decimal(0), 0), False, "At least 50 calls, $0.00 or more"),
        (CallSums(), True, ""),
        (CallSums(), False, ""),
    ],
)
def test_words(sums: CallSums, is_whole: bool, words: str) -> None:
    assert ListSums(sums, is_whole).words == words


def test_the_page_says_so_on_each_of_its_pages(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_sums, "SECONDS", 30.0)  # a busy machine may take more than a tenth for the first slice
    for number in range(60):
        make_call(number, response_model="nobody-knows" if number == 3 else "gpt-4o-mini-2024-07-18")
    cost = sum(row.cost or Decimal(0) for row in Request.objects.all())
    first = admin.get(REQUESTS)
    second = admin.get(REQUESTS, {"before": str(first.context["page"].before)})
    for answer in (first, second):
        assert f"60 calls, ${cost:.4f}, 1 needs a price" in text_of(answer.content.decode())
    assert 'class="cp-found"' not in admin.get(REQUESTS, {"q": "nothing-like-it"}).content.decode()


def test_a_search_for_words_says_what_it_knows(admin: Client) -> None:
    make_call(request_body='{"input": "a needle"}')
    answer = admin.get(REQUESTS, {"text": "needle"})
    assert "1 call, $" in text_of(answer.content.decode())
    filters = read_filters({"text": "needle"}, NOW, with_messages=True)
    assert read_list_sums(filters, find(filters), NOW, is_first=False) is None
