"""Owns what a page shows of one key: the dashboard narrowed to it, its budgets and its limits.

Two pages do: the admin's, and the one that the key itself opens (`proxyapi.pages.my_usage`), which leads nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, JsonResponse

from proxyapi.keys.keyring import Caller
from proxyapi.models import AccessKey
from usage.money.holds import spent_by
from usage.page_data.formatting import count, dollars
from usage.page_data.key_summary import budget_bars
from usage.page_data.newest_calls import read_newest_calls_of_key
from usage.pages import dashboard
from usage.pages.access import may_see_bodies

NEWEST_CALLS = 20


@dataclass(frozen=True)
class KeyFacts:
    """`is_own`: of the page that the key itself opens."""

    name: str
    budgets: Mapping[str, Decimal | None]
    limits: tuple[tuple[str, str], ...]
    is_own: bool = False

    @classmethod
    def of(cls, key: AccessKey | Caller, *, is_own: bool = False) -> KeyFacts:
        budgets = key.budgets if isinstance(key, AccessKey) else vars(key.budgets)
        return cls(key.name, budgets, tuple(_limits(key)), is_own)


def page(request: HttpRequest, key: KeyFacts, data_url: str) -> dict[str, Any]:
    """The context of the page; `data_url` answers with `data`."""
    facts = dashboard.dashboard_context(request, data_url, key.name)
    for own in _fragments(request, key).values():
        facts |= own
    return facts


def data(request: HttpRequest, key: KeyFacts) -> JsonResponse:
    return dashboard.refresh_response(request, _fragments(request, key), key.name)


def _fragments(request: HttpRequest, key: KeyFacts) -> dict[str, dict[str, Any]]:
    """The parts of the page, and what each needs."""
    spent = spent_by([key.name], datetime.now(UTC).date())[key.name]
    held = dollars(spent.held) if spent.held else ""
    found: dict[str, dict[str, Any]] = {
        "budgets": {"budget_bars": budget_bars(spent, key.budgets), "limits": key.limits, "held": held},
        "tiles": {},
        "used": {"is_own": key.is_own, "key_query": urlencode({"key": key.name})},
    }
    if key.is_own:
        return {**found, "own_calls": {"calls": read_newest_calls_of_key(key.name, NEWEST_CALLS)}}
    return {**found, "newest_errors": {**found["used"], "sees_bodies": may_see_bodies(request)}}


def _limits(key: AccessKey | Caller) -> list[tuple[str, str]]:
    numbers = (
        ("Requests a minute", key.requests_per_minute),
        ("Tokens a minute", key.tokens_per_minute),
        ("Calls at once", key.parallel_calls),
    )
    lists = (("Models", key.allowed_models), ("Routes", key.allowed_routes))
    return [
        *((label, "no limit" if limit is None else count(limit)) for label, limit in numbers),
        *((label, ", ".join(globs) or "all") for label, globs in lists),
    ]
