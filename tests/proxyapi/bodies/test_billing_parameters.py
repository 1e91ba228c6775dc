"""What a request says of the price of its call reaches the bill."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from proxyapi.bodies.billing_parameters import Fields, count_pictures, read_asked_usage
from proxyapi.routes import find_route
from usage.call_record import CallRecord
from usage.custom_prices import CustomPrice
from usage.money.billing import price_call

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "fields", "dollars"),
    [("/audio/speech", {"input": ["é" * 200]}, "0.0002"), ("/images/generations", {"n": [3]}, "6")],
)
def test_a_price_of_ones_own_counts_what_is_asked_for(path: str, fields: Fields, dollars: str) -> None:
    """Whatever the model's name is."""
    route = find_route(path)
    assert route is not None
    row: CallRecord = {"method": "POST", "route": route.name, "request_model": "kokoro", "started_at": NOW}
    row |= {"usage_source": "estimated", "input_tokens": 10, "output_tokens": 20}
    row["other_usage"] = read_asked_usage(route, fields)
    own = CustomPrice(model="kokoro", valid_from=NOW, characters=Decimal(1), per_picture=Decimal(2))
    assert price_call(row, [own])[0] == Decimal(dollars)


WINDOW: dict[str, list[Any]] = {"background": [True], "background_options": [{"completion_window": "8h"}]}


@pytest.mark.parametrize(
    ("path", "fields", "window"),
    [
        ("/responses", WINDOW, "8h"),
        ("/responses", {**WINDOW, "stream": [False]}, "8h"),
        ("/responses", {**WINDOW, "stream": [None]}, "8h"),
        ("/responses", {**WINDOW, "stream": [True]}, None),
        ("/responses", {**WINDOW, "background": [False]}, None),
        ("/responses", {"background_options": WINDOW["background_options"]}, None),
        ("/responses", {**WINDOW, "background": [False, True]}, None),
        ("/responses", {**WINDOW, "background_options": [{}, *WINDOW["background_options"]]}, None),
        ("/responses/compact", WINDOW, None),
        ("/chat/completions", WINDOW, None),
    ],
)
def test_only_what_a_background_response_may_have_lowers_a_price(path: str, fields: Fields, window: str | None) -> None:
    """Otherwise any caller could take 40 percent off the bill, at a server that ignores what it does not know."""
    asked = read_asked_usage(find_route(path), fields) or {}
    assert asked.get("completion_window") == window


@pytest.mark.parametrize(
    ("path", "name", "dear", "cheap"),
    [
        ("/images/generations", "n", 10, 1),
        ("/images/edits", "n", "10", "1"),
        ("/images/generations", "n", 10, "many"),
        ("/images/generations", "quality", "hd", "standard"),
        ("/images/generations", "size", "1024x1792", "1024x1024"),
        ("/images/generations", "size", "1024x1024", "256x256"),
        ("/audio/speech", "input", "a long text", "text"),
        ("/responses/compact", "service_tier", "priority", "flex"),
        ("/responses/compact", "service_tier", "default", "flex"),
    ],
)
def test_of_a_parameter_given_twice_the_dearer_value_counts(path: str, name: str, dear: object, cheap: object) -> None:
    """Upstream may take either, and the larger one was reserved."""
    route = find_route(path)
    alone = read_asked_usage(route, {name: [dear]}), count_pictures(route, {name: [dear]})
    for values in ([dear, cheap], [cheap, dear]):
        assert (read_asked_usage(route, {name: values}), count_pictures(route, {name: values})) == alone
    assert read_asked_usage(route, {name: [cheap]}) != alone[0]
