"""Owns the ranges of time that pages can show: the last hour, day, week or month, or any other; all in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from usage.models import Span
from usage.sums.totals import MINUTES_READABLE, floor

NAMED = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
DEFAULT = "day"
LONGEST = timedelta(days=3660)
# How a chart is divided. Of each entry: the longest range of time that it is for, the span of the totals that are read,
# and the length of a bin. The first entry that fits is used.
BINS = (
    (timedelta(hours=2), Span.MINUTE, timedelta(minutes=1)),
    (timedelta(hours=6), Span.MINUTE, timedelta(minutes=5)),
    (timedelta(days=3), Span.HOUR, timedelta(hours=1)),
    (timedelta(days=9), Span.HOUR, timedelta(hours=3)),
    (timedelta(days=92), Span.DAY, timedelta(days=1)),
    (timedelta(days=366), Span.DAY, timedelta(days=7)),
    (LONGEST, Span.DAY, timedelta(days=28)),
)


@dataclass(frozen=True)
class TimeRange:
    """The range of time that a page shows, from `start` until `end`. `name` is one of `NAMED`, or `custom`."""

    name: str
    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def as_query(self) -> dict[str, str]:
        """Returns the query parameters that select this range of time in the address of a page."""
        if self.name in NAMED:
            return {"range": self.name}
        return {"from": f"{self.start:%Y-%m-%dT%H:%M}", "to": f"{self.end:%Y-%m-%dT%H:%M}"}

    @property
    def before(self) -> TimeRange:
        """The range of time of the same length that ends where this one begins, for comparison."""
        return TimeRange(self.name, self.start - self.length, self.start)

    def bins(self, now: datetime) -> tuple[Span, timedelta]:
        """Returns how a chart divides this range of time: the span of the totals to read, and the length of a bin.

        Totals of minutes are used only for ranges in the last days, because older ones are deleted.
        """
        coarser = [
            (span, step)
            for longest, span, step in BINS
            if self.length <= longest and (span != Span.MINUTE or self.start >= now - MINUTES_READABLE)
        ]
        return coarser[0]


def read_range(query: Mapping[str, str], now: datetime) -> TimeRange:
    """Returns the range of time that a page's query parameters select: by `range`, or by `from` and `to`.

    Raises:
        ValueError: the parameters select no range of time that can be shown; the message is for the reader of the page.
    """
    name = query.get("range") or ("custom" if query.get("from") or query.get("to") else DEFAULT)
    if name in NAMED:
        return TimeRange(name, now - NAMED[name], now)
    if name != "custom":
        raise ValueError(f"range is one of {', '.join(NAMED)}, or from and to are given.")
    end = read_moment(query.get("to", ""), now)
    start = read_moment(query.get("from", ""), end - NAMED[DEFAULT])
    if not start < end or end - start > LONGEST:
        raise ValueError("The time must begin before it ends, and be shorter than ten years.")
    return TimeRange(name, floor(start, Span.MINUTE), end)


def range_or_default(query: Mapping[str, str], now: datetime) -> tuple[TimeRange, str]:
    """Returns the range of time that a page's query parameters select, and a text that says what is wrong with them.

    If nothing is wrong, the text is empty. Otherwise the range is the default one.
    """
    try:
        return read_range(query, now), ""
    except ValueError as fault:
        return read_range({}, now), str(fault)


def read_moment(text: str, default: datetime) -> datetime:
    """Returns the time that a text in ISO 8601 states, in UTC if the text has no offset; `default` for an empty text.

    Raises:
        ValueError: the text is not a time between 1971 and 2200; the message is for the reader of the page.
    """
    if not text.strip():
        return default
    try:
        moment = datetime.fromisoformat(text.strip())
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text[:40]!r} is no time; write it as 2026-12-31T23:59.") from None
    if not 1971 <= moment.year <= 2200:
        raise ValueError("Times lie between 1971 and 2200.")
    return moment
