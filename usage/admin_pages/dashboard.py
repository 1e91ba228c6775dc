"""The dashboards: the admin's first page, the dashboard of one key, and the JSON that refreshes an open page.

The JSON contains parts of the page, which are rendered again from the templates that the page itself uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse

from usage.admin_pages.access import ALERTS, admin_page, may_see, may_see_bodies
from usage.admin_pages.base_url import base_url
from usage.admin_pages.spending.usage_links import OF_DAYS, usage_links
from usage.live.status import read_status
from usage.page_data.dashboard.dashboard_content import Dashboard, read_dashboard, read_key_dashboard
from usage.sums.ranges import TimeRange, range_labels, range_or_default, read_range

# The parts of the page that are rendered again while it is open; each is a template of its own.
FRAGMENTS = ("statuses", "tiles", "used", "newest_errors")
# For each chart: its name in `Charts`, its title, its unit, and whether it has bars or lines.
CHARTS = (
    ("calls", "Calls by outcome", "", "bars"),
    ("dollars", "Dollars by model", "$", "bars"),
    ("tokens", "Tokens", "", "bars"),
    ("latency", "Latency", "ms", "lines"),
)
REFRESH_SECONDS = {"hour": 5, "day": 10, "today": 10}  # by the name of the range
SLOW_REFRESH_SECONDS = 30  # for longer ranges

Context = dict[str, object]


def show(request: HttpRequest, context: Context) -> Context:
    """Returns the template context of the admin's first page, with the dashboard of all calls added.

    For people who may not view requests, `context` is returned unchanged. The admin's theme, unfold, calls this
    function.
    """
    if not may_see(request):
        return context
    return {
        **context,
        **dashboard_context(request, reverse("pages:dashboard_data")),
        "title": "Dashboard",
        "usage_links": usage_links(datetime.now(UTC)),
        "usage_of_days": OF_DAYS,
        **_rights(request),
        "base_url": base_url(request),
        "upstream_key": bool(settings.OPENAI_API_KEY),
        "default_model": settings.DEFAULT_MODEL,
    }


def dashboard_context(request: HttpRequest, data_url: str, key: str | None = None) -> Context:
    """Returns the template's values for a dashboard: that of `key`, or that of all calls if `key` is None.

    The query string selects the range of time. For an invalid range, the default range is used, and the value `fault`
    says what is wrong. `data_url` is the URL from which the open page fetches newer data (see `refresh_response`).
    """
    now = datetime.now(UTC)
    time_range, fault = range_or_default(request.GET, now)
    dashboard = _read(time_range, now, key)
    ranges = range_labels(time_range.name)
    if key is not None:
        ranges.pop("hour")  # the sums of one key are kept by the hour only
    return {
        **_context(dashboard, now, key),
        "fault": fault,
        "ranges": ranges,
        "chart_list": CHARTS,
        "charts": dashboard.charts,
        "data_url": data_url,
        "refresh_seconds": REFRESH_SECONDS.get(time_range.name, SLOW_REFRESH_SECONDS),
    }


@admin_page
def data(request: HttpRequest) -> JsonResponse:
    """Answers with the newest data of the dashboard of all calls as JSON; a script on the open page fetches it."""
    return refresh_response(request, dict.fromkeys(FRAGMENTS, _rights(request)))


def _rights(request: HttpRequest) -> dict[str, bool]:
    """Returns two template values: `sees_bodies` and `sees_alerts`, which say what the signed-in person may see."""
    return {"sees_bodies": may_see_bodies(request), "sees_alerts": request.user.has_perm(ALERTS)}


def refresh_response(
    request: HttpRequest, fragments: Mapping[str, Mapping[str, object]], key: str | None = None
) -> JsonResponse:
    """Returns the newest data of a dashboard as JSON: the values of the charts, and parts of the page as HTML.

    The dashboard is that of `key`, or of all calls if `key` is None. `fragments` maps the name of each part's template
    to the values that only this template needs. The status is 400 if the query states no valid range of time.
    """
    now = datetime.now(UTC)
    try:
        time_range = read_range(request.GET, now)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    dashboard = _read(time_range, now, key)
    context = _context(dashboard, now, key)
    parts = {name: render_to_string(f"admin/usage/{name}.html", {**context, **own}) for name, own in fragments.items()}
    answer = JsonResponse({"fragments": parts, "charts": dashboard.charts, "at": now.isoformat(timespec="seconds")})
    answer["Cache-Control"] = "no-store"
    return answer


def _read(time_range: TimeRange, now: datetime, key: str | None) -> Dashboard:
    if key is None:
        return read_dashboard(time_range, read_status(), now)
    return read_key_dashboard(key, time_range, now)


def _context(dashboard: Dashboard, now: datetime, key: str | None) -> Context:
    """Returns the values that the templates of all parts of a dashboard need.

    * `own_query`: the query string that shows the same dashboard again.
    * `query`: the query string for links to the calls that the dashboard counts. The dashboard of one key counts whole
      hours, so its `query` states these hours as times.
    """
    own_query = range_query(dashboard.time_range)
    return {
        "dashboard": dashboard,
        "key_name": key,
        "time_range": dashboard.time_range,
        "now": now,
        "own_query": own_query,
        "query": own_query if key is None else as_link(dashboard.time_range.as_times()),
    }


def range_query(time_range: TimeRange) -> str:
    """Returns the query string with which a link to a page selects this range of time."""
    return as_link(time_range.as_query())


def as_link(times: Mapping[str, str]) -> str:
    """Converts the query parameters of a range of time to a query string, in which colons stay readable."""
    return urlencode(times, safe=":")
