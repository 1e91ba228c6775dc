"""Limits in headers: OpenAI's forms, and the tighter of two."""

from __future__ import annotations

import pytest

from proxyapi.limits.limit_counters import LimitKind, LimitState
from proxyapi.limits.limit_headers import duration, headers, tightened

THEIRS = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9",
    "x-ratelimit-reset-requests": "8.64s",
    "x-request-id": "req_1",
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0000001, "0s"),
        (0.0001, "1ms"),
        (0.012, "12ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (8.64, "8.64s"),
        (59.9994, "1m0s"),
        (60, "1m0s"),
        (61.5, "1m1.5s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86399.001, "23h59m59.001s"),
    ],
)
def test_a_duration_reads_as_openai_writes_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_both_limits_are_said() -> None:
    assert headers({"requests": LimitState(3, 1, 59.2), "tokens": LimitState(1000, 0, 0.012)}) == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "1",
        "x-ratelimit-reset-requests": "59.2s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "12ms",
    }


@pytest.mark.parametrize(
    ("window", "remaining", "shown"),
    [("requests", 8, "8"), ("requests", 9, "9"), ("requests", 10, "9"), ("tokens", 10**9, str(10**9))],
)
def test_the_tighter_one_is_shown_whole(window: LimitKind, remaining: int, shown: str) -> None:
    seen = tightened(THEIRS, {window: LimitState(10**9, remaining, 1)})
    ours = remaining < 9 or window == "tokens"

    assert seen[f"x-ratelimit-remaining-{window}"] == shown
    assert seen[f"x-ratelimit-limit-{window}"] == (str(10**9) if ours else "10000")
    assert seen[f"x-ratelimit-reset-{window}"] == ("1s" if ours else "8.64s")
    assert seen["x-request-id"] == "req_1"


@pytest.mark.parametrize("theirs", ["", "-1", "many", "1.5"])
def test_what_is_no_number_is_not_tighter(theirs: str) -> None:
    seen = tightened({"x-ratelimit-remaining-requests": theirs}, {"requests": LimitState(3, 2, 1)})
    assert seen["x-ratelimit-remaining-requests"] == "2"


@pytest.mark.parametrize("theirs", ["9" * 19, "9" * 5000, "", "many", "-1"])
def test_what_is_no_number_is_replaced(theirs: str) -> None:
    seen = tightened({"x-ratelimit-remaining-requests": theirs}, {"requests": LimitState(10, 3, 1)})
    assert seen["x-ratelimit-remaining-requests"] == "3"
