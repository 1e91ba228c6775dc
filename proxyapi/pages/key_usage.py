"""The usage page of one key: the dashboard narrowed to the key, its budgets and its limits.

Two sites show it: the admin, and the site that the holder of a key opens with the key's secret
(`proxyapi.pages.my_usage`), whose page has no link to any other key or call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode

from django.http import HttpRequest, JsonResponse

from proxyapi.keys.callers import Caller
from proxyapi.models import AccessKey
from usage.admin_pages import dashboard
from usage.admin_pages.access import may_see_bodies
from usage.money.spent_and_reserved import spent_by
from usage.page_data.formatting import count, dollars
from usage.page_data.key_summary import budget_bars
from usage.page_data.newest_calls import read_newest_calls_of_key
from usage.sums.ranges import range_or_default

NEWEST_CALLS = 20


@dataclass(frozen=True)
class KeyFacts:
    """What the usage page of a key shows besides the usage: the key's name, budgets and limits.

    `is_own` is true if the key's holder has opened the page, and false for an administrator.
    """

    name: str
    budgets: Mapping[str, Decimal | None]
    limits: tuple[tuple[str, str], ...]  # pairs of a label and a text
    is_own: bool = False

    @classmethod
    def of(cls, key: AccessKey | Caller, *, is_own: bool = False) -> KeyFacts:
        """Creates `KeyFacts` from an access key: from its database row, or from its `Caller` in memory."""
        budgets = key.budgets if isinstance(key, AccessKey) else vars(key.budgets)
        return cls(key.name, budgets, tuple(_limits(key)), is_own)


def page_context(request: HttpRequest, key: KeyFacts, data_url: str) -> dict[str, object]:
    """Returns the template's values for the usage page of a key.

    The open page refreshes itself from `data_url`, which answers with `data_response`.
    """
    context = dashboard.dashboard_context(request, data_url, key.name)
    for own in _fragments(request, key).values():
        context |= own
    return context


def data_response(request: HttpRequest, key: KeyFacts) -> JsonResponse:
    """Returns the newest data of a key's usage page as JSON; the open page refreshes itself with it."""
    return dashboard.refresh_response(request, _fragments(request, key), key.name)


def _fragments(request: HttpRequest, key: KeyFacts) -> dict[str, dict[str, object]]:
    """Returns the refreshed parts of a key's usage page: a dict from each part's template to its own values."""
    now = datetime.now(UTC)
    spent = spent_by([key.name], now.date())[key.name]
    held = dollars(spent.held) if spent.held else ""
    found: dict[str, dict[str, object]] = {
        "budgets": {"budget_bars": budget_bars(spent, key.budgets), "limits": key.limits, "held": held},
        "tiles": {},
        "used": {"is_own": key.is_own, "key_query": urlencode({"key": key.name})},
    }
    if key.is_own:
        time_range, _ = range_or_default(request.GET, now)
        return {**found, "own_calls": {"calls": read_newest_calls_of_key(key.name, time_range, NEWEST_CALLS)}}
    return {**found, "newest_errors": {**found["used"], "sees_bodies": may_see_bodies(request)}}


def _limits(key: AccessKey | Caller) -> list[tuple[str, str]]:
    """Returns a key's rate limits, models and routes for its usage page, as pairs of label and text."""
    numbers = (
        ("Requests per minute", key.requests_per_minute),
        ("Tokens per minute", key.tokens_per_minute),
        ("Parallel calls", key.parallel_calls),
        ("Output tokens per call", key.max_output_tokens),
    )
    lists = (("Models", key.allowed_models), ("Routes", key.allowed_routes))
    return [
        *((label, "no limit" if limit is None else count(limit)) for label, limit in numbers),
        *((label, ", ".join(globs) or "all") for label, globs in lists),
    ]
