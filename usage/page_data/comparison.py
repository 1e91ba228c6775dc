"""Which two spans of time a page compares: one of the period that it shows, and one of the period before.

A sum of a period that goes on is not compared with that of a whole period: both spans are over, consist of whole
minutes, hours or days (UTC), and are equally long. Only whole calendar months are compared with each other although
they have different lengths, as invoices are. While there are no such spans, a page says from when on there are. A
period that began before the ledger did is not compared with: its sums lack calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import DateTimeField, F, QuerySet, Value

from usage.models import Dimension, Span, UsageTotal
from usage.page_data import formatting
from usage.sums.ranges import CUSTOM, TimeRange, calendar_unit
from usage.sums.sum_tables import HISTOGRAMS
from usage.sums.totals_reader import (
    COUNTERS,
    LENGTHS,
    MINUTES_READABLE,
    Totals,
    ceiling,
    floor,
    next_month,
    within_range,
)

Times = tuple[datetime, datetime]  # a start, and the end just before which a span ends (UTC)
UNITS = {Span.MINUTE: "minute", Span.HOUR: "hour", Span.DAY: "day"}


@dataclass(frozen=True)
class Comparison:
    """The span of the shown period whose sums are compared, and the span of the period before.

    * `shown` and `before`: the start and the end of each span. Both spans are empty (the end is the start) if there is
      nothing to compare.
    * `reason`: the sentence that says why there is nothing to compare; otherwise empty.
    """

    shown: Times
    before: Times
    reason: str = ""

    @property
    def is_possible(self) -> bool:
        """True if there are two spans to compare."""
        return not self.reason

    @property
    def words(self) -> str:
        """The sentence for the reader of the page: which times are compared or why none are, without a full stop."""
        if self.reason:
            return self.reason
        (start, end), (earlier, until) = self.shown, self.before
        if end - start == until - earlier:
            days = ("", "")
        else:
            days = (f" ({(end - start).days} days)", f" ({(until - earlier).days} days)")
        shown, before = formatting.period(start, end), formatting.period(earlier, until)
        return f"Changes compare {shown}{days[0]} with {before}{days[1]}, UTC"

    def counted(self, since: datetime | None) -> Comparison:
        """Returns this comparison; if no calls were counted yet as the period before began, one that compares nothing.

        `since` is the start of the day (UTC) of the first call in the ledger; None if it has no call. The hour of this
        call does not matter: a server may have no calls at night.
        """
        (first, _), (start, _) = self.shown, self.before
        if not self.is_possible or since is None or since <= start:
            return self
        reason = f"No change is shown: calls are counted since {since:%Y-%m-%d}, and the period before began on"
        return Comparison((first, first), (start, start), f"{reason} {start:%Y-%m-%d}")


def read_comparison(shown: TimeRange, now: datetime, unit: Span | None = None) -> Comparison:
    """Returns the spans to compare, as `compare` does, of periods in which calls were counted.

    The day of the first call in the ledger is read from the database.
    """
    return compare(shown, now, unit).counted(_first_days().values_list("start", flat=True).first())


def compare(shown: TimeRange, now: datetime, unit: Span | None = None) -> Comparison:
    """Returns the spans of time to compare on a page that shows the period `shown`: one in it, and one before it.

    Whether calls were counted in both is not asked here (`read_comparison` does that). The spans consist of whole
    `unit`s. By default, these are minutes if the sums of all of them are stored, else hours.
    """
    if unit is not None:
        return _compare(shown, now, unit)
    by_minute = _compare(shown, now, Span.MINUTE)
    return by_minute if by_minute.before[0] >= now - MINUTES_READABLE else _compare(shown, now, Span.HOUR)


def read_compared(comparison: Comparison, now: datetime, key: str | None = None) -> tuple[Comparison, Totals, Totals]:
    """Reads the sums of the calls in both spans of a comparison from the database, in one query.

    Returns the comparison, without spans if calls were not counted in both of them (`Comparison.counted`), then the
    sums of the shown period and of the period before; zeros if there is nothing to compare. If `key` is given, only
    calls of this key count, and there are no histograms.
    """
    found = Totals(), Totals()
    rows = UsageTotal.objects.filter(within_range(*comparison.shown, now) | within_range(*comparison.before, now))
    rows = rows.filter(dimension=Dimension.ALL) if key is None else rows.filter(dimension=Dimension.KEY, value=key)
    histograms = [f"{name}_histogram" for name in HISTOGRAMS] if key is None else []
    columns = ("start", *COUNTERS, *histograms)
    first_day = _first_days()[:1].values(*columns, since=F("start"))
    since = None
    for row in rows.values(*columns, since=Value(None, DateTimeField())).union(first_day, all=True):
        if row["since"] is None:
            found[row["start"] < comparison.shown[0]].add(row)
        else:
            since = row["since"]
    comparison = comparison.counted(since)
    return (comparison, *(found if comparison.is_possible else (Totals(), Totals())))


def _first_days() -> QuerySet[UsageTotal]:
    """Returns the sums of all calls by day, the day of the ledger's first call first."""
    return UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL).order_by("start")


def _compare(shown: TimeRange, now: datetime, unit: Span) -> Comparison:
    earlier, of_calendar = shown.before, calendar_unit(shown.name)
    first, last = ceiling(shown.start, unit), floor(min(shown.end, now), unit)
    has_fixed_end = of_calendar is not None or (shown.name == CUSTOM and not shown.is_open)
    if of_calendar or (has_fixed_end and shown.end > now):
        start = floor(earlier.start + (first - shown.start), unit)
    else:
        start = floor(shown.start, unit) - max(last - first, LENGTHS[unit])
    if first >= last:
        return Comparison((first, first), (start, start), _reason(shown, first, unit, now, has_fixed_end=has_fixed_end))
    if of_calendar == "month" and last == next_month(shown.start):
        return Comparison((first, last), (start, shown.start))
    length = min(last - first, shown.start - start)
    return Comparison((first, first + length), (start, start + length))


def _reason(shown: TimeRange, first: datetime, unit: Span, now: datetime, *, has_fixed_end: bool) -> str:
    """Returns the sentence that says why the period `shown`, which has no whole `unit` that is over, is not compared.

    `first` is the time at which its first whole `unit` begins. `has_fixed_end` is false if the period ends now,
    whenever the page is opened.
    """
    possible = first + LENGTHS[unit]
    is_this_day = possible.date() == now.date()
    if has_fixed_end and shown.name == CUSTOM and possible > shown.end:
        return f"No change is shown: whole {UNITS[unit]}s are compared, and this period has none"
    moment = f"{possible:{'%H:%M' if is_this_day else '%Y-%m-%d %H:%M'}}"
    return f"No change is shown yet: whole {UNITS[unit]}s are compared, the first from {moment} UTC"
