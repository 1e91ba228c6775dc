"""Finds faults of keys, calls and upstream in the tables of sums; reads no rows of single calls.

Each function looks for one kind of fault, and yields a `FoundFault` for each subject that has it. Times `now` are by
the database's clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from django.db.models import Sum

from chatproxy.alert_models import AlertKind, AlertRule
from chatproxy.alerts.kinds import FoundFault, one_line
from proxyapi.keys.budget_use import read_used_budgets
from proxyapi.models import AccessKey
from usage.models import Dimension, ErrorTotal, Outcome, Span
from usage.page_data.formatting import count, dollars, duration
from usage.sums.totals_reader import floor, read_by_value, read_totals

LedgerCondition = Callable[[AlertRule, datetime], Iterator[FoundFault]]

FAILED = (Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.INTERRUPTED)
BUDGET_CODE = "budget_exceeded"  # of `proxyapi.exceptions.BudgetExceeded`, whose import would load much more
LEAST_CALLS = 20  # of fewer calls, neither a rate of errors nor a percentile says anything
USUAL_DAYS = 7
TEAMS_PAGE = "admin/proxyapi/team/"
LEAST_TIMES_USUAL = 3  # how many times the usual rate of errors opens an alert
LEAST_SLOW_MS = 5000.0
MOST_DAYS = 100 * 366.0  # before an expiry; a rule may have more, and no calendar has such a day
SPANS = {"day": "budget for today", "month": "budget for this month", "total": "lifetime budget"}


def find_used_budgets(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault for each budget that is spent to at least the rule's threshold, in percent.

    Reserved dollars do not count: an alert would come and go whenever a worker reserves dollars or returns them.
    """
    for used in read_used_budgets(now.date()):
        if used.part_spent * 100 >= _threshold(rule):
            # Rounded down, as the bars on pages are: 99.6 % is not used up.
            percent = f"{int(used.part_spent * 100)} %"
            kind, name = used.spender
            # A key and a team may have the same name, and none of them begins with a space.
            subject = f"{name}, {used.span}" if kind == "key" else f" team {name}, {used.span}"
            yield FoundFault(
                subject,
                # Rules with different thresholds have an alert each.
                f"{kind.capitalize()} {one_line(name)} has spent {percent} of its {SPANS[used.span]}"
                f" (threshold {_threshold(rule):g} %)",
                f"{dollars(used.spent)} of {dollars(used.budget)} spent, {dollars(used.reserved)} more reserved.",
                now,
                {"q": name},
                "" if kind == "key" else TEAMS_PAGE,
            )


def find_budget_refusals(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault for each key with many calls that were refused because a budget had no room for their cost.

    Many means at least the rule's threshold. Calls are counted from the start of the hour in which the rule's window
    (minutes) begins.
    """
    refused = ErrorTotal.objects.filter(
        span=Span.HOUR, start__gte=floor(now - _window(rule), Span.HOUR), error_code=BUDGET_CODE
    )
    for key, calls in refused.values_list("key_name").annotate(Sum("calls")).order_by("key_name"):
        if calls >= max(1, _threshold(rule)):
            title = f"Calls of key {one_line(key)} are refused, because its budget has no room for them"
            yield FoundFault(key, title, f"Refused calls: {count(calls)}.", now, {"q": key})


def find_error_rate(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if many calls in the rule's window (minutes up to `now`) failed, and more than usual.

    * Many: at least the rule's threshold, in percent of at least 20 calls. With fewer calls there is no fault.
    * More than usual: at least three times the rate in the same window of the last seven days. This is not required if
      there were fewer than 20 calls in those windows.
    """
    failed, calls = _failed_and_all(now - _window(rule), now, now)
    if calls < LEAST_CALLS or 100 * failed < _threshold(rule) * calls:
        return
    usual = [_failed_and_all(start, end, now) for start, end in _past_windows(rule, now)]
    usual_failed, usual_calls = (sum(numbers) for numbers in zip(*usual, strict=True))
    usual_rate = usual_failed / usual_calls if usual_calls >= LEAST_CALLS else 0.0
    if failed / calls >= LEAST_TIMES_USUAL * usual_rate:
        title = f"{100 * failed / calls:.0f} % of the calls fail"
        usually = f"usually {100 * usual_rate:.1f} %" if usual_calls >= LEAST_CALLS else "too few calls to compare"
        yield FoundFault(
            "", title, f"{count(failed)} of {count(calls)} calls in {_window_words(rule)}; {usually}.", now
        )


def find_slowness(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault if upstream took much longer for the calls in the rule's window (minutes up to `now`) than usual.

    Times are 95th percentiles. The usual time is that of the same window on the last seven days together. Much longer
    means at least the usual time multiplied by the rule's threshold, and at least `LEAST_SLOW_MS`. There is no fault if
    there were fewer than 20 calls in the window, or in the windows of the last seven days.
    """
    here = read_totals(now - _window(rule), now, now)
    slow = here.percentile("upstream_ms", 0.95)
    if here.calls < LEAST_CALLS or slow is None or slow < LEAST_SLOW_MS:
        return
    usual = None
    for start, end in _past_windows(rule, now):
        totals = read_totals(start, end, now)
        if usual is None:
            usual = totals
        else:
            usual.merge(totals)
    usual_ms = usual.percentile("upstream_ms", 0.95) if usual and usual.calls >= LEAST_CALLS else None
    if usual_ms is not None and slow >= float(_threshold(rule)) * usual_ms:
        detail = f"One call in twenty takes {duration(slow)} or longer; usually {duration(usual_ms)}."
        yield FoundFault("", "Upstream is slow", detail, now)


def find_missing_prices(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault for each model with many calls that have no cost, because no price of the model is known.

    Many means at least the rule's threshold, in the window (minutes) of the rule.
    """
    found = read_by_value([Dimension.MODEL], now - _window(rule), now, now)[Dimension.MODEL]
    for model, totals in found.items():
        if totals.unpriced_calls >= max(1, _threshold(rule)):
            title = f"No price is known for {one_line(model) or 'calls without a model'}"
            detail = f"Calls without a cost in {_window_words(rule)}: {count(totals.unpriced_calls)}."
            yield FoundFault(model, title, detail, now)


def find_expiring_keys(rule: AlertRule, now: datetime) -> Iterator[FoundFault]:
    """Yields a fault for each active key that expires soon: within the number of days that is the rule's threshold."""
    end = now + timedelta(days=min(_threshold(rule), MOST_DAYS))
    found = AccessKey.objects.filter(active=True, revoked_at=None, expires_at__gt=now, expires_at__lte=end)
    for name, expires_at in found.values_list("name", "expires_at"):
        title = f"Key {one_line(name)} expires on {expires_at:%Y-%m-%d}"
        yield FoundFault(
            name, title, f"From {expires_at:%Y-%m-%d %H:%M} UTC on, its calls are refused.", now, {"q": name}
        )


LEDGER_CONDITIONS: dict[str, LedgerCondition] = {
    AlertKind.BUDGET: find_used_budgets,
    AlertKind.BUDGET_REFUSALS: find_budget_refusals,
    AlertKind.ERROR_RATE: find_error_rate,
    AlertKind.UPSTREAM_SLOW: find_slowness,
    AlertKind.UNPRICED: find_missing_prices,
    AlertKind.KEY_EXPIRY: find_expiring_keys,
}


def _failed_and_all(start: datetime, end: datetime, now: datetime) -> tuple[int, int]:
    """Returns how many of the calls between `start` and `end` failed, and how many either failed or succeeded.

    Timeouts and interrupted calls count as failed. Calls that the gateway refused, and calls whose caller left, do not
    count in either number.
    """
    totals = read_by_value([Dimension.OUTCOME], start, end, now)[Dimension.OUTCOME]
    failed = sum(totals[outcome].calls for outcome in FAILED if outcome in totals)
    return failed, failed + (totals[Outcome.SUCCESS].calls if Outcome.SUCCESS in totals else 0)


def _past_windows(rule: AlertRule, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yields the start and end of the same window of time on each of the last seven days.

    The window is the rule's: a number of minutes that ends at the time of day of `now`.
    """
    for days in range(1, USUAL_DAYS + 1):
        end = now - timedelta(days=days)
        yield end - _window(rule), end


def _window(rule: AlertRule) -> timedelta:
    return timedelta(minutes=rule.window_minutes or 1)


def _window_words(rule: AlertRule) -> str:
    """Returns the length of a rule's window in words, such as `15 min` or `2 h`."""
    minutes = rule.window_minutes or 1
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def _threshold(rule: AlertRule) -> float:
    return float(rule.threshold or 0)
