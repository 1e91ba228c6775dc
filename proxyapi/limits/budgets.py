"""Reserves budget for calls: the most that a call can cost is reserved before upstream hears of it.

The reservation is made in PostgreSQL (`usage.money.reservations`) and settled by the call's row in the ledger. As soon
as the call has ended, the reserved amount is lowered to the cost of the call, if the database answers. While the
database is away, each worker lets a key use a small part of its tightest budget (`Allowances`); beyond it the key gets
503. The costs of these calls reach the budget by the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_UP, Decimal

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import BudgetExceeded, BudgetUnavailable, ModelNotPriced
from proxyapi.keys.keyring import Budgets, Caller
from proxyapi.limits.cost_ceiling import CostCeiling, Form, ceiling_of
from proxyapi.routes import Route
from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import CallRecord
from usage.ledger import ledger
from usage.models import UsageSource
from usage.money.billing import highest_cost, price_call
from usage.money.holds import responses_are_polled
from usage.money.reservations import BudgetState, ReservationsUnavailable, Wanted, reservations

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20
RETRY_AFTER_TOTAL_SECONDS = 86_400  # a total budget has no end; an administrator may raise it
RETRY_AFTER_HELD_SECONDS = 5  # calls in flight end, and cost less than they could have


@dataclass(frozen=True)
class Reservation:
    """The reservation of one call: an amount of its key's budgets. If the database did not answer, it may be none."""

    request_id: str

    def settle(self, row: CallRecord) -> None:
        """Replaces the amount that was reserved for a call by the cost in the call's ledger row.

        A response that goes on in the background keeps its reservation as long as the gateway asks about it.
        """
        if row["response_status"] in UNFINISHED_STATUSES and row["pollable"] and responses_are_polled():
            return
        cost, _ = price_call(row, ledger.own_prices or ())
        if cost is None and row["usage_source"] != UsageSource.UNKNOWN:
            return  # it has cost something, but no price is known: held until its row is written
        reservations.settle(self.request_id, cost or Decimal(0))


class Allowances:
    """The allowances of keys during one outage of the database, and what they have used; counted per worker."""

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal) -> None:
        """Uses up dollars and one call of a key's allowance. Raises `BudgetUnavailable` if less is left."""
        if self._outage != reservations.outages:
            self._outage = reservations.outages
            self._used.clear()
        spent, calls = self._used.get(caller.name, (Decimal(0), 0))
        if spent + dollars > OUTAGE_PART * (caller.budgets.tightest or 0) or calls >= OUTAGE_CALLS:
            raise BudgetUnavailable
        self._used[caller.name] = (spent + dollars, calls + 1)


allowances = Allowances()


async def find_ceiling(method: str, route: Route | None, body: JSONBody | Form | None) -> CostCeiling | None:
    """Returns the most that a call can consume; None for a call that costs nothing.

    Raises:
        RouteNotAllowed: the ledger could not tell what the call has cost.
    """
    return await large_bodies.run(0 if body is None else body.size, ceiling_of, method, route, body)


async def reserve(reservation: Reservation, day: date, caller: Caller, dollars: Decimal) -> None:
    """Reserves `dollars` of the caller's budgets until the reservation is settled.

    `day` is that of the call's start, in UTC. While the database is away the call may use its key's allowance.

    Raises:
        BudgetExceeded: a budget has less left. Nothing was reserved.
        BudgetUnavailable: the database does not answer, and the allowance is used up.
    """
    budgets = caller.budgets
    wanted = Wanted(reservation.request_id, caller.name, day, dollars, budgets.day, budgets.month, budgets.total)
    try:
        standing = await reservations.take(wanted)
    except ReservationsUnavailable:
        allowances.use(caller, dollars)
        return
    if not standing.taken:
        raise refusal(budgets, standing, day, dollars)


def price_of(ceiling: CostCeiling) -> Decimal:
    """Returns the highest price of a ceiling, in dollars, over all models and tiers that the call names.

    Raises:
        ModelNotPriced: a model has no price.
        BudgetUnavailable: a model may have a price of the administrator's; those have not been read yet.
    """
    own = ledger.own_prices
    now = datetime.now(UTC)
    costs = []
    for model in ceiling.models:
        for tier in ceiling.tiers:
            cost = highest_cost(model, tier, now, ceiling.max_usage, own or ())
            if cost is None and own is None:
                raise BudgetUnavailable
            if cost is None:
                raise ModelNotPriced(unpriced(model, tier), param="model")
            costs.append(cost)
    return max(costs)


def unpriced(model: str, tier: str) -> str:
    """Returns the message of the error for a model without a price."""
    if not model:
        return "This key has a budget, so its calls must name their model."
    in_tier = f" in the service tier '{tier[:50]}'" if tier else ""
    return (
        f"This key has a budget, and the model '{model[:200]}' has no price{in_tier}. An administrator can add one to"
        " the model prices; it is in force half a minute later."
    )


def refusal(budgets: Budgets, standing: BudgetState, day: date, dollars: Decimal) -> BudgetExceeded:
    """Returns the error for a call that costs more than is left. It names the longest budget that is full."""
    amounts = {"total": budgets.total, "month": budgets.month, "day": budgets.day}
    full = [
        (span, amount, standing.spent[span], standing.held[span])
        for span, amount in amounts.items()
        if amount is not None and standing.spent[span] + standing.held[span] + dollars > amount
    ]
    if not full:  # the call's row has been written already: its caller has left
        return BudgetExceeded("This call has ended.", retry_after=RETRY_AFTER_HELD_SECONDS, is_final=True)
    span, amount, spent, held = full[0]
    ends_by_itself = all(spent + dollars <= amount for _, amount, spent, _ in full)
    words = (
        f"{_NAMES[span]} is {_in_dollars(amount)}; {_in_dollars(spent + held)} of it are spent or held for calls in"
        f" flight,"
        f" and this call may cost {_in_dollars(dollars)}; less, if its output tokens are limited."
    )
    return BudgetExceeded(
        words,
        retry_after=RETRY_AFTER_HELD_SECONDS if ends_by_itself else seconds_left(span, day),
        is_final=not ends_by_itself,
    )


def seconds_left(span: str, day: date) -> int:
    """Returns the seconds until a `day` or `month` ends (UTC), at least 1; for `total`, which never ends, a day."""
    if span == "total":
        return RETRY_AFTER_TOTAL_SECONDS
    next_day = day + timedelta(days=1) if span == "day" else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    ends = datetime.combine(next_day, time.min, UTC)
    return max(1, int((ends - datetime.now(UTC)).total_seconds()) + 1)


_NAMES = {
    "day": "The budget of this key for a day",
    "month": "The budget of this key for a month",
    "total": "The budget of this key in all",
}


def _in_dollars(dollars: Decimal) -> str:
    """Returns an amount as text, in cents; in hundredths of a cent, rounded up, if it is no whole number of cents."""
    exact = dollars.quantize(Decimal("0.0001"), ROUND_UP)
    return f"${exact:.2f}" if exact == exact.quantize(Decimal("0.01")) else f"${exact}"
