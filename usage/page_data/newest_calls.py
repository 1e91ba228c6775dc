"""The newest calls, and the counters over all calls that the log pages show, as the original Node proxy did."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Max, Sum

from usage.models import FAILED, ErrorTotal, Request, Span, UsageHour
from usage.sums.ranges import TimeRange

MAX_CALLS = 50
HOUR = timedelta(hours=1)


def read_counters() -> dict[str, float | None]:
    """Returns counts, and times in milliseconds, over all calls ever; without calls, times and maxima are None."""
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


def read_newest_calls(most: int = MAX_CALLS, *, failed_only: bool) -> list[Request]:
    """Returns the newest calls, the latest first, without the gateway's own requests for background responses."""
    calls = Request.objects.filter(FAILED) if failed_only else Request.objects.filter(by_gateway=False)
    return list(calls.order_by("-request_id")[:most])


def read_newest_calls_of_key(key: str, most: int) -> list[Request]:
    """Returns a key's newest calls, the latest first, without the gateway's own requests for background responses."""
    return list(Request.objects.filter(key_name=key, by_gateway=False).order_by("-request_id")[:most])


def read_newest_failures_of_key(key: str, time_range: TimeRange) -> list[Request]:
    """Returns a key's newest failed calls in a range of time, the latest first: one per hour and kind of error.

    These calls are the samples that the sums of errors store, so a key's successful calls are not searched through.
    """
    hours = ErrorTotal.objects.filter(
        span=Span.HOUR, start__gt=time_range.start - HOUR, start__lt=time_range.end, key_name=key
    )
    samples = hours.filter(calls__gt=0).order_by("-last_at").values_list("sample_id", flat=True)[:MAX_CALLS]
    return list(Request.objects.filter(FAILED, pk__in=list(samples)).order_by("-request_id"))
