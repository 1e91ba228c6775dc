"""The cost of all calls in the same hours of both periods: what the page *Usage* compares while a period goes on.

Sums by label are of whole days. So the rows of the page are compared on days that are over; only the cost of all calls
can be compared until the present hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from usage.page_data import formatting
from usage.page_data.comparison import compare, read_compared
from usage.page_data.spending.spending_choice import SpendingChoice


@dataclass(frozen=True)
class SameHours:
    """The dollars of the chosen days until a whole hour, and those of the same hours before, as texts for a page.

    * `period` and `cost`: the hours (UTC), and the dollars of their calls.
    * `period_before` and `cost_before`: the same hours of the period before, and the dollars of their calls.
    * `change`: the change from these to those dollars; empty if there were none.
    * `reason`: the sentence that says why there is nothing to compare; then all other texts are empty.
    """

    period: str = ""
    cost: str = ""
    period_before: str = ""
    cost_before: str = ""
    change: str = ""
    reason: str = ""


def read_same_hours(choice: SpendingChoice, now: datetime) -> SameHours | None:
    """Reads the dollars of the chosen days until now, and those of the same hours of the period before.

    For example, the present month until the 3rd at noon is compared with the month before until the 3rd at noon.
    Returns None if calls are filtered or the last chosen day is over.
    """
    if choice.only or choice.has_ended:
        return None
    comparison, shown, earlier = read_compared(compare(choice.days, now), now)
    if not comparison.is_possible:
        return SameHours(reason=comparison.reason)
    cost, before = shown.cost, earlier.cost
    return SameHours(
        period=formatting.period(*comparison.shown),
        cost=formatting.dollars(cost),
        period_before=formatting.period(*comparison.before),
        cost_before=formatting.dollars(before),
        change=formatting.change(float(cost), float(before)),
    )
