"""Owns what pages say of keys beside their names: spending against budgets, the last use, the calls of a week.

From sums alone, and in two queries for however many keys.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from django.db.models import Sum

from usage.models import Dimension, Span, UsageTotal
from usage.money.holds import Spent, spent_by
from usage.page_data import formatting
from usage.sums.totals import EPOCH

WEEK = timedelta(days=7)
SPANS = {"day": "today", "month": "this month", "total": "in all"}
NEARLY_FULL_PERCENT = 90  # percent; from here on a budget is worth a look


@dataclass(frozen=True)
class BudgetBar:
    """What is spent in one of `SPANS`, against its budget; without one there is no `percent` and nothing to fill."""

    span: str
    label: str
    spent: str
    budget: str = ""
    percent: int = 0
    width: float = 0.0  # of 100
    state: str = ""  # full, nearly, or nothing


@dataclass(frozen=True)
class KeySummary:
    """Of one key. `calls` and `errors` are of the last seven days in UTC, today included."""

    spent: Spent
    calls: int = 0
    errors: int = 0

    @property
    def error_rate(self) -> str:
        return formatting.share(self.errors, self.calls)


def read_summaries(keys: Collection[str], now: datetime) -> dict[str, KeySummary]:
    """Of keys without calls too."""
    first = datetime.combine(now.date(), time.min, EPOCH.tzinfo) - WEEK + timedelta(days=1)
    days = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.KEY, start__gte=first, value__in=keys)
    week = {name: sums for name, *sums in days.values_list("value").annotate(Sum("calls"), Sum("errors"))}
    return {name: KeySummary(spent, *week.get(name, ())) for name, spent in spent_by(keys, now.date()).items()}


def budget_bars(spent: Spent, budgets: Mapping[str, Decimal | None]) -> list[BudgetBar]:
    """One for each of `SPANS`. What calls in flight hold counts as spent, as it does when a call asks for more."""
    return [_budget_bar(span, getattr(spent, span), budgets.get(span)) for span in SPANS]


def last_used(day: date | None, today: date) -> str:
    if day is None:
        return "never"
    ago = (today - day).days
    return "today" if ago <= 0 else "yesterday" if ago == 1 else f"{ago} days ago"


def _budget_bar(span: str, spent: Decimal, budget: Decimal | None) -> BudgetBar:
    if budget is None:
        return BudgetBar(span, SPANS[span], formatting.dollars(spent))
    share = spent / budget if budget else Decimal(1)
    percent = int(100 * share)
    width = float(min(Decimal(100), 100 * share))
    state = "full" if share >= 1 else "nearly" if percent >= NEARLY_FULL_PERCENT else ""
    return BudgetBar(span, SPANS[span], formatting.dollars(spent), formatting.dollars(budget), percent, width, state)
