"""The ranges of time that pages can show: the last hour or 30 days, a calendar month, any other; all in UTC.

An invoice of OpenAI covers a calendar month in UTC, so it can be compared with the sums of such a month.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from usage.models import Span
from usage.sums.totals_reader import MINUTES_READABLE, ceiling, floor

NAMED = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
}
DEFAULT = "day"
CUSTOM = "custom"
# The ranges that pages offer, by the name in an address.
LABELS = {
    "hour": "Last hour",
    "day": "Last 24 hours",
    "week": "Last 7 days",
    "month": "Last 30 days",
    "today": "Today",
    "yesterday": "Yesterday",
    "this_week": "This week",
    "last_week": "Last week",
    "this_month": "This month",
    "last_month": "Last month",
}
_MONTH_OR_DAY = re.compile(r"\d{4}-\d\d(?P<day>-\d\d)?")  # any other calendar month, or day
CalendarUnit = Literal["day", "week", "month"]
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
    """A range of time that a page shows, from `start` until just before `end` (UTC).

    * `name`: one of `LABELS`, a calendar month (`2026-11`) or day (`2026-11-30`), or `CUSTOM`.
    * `passed`: the time from `start` until now, if `end` lies in the future; otherwise None.
    * `is_open`: whether a `CUSTOM` range was given without an end; then `end` is the present time.
    """

    name: str
    start: datetime
    end: datetime
    passed: timedelta | None = field(default=None, compare=False, kw_only=True)
    is_open: bool = field(default=False, compare=False, kw_only=True)

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    @property
    def counted(self) -> timedelta:
        """The length of this range without the part that lies in the future."""
        return self.length if self.passed is None else self.passed

    @property
    def counted_end(self) -> datetime:
        """The end of the part of this range that has passed: its end or, if that lies in the future, the present."""
        return self.start + self.counted

    @property
    def goes_on(self) -> bool:
        """True if this range has no end, or is a named one, such as `today`, that ends in the future.

        A range until now, such as `today`, ends in the future once `in_hours` has extended it to whole hours.
        """
        return self.is_open or (self.name != CUSTOM and self.passed is not None)

    def as_query(self) -> dict[str, str]:
        """Returns this range of time as query parameters for a link.

        A range with a name, such as `today`, is given by its name, and a range with an open end by its start only. So
        the same link may show a longer or later range when it is opened again.
        """
        if self.name != CUSTOM:
            return {"range": self.name}
        times = self.as_times()
        return {"from": times["from"]} if self.is_open else times

    def as_times(self) -> dict[str, str]:
        """Returns the start and the end as the query parameters `from` and `to`, for a link to exactly this range.

        The end is rounded up to the minute, since a part of a minute is counted as the whole minute.
        """
        return {"from": f"{self.start:%Y-%m-%dT%H:%M}", "to": f"{ceiling(self.end, Span.MINUTE):%Y-%m-%dT%H:%M}"}

    def in_hours(self, now: datetime) -> TimeRange:
        """Returns this range extended to whole hours, for pages that read sums by the hour.

        Such a page must state the extended range, and use it in the links to its calls (`as_times`).
        """
        start, end = floor(self.start, Span.HOUR), ceiling(self.end, Span.HOUR)
        return replace(self, start=start, end=end, passed=_passed(start, end, now))

    @property
    def before(self) -> TimeRange:
        """The earlier range of time with which this one is compared.

        * For a whole month, week or day: the previous month, week or day.
        * For a month, week or day that has not ended: the first part of the previous one, as long as the part of this
          one that has passed (at most the whole of it).
        * For any other range: the range of the same length just before it. If a part of this range lies in the future,
          the same part of the earlier range is left out.
        """
        unit = calendar_unit(self.name)
        if unit is None:
            # A range such as the last hour begins at a whole minute, so it is a part of a minute longer.
            length = self.length if self.passed else NAMED.get(self.name, self.length)
            start = self.start - length
            return TimeRange(CUSTOM, start, start + (self.passed or length))
        start = _start_of(self.start - timedelta(days=1), unit)
        is_whole = self.passed is None and self.end == _end_of(self.start, unit)
        return TimeRange(CUSTOM, start, self.start if is_whole else min(start + self.counted, self.start))

    def bins(self, now: datetime) -> tuple[Span, timedelta]:
        """Returns how charts divide this range: the unit of the sums to read, such as an hour, and a bin's length."""
        # Older sums by minute are deleted.
        coarser = [
            (span, step)
            for longest, span, step in BINS
            # The longest range may have been extended by the hours at its ends.
            if min(self.length, LONGEST) <= longest and (span != Span.MINUTE or self.start >= now - MINUTES_READABLE)
        ]
        return coarser[0]


def read_range(query: Mapping[str, str], now: datetime) -> TimeRange:
    """Parses the range of time in a page's query parameters.

    * `range`: one of `LABELS`, a month or a day.
    * `from` and `to`: without `to`, the range ends now; without `from`, it begins 24 hours before its end.
    * Without these parameters, the range is the last 24 hours.

    The start is rounded down, and `to` is rounded up: to a minute or, if it is more than `MINUTES_READABLE` ago, to an
    hour.

    Raises:
        ValueError: the parameters select no possible range; the message is for the reader of the page.
    """
    name = query.get("range") or (CUSTOM if query.get("from") or query.get("to") else DEFAULT)
    if name in NAMED:
        return TimeRange(name, _readable_start(now - NAMED[name], now), now)
    if unit := calendar_unit(name):
        return _calendar_range(name, unit, now)
    if name != CUSTOM:
        known = ", ".join(LABELS)
        raise ValueError(f"range is one of {known}, a month (2026-12) or a day (2026-12-31); or from and to are given.")
    is_open = not query.get("to", "").strip()
    end = read_moment(query.get("to", ""), now)
    start = read_moment(query.get("from", ""), end - NAMED[DEFAULT])
    is_empty = not start < end
    start = _readable_start(start, now)
    if not is_open:
        end = ceiling(end, Span.MINUTE if end >= now - MINUTES_READABLE else Span.HOUR)
    if is_empty or end - start > LONGEST:
        raise ValueError("The time must begin before it ends, and be shorter than ten years.")
    return TimeRange(name, start, end, passed=_passed(start, end, now), is_open=is_open)


def _readable_start(start: datetime, now: datetime) -> datetime:
    """Rounds a range's start down to the minute, or to the hour if it is more than `MINUTES_READABLE` ago; returns it.

    The sums of earlier minutes may have been deleted.
    """
    return floor(start, Span.MINUTE if start >= now - MINUTES_READABLE else Span.HOUR)


def _passed(start: datetime, end: datetime, now: datetime) -> timedelta | None:
    """Returns the length of the passed part of a range of time, at least a minute; None if all of it has passed."""
    # Of a range that has just begun or has not begun, a minute is compared.
    return max(now - start, timedelta(minutes=1)) if end > now else None


def range_labels(chosen: str = "") -> dict[str, str]:
    """Returns the ranges of time that a page offers, as a map from name to label, such as `hour` to "Last hour".

    If `chosen` is a month or day, such as `2026-11`, it is added.
    """
    return LABELS | ({chosen: chosen} if chosen not in LABELS and calendar_unit(chosen) else {})


def calendar_unit(name: str) -> CalendarUnit | None:
    """Returns the calendar unit of the range `name`, such as "day" for `today`; None if it is no calendar range."""
    if name in ("today", "yesterday"):
        return "day"
    if name in ("this_week", "last_week"):
        return "week"
    if name in ("this_month", "last_month"):
        return "month"
    found = _MONTH_OR_DAY.fullmatch(name)
    return None if found is None else "day" if found["day"] else "month"


def _calendar_range(name: str, unit: CalendarUnit, now: datetime) -> TimeRange:
    """Returns the range of time, in UTC, of a day, week or month, such as `yesterday`, `this_month` or `2026-11`.

    A week begins on Monday. The present day, week or month ends now.

    Raises:
        ValueError: there is no such month or day, or it has not begun; the message is for the page's reader.
    """
    this = _start_of(now, unit)
    if name in ("today", "this_week", "this_month"):
        start = this
    elif name in ("yesterday", "last_week", "last_month"):
        start = _start_of(this - timedelta(days=1), unit)
    else:
        start = read_moment(name if unit == "day" else f"{name}-01", now)
    if start > this:
        raise ValueError(f"{name} has not begun.")
    # At the very first moment of a month or day, too, the range is a minute long.
    return TimeRange(name, start, min(_end_of(start, unit), max(now, start + timedelta(minutes=1))))


def _start_of(moment: datetime, unit: CalendarUnit) -> datetime:
    """Returns the time at which the day, week or month (UTC) that contains `moment` begins."""
    day = floor(moment, Span.DAY)
    if unit == "week":
        return day - timedelta(days=day.weekday())
    return day if unit == "day" else day.replace(day=1)


def _end_of(start: datetime, unit: CalendarUnit) -> datetime:
    """Returns the time at which the day, week or month (UTC) that begins at `start` ends."""
    return _start_of(start + timedelta(days={"day": 1, "week": 7, "month": 31}[unit]), unit)


def range_or_default(query: Mapping[str, str], now: datetime) -> tuple[TimeRange, str]:
    """Parses the range of time in a page's query parameters; returns the range and an error message.

    If the parameters are wrong, the range is the last 24 hours. If they are right, the message is empty.
    """
    try:
        return read_range(query, now), ""
    except ValueError as fault:
        return read_range({}, now), str(fault)


def read_moment(text: str, default: datetime) -> datetime:
    """Parses a time in ISO 8601, in UTC if the text has no offset; returns `default` for an empty text.

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
