"""The cost of the period before by the same hour: what the page *Usage* compares with a period that is not over.

Sums by label are of whole days. So the rows of the page are compared with whole days, of which the last one had 24
hours, while today has fewer; only the cost of all calls can be compared with that of the same hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal

from usage.page_data import formatting
from usage.page_data.dashboard.dashboard_reader import readable_range
from usage.page_data.spending.spending_choice import SpendingChoice
from usage.sums.ranges import CUSTOM, TimeRange
from usage.sums.totals_reader import read_totals


@dataclass(frozen=True)
class SameHours:
    """The dollars of the period before, only until the same hour as now, as texts for a page.

    For example, the period is the month before, until the 3rd at noon. `period` is this time (UTC), and `cost` the
    dollars of its calls. `change` is the change from these to the present dollars; it is empty if there were none.
    """

    period: str
    cost: str
    change: str


def read_same_hours(choice: SpendingChoice, cost: Decimal, now: datetime) -> SameHours | None:
    """Compares `cost`, the dollars of the chosen days until `now`, with those of the period before until the same hour.

    For example, the present month until the 3rd at noon is compared with the month before until the 3rd at noon.
    Returns None if calls are filtered, if the last chosen day is over, if the first one has not begun, or if the stored
    sums cannot be read for such a time.
    """
    start = choice.days.start
    if choice.only or choice.has_ended or start >= now:
        return None
    first, end = (datetime.combine(day, time(), start.tzinfo) for day in choice.period_before)
    # A month may be longer than the one before, which then is compared as a whole.
    before = TimeRange(CUSTOM, first, min(first + max(now - start, timedelta(minutes=1)), end))
    counted_from, counted_to = readable_range(before, end, now)
    if counted_from == counted_to:
        return None
    totals = read_totals(counted_from, counted_to, now)
    return SameHours(
        period=formatting.period(counted_from, counted_to),
        cost=formatting.dollars(totals.cost),
        change=formatting.change(float(cost), float(totals.cost)),
    )
