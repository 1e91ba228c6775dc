"""Reads the numbers of `GET /usage`: the sums of calls in a range of time, in groups that the caller chooses.

They are read from the sums of hours, so a range begins and ends at whole hours. They are of one key, or of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncDay

from usage.models import Outcome, Span, UsageHour
from usage.sums.ranges import TimeRange
from usage.sums.tables import COST_PARTS
from usage.sums.totals_reader import ceiling, floor

GROUPS = {"key": "key_name", "model": "model", "route": "route", "outcome": "outcome", "hour": "hour", "day": "day"}
SUMS = (
    "calls", "unpriced_calls", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "audio_seconds", "web_searches", "cost",
    *COST_PARTS,
)  # fmt: skip
# The names in the report of columns that have another name there.
NAMES = {"estimated_cost": "cost_estimated", "provisional_cost": "cost_provisional"}
DOLLARS = {"cost", *NAMES.values()}
MOST_GROUPS = 10_000
# Groups without calls are left out. But an hour without calls may have tokens and costs: those of a background response
# whose end the gateway has learnt in that hour.
HAS_USE = Q(sum_calls__gt=0) | Q(sum_input_tokens__gt=0) | Q(sum_output_tokens__gt=0) | ~Q(sum_cost=0)


def group_names(text: str) -> tuple[str, ...]:
    """Parses the names by which the answer to `GET /usage` is grouped, such as `key,day`.

    Raises:
        ValueError: a name is none of `GROUPS`; the message is for the caller.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if unknown := [name for name in names if name not in GROUPS]:
        raise ValueError(f"{unknown[0][:40]!r} is no group; {', '.join(GROUPS)}, several with commas between.")
    return names


def read_report(
    time_range: TimeRange,
    groups: tuple[str, ...] = (),
    *,
    key: str | None = None,
    only: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Returns the answer to `GET /usage`: the sums of the calls in a range of time, in all and by group.

    * `groups` are names such as `key` and `day`: then each group has the calls of one key on one day. Groups are sorted
      by these names; at most `MOST_GROUPS` are returned, and none without calls or usage.
    * `key` and `only` restrict the calls: to one key, and to values by the name of a group.

    The range is extended to whole hours.
    """
    start, end = floor(time_range.start, Span.HOUR), ceiling(time_range.end, Span.HOUR)
    hours = UsageHour.objects.filter(hour__gte=start, hour__lt=end)
    if key is not None:
        hours = hours.filter(key_name=key)
    for name, value in (only or {}).items():
        hours = hours.filter(**{GROUPS[name]: value})
    report: dict[str, object] = {"start": start.isoformat(), "end": end.isoformat()}
    if not groups:
        return {**report, "total": _plain(hours.aggregate(**_sums()))}
    rows = list(_grouped(hours, groups))
    # If all groups have been read, the total is the sum of them; reading it would take as long again.
    total = _added_up(rows) if len(rows) < MOST_GROUPS else hours.aggregate(**_sums())
    return {**report, "total": _plain(total), "group_by": list(groups), "groups": [_plain(row) for row in rows]}


def _added_up(rows: list[dict[str, Any]]) -> dict[str, object]:
    return {name: sum(row[name] for row in rows) for name in _sums()}


def _grouped(hours: QuerySet[UsageHour], groups: tuple[str, ...]) -> QuerySet[UsageHour, dict[str, Any]]:
    columns = [GROUPS[name] for name in groups]
    if "day" in groups:
        hours = hours.annotate(day=TruncDay("hour", tzinfo=UTC))
    named: Any = hours.values(**{f"by_{name}": F(GROUPS[name]) for name in groups})
    found: QuerySet[UsageHour, dict[str, Any]] = named.annotate(**_sums()).filter(HAS_USE).order_by(*columns)
    return found[:MOST_GROUPS]


def _sums() -> dict[str, Sum]:
    failed = Sum("calls", filter=~Q(outcome=Outcome.SUCCESS), default=0)
    return {**{f"sum_{name}": Sum(name, default=0) for name in SUMS}, "sum_errors": failed}


def _plain(row: Mapping[str, object]) -> dict[str, object]:
    """Converts a row of sums to a part of the report: dollars become numbers, times become ISO 8601.

    The columns get the report's names: `by_key` becomes `key`, and `sum_estimated_cost` becomes `cost_estimated`.
    """
    plain: dict[str, object] = {}
    for name, value in row.items():
        short = name.removeprefix("by_").removeprefix("sum_")
        short = NAMES.get(short, short)
        if isinstance(value, datetime):
            plain[short] = value.isoformat()
        elif short in DOLLARS and isinstance(value, Decimal | int):
            plain[short] = float(value)
        else:
            plain[short] = value
    return plain
