"""Chooses the days and months whose stored sums are read for a range of days."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from usage.models import Dimension, Span, UsageTotal
from usage.sums.labels.label_tables import LabelSpan

DAY = timedelta(days=1)


class SpanRange(NamedTuple):
    """The stored sums of the days, or of the months, from the day `first` until before the day `end` (UTC).

    `is_subtracted`: true if the sums are to be subtracted from those of a month.
    """

    span: LabelSpan
    first: date
    end: date
    is_subtracted: bool = False

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.end - self.first).days


def ranges_to_read(first: date, end: date, *, by_day: bool, has_label: bool) -> list[SpanRange]:
    """Returns the days or months whose stored sums add up to those of the days from `first` until before `end`.

    If `by_day` is true, these are the days. Else months are read where they can be, since a month has far fewer sums
    than its days:

    * a month whose days are all in the range. The last one also counts as such if no calls were made after the range.
    * a month that has most of its days in the range: the sums of its other days are subtracted. If `has_label` is true
      (the sums of a label are read), this is not done, since the sums of a day and of a month may name other values.
    """
    if by_day:
        return [SpanRange("day", first, end)]
    until = next_month(end - DAY)
    if end < until and not _has_calls(end, until):
        end = until
    months, days, subtracted = list[SpanRange](), list[SpanRange](), list[SpanRange]()
    start = first.replace(day=1)
    while start < end:
        after = next_month(start)
        wanted = SpanRange("day", max(start, first), min(after, end))
        other = [
            SpanRange("day", start, wanted.first, is_subtracted=True),
            SpanRange("day", wanted.end, after, is_subtracted=True),
        ]
        number = sum(part.days for part in other)
        if number == 0 or (2 * number <= wanted.days and not has_label):
            months.append(SpanRange("month", start, after))
            subtracted += (part for part in other if part.days)
        else:
            days.append(wanted)
        start = after
    return [*_joined(days), *_joined(months), *subtracted]


def next_month(day: date) -> date:
    """Returns the first day of the month after that of `day`."""
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


def _joined(parts: Iterable[SpanRange]) -> list[SpanRange]:
    """Joins the parts of a range of which each begins where the one before ends."""
    joined = list[SpanRange]()
    for part in parts:
        if joined and joined[-1].end == part.first:
            part = joined.pop()._replace(end=part.end)
        joined.append(part)
    return joined


def _has_calls(first: date, end: date) -> bool:
    """Returns whether calls were made from the day `first` until before the day `end`."""
    start, until = (datetime.combine(day, time(), UTC) for day in (first, end))
    days = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL, start__gte=start, start__lt=until)
    return days.exists()
