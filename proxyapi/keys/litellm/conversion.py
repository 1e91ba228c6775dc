"""Converts the limits, budgets and lists of models that keys and teams of a LiteLLM proxy have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from typing import Any, ClassVar

from proxyapi.keys.litellm.tables import LiteLLMRow

ALL_MODELS = {"all-proxy-models", "*"}
OPENAI_PREFIX = "openai/"  # LiteLLM's name of OpenAI as a provider, in the names of models
# Durations of LiteLLM's budgets: a number and a unit. It lets 30 days be a month of the calendar, and so does this.
DAYS = {"s": Decimal(1) / 86400, "m": Decimal(1) / 1440, "h": Decimal(1) / 24, "d": Decimal(1), "w": Decimal(7)}
EXACT = {"1d": "day", "24h": "day", "30d": "month", "1mo": "month"}
LONGEST_MONTH_DAYS = 31
SMALLEST_DOLLARS = Decimal("0.0001")
TOO_MANY_DOLLARS = Decimal(100_000_000)
LIMITS = {
    "rpm_limit": "requests_per_minute",
    "tpm_limit": "tokens_per_minute",
    "max_parallel_requests": "parallel_calls",
}
MOST = {
    "requests_per_minute": 2**31 - 1,
    "tokens_per_minute": 2**63 - 1,
    "parallel_calls": 2**31 - 1,
}
SHARED_LIMITS = ("max_budget", *LIMITS)  # columns of an organization's or a member's budget, and of a user
# Columns of a key, a team, a budget or metadata without a counterpart here, which are mentioned if they are set.
WITHOUT_COUNTERPART = {
    "aliases": "names of models that it replaces",
    "model_max_budget": "budgets for each model",
    "tpd_limit": "tokens per day",
    "access_group_ids": "access groups",
    "policies": "policies",
    "object_permission_id": "permissions for objects",
    "auto_rotate": "automatic rotation",
    "project_id": "limits of its project",
    "default_team_member_models": "models of its members",
    "model_rpm_limit": "requests per minute for each model",
    "model_tpm_limit": "tokens per minute for each model",
    "guardrails": "guardrails",
    "enforced_params": "parameters that its calls must have",
}


@dataclass
class Proposal:
    """A proposal for an access key or a team. `fields` has the columns of its row by name, no secret.

    * `shown`: LiteLLM's own text for it: the end of a key's secret, such as `sk-...abcd`, or a team's id.
    * `remarks`: tell an administrator how the new one differs from LiteLLM's.
    * `refusal`: says why it cannot be made; empty if it can.
    """

    switched_off: ClassVar[str]  # the words for one whose calls are refused

    name: str
    shown: str
    fields: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    refusal: str = ""

    def switch_off(self, why: str) -> None:
        """Makes the proposed key or team one whose calls are refused, with the remark `why`."""
        self.fields["active"] = False
        self.remarks.append(f"{why}, so {self.switched_off}")


def set_limits(proposal: Proposal, row: LiteLLMRow, budget: LiteLLMRow) -> None:
    """Sets the limits of requests, tokens and parallel calls from a LiteLLM key or team or, if unset, its budget.

    `row` is the row of the key or team. A limit below 1 switches the new one off. A limit that is too high for our
    database column is left out.
    """
    for theirs, ours in LIMITS.items():
        limit = row.get(theirs)
        limit = budget.get(theirs) if limit is None else limit
        if limit is not None and limit < 1:
            proposal.switch_off(f"its {theirs} is {limit}")
        elif limit is not None and limit <= MOST[ours]:
            proposal.fields[ours] = int(limit)


def set_budgets(proposal: Proposal, row: LiteLLMRow, budget: LiteLLMRow) -> None:
    """Sets the budgets of a proposed key or team: those in LiteLLM's `row` or, without any, that of its budget row.

    Further budgets of the row (`budget_limits`) are set, too. Amounts too high for our columns are left out.
    """
    own = row.get("max_budget") is not None
    duration = row.get("budget_duration") or (None if own else budget.get("budget_duration"))
    windows: list[tuple[object, object]] = [(row.get("max_budget") if own else budget.get("max_budget"), duration)]
    more = row.get("budget_limits")
    for window in more if isinstance(more, list) else []:
        if isinstance(window, dict):
            windows.append((window.get("max_budget"), window.get("budget_duration")))
    spent = as_number(row.get("spend")) or Decimal(0)
    for amount, span in windows:
        dollars = as_number(amount)
        if dollars is not None and dollars < TOO_MANY_DOLLARS:
            _set_budget(proposal, dollars, str(span or ""), spent)


def _set_budget(proposal: Proposal, dollars: Decimal, duration: str, spent: Decimal) -> None:
    """Sets one budget of a proposed key or team: LiteLLM's was `dollars` for each `duration`, such as `30d`.

    The new budget is for the shortest span (day, month or lifetime) that covers `duration`; a remark says if they
    differ. A lifetime budget is reduced by the `spent` dollars. Of two budgets for one span, the smaller one stays.
    """
    span = _span(duration)
    left = max(dollars - spent, Decimal(0)) if span == "total" else max(dollars, Decimal(0))
    left = left.quantize(SMALLEST_DOLLARS, ROUND_DOWN)
    if duration and duration not in EXACT:
        words = "as lifetime budget" if span == "total" else f"a {span}"
        proposal.remarks.append(f"its budget of ${dollars} for {duration} became ${left} {words}")
    column = f"budget_{span}"
    proposal.fields[column] = min(left, proposal.fields.get(column, left))


def _span(duration: str) -> str:
    """Returns the shortest budget span (`day`, `month`, `total`) that is at least as long as LiteLLM's `duration`.

    For example, `7d` gives `month`. An empty or unknown duration gives `total`.
    """
    if duration in EXACT:
        return EXACT[duration]
    match = re.fullmatch(r"(\d+)(s|m|h|d|w)", duration)
    if match is None:
        return "total"
    days = int(match[1]) * DAYS[match[2]]
    return "day" if days <= 1 else "month" if days <= LONGEST_MONTH_DAYS else "total"


def model_globs(models: object) -> list[str]:
    """Converts a list of LiteLLM's names of models to globs; an empty list means that all models are allowed."""
    names = [str(model) for model in models] if isinstance(models, list) else []
    if ALL_MODELS & set(names):
        return []
    # In LiteLLM's names only `*` has a meaning of its own, so the other signs of globs are quoted.
    return [name.replace("[", "[[]").replace("?", "[?]") for name in names]


def set_models(proposal: Proposal, models: list[str], *, upstream_is_openai: bool) -> None:
    """Sets the globs of the models that a proposed key or team may use; an empty list allows all.

    If `upstream_is_openai` is true, the prefix `openai/` is removed, and a remark lists models with other prefixes.
    """
    if upstream_is_openai:
        models = [model.removeprefix(OPENAI_PREFIX) for model in models]
        if others := [model for model in models if "/" in model]:
            proposal.remarks.append(f"OpenAI has no models of these names: {', '.join(others)}")
    proposal.fields["allowed_models"] = [] if "*" in models else list(dict.fromkeys(models))


def without_counterpart(*sources: LiteLLMRow) -> Iterator[str]:
    """Yields a remark on what some rows of LiteLLM have, and a key or team here cannot have; none if there is nothing.

    `sources` are the row of a key or team, and those of its budget and its metadata.
    """
    left = [words for column, words in WITHOUT_COUNTERPART.items() if any(source.get(column) for source in sources)]
    if left:
        yield f"not taken over: {', '.join(left)}"


def has_limits(row: LiteLLMRow) -> bool:
    """Returns whether a user or a budget of LiteLLM's has a budget or a limit of requests, tokens or parallel calls."""
    return any(row.get(column) is not None for column in SHARED_LIMITS)


def metadata_of(row: LiteLLMRow) -> LiteLLMRow:
    """Returns the metadata of a LiteLLM key or team; empty if there is none."""
    metadata = row.get("metadata")
    return metadata if isinstance(metadata, dict) else {}


def as_number(value: object) -> Decimal | None:
    """Converts a value in LiteLLM's rows to a decimal; returns None for infinity, and for all that is no number."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
