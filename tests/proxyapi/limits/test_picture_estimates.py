"""What pictures of the Images API are supposed to use, where upstream does not say it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxyapi.bodies.billing_parameters import count_pictures
from proxyapi.bodies.json_body import JSONBody
from proxyapi.limits.cost_ceiling import SUPPOSED_TOKENS
from proxyapi.limits.usage_estimates import most_usage, usage_of_pictures
from proxyapi.routes import find_route
from usage.money.billing import MaxUsage


@pytest.mark.parametrize(
    ("model", "fields", "pictures", "tokens"),
    [
        ("gpt-image-1.5", {"quality": ["low"], "size": ["1024x1024"]}, 1, 272),
        ("gpt-image-1.5", {"quality": ["low"], "size": ["1024x1024"]}, 3, 3 * 272),
        ("gpt-image-1.5", {}, 1, 6240),  # a dear one
        ("gpt-image-2", {"quality": ["medium"], "size": ["1024x1024"]}, 1, 1756),
        ("gpt-image-2", {"quality": [7], "size": [None]}, 1, 7024),
        ("gpt-image-2", {"quality": ["max"]}, 1, 10_000),  # no more than the ceiling
    ],
)
def test_pictures_that_came_are_counted_and_not_their_bytes(
    model: str, fields: dict[str, list[object]], pictures: int, tokens: int
) -> None:
    most = MaxUsage(100, 10_000, images=pictures, kinds=frozenset({"image_output"}))
    counts = {"input_tokens": 100, "output_tokens": tokens}
    assert usage_of_pictures(most, model, fields) == (counts if pictures == 1 else {**counts, "answers": pictures})


@pytest.mark.parametrize(
    ("asked", "pictures"),
    [
        (2, 2), (2.0, 2), ("2", 2), ("2.0", 2), (None, 1), (True, 1), (0, 1), (-3, 1), (2.5, 1), ("two", 1), ("", 1),
        ([2], 1), (float("inf"), 1), (float("nan"), 1), (10**400, 1), ("9" * 5000, 1), (101, 1),
    ],
)  # fmt: skip
def test_the_number_of_asked_pictures(asked: object, pictures: int) -> None:
    assert count_pictures(find_route("/images/generations"), {"n": [asked]}) == pictures


@pytest.mark.parametrize("asked", [{"output_format": "svg"}, {"output_format": "svg", "svg": {"model": "gpt-5"}}])
def test_a_model_that_writes_pictures_has_tokens_too(asked: dict[str, Any]) -> None:
    picture = {"model": "gpt-image-2.5-flare", "prompt": "a cat", "n": 2}
    most = [
        most_usage("POST", find_route("/images/generations"), JSONBody.parse(json.dumps(body).encode()), 0)
        for body in (picture, {**picture, **asked})
    ]
    assert most[0] is not None
    assert most[1] is not None
    assert most[1].output_tokens == most[0].output_tokens + 2 * SUPPOSED_TOKENS
