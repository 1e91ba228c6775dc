"""Reads the content of the log pages: the newest calls, and counters of all calls, as in the original Node proxy."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models import Max, QuerySet, Sum

from usage.ids import first_id
from usage.models import FAILED, Dimension, ErrorTotal, Request, Span, UsagePeak, UsageTotal
from usage.sums.ranges import TimeRange

MAX_CALLS = 50


def read_counters() -> dict[str, float | None]:
    """Reads the counters of the log pages, about all calls ever, from the sums by day; returns a map by name.

    * The number of calls, and of failed calls.
    * The total, the average and the longest duration, in milliseconds; None if there are no calls.
    * The highest number of input, cached and output tokens in one call; None if there are no calls.
    """
    counters = UsageTotal.objects.filter(span=Span.DAY, dimension=Dimension.ALL).aggregate(
        requests=Sum("calls", default=0), errors=Sum("errors", default=0), total_ms=Sum("duration_ms")
    )
    peaks = UsagePeak.objects.aggregate(
        max_ms=Max("max_duration_ms"),
        max_prompt_tokens=Max("max_input_tokens"),
        max_cached_tokens=Max("max_cached_tokens"),
        max_completion_tokens=Max("max_output_tokens"),
    )
    average = counters["total_ms"] / counters["requests"] if counters["requests"] else None
    return {**counters, **peaks, "average_ms": average}


def read_newest_calls(*, failed_only: bool) -> list[Request]:
    """Returns the newest `MAX_CALLS` calls of all keys, the latest first; with `failed_only`, the newest failed ones.

    Polls (the gateway's own requests for background responses) are left out, unless `failed_only` is true.
    """
    calls = Request.objects.filter(FAILED) if failed_only else Request.objects.filter(by_gateway=False)
    return list(calls.order_by("-request_id")[:MAX_CALLS])


def read_newest_failures(time_range: TimeRange, most: int) -> list[Request]:
    """Returns the newest `most` failed calls of all keys that began in a range of time, the latest first.

    Failed polls (the gateway's own requests for background responses) are included.
    """
    return list(_within(time_range).filter(FAILED).order_by("-request_id")[:most])


def read_newest_calls_of_key(key: str, time_range: TimeRange, most: int, owner: str | None = None) -> list[Request]:
    """Returns the newest `most` calls of one key that began in a range of time, the latest first.

    With `owner`, only calls that were made while the key had this owner. Polls (the gateway's own requests for
    background responses) are left out.
    """
    calls = _within(time_range).filter(key_name=key, by_gateway=False)
    calls = calls if owner is None else calls.filter(owner=owner)
    return list(calls.order_by("-request_id")[:most])


def _within(time_range: TimeRange) -> QuerySet[Request]:
    """Returns the query for the calls that began in a range of time.

    Ids begin with the time, so the calls are found by the primary key.
    """
    return Request.objects.filter(pk__gte=first_id(time_range.start), pk__lt=first_id(time_range.end))


def read_newest_failures_of_key(key: str, time_range: TimeRange) -> list[Request]:
    """Reads failed calls of a key in a range of time, the latest first; of each hour and kind of error only the last.

    The range must consist of whole hours (`TimeRange.in_hours`). At most `MAX_CALLS` calls are returned.
    """
    # The error counts name the last call of each: no search through the successful calls. The last week is read first,
    # since the errors of a year are those of very many keys, among which this one's are looked for.
    samples: list[UUID] = []
    recent = max(time_range.start, time_range.end - timedelta(days=7))
    for start, end in ((recent, time_range.end), (time_range.start, recent)):
        if len(samples) < MAX_CALLS and start < end:
            hours = ErrorTotal.objects.filter(span=Span.HOUR, start__gte=start, start__lt=end, key_name=key)
            newest = hours.filter(calls__gt=0).order_by("-last_at").values_list("sample_id", flat=True)
            samples += newest[: MAX_CALLS - len(samples)]
    return list(Request.objects.filter(FAILED, pk__in=samples).order_by("-request_id"))
