"""Owns what the log pages show: the counters of the original proxy, and the newest calls."""

from __future__ import annotations

from typing import Any

from django.db.models import Avg, Count, Max, Q, Sum

from usage.models import Outcome, Request

NEWEST = 50
FAILED = ~Q(outcome=Outcome.SUCCESS)


def read_counters() -> dict[str, Any]:
    """Counts and times in milliseconds over all calls in the ledger; None where there are none."""
    return Request.objects.aggregate(
        requests=Count("pk"),
        errors=Count("pk", filter=FAILED),
        total_ms=Sum("duration_ms"),
        average_ms=Avg("duration_ms"),
        max_ms=Max("duration_ms"),
        max_prompt_tokens=Max("input_tokens"),
        max_cached_tokens=Max("cached_tokens"),
        max_completion_tokens=Max("output_tokens"),
    )


def read_newest(*, failed_only: bool) -> list[Request]:
    """The newest calls, the latest first."""
    calls = Request.objects.filter(FAILED) if failed_only else Request.objects.all()
    return list(calls.order_by("-started_at")[:NEWEST])
