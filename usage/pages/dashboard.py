"""The first page of the admin, the same of one key, and the JSON that keeps them up to date: their templates again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse

from usage.live.status import read_status
from usage.page_data.base_url import base_url
from usage.page_data.dashboard_tiles import read_dashboard, read_key_dashboard
from usage.pages.access import admin_page, may_see, may_see_bodies
from usage.sums.ranges import NAMED, TimeRange, read_range

# What is filled in anew while the page is open; each is a template of its own.
FRAGMENTS = ("statuses", "tiles", "used", "newest_errors")
# Name in the data, title, unit, form.
CHARTS = (
    ("calls", "Calls by outcome", "", "bars"),
    ("dollars", "Dollars by model", "$", "bars"),
    ("tokens", "Tokens", "", "bars"),
    ("latency", "Latency", "ms", "lines"),
)
REFRESH_SECONDS = {"hour": 5, "day": 10}
SLOW_REFRESH_SECONDS = 30
# Of one key, sums are of hours.
KEY_RANGES = tuple(name for name in NAMED if name != "hour")


def show(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The context of the admin's index; unfold calls it."""
    if not may_see(request):
        return context
    return {
        **context,
        **dashboard_context(request, reverse("pages:dashboard_data")),
        "title": "Dashboard",
        "sees_bodies": may_see_bodies(request),
        "ranges": NAMED,
        "base_url": base_url(request),
        "upstream_key": bool(settings.OPENAI_API_KEY),
        "default_model": settings.DEFAULT_MODEL,
    }


def dashboard_context(request: HttpRequest, data_url: str, key: str | None = None) -> dict[str, Any]:
    """What a page with a dashboard needs; `data_url` answers with `refresh_response`. With `key`, of that key alone."""
    now = datetime.now(UTC)
    fault = ""
    try:
        time_range = read_range(request.GET, now)
    except ValueError as error:
        fault = str(error)
        time_range = read_range({}, now)
    facts = _facts(time_range, now, key)
    return {
        **facts,
        "fault": fault,
        "ranges": KEY_RANGES,
        "chart_list": CHARTS,
        "charts": facts["dashboard"].charts,
        "data_url": data_url,
        "refresh_seconds": REFRESH_SECONDS.get(time_range.name, SLOW_REFRESH_SECONDS),
    }


@admin_page
def data(request: HttpRequest) -> JsonResponse:
    """What changes while the page is open."""
    return refresh_response(request, {name: {"sees_bodies": may_see_bodies(request)} for name in FRAGMENTS})


def refresh_response(
    request: HttpRequest, fragments: Mapping[str, Mapping[str, Any]], key: str | None = None
) -> JsonResponse:
    """The fragments, each with what it needs beside the dashboard, and the charts; 400 for a time that is none."""
    now = datetime.now(UTC)
    try:
        time_range = read_range(request.GET, now)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    facts = _facts(time_range, now, key)
    parts = {name: render_to_string(f"admin/usage/{name}.html", {**facts, **own}) for name, own in fragments.items()}
    answer = JsonResponse({"fragments": parts, "charts": facts["dashboard"].charts, "at": f"{now:%H:%M:%S}"})
    answer["Cache-Control"] = "no-store"
    return answer


def _facts(time_range: TimeRange, now: datetime, key: str | None) -> dict[str, Any]:
    if key is None:
        dashboard = read_dashboard(time_range, read_status(), now)
    else:
        dashboard = read_key_dashboard(key, time_range, now)
    return {
        "dashboard": dashboard,
        "key_name": key,
        "time_range": time_range,
        "now": now,
        "query": range_query(time_range),
    }


def range_query(time_range: TimeRange) -> str:
    if time_range.name in NAMED:
        return f"range={time_range.name}"
    return f"from={time_range.start:%Y-%m-%dT%H:%M}&to={time_range.end:%Y-%m-%dT%H:%M}"
