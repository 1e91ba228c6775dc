"""Owns what the log pages show: the counters of the original proxy, and the newest calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import Max, Sum

from usage.models import FAILED, ErrorTotal, Request, Span, UsageHour
from usage.sums.ranges import TimeRange

NEWEST = 50
HOUR = timedelta(hours=1)


def read_counters() -> dict[str, Any]:
    """Counts and times in milliseconds over all calls ever; None where there are none."""
    counters = UsageHour.objects.aggregate(
        requests=Sum("calls", default=0),
        errors=Sum("calls", filter=FAILED, default=0),
        total_ms=Sum("duration_ms"),
        max_ms=Max("max_duration_ms"),
        max_prompt_tokens=Max("max_input_tokens"),
        max_cached_tokens=Max("max_cached_tokens"),
        max_completion_tokens=Max("max_output_tokens"),
    )
    return {**counters, "average_ms": counters["total_ms"] / counters["requests"] if counters["requests"] else None}


def read_newest_calls(most: int = NEWEST, *, failed_only: bool) -> list[Request]:
    """The newest calls, the latest first, without the gateway's own looks."""
    calls = Request.objects.filter(FAILED) if failed_only else Request.objects.filter(by_gateway=False)
    return list(calls.order_by("-request_id")[:most])


def read_newest_calls_of_key(key: str, most: int) -> list[Request]:
    """A key's newest calls, the latest first, without the gateway's own looks."""
    return list(Request.objects.filter(key_name=key, by_gateway=False).order_by("-request_id")[:most])


def read_newest_failures_of_key(key: str, time_range: TimeRange) -> list[Request]:
    """A key's newest failed calls of a time, one of each hour and kind: no search through a key's good calls."""
    hours = ErrorTotal.objects.filter(
        span=Span.HOUR, start__gt=time_range.start - HOUR, start__lt=time_range.end, key_name=key
    )
    samples = hours.filter(calls__gt=0).order_by("-last_at").values_list("sample_id", flat=True)[:NEWEST]
    return list(Request.objects.filter(FAILED, pk__in=list(samples)).order_by("-request_id"))
