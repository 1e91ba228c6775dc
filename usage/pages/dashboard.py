"""The first page of the admin, and the JSON that keeps it up to date: the same templates, rendered once more."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.template.loader import render_to_string

from usage.dashboard import read_dashboard
from usage.live import read_live
from usage.pages.access import admin_page, may_see
from usage.ranges import NAMED, TimeRange, read_range

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


def show(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The context of the admin's index; unfold calls it."""
    if not may_see(request):
        return context
    now = datetime.now(UTC)
    fault = ""
    try:
        time_range = read_range(request.GET, now)
    except ValueError as error:
        fault = str(error)
        time_range = read_range({}, now)
    facts = _facts(time_range, now)
    return {
        **context,
        **facts,
        "title": "Dashboard",
        "fault": fault,
        "ranges": NAMED,
        "chart_list": CHARTS,
        "charts": facts["dashboard"].charts,
        "refresh_seconds": REFRESH_SECONDS.get(time_range.name, SLOW_REFRESH_SECONDS),
        "base_url": request.build_absolute_uri("/").rstrip("/"),
        "upstream_key": bool(settings.OPENAI_API_KEY),
        "default_model": settings.DEFAULT_MODEL,
    }


@admin_page
def data(request: HttpRequest) -> JsonResponse:
    """What changes while the page is open."""
    now = datetime.now(UTC)
    try:
        time_range = read_range(request.GET, now)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    facts = _facts(time_range, now)
    fragments = {name: render_to_string(f"admin/usage/{name}.html", facts) for name in FRAGMENTS}
    answer = JsonResponse({"fragments": fragments, "charts": facts["dashboard"].charts, "at": f"{now:%H:%M:%S}"})
    answer["Cache-Control"] = "no-store"
    return answer


def _facts(time_range: TimeRange, now: datetime) -> dict[str, Any]:
    dashboard = read_dashboard(time_range, read_live(), now)
    return {
        "dashboard": dashboard,
        "time_range": time_range,
        "now": now,
        "query": range_query(time_range),
    }


def range_query(time_range: TimeRange) -> str:
    if time_range.name in NAMED:
        return f"range={time_range.name}"
    return f"from={time_range.start:%Y-%m-%dT%H:%M}&to={time_range.end:%Y-%m-%dT%H:%M}"
