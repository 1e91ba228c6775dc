"""Counts of tokens as upstream states them: whole numbers, by one rule for a call's columns and for its price."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db.models import DecimalField

from usage.answers.reader import AnswerReader
from usage.answers.tokens import MAX_COUNT, input_details, is_count, output_details, read_counts, whole_count
from usage.models import UsageTotal
from usage.money.billing import TOO_MUCH


@pytest.mark.parametrize(("stated", "count"), [(5.0, 5), (5.5, 6), (0.0, 0), (1e8, 10**8), (0.2, 1)])
def test_tokens_are_whole_however_they_are_written(stated: float, count: int) -> None:
    """As `5.0` by servers that compute with fractions: the ledger's columns take whole numbers only."""
    counts = read_counts({"prompt_tokens": stated, "completion_tokens_details": {"reasoning_tokens": stated}})

    assert counts == {"input_tokens": count, "reasoning_tokens": count}
    assert all(isinstance(value, int) for value in counts.values())
    assert read_counts({"type": "duration", "seconds": stated}) == {"audio_seconds": stated}


@pytest.mark.parametrize("count", [-1, "7", None, True, -1e400, [], {}])
def test_what_is_no_count_is_unknown(count: Any) -> None:
    assert read_counts({"prompt_tokens": count, "completion_tokens": 1}) == {"output_tokens": 1}
    assert not is_count(count)
    assert whole_count(count) == 0


PLACES: list[dict[str, Any]] = [
    {"prompt_tokens": 0},
    {"completion_tokens": 0},
    {"prompt_tokens_details": {"cached_tokens": 0}},
    {"prompt_tokens_details": {"audio_tokens": 0}},
    {"completion_tokens_details": {"reasoning_tokens": 0}},
    {"type": "duration", "seconds": 0},
]


@pytest.mark.parametrize("count", [MAX_COUNT, float(MAX_COUNT), 2**63, 1e300])
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_count_beyond_all_bounds_is_not_believed(place: dict[str, Any], count: float) -> None:
    """The others in the same usage are."""
    stated = {"prompt_tokens": 7, "completion_tokens": 7}
    lie = json.loads(json.dumps(place).replace("0", str(count)))
    believed = {name: number for name, number in stated.items() if name not in place}
    assert read_counts({**stated, **lie}) == read_counts(believed)
    assert not is_count(count)
    assert whole_count(count) == 0


def test_the_sums_hold_more_rows_than_there_ever_are() -> None:
    """At the most that one row can have: 5,000 million rows are 150 calls a second for a year."""
    assert 5 * 10**9 * (MAX_COUNT - 1) < 2**63
    cost = UsageTotal._meta.get_field("cost")
    assert isinstance(cost, DecimalField)
    assert 10 ** (cost.max_digits - cost.decimal_places) >= 10**6 * TOO_MUCH


@pytest.mark.parametrize(("stated", "count"), [(7, 7), (5.0, 5), (5.5, 6), (0, 0), (MAX_COUNT - 1, MAX_COUNT - 1)])
def test_a_price_counts_as_the_columns_do(stated: float, count: int) -> None:
    assert whole_count(stated) == count == read_counts({"input_tokens": stated})["input_tokens"]


@pytest.mark.parametrize(
    ("input_name", "output_name"),
    [
        ("prompt_tokens_details", "completion_tokens_details"),
        ("input_tokens_details", "output_tokens_details"),
        ("input_token_details", "output_token_details"),
    ],
)
def test_details_are_found_under_each_name(input_name: str, output_name: str) -> None:
    usage = {input_name: {"cached_tokens": 1}, output_name: {"reasoning_tokens": 2}}

    assert (input_details(usage), output_details(usage)) == ({"cached_tokens": 1}, {"reasoning_tokens": 2})
    assert input_details({input_name: None}) == output_details({output_name: 3}) == {}


@pytest.mark.parametrize(
    ("usage", "is_stated"),
    [
        ({}, False),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, False),
        ({"input_tokens": "7", "output_tokens": -1}, False),
        ({"total_tokens": 0}, False),
        ({"total_tokens": 7}, True),
        ({"prompt_tokens": 0, "completion_tokens": 0}, True),
        ({"type": "duration", "seconds": 1.5}, True),
    ],
)
def test_a_usage_that_says_nothing_is_not_stated(usage: dict[str, Any], is_stated: bool) -> None:
    answer = AnswerReader()
    answer.read({"object": "response", "status": "failed", "usage": usage})
    assert (answer.usage == usage) == is_stated
    assert answer.has_failed != is_stated
