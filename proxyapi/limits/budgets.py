"""Reserves budget for calls: the most that a call can cost is reserved before the call is sent upstream.

The reservation is made in PostgreSQL (`usage.money.reservations`) and settled by the call's row in the ledger. As soon
as the call has ended, the reserved amount is lowered to the cost of the call, if the database answers. While the
database is away, each worker lets a key use a small part of its tightest budget (`Allowances`); beyond it the key gets
503. The costs of these calls count against the budget as soon as their rows are in the database.
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
from usage.money.billing import highest_cost, price_call
from usage.money.reservations import BudgetState, ReservationsUnavailable, Wanted, reservations

OUTAGE_PART = Decimal("0.05")
OUTAGE_CALLS = 20
RETRY_AFTER_TOTAL_SECONDS = 86_400  # a total budget never begins anew; an administrator may raise it
RETRY_AFTER_HELD_SECONDS = 5  # calls in flight end soon, and most cost less than was reserved for them


@dataclass(frozen=True)
class Reservation:
    """The reservation of one call: dollars of its key's budgets that are set aside in PostgreSQL, under the call's id.

    There may be none in PostgreSQL, because a call that is made while the database is away goes on without one.
    """

    request_id: str

    def settle(self, row: CallRecord) -> None:
        """Replaces the dollars that were reserved for a call by the call's cost, which is computed from its ledger row.

        The reservation of a response that goes on in the background stays as it is, because its cost is not known yet.
        """
        if row["response_status"] in UNFINISHED_STATUSES and row["pollable"]:
            return
        cost, _ = price_call(row, ledger.own_prices or ())
        reservations.settle(self.request_id, cost or Decimal(0))


class Allowances:
    """Small allowances in dollars, one per key, for times when the database is away and no budget can be reserved.

    A key may spend `OUTAGE_PART` of its smallest budget, in `OUTAGE_CALLS` calls at most. Each worker counts by itself
    what the key spends, and begins anew with every outage.
    """

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal) -> None:
        """Takes one call, and the dollars that it can cost, from what its key may spend while the database is away.

        Raises:
            BudgetUnavailable: the key may not spend so much, or make so many calls, in this outage. Nothing was taken.
        """
        if self._outage != reservations.outages:
            self._outage = reservations.outages
            self._used.clear()
        spent, calls = self._used.get(caller.name, (Decimal(0), 0))
        if spent + dollars > OUTAGE_PART * (caller.budgets.tightest or 0) or calls >= OUTAGE_CALLS:
            raise BudgetUnavailable
        self._used[caller.name] = (spent + dollars, calls + 1)


allowances = Allowances()


async def highest_cost_of(method: str, route: Route | None, body: JSONBody | Form | None) -> Decimal:
    """Computes from a request the most that its call can cost, in dollars; 0 for a call that costs nothing.

    Raises:
        ModelNotPriced: a model that the request names has no price.
        RouteNotAllowed: calls of this kind have no cost in the ledger, so a key with a budget may not make them.
        BudgetUnavailable: the administrator's prices of models have not been read from the database yet.
    """
    size = 0 if body is None else body.size
    ceiling = await large_bodies.run(size, ceiling_of, method, route, body)
    return Decimal(0) if ceiling is None else price_of(ceiling)


async def reserve(reservation: Reservation, day: date, caller: Caller, dollars: Decimal) -> None:
    """Reserves `dollars` of the budgets of the caller's key for a call, before the call is sent upstream.

    `day` is the UTC day on which the call began. While the database is away, the dollars are taken from the small
    allowance that the key has for such times (see `Allowances`).

    Raises:
        BudgetExceeded: a budget of the key has less than `dollars` left. Nothing was reserved.
        BudgetUnavailable: the database does not answer, and the key's allowance is used up.
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
    """Returns the cost in dollars of a call that uses as much as its cost ceiling allows.

    The call may name several models and service tiers; those with the highest price count.

    Raises:
        ModelNotPriced: a model has no price.
        BudgetUnavailable: a model has no built-in price, and the administrator's prices have not been read yet.
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
    """Returns the message of the error for a call whose model has no price, or that names no model.

    Only keys with a budget get this error.
    """
    if not model:
        return "This key has a budget, so its calls must name their model."
    in_tier = f" in the service tier '{tier[:50]}'" if tier else ""
    return (
        f"This key has a budget, and the model '{model[:200]}' has no price{in_tier}. An administrator can add one to"
        " the model prices; it is in force half a minute later."
    )


def refusal(budgets: Budgets, standing: BudgetState, day: date, dollars: Decimal) -> BudgetExceeded:
    """Builds the error for a call that may cost more than a budget of its key has left.

    If the call would exceed several budgets, the message names the one with the longest span of time (total, month,
    day). `Retry-After` is short if only the reservations of calls in flight stand in the way, because these calls end
    soon. Otherwise it is the time until the named budget begins anew, and `is_final` is true.
    """
    amounts = {"total": budgets.total, "month": budgets.month, "day": budgets.day}
    full = [
        (span, amount, standing.spent[span], standing.held[span])
        for span, amount in amounts.items()
        if amount is not None and standing.spent[span] + standing.held[span] + dollars > amount
    ]
    if not full:  # nothing is reserved for a call whose row is in the ledger: its caller has left
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
    """Returns the seconds until the budget of a `day` or a `month` begins anew (in UTC), at least 1.

    For a `total` budget, which never begins anew, returns the seconds of a day: an administrator may raise the budget.
    """
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
    """Formats an amount of dollars for a message: `$1.50`, or `$0.0012` if it is not a whole number of cents.

    The amount is rounded up to a hundredth of a cent.
    """
    exact = dollars.quantize(Decimal("0.0001"), ROUND_UP)
    return f"${exact:.2f}" if exact == exact.quantize(Decimal("0.01")) else f"${exact}"
