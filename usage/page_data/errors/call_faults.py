"""Decides by whose fault a call failed: the caller's, the gateway's, OpenAI's or an account's limit; in words, too.

`RULES` is the only place that decides. `fault_of` applies it to one call, and `FAULT_SQL` to rows in the database.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from usage.answers.errors import parameter_name
from usage.models import Outcome, Request

CALLER, GATEWAY, ACCOUNT, UPSTREAM = "caller", "gateway", "account", "openai"
FAULTS = {CALLER: "Caller", GATEWAY: "Gateway", ACCOUNT: "Account limit", UPSTREAM: "OpenAI"}
# How calls ended, in words for pages that tell outcomes apart, but not faults: OpenAI answers with an error if it
# fails, and also if it refuses a faulty request.
OUTCOME_LABELS = {
    **dict(Outcome.choices),
    Outcome.UPSTREAM_ERROR.value: "answered with an error",
    Outcome.REJECTED.value: "refused by the gateway",
}
# An `upstream_error` in words, by the fault.
UPSTREAM_ERROR_LABELS = {
    CALLER: "refused by OpenAI",
    GATEWAY: "refused by OpenAI",
    ACCOUNT: "limited by OpenAI",
    UPSTREAM: "OpenAI failed",
}
DISCONNECTED = "upstream_disconnected"  # the error code of an `unreachable` call whose connection was there, and broke


class Rule(NamedTuple):
    """A rule that says by whose fault calls failed: those with this outcome, and with an HTTP status in a range.

    The range is from `first` to `last`; if `first` is None, the status does not matter. `fault` is one of `FAULTS`.
    """

    outcome: Outcome
    first: int | None
    last: int | None
    fault: str


# Where a failed call is to be mended; the first rule that fits counts, and without one OpenAI is at fault. Upstream
# refuses the upstream key, mostly the gateway's, with 401 and 403. With 429 it says that the account of that key has
# reached its rate limit or its quota: OpenAI has not failed, and the request was right. 408 is upstream's own timeout.
# Whoever is refused by the gateway for another reason than its own state (5xx) has sent something wrong, or has used up
# a limit.
RULES = (
    Rule(Outcome.CLIENT_CANCELLED, None, None, CALLER),
    Rule(Outcome.INTERRUPTED, None, None, GATEWAY),
    Rule(Outcome.REJECTED, 500, 599, GATEWAY),
    Rule(Outcome.REJECTED, None, None, CALLER),
    Rule(Outcome.UPSTREAM_ERROR, 401, 401, GATEWAY),
    Rule(Outcome.UPSTREAM_ERROR, 403, 403, GATEWAY),
    Rule(Outcome.UPSTREAM_ERROR, 408, 408, UPSTREAM),
    Rule(Outcome.UPSTREAM_ERROR, 429, 429, ACCOUNT),
    Rule(Outcome.UPSTREAM_ERROR, 400, 499, CALLER),
)


def _when(rule: Rule) -> str:
    statuses = "" if rule.first is None else f" AND status BETWEEN {rule.first} AND {rule.last}"
    return f"WHEN outcome = '{rule.outcome.value}'{statuses} THEN '{rule.fault}'"


# An SQL expression for the fault of a failed call, from the columns `outcome` and `status`.
FAULT_SQL = f"CASE {' '.join(map(_when, RULES))} ELSE '{UPSTREAM}' END"


def fault_of(call: Request) -> str:
    """Returns by whose fault a call failed, as one of `FAULTS`; an empty text if it succeeded."""
    if call.outcome == Outcome.SUCCESS:
        return ""
    for outcome, first, last, fault in RULES:
        if call.outcome == outcome and (
            first is None or last is None or (call.status is not None and first <= call.status <= last)
        ):
            return fault
    return UPSTREAM


def fault_label(call: Request) -> str:
    """Returns by whose fault a call failed, as a word for pages, such as `Caller`; an empty text if it succeeded."""
    return FAULTS.get(fault_of(call), "")


def outcome_words(outcome: str, fault: str, error_code: str = "") -> str:
    """Returns in words how calls with this outcome, fault (one of `FAULTS`) and error code ended.

    For example, `refused by OpenAI`.
    """
    if outcome == Outcome.UNREACHABLE and error_code == DISCONNECTED:
        return "connection lost"
    if outcome == Outcome.UPSTREAM_ERROR:
        return UPSTREAM_ERROR_LABELS.get(fault, OUTCOME_LABELS[outcome])
    return OUTCOME_LABELS.get(outcome, outcome)


def outcome_label(call: Request) -> str:
    """Returns in a few words how a call ended, such as `stream failed`."""
    # Its HTTP status does not show the failure, because 200 was sent before.
    if call.stream and call.outcome == Outcome.UPSTREAM_ERROR and call.status == 200:
        return "stream failed"
    return outcome_words(call.outcome, fault_of(call), call.error_code)


def fault_sentence(call: Request, parameter: str = "") -> str:
    """Returns a sentence for a failed call's page: who is at fault, and what was wrong; "" if the call succeeded.

    `parameter` is the name of the request's parameter that was refused, if it is known.
    """
    what = f"the caller's parameter {parameter}" if parameter else "the caller's request"
    fault = fault_of(call)
    match call.outcome, call.status:
        case Outcome.SUCCESS, _:
            return ""
        case Outcome.CLIENT_CANCELLED, _:
            return "The caller closed the connection before the answer was complete."
        case Outcome.INTERRUPTED, _:
            return "The gateway stopped before the call had ended."
        case Outcome.REJECTED, _ if fault == GATEWAY:
            return "The gateway could not serve the call."
        case Outcome.REJECTED, 429:
            return "The gateway refused the call: a limit was reached."
        case Outcome.REJECTED, _:
            return f"The gateway refused {what}."
        case Outcome.TIMEOUT, 200:
            return "OpenAI did not finish its answer in time."
        case Outcome.TIMEOUT, _:
            return "OpenAI did not answer in time."
        case Outcome.UNREACHABLE, _ if call.error_code == DISCONNECTED:
            return "The connection to OpenAI was lost before the answer was complete."
        case Outcome.UNREACHABLE, _:
            return "OpenAI could not be reached."
        case _, 401 | 403:
            return "OpenAI refused the call's upstream key, or its permissions."
        case _, 429:
            return "OpenAI's rate limit or quota of the call's upstream key was reached."
        case _, _ if fault == CALLER:
            return f"OpenAI refused {what}."
    return "OpenAI failed while it answered the call."


def refused_parameter(call: Request, *, reads_body: bool) -> str:
    """Returns the name of the parameter for which a call was refused; an empty text if it is not known.

    The call's row states it, except for rows of earlier releases. For these, if `reads_body` is true and the caller was
    at fault, the name is read from the stored body of the answer.
    """
    if call.error_param or not reads_body:
        return call.error_param
    kept = getattr(call, "body", None)
    if kept is None or fault_of(call) != CALLER:
        return ""
    try:
        parameter = orjson.loads(kept.response_body)["error"]["param"]
    except (ValueError, LookupError, TypeError):  # no whole JSON, or not in OpenAI's shape
        return ""
    return parameter_name(parameter)
