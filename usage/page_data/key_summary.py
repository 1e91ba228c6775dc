"""Summaries of keys for pages: spending compared with budgets, the last use, the calls of a week.

They are read from sums only, in two queries for any number of keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db.models import Sum

from usage.models import Dimension, Span, UsageTotal
from usage.money.spent_and_reserved import Spent, spent_by
from usage.page_data import formatting
from usage.sums.totals_reader import EPOCH

WEEK = timedelta(days=7)
WEEK_SUMS = ("calls", "errors", "unpriced_calls")
SPANS = {"day": "today", "month": "this month", "total": "total"}
NEARLY_FULL_PERCENT = 90  # a budget of which so much is spent is marked on the page


@dataclass(frozen=True)
class BudgetBar:
    """A bar that compares the dollars a key has spent with its budget; it is full when the budget is used up.

    `span` is the period of the budget, one of `SPANS`: `day`, `month` or `total`. Without a budget, only `spent` is
    known, and the bar is empty.
    """

    span: str
    label: str
    spent: str
    budget: str = ""
    percent: int = 0
    width: float = 0.0  # of the filled part, from 0 to 100
    state: str = ""  # `full`, `nearly`, or empty
    resets: str = ""  # how long it is until the day or month of the budget ends


@dataclass(frozen=True)
class KeySummary:
    """The summary of one key for a page: its spending today, this month and in total, and its recent calls.

    `calls`, `errors` and `unpriced` are the numbers of calls, of failed calls and of calls without a price in the last
    seven days (UTC), including today.
    """

    spent: Spent
    calls: int = 0
    errors: int = 0
    unpriced: int = 0

    @property
    def error_rate(self) -> str:
        """The percentage of failed calls among the key's calls of the last seven days, as text."""
        return formatting.share(self.errors, self.calls)


def read_summaries(keys: Collection[str], now: datetime) -> dict[str, KeySummary]:
    """Reads the spending and the recent calls of keys from the database; returns a map from key name to summary."""
    first = datetime.combine(now.date(), time.min, EPOCH.tzinfo) - WEEK + timedelta(days=1)
    days = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.KEY, start__gte=first, value__in=keys)
    week = {name: sums for name, *sums in days.values_list("value").annotate(*map(Sum, WEEK_SUMS))}
    return {name: KeySummary(spent, *week.get(name, ())) for name, spent in spent_by("key", keys, now.date()).items()}


def budget_bars(spent: Spent, budgets: Mapping[str, Decimal | None], now: datetime) -> list[BudgetBar]:
    """Returns the bars that compare a key's spending with its budgets: for today, this month, and in total.

    `budgets` maps each of `SPANS` to the budget in dollars, or None. Reserved dollars count as spent.
    """
    midnight = datetime.combine(now.date(), time.min, EPOCH.tzinfo)
    ends = {
        "day": midnight + timedelta(days=1),
        "month": (midnight.replace(day=1) + timedelta(days=31)).replace(day=1),
    }
    resets = {span: formatting.time_left(end - now) for span, end in ends.items()}
    # Reserved dollars count as they do when the gateway decides whether a budget admits a call.
    return [_budget_bar(span, getattr(spent, span), budgets.get(span), resets.get(span, "")) for span in SPANS]


def month_pace(spent: Spent, budget: Decimal | None, now: datetime, created_at: datetime | None = None) -> str:
    """Returns a text for a key's page: the days left in this month (UTC), and a forecast of the month's spending.

    The forecast assumes that spending goes on as on average since the month began, or since `created_at` if that is
    later. Reserved dollars do not count. In the first 24 hours, and if nothing was spent, there is no forecast. If the
    forecast exceeds `budget` (dollars a month, or None), the text says on which day the budget will be used up, or that
    it is used up.
    """
    month = datetime(now.year, now.month, 1, tzinfo=UTC)
    start = max(month, created_at or month)
    end = (month + timedelta(days=32)).replace(day=1)
    left = (end - now).days
    days = "Less than a day left in this month" if left < 1 else f"{left} day{'s' * (left > 1)} left in this month"
    used = max(Decimal(0), spent.month - spent.held)
    if now - start < timedelta(days=1) or not used:
        return f"{days}."
    each_day = used / Decimal((now - start) / timedelta(days=1))
    whole = each_day * Decimal((end - start) / timedelta(days=1))
    text = f"{days}. At this pace {formatting.dollars(whole)} by its end"
    if budget is None or whole <= budget:
        return f"{text}."
    if used >= budget:
        return f"{text}; the budget is used up."
    full = now + timedelta(days=float((budget - used) / each_day))
    return f"{text}: the budget would be used up on {full:%b} {full.day}."


def last_used(day: date | None, today: date) -> str:
    """Returns how long ago a key was last used, as text: `never`, `today`, `yesterday` or `5 days ago`."""
    if day is None:
        return "never"
    ago = (today - day).days
    return "today" if ago <= 0 else "yesterday" if ago == 1 else f"{ago} days ago"


def _budget_bar(span: str, spent: Decimal, budget: Decimal | None, resets: str) -> BudgetBar:
    if budget is None:
        return BudgetBar(span, SPANS[span], formatting.dollars(spent))
    share = spent / budget if budget else Decimal(1)
    percent = int(100 * share)
    width = float(min(Decimal(100), 100 * share))
    state = "full" if share >= 1 else "nearly" if percent >= NEARLY_FULL_PERCENT else ""
    return BudgetBar(span, SPANS[span], formatting.dollars(spent), _budget(budget), percent, width, state, resets)


def _budget(dollars: Decimal) -> str:
    """Returns a budget in dollars as text, with two to four decimals: $5.00, $0.125."""
    text = f"${dollars:,.4f}"
    return text[:-2] + text[-2:].rstrip("0")
