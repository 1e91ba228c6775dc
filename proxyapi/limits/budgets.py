"""Reserves budget for calls: the most that a call can cost is reserved before upstream hears of it.

The reservation is made in PostgreSQL (`usage.money.reservations`) and settled by the call's row in the ledger. As soon
as the call has ended, the reserved amount is lowered to the cost of the call, if the database answers. While the
database is away, each worker lets a key use a small part of its tightest budget (`Allowances`); beyond it the key gets
503. The costs of these calls reach the budget by the ledger.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
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
RETRY_AFTER_TOTAL_SECONDS = 86_400  # a total budget has no end; an administrator may raise it
ENDING_SECONDS = 0.05  # within which every worker has settled a call whose answer its caller has just got
RETRY_AFTER_HELD_SECONDS = 5  # calls in flight end, and cost less than they could have


@dataclass(frozen=True)
class Reservation:
    """The reservation of one call: an amount of its key's budgets. If the database did not answer, it may be none."""

    request_id: str

    def settle(self, row: CallRecord) -> None:
        """Replaces the amount that was reserved for a call by the cost in the call's ledger row.

        A response that goes on in the background keeps its reservation.
        """
        if row["response_status"] in UNFINISHED_STATUSES and row["pollable"]:
            return
        cost, _ = price_call(row, ledger.own_prices or ())
        reservations.settle(self.request_id, cost or Decimal(0))


class Allowances:
    """The allowances of keys during one outage of the database, and what they have used; counted per worker."""

    def __init__(self) -> None:
        self._outage = 0
        self._used: dict[str, tuple[Decimal, int]] = {}

    def use(self, caller: Caller, dollars: Decimal, least: Decimal) -> Decimal:
        """Uses up `dollars` and one call of a key's allowance; the rest of it, if that is no less than `least`.

        Returns the dollars that were used up. Raises `BudgetUnavailable` if less than `least` is left.
        """
        if self._outage != reservations.outages:
            self._outage = reservations.outages
            self._used.clear()
        spent, calls = self._used.get(caller.name, (Decimal(0), 0))
        used = min(dollars, OUTAGE_PART * (caller.budgets.tightest or 0) - spent)
        if used < least or calls >= OUTAGE_CALLS:
            raise BudgetUnavailable
        self._used[caller.name] = (spent + used, calls + 1)
        return used


allowances = Allowances()


async def find_ceiling(method: str, route: Route | None, body: JSONBody | Form | None) -> CostCeiling | None:
    """Returns the most that a call can consume; None for a call that costs nothing.

    Raises:
        RouteNotAllowed: the ledger could not tell what the call has cost.
    """
    return await large_bodies.run(0 if body is None else body.size, ceiling_of, method, route, body)


async def reserve(
    reservation: Reservation, day: date, caller: Caller, ceiling: CostCeiling, dollars: Decimal
) -> CostCeiling:
    """Reserves `dollars`, the price of a call's ceiling, of the caller's budgets until the reservation is settled.

    If the budgets have less left, and the gateway may limit the call's output, the highest limit is chosen that they
    can pay for, but not less than the key's `min_output_tokens`. Returns the ceiling whose price has been reserved.

    `day` is that of the call's start, in UTC. While the database is away the call may use its key's allowance.

    Raises:
        BudgetExceeded: a budget has less left. Nothing was reserved.
        BudgetUnavailable: the database does not answer, and the allowance is used up.
    """
    limit, budgets = ceiling.adjustable, caller.budgets
    floor = ceiling if limit is None else ceiling.with_output(limit.at_most(caller.min_output_tokens))
    least = dollars if limit is None else price_of(floor)
    wanted = Wanted(
        reservation.request_id, caller.name, day, dollars, budgets.day, budgets.month, budgets.total, least=least
    )
    try:
        standing = await reservations.take(wanted)
        if standing.taken is None and any(standing.held.values()):
            # A caller that has just got its answer calls again before this worker can know that its call has ended.
            await asyncio.sleep(ENDING_SECONDS)
            standing = await reservations.take(replace(wanted, is_last_try=True))
        taken = standing.taken
    except ReservationsUnavailable:
        taken = allowances.use(caller, dollars, least)
    if taken is None:
        raise refusal(budgets, standing, day, least, is_limited=limit is not None)
    return ceiling if taken >= dollars else fit(ceiling, floor, taken)


def fit(ceiling: CostCeiling, floor: CostCeiling, dollars: Decimal) -> CostCeiling:
    """Returns the ceiling with the most output tokens that costs no more than `dollars`, but no less than `floor`."""
    limit = ceiling.adjustable
    assert limit is not None  # noqa: S101  (only such a call has got less than it asked for)
    low, high = (one.max_usage.output_tokens // limit.answers for one in (floor, ceiling))
    high = limit.at_most(high)
    while low < high:  # a price rises with the output
        middle = (low + high + 1) // 2
        low, high = (middle, high) if price_of(ceiling.with_output(middle)) <= dollars else (low, middle - 1)
    return ceiling.with_output(low)


def price_of(ceiling: CostCeiling) -> Decimal:
    """Returns the highest price of a ceiling, in dollars, over all models and tiers that the call may run.

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


def refusal(
    budgets: Budgets, standing: BudgetState, day: date, dollars: Decimal, *, is_limited: bool
) -> BudgetExceeded:
    """Returns the error for a call that costs more than is left. It names the longest budget that is full.

    `is_limited`: `dollars` is what the call costs with the lowest limit of its output that its key allows.
    """
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
    hint = " even with the least output that this key allows" if is_limited else "; less, if its output is limited"
    words = (
        f"{_NAMES[span]} is {_in_dollars(amount)}; {_in_dollars(spent + held)} of it are spent or held for calls in"
        f" flight, and this call may cost {_in_dollars(dollars)}{hint}."
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
