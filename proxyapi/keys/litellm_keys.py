"""Converts keys of a LiteLLM proxy to access keys of this gateway, and says what could not be kept.

A right that has no equal here becomes narrower, never wider: a budget for a week becomes one for a month, and a key
that may use nothing is switched off. For each difference, the person who takes the keys over gets a remark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from hashlib import sha256
from typing import Any

from proxyapi.key_names import CONTROL_CHARACTERS
from proxyapi.keys.globs import matches_any
from proxyapi.keys.litellm_tables import LiteLLMKey, LiteLLMRow

ALL_MODELS = {"all-proxy-models", "*"}
TEAM_MODELS = "all-team-models"
OPENAI_PREFIX = "openai/"  # LiteLLM's name of OpenAI as a provider, in the names of models
ALL_ROUTES = {"llm_api_routes", "openai_routes"}  # names of groups of LiteLLM's routes
LONGEST_OWNER = 200  # characters of `AccessKey.owner`
NOBODY = "default_user_id"  # LiteLLM's name of the owner of keys that no user has made
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
# Columns of a key, of its budget or of its metadata without a counterpart here, which are mentioned if they are set.
WITHOUT_COUNTERPART = {
    "aliases": "names of models that it replaces",
    "model_max_budget": "budgets for each model",
    "tpd_limit": "tokens per day",
    "access_group_ids": "access groups",
    "policies": "policies",
    "object_permission_id": "permissions for objects",
    "auto_rotate": "automatic rotation",
    "model_rpm_limit": "requests per minute for each model",
    "model_tpm_limit": "tokens per minute for each model",
    "guardrails": "guardrails",
    "enforced_params": "parameters that its calls must have",
}
SHARED_LIMITS = (
    "max_budget",
    "rpm_limit",
    "tpm_limit",
    "max_parallel_requests",
)  # of a team or a user, for all its keys


@dataclass
class KeyProposal:
    """A proposal for an access key, made from a LiteLLM key. `fields` has the new key's columns by name, no secret.

    `shown` is LiteLLM's own short text for its key, such as `sk-...abcd`. `remarks` tell an administrator how the new
    key differs. `refusal` says why no key can be made; it is empty if one can.
    """

    name: str
    shown: str
    fields: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    refusal: str = ""


def propose_key(found: LiteLLMKey, now: datetime, *, upstream_is_openai: bool) -> KeyProposal:
    """Converts a LiteLLM key to a proposal for an access key, with a remark for the administrator on each difference.

    The proposal has a `refusal` if the key has expired by `now`, if its time of expiry cannot be read, or if LiteLLM
    allows it no routes for calls. If `upstream_is_openai` is true, the model `openai/gpt-4o` becomes `gpt-4o`, its name
    at OpenAI.
    """
    key = found.key
    shown = str(key.get("key_name") or "")
    proposal = KeyProposal(_name(key, shown), shown)
    fields = proposal.fields
    try:
        expires_at = _moment(key.get("expires"))
    except ValueError:
        expires_at, proposal.refusal = None, f"expires at {key.get('expires')}, which cannot be read"
    if expires_at is not None and expires_at <= now:
        proposal.refusal = "has expired"
    fields["expires_at"] = expires_at
    fields["owner"] = _owner(found)
    fields["note"] = _note(key, shown)
    fields["tags"] = _tags(key)
    fields["active"] = True
    _set_models(proposal, found, upstream_is_openai=upstream_is_openai)
    _set_routes(proposal, key)
    _set_limits(proposal, found)
    _set_budgets(proposal, found)
    if key.get("blocked") or found.team.get("blocked"):
        _switch_off(proposal, "it is blocked")
    proposal.remarks += _without_counterpart(found)
    return proposal


def _name(key: LiteLLMRow, shown: str) -> str:
    """Returns the name for the new key: the key's alias in LiteLLM or, without one, a name made of its digest."""
    alias = " ".join(str(key.get("key_alias") or "").split())
    return alias or f"litellm {shown} {sha256(str(key['token']).encode()).hexdigest()[:8]}"


def _owner(found: LiteLLMKey) -> str:
    """Returns the new key's owner: the LiteLLM team's name or id, else its user's e-mail address, name or id; or ""."""
    team, owner, user_id = found.team, found.owner, found.key.get("user_id")
    names = (
        team.get("team_alias"),
        found.key.get("team_id"),
        owner.get("user_email"),
        owner.get("user_alias"),
        user_id if user_id != NOBODY else None,
    )
    return str(next(filter(None, names), ""))[:LONGEST_OWNER]


def _note(key: LiteLLMRow, shown: str) -> str:
    spent = _number(key.get("spend")) or Decimal(0)
    return f"Taken over from LiteLLM, where its key was {shown or 'without a name'}, and had spent ${spent:.2f}."


def _tags(key: LiteLLMRow) -> list[str]:
    """Returns the tags in a LiteLLM key's metadata, which LiteLLM adds to calls; omits those above 100 characters."""
    metadata = key.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    found = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return [CONTROL_CHARACTERS.sub("\ufffd", tag) for tag in found if 0 < len(tag) <= 100]


def _set_models(proposal: KeyProposal, found: LiteLLMKey, *, upstream_is_openai: bool) -> None:
    """Sets the models that the new key may use: those that LiteLLM allows both to its key and to the key's team.

    Without a team, its user's models count instead. If both lists have models, but none in common, the new key is
    switched off. If `upstream_is_openai` is true, the prefix `openai/` is removed, and a remark lists models with other
    prefixes.
    """
    above = found.team if found.key.get("team_id") else found.owner
    own, shared = _globs(found.key.get("models")), _globs(above.get("models"))
    own = [] if TEAM_MODELS in own else own
    models = _common(own, shared)
    if own and shared and not models:
        _switch_off(proposal, "none of its models is one of its team's or its user's")
    if upstream_is_openai:
        models = [model.removeprefix(OPENAI_PREFIX) for model in models]
        if others := [model for model in models if "/" in model]:
            proposal.remarks.append(f"OpenAI has no models of these names: {', '.join(others)}")
    proposal.fields["allowed_models"] = [] if "*" in models else list(dict.fromkeys(models))


def _globs(models: object) -> list[str]:
    """Converts a list of LiteLLM's names of models to globs; an empty list means that all models are allowed."""
    names = [str(model) for model in models] if isinstance(models, list) else []
    if ALL_MODELS & set(names):
        return []
    # In LiteLLM's names only `*` has a meaning of its own, so the other signs of globs are quoted.
    return [name.replace("[", "[[]").replace("?", "[?]") for name in names]


def _common(some: Sequence[str], others: Sequence[str]) -> list[str]:
    """Returns the globs of model names that both lists allow; an empty list allows every name.

    A glob is kept if a glob of the other list covers it. Globs that only overlap, such as `gpt-*` and `*-mini`, are
    dropped. If both lists have globs, but none is kept, the result is empty: then no name is allowed.
    """
    if not some or not others:
        return [*some, *others]
    return [
        *(glob for glob in some if matches_any(glob, others)),
        *(glob for glob in others if matches_any(glob, some)),
    ]


def _set_routes(proposal: KeyProposal, key: LiteLLMRow) -> None:
    """Sets the routes of a proposed key; or its `refusal`, if LiteLLM allows the key no routes for calls."""
    allowed = [str(route) for route in key.get("allowed_routes") or []]
    paths = [_route(route) for route in allowed if route.startswith("/")]
    if not allowed or ALL_ROUTES & set(allowed):
        paths = []
    elif not paths:
        proposal.refusal = f"makes no calls: it is for LiteLLM's {', '.join(allowed)}"
    proposal.fields["allowed_routes"] = paths


def _route(path: str) -> str:
    """Converts a path in LiteLLM's form to the gateway's name of the route: `/files/{file_id}` to `/v1/files/{id}`."""
    whole = path if path.startswith("/v1/") else f"/v1{path}"
    return re.sub(r"\{[^}]*\}", "{id}", whole)


def _set_limits(proposal: KeyProposal, found: LiteLLMKey) -> None:
    """Sets the new key's limits of requests, tokens and parallel calls from the LiteLLM key or, if unset, its budget.

    A limit below 1 switches the new key off. A limit that is too high for our database column is left out.
    """
    for theirs, ours in LIMITS.items():
        limit = found.key.get(theirs)
        limit = found.budget.get(theirs) if limit is None else limit
        if limit is not None and limit < 1:
            _switch_off(proposal, f"its {theirs} is {limit}")
        elif limit is not None and limit <= MOST[ours]:
            proposal.fields[ours] = int(limit)


def _set_budgets(proposal: KeyProposal, found: LiteLLMKey) -> None:
    """Sets the new key's budgets: the LiteLLM key's own budget or, without one, that of LiteLLM's budget row.

    Further budgets of the LiteLLM key (`budget_limits`) are set, too. Amounts too high for our columns are left out.
    """
    key, budget = found.key, found.budget
    own = key.get("max_budget") is not None
    duration = key.get("budget_duration") or (None if own else budget.get("budget_duration"))
    windows: list[tuple[object, object]] = [(key.get("max_budget") if own else budget.get("max_budget"), duration)]
    more = key.get("budget_limits")
    for window in more if isinstance(more, list) else []:
        if isinstance(window, dict):
            windows.append((window.get("max_budget"), window.get("budget_duration")))
    spent = _number(key.get("spend")) or Decimal(0)
    for amount, span in windows:
        dollars = _number(amount)
        if dollars is not None and dollars < TOO_MANY_DOLLARS:
            _set_budget(proposal, dollars, str(span or ""), spent)


def _set_budget(proposal: KeyProposal, dollars: Decimal, duration: str, spent: Decimal) -> None:
    """Sets one budget of the new key from a budget in LiteLLM: `dollars` for each `duration`, such as `30d`.

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


def _switch_off(proposal: KeyProposal, why: str) -> None:
    proposal.fields["active"] = False
    proposal.remarks.append(f"{why}, so the key is switched off")


def _without_counterpart(found: LiteLLMKey) -> Iterator[str]:
    """Yields remarks on what a LiteLLM key, its team or its user has, and an access key cannot have."""
    metadata = found.key.get("metadata")
    sources = (found.key, found.budget, metadata if isinstance(metadata, dict) else {})
    left = [words for column, words in WITHOUT_COUNTERPART.items() if any(source.get(column) for source in sources)]
    if left:
        yield f"not taken over: {', '.join(left)}"
    for kind, above in (("team", found.team), ("user", found.owner)):
        if any(above.get(column) is not None for column in SHARED_LIMITS):
            yield f"not taken over: the limits and budgets of its {kind} {_label(above)}, for all keys together"


def _label(above: LiteLLMRow) -> str:
    names = ("team_alias", "team_id", "user_email", "user_alias", "user_id")
    return repr(str(next(filter(None, map(above.get, names)), "")))


def _number(value: object) -> Decimal | None:
    """Converts a value in LiteLLM's rows to a decimal; returns None for infinity, and for all that is no number."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moment(value: object) -> datetime | None:
    """Parses a time in LiteLLM's rows, which is in UTC unless it states an offset; returns None if there is no end.

    PostgreSQL's `infinity` is no end, and its `-infinity` is long past.

    Raises:
        ValueError: the text is no time, or one that Python cannot represent, such as one in the year 10000.
    """
    if not isinstance(value, str) or value == "infinity":
        return None
    moment = datetime.fromisoformat("0001-01-01" if value == "-infinity" else value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
