"""Reads how much of each budget of the active keys and teams is spent and reserved."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import NamedTuple

from django.db.models import Q, QuerySet

from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from usage.money.spenders import Spender, SpenderKind
from usage.money.spent_and_reserved import spent_by

COLUMNS = ("budget_day", "budget_month", "budget_total")


class UsedBudget(NamedTuple):
    """The use of one budget of a key or team: the dollars already `spent`, and those `reserved` for calls in flight.

    `span` is the budget's period: `day`, `month` or `total`. `spent` is computed as all used dollars less `reserved`.
    In the first seconds of a period, `reserved` may include dollars that workers have leased for calls of the previous
    period; then `spent` is too low by as much.
    """

    spender: Spender
    span: str
    budget: Decimal
    spent: Decimal
    reserved: Decimal

    @property
    def part_used(self) -> Decimal:
        """The part of the budget that is spent or reserved: 1 is all of it. Of a budget of $0, it is always 1."""
        return self._part(self.spent + self.reserved)

    @property
    def part_spent(self) -> Decimal:
        """The part of the budget that is spent: 1 is all of it. Of a budget of $0, it is always 1."""
        return self._part(self.spent)

    def _part(self, dollars: Decimal) -> Decimal:
        return dollars / self.budget if self.budget else Decimal(1)


def read_used_budgets(today: date) -> Iterator[UsedBudget]:
    """Yields the use of each budget of the active keys and teams: on the UTC day `today`, in that month, and in total.

    Raises:
        django.db.Error: the database does not answer.
    """
    has_budget = reduce(or_, (Q(**{f"{column}__isnull": False}) for column in COLUMNS))
    tables: tuple[tuple[SpenderKind, QuerySet[AccessKey] | QuerySet[Team]], ...] = (
        ("key", AccessKey.objects.all()), ("team", Team.objects.all()),
    )  # fmt: skip
    for kind, rows in tables:
        budgets = {row.name: row.budgets for row in rows.filter(has_budget, active=True).only("name", *COLUMNS)}
        spent = spent_by(kind, list(budgets), today) if budgets else {}
        for name, by_span in budgets.items():
            for span, budget in by_span.items():
                if budget is not None:
                    used: Decimal = getattr(spent[name], span)
                    reserved = min(used, spent[name].held)
                    yield UsedBudget(Spender(kind, name), span, budget, used - reserved, reserved)
