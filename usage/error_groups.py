"""Owns the groups of the errors page: calls that failed in the same way, how often, since when, and whom it hits."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.utils import timezone

from usage.models import FAILED, KnownError, Outcome, Request, Span
from usage.ranges import TimeRange
from usage.search import NO_NAME, NO_STATUS
from usage.totals import ceiling, floor, pieces

MOST_GROUPS = 50
MOST_KEYS = 5  # of a group, by name
TREND_BINS = 24


class Kind(NamedTuple):
    """What the calls of a group have in common. Status 0: the caller had left."""

    outcome: str
    status: int
    error_code: str
    model: str
    route: str


@dataclass
class Group:
    kind: Kind
    first_at: datetime
    last_at: datetime
    sample_id: UUID
    calls: int = 0
    keys: list[str] = field(default_factory=list)
    key_count: int = 0
    trend: list[int] = field(default_factory=lambda: [0] * TREND_BINS)
    sample: Request | None = None
    known: KnownError | None = None

    @property
    def outcome_label(self) -> str:
        return Outcome(self.kind.outcome).label if self.kind.outcome in Outcome.values else self.kind.outcome

    @property
    def kind_text(self) -> str:
        """As a form sends it."""
        return json.dumps(self.kind)

    @property
    def filters(self) -> dict[str, str]:
        """Of the calls' list, for just these calls."""
        return {
            "outcome": self.kind.outcome,
            "status": str(self.kind.status or NO_STATUS),
            "code": self.kind.error_code or NO_NAME,
            "model": self.kind.model or NO_NAME,
            "route": self.kind.route or NO_NAME,
        }

    @property
    def trend_path(self) -> str:
        """The trend as an SVG path: a bar for each bin, 3 wide, 20 high at most."""
        most = max(self.trend, default=0) or 1
        heights = [max(1.5, 20 * count / most) if count else 0 for count in self.trend]
        return "".join(
            f"M{number * 4} 20v-{height:.1f}h3v{height:.1f}z" for number, height in enumerate(heights) if height
        )


KINDS = ", ".join(Kind._fields)
# Groups first, then what their keys add: a caller that invents models makes groups, and only so many are looked at.
READ = f"""
    WITH totals AS (
        SELECT *, width_bucket(extract(epoch FROM start), %s, %s, {TREND_BINS}) - 1 AS bin
        FROM usage_errortotal WHERE calls > 0 AND ({{within}})
    ), groups AS (
        SELECT {KINDS} FROM totals GROUP BY {KINDS} ORDER BY sum(calls) DESC, max(last_at) DESC LIMIT {MOST_GROUPS}
    )
    SELECT {KINDS}, key_name, bin, sum(calls)::bigint, min(first_at), max(last_at),
           (array_agg(sample_id ORDER BY start DESC))[1]
    FROM totals JOIN groups USING ({KINDS}) GROUP BY {KINDS}, key_name, bin
"""


def read_groups(time_range: TimeRange) -> list[Group]:
    """The groups with the most calls, those first. The hours at the ends of the time count as a whole."""
    start, end = floor(time_range.start, Span.HOUR), ceiling(time_range.end, Span.HOUR)
    stretches = list(pieces(start, end, end))
    within = " OR ".join("(span = %s AND start >= %s AND start < %s)" for _ in stretches)
    ends = [value for span, first, last in stretches for value in (span.value, first, last)]
    with connection.cursor() as cursor:
        cursor.execute(READ.format(within=within), [start.timestamp(), end.timestamp(), *ends])
        rows = cursor.fetchall()
    groups: dict[Kind, Group] = {}
    keys: dict[Kind, Counter[str]] = defaultdict(Counter)
    for row in rows:
        kind = Kind(*row[:5])
        key, number, calls, first_at, last_at, sample_id = row[5:]
        group = groups.setdefault(kind, Group(kind, first_at=first_at, last_at=last_at, sample_id=sample_id))
        group.calls += calls
        group.first_at = min(group.first_at, first_at)
        group.last_at = max(group.last_at, last_at)
        group.sample_id = max(group.sample_id, sample_id)
        group.trend[min(TREND_BINS - 1, max(0, number))] += calls
        keys[kind][key] += calls
    for kind, group in groups.items():
        group.key_count = len(keys[kind])
        group.keys = [key for key, _ in keys[kind].most_common(MOST_KEYS)]
    found = sorted(groups.values(), key=lambda group: (-group.calls, -group.last_at.timestamp()))
    _add_samples(found)
    _add_known(found)
    return found


def read_kind(text: str) -> Kind:
    """What `Group.kind_text` says.

    Raises:
        ValueError: it is no kind.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(values, list) or [type(value) for value in values] != [str, int, str, str, str]:
        raise ValueError("a kind has a text, a number and three texts")
    kind = Kind(*values)
    if kind.outcome not in Outcome.values or not 0 <= kind.status < 1000 or any(len(str(one)) > 200 for one in kind):
        raise ValueError("there is no such kind")
    return kind


def mark_known(kind: Kind, note: str, who: str) -> None:
    """Says that somebody has looked into it; an earlier note is replaced."""
    KnownError.objects.update_or_create(
        **kind._asdict(), defaults={"note": note, "marked_by": who, "marked_at": timezone.now()}
    )


def unmark(kind: Kind) -> None:
    KnownError.objects.filter(**kind._asdict()).delete()


def _add_samples(groups: list[Group]) -> None:
    """The newest call of each; it may be gone, or have turned out well after all."""
    calls = Request.objects.filter(pk__in=[group.sample_id for group in groups]).filter(FAILED).in_bulk()
    for group in groups:
        group.sample = calls.get(group.sample_id)


def _add_known(groups: list[Group]) -> None:
    known = {Kind(*(getattr(error, name) for name in Kind._fields)): error for error in KnownError.objects.all()}
    for group in groups:
        group.known = known.get(group.kind)
