"""Owns how limits are said in headers: by OpenAI's names, in its forms (its guide "Rate limits", "in headers")."""

from __future__ import annotations

import math
from collections.abc import Mapping

from proxyapi.counters import Standing, Window


def headers(standings: Mapping[Window, Standing]) -> dict[str, str]:
    """All that we know of a key's limits."""
    return {name: value for window, standing in standings.items() for name, value in _headers(window, standing)}


def tightened(passed: Mapping[str, str], standings: Mapping[Window, Standing]) -> dict[str, str]:
    """Upstream's headers, with our limit in the place of upstream's wherever less remains of ours."""
    shown = dict(passed)
    for window, standing in standings.items():
        theirs = passed.get(f"x-ratelimit-remaining-{window}", "")
        if not theirs.isdecimal() or standing.remaining < int(theirs):
            shown.update(_headers(window, standing))
    return shown


def duration(seconds: float) -> str:
    """As OpenAI writes it, which is Go's way: `12ms`, `8.64s`, `6m0s`, `1h0m0s`; rounded up to the millisecond."""
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    last = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{last}"
    return f"{minutes}m{last}" if minutes else last


def _headers(window: Window, standing: Standing) -> list[tuple[str, str]]:
    return [
        (f"x-ratelimit-limit-{window}", str(standing.limit)),
        (f"x-ratelimit-remaining-{window}", str(standing.remaining)),
        (f"x-ratelimit-reset-{window}", duration(standing.reset)),
    ]
