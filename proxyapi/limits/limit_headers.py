"""Owns how limits are said in headers: by OpenAI's names, in its forms (its guide "Rate limits", "in headers")."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from proxyapi.limits.counting import Standing, Window


class Names(NamedTuple):
    """The names of the headers for one window."""

    limit: str
    remaining: str
    reset: str


_NAMES: dict[Window, Names] = {
    "requests": Names("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    "tokens": Names("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
}


def headers(standings: Mapping[Window, Standing]) -> dict[str, str]:
    """All that we know of a key's limits."""
    return {name: value for window, standing in standings.items() for name, value in _headers(window, standing)}


def tightened(passed: Mapping[str, str], standings: Mapping[Window, Standing]) -> dict[str, str]:
    """Upstream's headers, with our limit in the place of upstream's wherever less remains of ours."""
    shown = dict(passed)
    for window, standing in standings.items():
        theirs = passed.get(_NAMES[window].remaining, "")
        if not theirs.isdecimal() or standing.remaining < int(theirs):
            shown.update(_headers(window, standing))
    return shown


def duration(interval: float) -> str:
    """As OpenAI writes it, which is Go's way: `12ms`, `8.64s`, `6m0s`, `1h0m0s`; rounded up to the millisecond.

    `interval` is in seconds.
    """
    milliseconds = math.ceil(round(interval * 1000, 3))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds, rest = divmod(rest, 1000)
    last = f"{seconds}.{rest:03}".rstrip("0") + "s" if rest else f"{seconds}s"
    if hours:
        return f"{hours}h{minutes}m{last}"
    return f"{minutes}m{last}" if minutes else last


def _headers(window: Window, standing: Standing) -> list[tuple[str, str]]:
    names = _NAMES[window]
    return [
        (names.limit, str(standing.limit)),
        (names.remaining, str(standing.remaining)),
        (names.reset, duration(standing.reset)),
    ]
