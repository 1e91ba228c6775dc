"""Prices: dollars worked out by hand from the published price lists, and no price where one would be a guess.

The lists are those of developers.openai.com/api/docs/pricing, in dollars per million tokens: input / cached input /
output. A row is called at `NOW` unless a test is about dates.

Over 300 lines, since it is a table of prices worked out by hand.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from usage.custom_prices import PRICES, CustomPrice
from usage.models import Request
from usage.money.billing import cost_kind, price_call
from usage.prices.genai_price_list import bundled

NOW = datetime(2026, 11, 1, 12, 30, 15, tzinfo=UTC)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def row(model: str, **columns: Any) -> Any:
    names = {field.name for field in Request._meta.get_fields()}
    found = {"route": "/openai", "request_model": "asked", "response_model": model, "service_tier": "default"}
    assert columns.keys() <= names
    return {**found, "started_at": NOW, **columns}


def cost(model: str, *own: CustomPrice, **columns: Any) -> Decimal | None:
    dollars, price = price_call(row(model, **columns), own)
    assert (dollars is None) == (price is None)
    if dollars is not None and price is not None:
        assert dollars >= 0
        assert dollars.as_tuple().exponent == -8
        assert sum(Decimal(item["dollars"]) for item in price["items"]) == dollars
        assert json.loads(json.dumps(price)) == price
    return dollars


def own(model: str, *, valid_from: datetime = LONG_AGO, **prices: Any) -> CustomPrice:
    decimals = {name: Decimal(value) for name, value in prices.items() if name in PRICES}
    return CustomPrice(model, valid_from, **{**prices, **decimals})


def test_it_works() -> None:
    # 0.15 / 0.075 / 0.60: 800 * 0.15 + 200 * 0.075 + 500 * 0.60 = 120 + 15 + 300 millionths
    counts = {"input_tokens": 1000, "cached_tokens": 200, "output_tokens": 500}
    dollars, price = price_call(row("gpt-4o-mini-2024-07-18", **counts), [])
    assert dollars == Decimal("0.00043500")
    assert price == {
        "source": bundled().source,
        "model": "gpt-4o-mini",
        "tier": "default",
        "per_million": {"input": "0.15", "cached_input": "0.075", "output": "0.6"},
        "items": [
            {"unit": "input", "count": 800, "dollars": "0.00012000"},
            {"unit": "cached_input", "count": 200, "dollars": "0.00001500"},
            {"unit": "output", "count": 500, "dollars": "0.00030000"},
        ],
    }
    assert bundled().source.startswith("genai-prices 0.")


PUBLISHED: list[tuple[str, dict[str, Any], str]] = [
    # 2.50 / 1.25 / 10: 100 * 2.5 + 10 * 10
    ("gpt-4o-2024-08-06", {"input_tokens": 100, "output_tokens": 10}, "0.00035"),
    ("gpt-4o", {"input_tokens": 100, "output_tokens": 10}, "0.00035"),
    # This one snapshot is 5 / - / 15: 100 * 5 + 10 * 15
    ("gpt-4o-2024-05-13", {"input_tokens": 100, "output_tokens": 10}, "0.00065"),
    # 2 / 0.50 / 8, reasoning within the output: 600 * 2 + 400 * 0.5 + 200 * 8
    (
        "o3-2025-04-16",
        {"input_tokens": 1000, "cached_tokens": 400, "output_tokens": 200, "reasoning_tokens": 150},
        "0.003",
    ),
    # 1.25 / 0.125 / 10: 200 * 1.25 + 800 * 0.125 + 100 * 10
    ("gpt-5-2025-08-07", {"input_tokens": 1000, "cached_tokens": 800, "output_tokens": 100}, "0.00135"),
    ("gpt-5.1", {"input_tokens": 1000, "cached_tokens": 800, "output_tokens": 100}, "0.00135"),
    # 0.25 / 0.025 / 2: 1000 * 0.25 + 100 * 2
    ("gpt-5-mini-2025-08-07", {"input_tokens": 1000, "output_tokens": 100}, "0.00045"),
    # 0.05 / 0.005 / 0.40: 1000 * 0.05 + 100 * 0.4
    ("gpt-5-nano-2025-08-07", {"input_tokens": 1000, "output_tokens": 100}, "0.00009"),
    # 1.75 / 0.175 / 14: 1000 * 1.75 + 100 * 14
    ("gpt-5.2-2025-12-11", {"input_tokens": 1000, "output_tokens": 100}, "0.00315"),
    # 15 / - / 120, no discount: 1000 * 15 + 100 * 120
    ("gpt-5-pro", {"input_tokens": 1000, "cached_tokens": 500, "output_tokens": 100}, "0.027"),
    # Up to 272,000 tokens 2.50 / 0.25 / 15, then all of them 5 / 0.50 / 22.50
    ("gpt-5.4", {"input_tokens": 272_000, "output_tokens": 1000}, "0.695"),
    ("gpt-5.4", {"input_tokens": 300_000, "output_tokens": 1000}, "1.5225"),
    # Since 2026-07-30 0.20 / 0.02 / 1.20, cache writes 0.25: 500 * 0.2 + 300 * 0.02 + 200 * 0.25 + 100 * 1.2
    (
        "gpt-5.6-luna",
        {"input_tokens": 1000, "cached_tokens": 300, "cache_write_tokens": 200, "output_tokens": 100},
        "0.000276",
    ),
    ("text-embedding-3-small", {"input_tokens": 1000}, "0.00002"),  # 0.02
    ("text-embedding-3-large", {"input_tokens": 1000}, "0.00013"),  # 0.13
    ("text-embedding-ada-002-v2", {"input_tokens": 1000}, "0.0001"),  # 0.10
    ("whisper-1", {"audio_seconds": 90.0}, "0.009"),  # $0.006 a minute
    ("whisper-1", {"audio_seconds": 0.1}, "0.00001"),
    # Input 2.50, audio or not, output 10: 1020 * 2.5 + 50 * 10
    ("gpt-4o-transcribe", {"input_tokens": 1020, "audio_input_tokens": 1000, "output_tokens": 50}, "0.00305"),
    ("gpt-4o-transcribe", {"input_tokens": 1020, "output_tokens": 50}, "0.00305"),
    # Text 2.50 / 10, audio 32 / 64: 40 * 2.5 + 60 * 32 + 10 * 10 + 40 * 64
    (
        "gpt-audio",
        {"input_tokens": 100, "audio_input_tokens": 60, "output_tokens": 50, "audio_output_tokens": 40},
        "0.00468",
    ),
    # Text 5, image 10, output 40: 30 * 5 + 323 * 10 + 1056 * 40
    (
        "gpt-image-1",
        {
            "input_tokens": 353,
            "output_tokens": 1056,
            "usage": {"input_tokens_details": {"text_tokens": 30, "image_tokens": 323}},
        },
        "0.04562",
    ),
    # An image costs a chat model what text does: 100 * 2.5
    (
        "gpt-4o",
        {"input_tokens": 100, "usage": {"prompt_tokens_details": {"image_tokens": 90, "text_tokens": 10}}},
        "0.00025",
    ),
    # Fine-tuned: 0.30 / - / 1.20: 1000 * 0.3 + 100 * 1.2
    ("ft:gpt-4o-mini-2024-07-18:org::id", {"input_tokens": 1000, "output_tokens": 100}, "0.00042"),
    # 2 / 0.50 / 8 and $10 per 1,000 searches: 100 * 2 + 10 * 8 + 30,000
    ("gpt-4.1", {"input_tokens": 100, "output_tokens": 10, "web_searches": 3}, "0.03028"),
    # It searches in each call, for $25 per 1,000: 100 * 2.5 + 25,000
    ("gpt-4o-search-preview", {"input_tokens": 100}, "0.02525"),
    ("gpt-4o-mini-search-preview", {"input_tokens": 100}, "0.025015"),
    # Anthropic alone sells it, 3 / 15: 1000 * 3 + 100 * 15
    ("claude-sonnet-4-5-20250929", {"input_tokens": 1000, "output_tokens": 100}, "0.0045"),
]


@pytest.mark.parametrize(("model", "counts", "dollars"), PUBLISHED)
def test_a_call_costs_what_the_price_list_says(model: str, counts: dict[str, Any], dollars: str) -> None:
    assert cost(model, **counts) == Decimal(dollars)


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        ("gpt-99", {"input_tokens": 1}),
        ("my-gpt-4o", {"input_tokens": 1}),
        ("ft:gpt-99:acme-moderation::id", {"input_tokens": 1}),
        ("ft:omni-moderation-latest:org::id", {"input_tokens": 1}),
        ("ft:gpt-oss-20b:org::id", {"input_tokens": 1}),
        ("llama-3.3-70b-versatile", {"input_tokens": 1}),
        ("deepseek-r1:7b", {"input_tokens": 1}),
        ("mistral-small", {"input_tokens": 1}),
        ("gpt-oss-20b", {"input_tokens": 1}),
        ("openai/gpt-4o", {"input_tokens": 1}),
        ("openrouter/anthropic/claude-sonnet-4-5", {"input_tokens": 1}),
        ("my-claude", {"input_tokens": 1}),
        ("tts-1", {"input_tokens": 1}),  # by the character
    ],
)
def test_a_call_without_an_honest_price_has_none(model: str, counts: dict[str, Any]) -> None:
    """And an administrator's price mends that: nothing else is without a cost."""
    assert price_call(row(model, **counts), []) == (None, None)
    mended = own(model, input="1", output="1", per_minute="1")
    assert cost(model, mended, **counts)


@pytest.mark.parametrize(
    ("model", "counts"),
    [
        ("gpt-4o", {}),
        ("gpt-99", {}),
        ("gpt-4o", {"web_searches": 0}),  # an answer without usage still says that it searched nothing
        ("", {}),
        ("", {"input_tokens": 0, "output_tokens": 0}),
        ("gpt-5-pro", {"input_tokens": 2**53, "output_tokens": 2**53}),  # more than the ledger's column holds
    ],
)
def test_what_no_price_could_mend_is_not_counted(model: str, counts: dict[str, Any]) -> None:
    call = row(model, **counts)
    if not model:
        call["request_model"] = ""
    dollars, price = price_call(call, [])
    assert price is not None
    assert dollars == 0
    assert (price["source"], cost_kind(call, price)) == ("not counted", "estimated")
    assert price["note"]


@pytest.mark.parametrize(
    ("model", "counts", "dollars"),
    [
        ("gpt-4o", {"output_tokens": 5}, 5 * 10),
        ("gpt-4o", {"output_tokens": 5, "request_bytes": 400}, 100 * 2.5 + 5 * 10),
        ("gpt-4o", {"input_tokens": 100, "cached_tokens": 101}, 101 * 2.5),
        ("gpt-4o", {"input_tokens": 100, "cached_tokens": 60, "cache_write_tokens": 60}, 120 * 2.5),
        ("gpt-image-1", {"input_tokens": 100, "output_tokens": 1}, 100 * 10 + 40),  # not said: text or image
        ("gpt-audio", {"input_tokens": 100, "audio_input_tokens": 101}, 100 * 32),
        ("gpt-audio", {"input_tokens": 1, "audio_input_tokens": 0, "output_tokens": 1, "audio_output_tokens": 2},
         32 + 64),
        ("gpt-5", {"input_tokens": 100, "output_tokens": 10, "reasoning_tokens": 11}, 100 * 1.25 + 11 * 10),
        # billed by the minute, but only tokens are stated: ten a second; and the other way round
        ("whisper-1", {"input_tokens": 600, "output_tokens": 50}, 6000),
        ("whisper-1", {"usage": {"total_tokens": 600}}, 6000),
        ("gpt-4o-transcribe", {"audio_seconds": 60.0}, 600 * 2.5 + 300 * 10),
        # no price for sound: it is the dearest of what it can be
        ("gemini-2.5-pro", {"input_tokens": 100, "audio_input_tokens": 90}, 100 * 1.25),
        # xAI leaves reasoning out of the output: only the total tells
        ("grok-4", {"input_tokens": 10, "output_tokens": 10, "usage": {"total_tokens": 500}}, 10 * 3 + 490 * 15),
    ],
)  # fmt: skip
def test_counts_that_are_not_enough_are_the_dearest_that_they_can_be(
    model: str, counts: dict[str, Any], dollars: float
) -> None:
    call = row(model, usage_source="exact", **counts)
    found, price = price_call(call, [])
    assert found == Decimal(str(dollars)) / 1_000_000
    assert cost_kind(call, price) == "estimated"
    assert price is not None
    assert sum(Decimal(item["dollars"]) for item in price["items"]) == found


def test_a_real_zero_is_a_zero() -> None:
    assert cost("gpt-4o", input_tokens=0, output_tokens=0) == 0
    assert cost("whisper-1", audio_seconds=0.0) == 0


def test_moderations_and_counting_tokens_are_free() -> None:
    assert cost("omni-moderation-latest") == 0
    assert cost("text-moderation-007", input_tokens=10) == 0
    assert cost("gpt-5", route="/openai2/input_tokens") == 0
    assert cost("", route="/v1/responses/input_tokens", input_tokens=100) == 0


def test_the_model_answered_is_billed_and_the_model_asked_only_when_none_was_answered() -> None:
    counts = {"input_tokens": 1_000_000}
    assert cost("gpt-4o-mini", request_model="gpt-4o", **counts) == Decimal("0.15")
    assert cost("", request_model="gpt-4o", **counts) == Decimal("2.5")
    assert cost("gpt-99", request_model="gpt-98", **counts) is None


@pytest.mark.parametrize(
    ("tier", "dollars"),
    [
        # gpt-5: 1.25 / 0.125 / 10, flex and batch half of it, priority 2.50 / 0.25 / 20; see the test above
        ("", "0.00135"),
        ("auto", "0.00135"),
        ("default", "0.00135"),
        ("flex", "0.000675"),
        ("batch", "0.000675"),
        ("priority", "0.0027"),
    ],
)
def test_the_tier_answered_is_billed(tier: str, dollars: str) -> None:
    counts = {"input_tokens": 1000, "cached_tokens": 800, "output_tokens": 100}
    assert cost("gpt-5", service_tier=tier, **counts) == Decimal(dollars)


@pytest.mark.parametrize(
    ("stated", "source", "dollars"),
    [
        ("", "estimated", "0.0045"),
        ("auto", "estimated", "0.0045"),  # as the first events of a stream say that was cut
        ("default", "estimated", "0.00225"),
        ("auto", "exact", "0.00225"),
    ],
)
def test_the_tier_asked_for_is_billed_while_upstream_has_chosen_none(stated: str, source: str, dollars: str) -> None:
    counts = {"input_tokens": 1000, "output_tokens": 100, "usage_source": source}
    found = cost("gpt-5", service_tier=stated, other_usage={"asked_tier": "priority"}, **counts)
    assert found == Decimal(dollars)


def test_the_price_is_the_one_of_the_day() -> None:
    # o3 was 10 / 40 until 2025-06-10, then 2 / 8
    counts = {"input_tokens": 1000, "output_tokens": 200}
    assert cost("o3", started_at=datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC), **counts) == Decimal("0.018")
    assert cost("o3", started_at=datetime(2025, 6, 10, tzinfo=UTC), **counts) == Decimal("0.0036")
    # gpt-5.6-luna was 1 / 6 until 2026-07-30, then 0.20 / 1.20
    assert cost("gpt-5.6-luna", started_at=datetime(2026, 7, 29, tzinfo=UTC), **counts) == Decimal("0.0022")
    assert cost("gpt-5.6-luna", started_at=datetime(2026, 7, 30, tzinfo=UTC), **counts) == Decimal("0.00044")
    # The same instant, said in another place
    there = timezone(timedelta(hours=-8))
    assert cost("o3", started_at=datetime(2025, 6, 9, 16, tzinfo=there), **counts) == Decimal("0.0036")


def test_cached_audio_is_told_from_cached_text_where_upstream_says_so() -> None:
    # gpt-realtime: text 4 / 0.40, audio 32 / 0.40; 40 text and 60 audio tokens, 50 of the 100 cached
    counts = {"input_tokens": 100, "audio_input_tokens": 60, "cached_tokens": 50}
    said = {"input_token_details": {"cached_tokens_details": {"text_tokens": 10, "audio_tokens": 40}}}
    # 30 * 4 + 10 * 0.4 + 20 * 32 + 40 * 0.4
    assert cost("gpt-realtime", usage=said, **counts) == Decimal("0.00078")
    # Not said, so text first: 40 * 0.4 + 50 * 32 + 10 * 0.4
    assert cost("gpt-realtime", **counts) == Decimal("0.00162")
    wrong = {"input_token_details": {"cached_tokens_details": {"text_tokens": "?", "audio_tokens": None}}}
    assert cost("gpt-realtime", usage=wrong, **counts) == 100 * Decimal(32) / 1_000_000  # all of it, as an estimate


def test_dollars_are_rounded_half_up_and_items_still_add_up() -> None:
    # gpt-4.1-nano, 0.10 / 0.025 / 0.40: one cached token is 2.5 hundred-millionths
    assert cost("gpt-4.1-nano", input_tokens=1, cached_tokens=1) == Decimal("0.00000003")
    # Three times 0.4 of the last digit make 1.2 of it
    tiny = own("tiny", input="0.004", cached_input="0.004", cache_write="0.004")
    counts = {"input_tokens": 3, "cached_tokens": 1, "cache_write_tokens": 1}
    assert cost("tiny", tiny, **counts) == Decimal("0.00000001")


class TestCustomPrices:
    def test_it_wins_over_the_published_one_and_says_so(self) -> None:
        # 800 * 1 + 200 * 0.5 + 100 * 2 + one search
        mine = own(
            "gpt-4o*", service_tier="flex", input="1.00000000", cached_input="0.5", output="2", per_web_search="0.02"
        )
        counts = {"input_tokens": 1000, "cached_tokens": 200, "output_tokens": 100, "web_searches": 1}
        dollars, price = price_call(row("GPT-4o-2024-08-06", service_tier="flex", **counts), [mine])
        assert dollars == Decimal("0.0211")
        assert price is not None
        assert {name: price[name] for name in ("source", "model", "tier", "per_web_search")} == {
            "source": "own",
            "model": "gpt-4o*",
            "tier": "flex",
            "per_web_search": "0.02",
        }
        assert price["per_million"]["input"] == "1"

    def test_the_most_specific_one_wins(self) -> None:
        later = datetime(2026, 1, 1, tzinfo=UTC)
        prices = [  # from the least to the most specific
            own("*", input="1", every_tier=True),
            own("local-*", input="2", every_tier=True),
            own("local-*", input="3", every_tier=True, valid_from=later),
            own("local-*", input="4", service_tier="flex"),
            own("local-lla*", input="5", every_tier=True),
            own("local-llama", input="6", every_tier=True),
            own("local-llama", input="7", every_tier=True, valid_from=later),
            own("local-llama", input="8", service_tier="flex"),
        ]
        for length in range(1, len(prices) + 1):
            for order in (prices[:length], prices[:length][::-1]):
                assert cost("local-llama", *order, service_tier="flex", input_tokens=1_000_000) == length
        assert cost("local-llama", *prices, input_tokens=1_000_000) == 7
        assert cost("other", *prices, input_tokens=1_000_000) == 1

    def test_it_is_valid_from_the_first_instant_until_before_the_last(self) -> None:
        first, last = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
        mine = own("local", valid_from=first, valid_until=last, input="1")
        costs = [
            cost("local", mine, input_tokens=1_000_000, started_at=at)
            for at in (
                datetime(2026, 2, 28, 23, 59, tzinfo=UTC),
                first,
                datetime(2026, 3, 31, 23, 59, tzinfo=UTC),
                last,
            )
        ]
        assert costs == [None, 1, 1, None]

    def test_missing_cached_prices_are_the_input_price_and_missing_audio_prices_the_text_price(self) -> None:
        mine = own("local", input="1", output="2")
        counts = {"input_tokens": 1_000_000, "cached_tokens": 500_000, "cache_write_tokens": 100_000}
        assert cost("local", mine, **counts) == 1
        audio = {"input_tokens": 10, "audio_input_tokens": 10, "output_tokens": 10, "audio_output_tokens": 10}
        assert cost("local", mine, **audio) == Decimal("0.00003")
        assert cost("local", own("local", input="1", audio_input="3", output="2"), **audio) == Decimal("0.00005")

    def test_a_zero_is_a_price_and_a_missing_one_is_not(self) -> None:
        assert cost("gpt-4o", own("gpt-4o", input="0", output="0"), input_tokens=10, output_tokens=10) == 0
        assert cost("gpt-4o", own("gpt-4o", input="1"), input_tokens=10, output_tokens=10) is None
        free_cache = own("gpt-4o", input="1", cached_input="0")
        assert cost("gpt-4o", free_cache, input_tokens=10, cached_tokens=10) == 0

    def test_audio_by_the_minute(self) -> None:
        assert cost("local", own("local", per_minute="0.003"), audio_seconds=30.0) == Decimal("0.0015")
        assert cost("local", own("local", input="1"), audio_seconds=30.0) is None


COUNT = st.integers(0, 2_000_000)
COLUMNS = [field.name for field in Request._meta.get_fields() if field.name.endswith(("_tokens", "_searches"))]


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Consistent counts of any size: parts within their whole."""
    into, out = draw(COUNT), draw(COUNT)
    cached = draw(st.integers(0, into))
    return {
        "input_tokens": into,
        "cached_tokens": cached,
        "cache_write_tokens": draw(st.integers(0, into - cached)),
        "audio_input_tokens": draw(st.integers(0, into)),
        "output_tokens": out,
        "reasoning_tokens": draw(st.integers(0, out)),
        "audio_output_tokens": draw(st.integers(0, out)),
        "web_searches": draw(st.integers(0, 50)),
    }


AUDIO = ("gpt-audio", "gpt-realtime", "gpt-realtime-mini", "gpt-4o-mini-realtime-preview")
TEXT = ("gpt-4o", "gpt-4.1-nano", "o3", "gpt-5", "gpt-5.4", "gpt-5.6-luna", "gpt-6.1-sol")
DOLLARS = st.none() | st.decimals(0, 1000, places=8)
OWN = st.builds(
    CustomPrice,
    st.just("local"),
    st.just(LONG_AGO),
    **dict.fromkeys(("input", "output"), st.decimals(0, 1000, places=8)),
    **dict.fromkeys(("cached_input", "cache_write", "audio_input", "audio_output", "per_web_search"), DOLLARS),
)


@given(st.sampled_from(AUDIO), calls())
def test_any_consistent_call_has_a_price_that_its_items_add_up_to(model: str, counts: dict[str, Any]) -> None:
    assert cost(model, **counts) is not None


@given(OWN, calls(), st.floats(0, 1e6))
def test_any_own_price_gives_dollars_that_its_items_add_up_to(
    price: CustomPrice, counts: dict[str, Any], seconds: float
) -> None:
    assert cost("local", price, **counts) is not None
    assert cost("whisper-1", audio_seconds=seconds) is not None


@given(
    st.sampled_from(COLUMNS),
    st.sampled_from(AUDIO + TEXT),
    calls(),
    COUNT,
)
def test_more_never_costs_less_and_more_cached_never_costs_more(
    column: str, model: str, counts: dict[str, Any], more: int
) -> None:
    if model in TEXT:
        counts = {**counts, "audio_input_tokens": 0, "audio_output_tokens": 0}
    grown = {**counts, column: counts[column] + more}
    calls = [row(model, **one) for one in (counts, grown)]
    assume(all(cost_kind(call, price_call(call, [])[1]) == "exact" for call in calls))  # no part outgrows its whole
    before, after = cost(model, **counts), cost(model, **grown)
    assert before is not None
    assert after is not None
    assert after <= before if column == "cached_tokens" else after >= before


@given(st.text(), st.text(), st.text(), st.dictionaries(st.text(), st.none() | st.text() | st.integers()))
def test_any_names_and_any_usage_are_survived(model: str, tier: str, route: str, usage: dict[str, Any]) -> None:
    columns = {"service_tier": tier, "route": route, "input_tokens": 10, "cached_tokens": 3}
    odd = {"image_tokens": "1", "text_tokens": None, "cached_tokens_details": usage}
    for details in (usage, "?", None, odd):
        said = {**usage, "input_tokens_details": details, "completion_tokens_details": details}
        cost(model, own("[a-*", input="1"), **columns, usage=said)
        cost("gpt-realtime", **{**columns, "usage": said, "service_tier": ""})
