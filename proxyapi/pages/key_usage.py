"""The usage page of one key: the dashboard for this key only, with the key's budgets and limits.

Two sites show it: the admin, and "My usage" (`proxyapi.pages.my_usage`), which the holder of a key opens with the key's
secret. There, the page has no link to any other key or call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

from django.http import HttpRequest, JsonResponse

from proxyapi.keys.callers import Caller, Ceilings
from proxyapi.models import AccessKey
from proxyapi.team_models import SpenderColumns
from usage.admin_pages import dashboard
from usage.admin_pages.access import may_see_bodies
from usage.money.spenders import SpenderKind
from usage.money.spent_and_reserved import spent_by
from usage.page_data.errors.newest_failures import read_newest_own_failures
from usage.page_data.filters import in_address
from usage.page_data.formatting import count, dollars
from usage.page_data.key_summary import budget_bars, month_pace
from usage.page_data.newest_calls import read_newest_calls_of_key
from usage.sums.ranges import range_or_default

NEWEST_CALLS = 20


@dataclass(frozen=True)
class CeilingFacts:
    """The facts that pages show about a key or a team: name, budgets in dollars, limits, and when it was made."""

    name: str
    budgets: Mapping[str, Decimal | None]
    limits: tuple[tuple[str, str], ...]  # pairs of a label and a text
    created_at: datetime | None = None

    @classmethod
    def of(cls, found: SpenderColumns | Ceilings) -> CeilingFacts:
        """Creates `CeilingFacts` from a key or a team: from the database row, or from the `Ceilings` in memory."""
        budgets = found.budgets if isinstance(found, SpenderColumns) else vars(found.budgets)
        return cls(found.name, budgets, tuple(_limits(found)), found.created_at)


@dataclass(frozen=True)
class KeyFacts:
    """The facts that a key's usage page shows beside the usage: names, budgets and limits of the key and of its team.

    * `is_own`: true if the page is for the key's holder or for the lead of the key's team, false for an administrator.
    * `sees_calls`: false for people who may not see single calls, such as the lead.
    * `owner`: if it is not None, only calls that were made while the key had this owner are shown.
    """

    ceilings: CeilingFacts
    team: CeilingFacts | None = None
    is_own: bool = False
    sees_calls: bool = True
    owner: str | None = None
    calls_url: str = ""  # of the list of the key's calls, for those who may see them

    @property
    def name(self) -> str:
        """The name of the key."""
        return self.ceilings.name

    @classmethod
    def of(cls, key: AccessKey | Caller, *, is_own: bool = False, sees_calls: bool = True) -> KeyFacts:
        """Creates `KeyFacts` from an access key: from its database row, or from its `Caller` in memory."""
        team = key.team if isinstance(key, AccessKey) else key.team_ceilings
        return cls(CeilingFacts.of(key), None if team is None else CeilingFacts.of(team), is_own, sees_calls)


def page_context(request: HttpRequest, key: KeyFacts, data_url: str) -> dict[str, object]:
    """Returns the values for the template of a key's usage page.

    `data_url` is the URL from which the open page fetches newer data, as `data_response` returns them.
    """
    context = dashboard.dashboard_context(request, data_url, key.name)
    for own in _fragments(request, key).values():
        context |= own
    return context


def data_response(request: HttpRequest, key: KeyFacts) -> JsonResponse:
    """Returns the newest data of a key's usage page as JSON; the open page refreshes itself with it."""
    return dashboard.refresh_response(request, _fragments(request, key), key.name)


def _fragments(request: HttpRequest, key: KeyFacts) -> dict[str, dict[str, object]]:
    """Returns the template values for those parts of a key's usage page that are refreshed while the page is open.

    Each part is a template of its own: the result maps the template's name to a dict of the values for it.
    """
    now = datetime.now(UTC)
    team = {} if key.team is None else {"team": {"name": key.team.name, **budget_context("team", key.team, now)}}
    found: dict[str, dict[str, object]] = {
        "budgets": {**budget_context("key", key.ceilings, now), **team},
        "tiles": {"is_own": key.is_own},
        "used": {"is_own": key.is_own, "key_query": urlencode({"key": in_address(key.name)})},
    }
    if key.is_own:
        if not key.sees_calls:
            return found
        time_range, _ = range_or_default(request.GET, now)
        calls = read_newest_calls_of_key(key.name, time_range.in_hours(now), NEWEST_CALLS, key.owner)
        failures = read_newest_own_failures(key.name, key.owner, now)
        return {
            **found,
            "own_failures": {
                "failures": failures,
                "failure_links": [(call, f"{key.calls_url}{call.pk}/") for call in failures.calls],
                "calls_url": key.calls_url,
            },
            "own_calls": {"calls": calls, "calls_url": key.calls_url},
        }
    return {**found, "newest_errors": {**found["used"], "sees_bodies": may_see_bodies(request)}}


def budget_context(kind: SpenderKind, found: CeilingFacts, now: datetime) -> dict[str, object]:
    """Reads the spending of a key or team; returns the values for the template of its budgets and limits."""
    spent = spent_by(kind, [found.name], now.date())[found.name]
    held = dollars(spent.held) if spent.held else ""
    return {
        "budget_bars": budget_bars(spent, found.budgets, now),
        "pace": month_pace(spent, found.budgets.get("month"), now, found.created_at),
        "limits": found.limits,
        "held": held,
    }


def _limits(found: SpenderColumns | Ceilings) -> list[tuple[str, str]]:
    """Returns the rate limits, models and routes of a key or team for its usage page, as pairs of label and text."""
    numbers = [
        ("Requests per minute", found.requests_per_minute),
        ("Tokens per minute", found.tokens_per_minute),
        ("Parallel calls", found.parallel_calls),
    ]
    if isinstance(found, AccessKey | Caller):  # a team has no such limit
        numbers.append(("Output tokens per call", found.max_output_tokens))
    lists = (("Models", found.allowed_models), ("Routes", found.allowed_routes))
    return [
        *((label, "no limit" if limit is None else count(limit)) for label, limit in numbers),
        *((label, ", ".join(globs) or "all") for label, globs in lists),
    ]
