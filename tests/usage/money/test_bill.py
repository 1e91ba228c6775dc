"""The bill of every kind of call, to the eighth decimal, as OpenAI makes it (`tests.support.bills`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from proxyapi.bodies.billing_parameters import count_pictures, read_asked_usage, states_whole_bill
from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.usage_estimates import most_usage
from proxyapi.routes import FAMILIES, Route, find_route
from tests.support.bills.all_calls import CASES
from tests.support.bills.shapes import EVENTS, SOUND, BillCase
from tests.support.ledger.excerpts import answer_columns
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText
from usage.custom_prices import CustomPrice
from usage.models import Outcome, UsageSource
from usage.money.billing import cost_kind, price_call
from usage.money.unbilled import NOT_COUNTED
from usage.page_data.call_page import UNITS

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def row_of(case: BillCase) -> Any:
    """The row of a call, with what its request and upstream's answer say: as `proxyapi.call.journal_rows` makes it."""
    route = find_route(case.path.removeprefix("/v1"))
    assert route is not None
    fields = {name: [value] for name, value in case.asked.items()}
    model = case.asked.get("model", "")
    answer = AnswerReader()
    answer.states_usage = route.family.states_usage
    answer.expected_pictures = count_pictures(route, fields)
    if case.status >= 300:
        answer.read_error(case.body, case.status)
    elif case.content_type == EVENTS:
        answer.text = StreamedText(0)
        answer.read_events(case.body)
        assert answer.has_ended or answer.text.has_finished_choices
    elif case.content_type != SOUND:
        answer.read_body(case.body)
    stated = answer.usage
    answer.forget_false_usage()
    assert answer.usage == stated  # what OpenAI states is believed
    columns = answer_columns(answer, "", ())
    asked = read_asked_usage(route, fields) or {}
    is_known = answer.usage is not None or states_whole_bill(asked, route, model)
    return {
        "method": case.method,
        "route": route.name,
        "request_model": model,
        "response_model": answer.model,
        "started_at": NOW,
        "outcome": Outcome.UPSTREAM_ERROR if answer.error and case.method == "POST" else Outcome.SUCCESS,
        "response_status": answer.response_status,
        "upstream_ms": 1.0,
        **columns,
        "other_usage": {**(columns.get("other_usage") or {}), **asked} or None,
        **answer.counts,
        "usage_source": UsageSource.EXACT if is_known else UsageSource.UNKNOWN,
    }


def test_there_are_enough_kinds_and_each_has_a_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_call_costs_what_openai_bills(case: BillCase) -> None:
    row = row_of(case)
    dollars, price = price_call(row, [])
    assert dollars == (None if case.dollars is None else Decimal(case.dollars)), price
    if dollars is None:
        assert price == {"source": "counted when it ends"}
        return
    assert price is not None
    assert cost_kind(row, price) == case.kind
    assert sum((Decimal(item["dollars"]) for item in price["items"]), Decimal(0)) == dollars
    assert {item["unit"] for item in price["items"]} <= UNITS.keys()
    if not dollars:
        assert price["source"] == "not billed" or "moderation" in price["model"]


TOOLS: Any = {"web_searches": 3, "other_usage": {"file_searches": 2, "containers": ["1g"]}}


@pytest.mark.parametrize(
    ("model", "fee", "dollars"),
    [
        ("ours", None, "0.0022"),  # a price without fees says nothing of tools
        ("ours", Decimal(1), "5.0022"),  # nor of containers
        ("claude-sonnet-4-5", None, None),  # what the list does not say
    ],
)
def test_tools_of_other_models_are_never_free_without_saying_so(
    model: str, fee: Decimal | None, dollars: str | None
) -> None:
    row: Any = {"method": "POST", "route": "/v1/responses", "request_model": model, "started_at": NOW, **TOOLS}
    row |= {"outcome": "success", "usage_source": "exact", "input_tokens": 1000, "output_tokens": 100, "usage": {}}
    own = CustomPrice(
        model="ours", valid_from=datetime(2020, 1, 1, tzinfo=UTC), input=Decimal(2), output=Decimal(2),
        per_web_search=fee, per_file_search=fee,
    )  # fmt: skip
    cost, price = price_call(row, [own])
    assert cost_kind(row, price) == "estimated"
    if dollars is not None:
        assert cost == Decimal(dollars)
    bill = {item["unit"]: item for item in (price or {})["items"]}
    assert bill["container_1g"]["kind"] == "estimated"
    assert {"web_search", "file_search"} <= bill.keys()


def bill_of(name: str) -> dict[str, Any]:
    _, price = price_call(row_of(next(case for case in CASES if case.name == name)), [])
    assert price is not None
    return {f"{item['unit']} {item.get('model', '')}".strip(): item for item in price["items"]}


def test_an_item_of_another_model_names_it_and_its_price() -> None:
    items = bill_of("several tools")
    assert items.keys() == {
        "input", "output", "web_search", "file_search", "input gpt-image-2", "output gpt-image-2"
    }  # fmt: skip
    assert items["output gpt-image-2"]["rate"] == "30"
    assert items["file_search"]["rate"] == "0.0025"


def test_only_what_is_estimated_is_marked_so() -> None:
    assert {name for name, item in bill_of("code in 4 GB").items() if item.get("kind")} == {"container_4g"}
    assert bill_of("code in 4 GB")["container_4g"]["count"] == 5  # minutes, of one container
    assert {name for name, item in bill_of("searches of gpt-4o-mini").items() if item.get("kind")} == {"search_content"}


def test_a_picture_by_a_model_without_a_price_is_provisional() -> None:
    case = next(case for case in CASES if case.name == "picture by the tool")
    row = row_of(case)
    row["other_usage"]["image_model"] = "gpt-image-9"
    dollars, price = price_call(row, [])
    assert dollars == Decimal("0.03493")  # that of gpt-image-2.5-sunburst, which is the same
    assert cost_kind(row, price) == "provisional"


def test_a_picture_by_the_tool_whose_model_is_not_named_costs_what_the_default_one_does() -> None:
    case = next(case for case in CASES if case.name == "picture by the tool")
    row = row_of(case)
    del row["other_usage"]["image_model"]
    assert price_call(row, [])[0] == Decimal("0.03493")


def test_the_page_names_each_endpoint_whose_calls_state_no_usage() -> None:
    """All others are billed by their usage or by an estimate, or cost nothing."""
    page = (BASE_DIR / "docs" / "ledger.md").read_text().partition("### What is not in the numbers")[2]
    page = page.partition("## Estimates")[0]
    row: Any = {"method": "POST", "request_model": "gpt-5", "started_at": NOW, "outcome": "success", "upstream_ms": 1.0}
    row["usage_source"] = UsageSource.UNKNOWN
    uncounted = set()
    for family in FAMILIES:
        for path, methods in family.paths.items():
            route = find_route(path.removeprefix("/v1").replace("{id}", "x"))
            assert route is not None
            row["route"] = route.name
            cost, price = price_call(row, [])
            assert price is not None
            assert cost == 0, route.name
            if "POST" in methods and price["source"] == NOT_COUNTED and not is_estimated(route):
                uncounted.add(family.name)
    assert uncounted == set(re.findall(r"`/v1/(\w+)`", page))


def is_estimated(route: Route) -> bool:
    """Returns whether a call of this route that states no usage gets an estimate."""
    return most_usage("POST", route, JSONBody(b"{}", []), 0) is not None or route.name == "/v1/moderations"


@pytest.mark.parametrize(
    ("columns", "is_billed"),
    [
        ({"outcome": "rejected", "upstream_ms": None}, False),
        ({"outcome": "unreachable", "unbilled": True}, False),
        ({"outcome": "unreachable"}, True),  # the connection broke: it may have been billed
        ({"outcome": "timeout", "unbilled": True}, False),
        ({"outcome": "timeout"}, True),
        ({"outcome": "interrupted", "error_code": "interrupted"}, True),
        ({"outcome": "client_cancelled", "upstream_ms": None}, False),
        ({"outcome": "client_cancelled"}, True),
        ({"outcome": "upstream_error", "error_code": "rate_limit_exceeded"}, False),
        ({"outcome": "upstream_error", "error_code": "truncated"}, True),
        ({"outcome": "upstream_error", "error_code": "upstream_answer_too_large"}, True),
        ({"outcome": "success"}, True),
        ({"outcome": "success", "route": "/v1/files"}, False),
        ({"outcome": "success", "route": "/v1/files/{id}", "method": "DELETE"}, False),
        ({"outcome": "success", "route": "/health", "method": "GET"}, True),
    ],
)
def test_a_call_that_upstream_does_not_bill_costs_nothing(columns: dict[str, Any], is_billed: bool) -> None:
    """And one of which that is not known, and that may have been billed, is not counted: it says so."""
    row: Any = {"method": "POST", "route": "/v1/responses", "request_model": "gpt-5", "started_at": NOW}
    row |= {"usage_source": UsageSource.UNKNOWN, "upstream_ms": 12.0, **columns}
    dollars, price = price_call(row, [])
    assert dollars == 0
    assert (price or {}).get("source") == ("not counted" if is_billed else "not billed")
    assert cost_kind(row, price) == ("estimated" if is_billed else "exact")
    # A usage that is known is billed, however the call has ended; one that was estimated, too.
    if row["route"] != "/v1/files":
        for source in (UsageSource.EXACT, UsageSource.ESTIMATED):
            counted: Any = {**row, "usage_source": source, "input_tokens": 1000, "output_tokens": 100}
            assert price_call(counted, [])[0] == Decimal("0.00225")


@pytest.mark.parametrize(
    ("model", "columns", "dollars"),
    [
        # Nothing but a total: all of it is output, or input if the model has no output.
        ("gpt-4o-mini", {"usage": {"total_tokens": 1_000_000}, "usage_source": "exact"}, "0.6"),
        ("text-embedding-3-small", {"usage": {"total_tokens": 1_000_000}, "usage_source": "exact"}, "0.02"),
        # A total above the other counts: the rest is output.
        (
            "gpt-4o-mini",
            {"input_tokens": 1_000_000, "usage": {"total_tokens": 2_000_000}, "usage_source": "exact"},
            "0.75",
        ),
        (
            "gpt-4o-mini",
            {
                "input_tokens": 0,
                "output_tokens": 500_000,
                "usage": {"total_tokens": 1_000_000},
                "usage_source": "exact",
            },
            "0.6",
        ),
        # What tools have used is known, the tokens beside it are not.
        ("gpt-5", {"web_searches": 3}, "0.03"),
        ("gpt-4o-mini", {"web_searches": 3}, "0.0336"),  # and 8,000 input tokens for each
        ("gpt-5", {"other_usage": {"file_searches": 2, "containers": ["1g"]}}, "0.0125"),
        # Counts for which only a price is missing.
        ("", {"input_tokens": 500_000, "usage_source": "exact"}, None),
        ("", {"usage": {"total_tokens": 500_000}, "usage_source": "exact"}, None),
        ("", {"web_searches": 3}, None),
        ("", {"other_usage": {"file_searches": 2}}, None),
        ("", {"other_usage": {"containers": ["1g"]}}, None),
        ("", {"other_usage": {"image_tokens": {"output_tokens": 1056}, "image_model": "gpt-image-2"}}, None),
        ("", {"other_usage": {"svg": [{"model": "gpt-5", "output_tokens": 5}]}}, None),
        ("gpt-99", {"web_searches": 3}, None),
    ],
)
def test_what_is_known_in_part_is_never_free(model: str, columns: dict[str, Any], dollars: str | None) -> None:
    row: Any = {"method": "POST", "route": "/v1/responses", "request_model": model, "started_at": NOW}
    row |= {"outcome": "success", "usage_source": "unknown", "upstream_ms": 12.0, **columns}
    cost, price = price_call(row, [])
    assert cost == (None if dollars is None else Decimal(dollars))
    assert cost_kind(row, price) == ("" if dollars is None else "estimated")
    assert all(item["kind"] == "estimated" for item in (price or {}).get("items", ()))


def test_a_total_counts_at_a_price_without_output() -> None:
    own = CustomPrice(model="ours", valid_from=datetime(2020, 1, 1, tzinfo=UTC), input=Decimal(2))
    row: Any = {"method": "POST", "route": "/v1/embeddings", "request_model": "ours", "started_at": NOW}
    row |= {"outcome": "success", "usage_source": "exact", "usage": {"total_tokens": 1_000_000}, "upstream_ms": 1.0}
    assert price_call(row, [own])[0] == 2
