"""Owns what the log pages show: the counters of the original proxy, and the newest calls."""

from __future__ import annotations

from typing import Any

from django.db.models import Max, Sum

from usage.models import FAILED, Request, UsageHour

NEWEST = 50


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


def read_newest(*, failed_only: bool) -> list[Request]:
    """The newest calls, the latest first."""
    calls = Request.objects.filter(FAILED) if failed_only else Request.objects.all()
    return list(calls.order_by("-request_id")[:NEWEST])
