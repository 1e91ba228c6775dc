"""Reserves budget for calls: the highest possible cost of a call is reserved before the call is sent upstream.

The dollars come from the worker's leases (`usage.money.leases`): parts of the key's and the team's budgets that the
worker has set aside in advance. While the database is away, a key may use up these leases, and then a small part of its
tightest budget (`allowances`); after that, its calls get 503. The costs of calls made during an outage count against
the budgets as soon as their rows are in the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import ROUND_UP, Decimal

from django.conf import settings

from proxyapi.bodies import large_bodies
from proxyapi.bodies.json_body import JSONBody
from proxyapi.exceptions import BudgetExceeded, BudgetUnavailable, ModelNotPriced
from proxyapi.keys.callers import Caller, Ceilings
from proxyapi.limits.allowances import allowances
from proxyapi.limits.cost_ceiling import CostCeiling, ceiling_of
from proxyapi.limits.request_content import Form
from proxyapi.limits.reservation import Reservation
from proxyapi.routes import Route
from usage.ledger import ledger
from usage.money.billing import highest_cost
from usage.money.lease_statements import SPANS
from usage.money.leases import BudgetState, CallShare, Wanted
from usage.money.reservations import ReservationsUnavailable, reservations

logger = logging.getLogger(__name__)

RETRY_AFTER_TOTAL_SECONDS = 86_400  # a total budget never begins anew; an administrator may raise it
UNNAMED_TIERS = {"", "auto"}
# The dearer tiers in which OpenAI may answer a call that names none, by the value of `PROJECT_SERVICE_TIER`. A project
# answers in standard, fast (priority) or scale, bought in advance (the SDK's `ProjectServiceTierSettings.default`).
PROJECT_TIERS: dict[str, tuple[str, ...]] = {"dearest": ("priority",), "default": ()}
ENDING_SECONDS = 0.05  # within which every worker has settled a call whose answer its caller has just got
# How long a call waits for other workers to give back what they do not use. They look once a second.
RECALL_SECONDS = 2.5
RETRY_AFTER_HELD_SECONDS = 5  # calls in flight end soon, and most cost less than was reserved for them


async def find_ceiling(method: str, route: Route | None, body: JSONBody | Form | None) -> CostCeiling | None:
    """Computes from a request the upper bound of what the call can use, its cost ceiling.

    Returns None for a free call, and for any method but POST. A large body is searched in a thread.

    Raises:
        RouteNotAllowed: the ledger cannot count the cost of this call, so keys with a budget may not make it.
        BadRequest: a JSON object below the top level of the body has a name twice.
    """
    return await large_bodies.run(0 if body is None else body.size, ceiling_of, method, route, body)


async def reserve(day: date, caller: Caller, ceiling: CostCeiling, dollars: Decimal) -> tuple[Reservation, CostCeiling]:
    """Reserves the highest possible cost of a call in the budgets of its key and team, before it is sent upstream.

    * `ceiling`: the upper bound of what the call can use.
    * `dollars`: the price of that usage.
    * `day`: the call's UTC day.

    Returns the reservation, and the ceiling that it pays for: `ceiling` or, if too little is left in a budget, a copy
    with fewer output tokens, but at least the key's `min_output_tokens`. While the database does not answer, the
    allowances of the key and its team are used instead, and the reservation is empty.

    Raises:
        BudgetExceeded: a budget of the key or its team has too little left for the least output. Nothing was reserved.
        BudgetUnavailable: the database does not answer, and the allowance of the key or its team is used up; or the
            administrator's prices have not been read yet.
        ModelNotPriced: the price of one of the call's models was removed meanwhile.
    """
    limit = ceiling.adjustable
    if (shares := _take_at_once([_wanted(one, day, dollars) for one in caller.budget_ceilings])) is not None:
        return Reservation(shares), ceiling
    floor = ceiling if limit is None else ceiling.with_output(limit.at_most(caller.min_output_tokens))
    # If the call names no service tier, the least output is priced in the default tier, which upstream mostly charges:
    # a key shall not be refused for a price that is rarely asked. If upstream then answers in a dearer tier, the last
    # call that fits can exceed the budget by the difference.
    least = dollars if limit is None else price_of(floor, in_named_tier=True)
    try:
        reservation, taken = await _take_all(caller, day, dollars, least, is_limited=limit is not None)
    except ReservationsUnavailable:
        # The database is away, and the worker's leases do not suffice.
        reservation, taken = Reservation(()), allowances.use(caller.budget_ceilings, dollars, least)
    try:
        return reservation, ceiling if taken >= dollars else fit(ceiling, floor, taken)
    except BaseException:  # a price may have gone while the call waited
        reservation.release()
        raise


def _wanted(ceilings: Ceilings, day: date, dollars: Decimal, least: Decimal | None = None) -> Wanted:
    """Makes the request to reserve dollars for a call in the budgets of its key or team; it is the argument of `take`.

    The call wants `dollars`; any amount from `least` on is enough or, if that is None, only `dollars`.
    """
    budgets = ceilings.budgets
    least = dollars if least is None else least
    return Wanted(ceilings.spender, day, dollars, budgets.day, budgets.month, budgets.total, least)


def _take_at_once(wanted: Sequence[Wanted]) -> tuple[CallShare, ...] | None:
    """Reserves a call's dollars from this worker's leases (parts of budgets set aside in advance), without a query.

    Returns None, and reserves nothing, if one of the leases has too little left.
    """
    shares: list[CallShare] = []
    for one in wanted:
        share = reservations.take_at_once(one)
        if share is None:
            Reservation(tuple(shares)).release()
            return None
        shares.append(share)
    return tuple(shares)


async def _take_all(
    caller: Caller, day: date, dollars: Decimal, least: Decimal, *, is_limited: bool
) -> tuple[Reservation, Decimal]:
    """Reserves dollars in the budgets of a call's key, then of its team; returns the reservation and its dollars.

    The same amount, from `least` to `dollars`, is reserved in each. If that fails, nothing is reserved, and
    `BudgetExceeded` or an error of `take` is raised. `is_limited` goes into the message of `BudgetExceeded`: whether
    `least` is the price of a shorter answer.
    """
    # All calls take from the key first: so none of two that wait has what the other one waits for.
    shares: list[CallShare] = []
    try:
        for ceilings in caller.budget_ceilings:
            standing = await take(_wanted(ceilings, day, dollars, least))
            if standing.share is None:
                raise refusal(ceilings, standing, day, least, is_limited=is_limited)
            shares.append(standing.share)
            dollars = standing.share.dollars
    except BaseException:  # also if the caller has left
        Reservation(tuple(shares)).release()
        raise
    for share in shares:
        if share.dollars > dollars:  # the key has more left than the team, which decides
            reservations.shrink(share, dollars)
    return Reservation(tuple(shares)), dollars


async def take(wanted: Wanted) -> BudgetState:
    """Tries to reserve dollars for a call in the budgets of a key or team; returns the state of these budgets.

    The state's `share` is the reservation; None if too little is left. `wanted` names the key or team and the amounts.
    If other calls or workers may give dollars back, waits for up to about `RECALL_SECONDS`.

    Raises:
        ReservationsUnavailable: the database does not answer, so it is unknown whether enough is left.
    """
    standing = await reservations.take(wanted)
    if standing.share is None and not _could_fit(wanted, standing):
        return standing
    latest = time.monotonic() + RECALL_SECONDS
    while standing.share is None and standing.others and time.monotonic() < latest:
        await asyncio.sleep(ENDING_SECONDS)
        standing = await reservations.take(wanted)
    if standing.share is None and any(standing.held.values()):
        # A caller that has just got its answer calls again before this worker can know that its call has ended.
        await asyncio.sleep(ENDING_SECONDS)
        standing = await reservations.take(replace(wanted, is_last_try=True))
    return standing


def _could_fit(wanted: Wanted, standing: BudgetState) -> bool:
    """Returns whether each budget would have at least `wanted.least` dollars left if nothing were reserved."""
    return all(
        standing.spent[span] + wanted.least <= budget
        for span, budget in zip(SPANS, wanted.budgets, strict=True)
        if budget is not None
    )


def fit(ceiling: CostCeiling, floor: CostCeiling, dollars: Decimal) -> CostCeiling:
    """Returns a copy of `ceiling` (the most that a call can use), with as many output tokens as `dollars` pay for.

    It has at least the output tokens of `floor`, the ceiling with the least output that the key allows.
    """
    limit = ceiling.adjustable
    assert limit is not None  # noqa: S101  (only such a call has got less than it asked for)
    low, high = (one.max_usage.output_tokens // limit.answers for one in (floor, ceiling))
    high = limit.at_most(high)
    while low < high:  # a price rises with the output
        middle = (low + high + 1) // 2
        low, high = (middle, high) if price_of(ceiling.with_output(middle)) <= dollars else (low, middle - 1)
    return ceiling.with_output(low)


def price_of(ceiling: CostCeiling, *, in_named_tier: bool = False) -> Decimal:
    """Returns the price of a call's cost ceiling in dollars: the highest of all models and tiers that may answer.

    If the call names no service tier, or `auto`, the default tier and those of the setting `PROJECT_SERVICE_TIER` may
    answer; with `in_named_tier`, only the default tier.

    Raises:
        ModelNotPriced: a model has no price.
        BudgetUnavailable: a model has no built-in price, and the administrator's prices have not been read yet.
    """
    own = ledger.custom_prices
    now = datetime.now(UTC)
    # The settings of the project at OpenAI name the tier of calls that name none.
    of_project = () if in_named_tier else PROJECT_TIERS[settings.PROJECT_SERVICE_TIER]
    costs = []
    for model in ceiling.models:
        for tier in ceiling.tiers:
            possible = of_project if tier in UNNAMED_TIERS else ()
            cost = highest_cost(model, tier, now, ceiling.max_usage, own or (), possible)
            if cost is None and own is None:
                raise BudgetUnavailable
            if cost is None:
                raise ModelNotPriced(unpriced_message(model, tier), param="model")
            costs.append(cost)
    return max(costs)


def unpriced_message(model: str, tier: str) -> str:
    """Returns the message of the error for a call that must have a price, but names no model or one without a price."""
    if not model:
        return "This key or its team has a budget, so its calls must name their model."
    in_tier = f" in the service tier '{tier[:50]}'" if tier else ""
    return (
        f"This key or its team has a budget, and the model '{model[:200]}' has no price{in_tier}. An administrator can"
        " add one to the custom prices; it is in force half a minute later."
    )


def refusal(
    ceilings: Ceilings, standing: BudgetState, day: date, dollars: Decimal, *, is_limited: bool
) -> BudgetExceeded:
    """Creates the error for a call that may cost more than its key's or its team's budget has left.

    * `ceilings`: the limits of the key or team. The message says which it is; the error's `param` is `team` for a team.
    * `dollars`: the highest possible cost of the call.
    * `is_limited`: whether `dollars` is already the cost with the shortest answer that the key allows.

    If the budget may suffice once the calls in flight have ended, `Retry-After` is a few seconds. Otherwise it is the
    time until the budget's next day or month begins (one day for a total budget), and the error's `is_final` is true.
    """
    budgets = ceilings.budgets
    amounts = {"total": budgets.total, "month": budgets.month, "day": budgets.day}
    full = [
        (span, amount, standing.spent[span], standing.held[span])
        for span, amount in amounts.items()
        if amount is not None and standing.spent[span] + standing.held[span] + dollars > amount
    ]
    if not full:  # it would have fitted by itself, but others that waited with it were first
        return BudgetExceeded(
            f"Other calls hold what {ceilings.words} has left.",
            retry_after=RETRY_AFTER_HELD_SECONDS, is_final=False, param=ceilings.param,
        )  # fmt: skip
    # Of several budgets, the total one is named, else that of the month.
    span, amount, spent, held = full[0]
    ends_by_itself = all(spent + dollars <= amount for _, amount, spent, _ in full)
    hint = ", even with the least output that this key allows" if is_limited else ". A lower max_tokens lowers that"
    words = (
        f"{_NAMES[span].format(ceilings.words)} is {_in_dollars(amount)}, {_in_dollars(spent + held)} used or reserved."
        f" This call could cost up to {_in_dollars(dollars)}{hint}."
    )
    return BudgetExceeded(
        words,
        retry_after=RETRY_AFTER_HELD_SECONDS if ends_by_itself else seconds_left(span, day),
        is_final=not ends_by_itself,
        param=ceilings.param,
    )


def seconds_left(span: str, day: date) -> int:
    """Returns the seconds (at least 1) until the next day or month of a budget begins.

    `span` is `day`, `month` or `total`. For a total budget, which has no end, the result is one day. `day` is the
    present UTC day.
    """
    if span == "total":
        return RETRY_AFTER_TOTAL_SECONDS
    next_day = day + timedelta(days=1) if span == "day" else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    ends = datetime.combine(next_day, time_of_day.min, UTC)
    return max(1, int((ends - datetime.now(UTC)).total_seconds()) + 1)


_NAMES = {
    "day": "The budget of {} for a day",
    "month": "The budget of {} for a month",
    "total": "The lifetime budget of {}",
}


def _in_dollars(dollars: Decimal) -> str:
    """Formats dollars for a message, rounded up to a hundredth of a cent: `$1.50`, or `$0.0012`."""
    exact = dollars.quantize(Decimal("0.0001"), ROUND_UP)
    return f"${exact:.2f}" if exact == exact.quantize(Decimal("0.01")) else f"${exact}"
