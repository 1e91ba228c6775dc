"""Writes the limits of a key as headers, with OpenAI's names and forms (its guide "Rate limits", "in headers")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from proxyapi.limits.limit_counters import LimitKind, LimitState


class Names(NamedTuple):
    """The names of three headers about a limit per minute: the limit, what remains of it, the time until its reset."""

    limit: str
    remaining: str
    reset: str


_NAMES: dict[LimitKind, Names] = {
    "requests": Names("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    "tokens": Names("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
}


def headers(limit_states: Mapping[LimitKind, LimitState]) -> dict[str, str]:
    """Returns the `x-ratelimit-*` headers: how much a key or team has left of its limits of requests and tokens."""
    return {name: value for window, state in limit_states.items() for name, value in _headers(window, state)}


def tightened(passed: Mapping[str, str], limit_states: Mapping[LimitKind, LimitState]) -> dict[str, str]:
    """Returns upstream's headers, with the gateway's own `x-ratelimit-*` headers where these leave less to the caller.

    `limit_states` says how many requests and tokens the key or its team has left. The gateway's headers are also added
    where upstream has sent none.
    """
    tight = dict(passed)
    for window, state in limit_states.items():
        theirs = passed.get(_NAMES[window].remaining, "")
        # A number of more digits is no limit, and Python reads no number of thousands of digits.
        if not theirs.isdecimal() or len(theirs) > 18 or state.remaining < int(theirs):
            tight.update(_headers(window, state))
    return tight


def duration(interval: float) -> str:
    """Formats a number of seconds as OpenAI's headers do (Go's format): `12ms`, `8.64s`, `6m0s`, `1h0m0s`.

    Rounds up to the millisecond.
    """
    milliseconds = math.ceil(round(interval * 1_000_000) / 1000)  # faster than to round to digits behind the point
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:g}s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, rest = divmod(rest, 1000)
    last = f"{seconds}.{rest:03}".rstrip("0") + "s" if rest else f"{seconds}s"
    return f"{hours}h{minutes}m{last}" if hours else f"{minutes}m{last}"


def _headers(window: LimitKind, state: LimitState) -> list[tuple[str, str]]:
    """Returns the three `x-ratelimit-*` headers for one limit (of requests or of tokens), as names and values."""
    names = _NAMES[window]
    return [
        (names.limit, str(state.limit)),
        (names.remaining, str(state.remaining)),
        (names.reset, duration(state.reset)),
    ]
