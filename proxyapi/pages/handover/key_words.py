"""Describes in words what a key may use: its models, limits and budgets, and those of its team."""

from __future__ import annotations

from proxyapi.models import AccessKey
from proxyapi.team_models import SpenderColumns
from usage.number_words import plural
from usage.page_data.formatting import count, dollars
from usage.untrusted_text import escape_invisible

SPANS = {"day": "a day", "month": "a month", "total": "in total"}


def summary(key: AccessKey) -> str:
    """Returns a sentence with a key's limits and budgets, and a second one with those of its team, if it has any."""
    allowances = _allowances(key)
    if key.max_output_tokens is not None:
        allowances.append(f"get up to {count(key.max_output_tokens)} output tokens a call")
    until = "" if key.expires_at is None else f", until {key.expires_at:%Y-%m-%d %H:%M} UTC"
    name = f"The key “{escape_invisible(key.name)}”"
    own = f"{name} may {_listed(allowances)}{until}."
    if not allowances:
        own = f"{name} has no limit and no budget of its own{until}."
    if key.team is None or not (of_team := _allowances(key.team)):
        return own
    return f"{own} All keys of its team “{escape_invisible(key.team.name)}” together may {_listed(of_team)}."


def models(key: AccessKey) -> str:
    """Returns in words which models a key may use by its own rules and its team's: names and patterns, or `all`."""
    own, of_team = (_names(one.allowed_models) if one else "" for one in (key, key.team))
    if own and of_team and own != of_team:
        return f"{own}; of these, only what the team may use: {of_team}"
    return own or of_team or "all"


def budgets(row: SpenderColumns) -> str:
    """Returns the budgets of a key or a team in words, such as "$1.00 a day, $20.00 a month".

    The text is empty if there is no budget.
    """
    return ", ".join(
        f"{dollars(budget)} {SPANS[span]}" for span, budget in row.budgets.items() if budget is not None
    )  # fmt: skip


def limits(row: SpenderColumns) -> str:
    """Returns the limits of a key or a team other than models and budgets, such as "60 requests a minute".

    The text is empty if there are none.
    """
    told = (
        (row.allowed_routes, f"only {_names(row.allowed_routes)}"),
        (row.requests_per_minute, f"{_counted(row.requests_per_minute, 'request')} a minute"),
        (row.tokens_per_minute, f"{_counted(row.tokens_per_minute, 'token')} a minute"),
        (row.parallel_calls, f"{_counted(row.parallel_calls, 'call')} at a time"),
    )
    return ", ".join(phrase for is_limited, phrase in told if is_limited)


def _allowances(row: SpenderColumns) -> list[str]:
    """Returns the models, routes, budgets and limits of a key or a team as phrases to follow "may".

    An example is "make up to 60 requests a minute". There is no phrase for what is not limited.
    """
    told = (
        (row.allowed_models, f"use {_names(row.allowed_models)}"),
        (row.allowed_routes, f"call {_names(row.allowed_routes)}"),
        (budgets(row), f"spend up to {budgets(row)}"),
        (row.requests_per_minute, f"make up to {_counted(row.requests_per_minute, 'request')} a minute"),
        (row.tokens_per_minute, f"take up to {_counted(row.tokens_per_minute, 'token')} a minute"),
        (row.parallel_calls, f"run up to {_counted(row.parallel_calls, 'call')} at a time"),
    )
    return [phrase for is_limited, phrase in told if is_limited]


def _names(names: list[str]) -> str:
    return escape_invisible(", ".join(names))


def _listed(phrases: list[str]) -> str:
    """Joins phrases to one text: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(phrases[:-1]), *phrases[-1:]]))


def _counted(number: int | None, noun: str) -> str:
    return f"{count(number)} {plural(number or 0, noun)}"
