"""The groups of the errors page: calls that failed in the same way, how often, since when, and with which keys."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.utils import timezone

from usage.models import FAILED, KnownError, Outcome, Request, Span
from usage.page_data.filters import NO_NAME, NO_STATUS
from usage.sums.ranges import TimeRange
from usage.sums.totals_reader import ceiling, complete_months, floor, next_month, pieces_of_range, starts_of

MAX_GROUPS = 50
MAX_KEYS = 5  # names of keys that are shown for each group
TREND_BINS = 24
# Longer ranges are read from the totals of whole days. In a shorter one the total of a day would be the only bar of the
# trend: just after midnight (UTC), the last 24 hours contain all of the day before.
LONGEST_IN_HOURS = timedelta(days=2)
# In longer ranges months are read where possible, and are the bins of the trend.
LONGEST_IN_DAYS = timedelta(days=92)
OUTCOMES = dict(Outcome.choices)


class ErrorKind(NamedTuple):
    """A kind of error: the outcome, HTTP status, error code, model and route that a group of failed calls shares.

    The status is 0 if the caller left before there was a status.
    """

    outcome: str
    status: int
    error_code: str
    model: str
    route: str


@dataclass
class ErrorGroup:
    """One group on the errors page: the calls that failed in the same way within a range of time.

    `first_at` is the time of the very first call that failed so, even before the range; all else is about the range.
    """

    kind: ErrorKind
    first_at: datetime
    last_at: datetime
    sample_id: UUID  # of the newest call
    calls: int
    keys: list[str]  # names of the keys with the most calls, at most `MAX_KEYS`
    key_count: int
    trend: list[int]  # calls in each of the parts of the range (`_bins`)
    sample: Request | None = None  # the newest call; None if its row has been deleted
    known: KnownError | None = None  # the mark of somebody who has looked into it

    @property
    def outcome_label(self) -> str:
        return OUTCOMES.get(self.kind.outcome, self.kind.outcome)

    @property
    def kind_text(self) -> str:
        """This group's kind of error as text for a form field; `read_kind` parses the text."""
        return json.dumps(self.kind)

    @property
    def filters(self) -> dict[str, str]:
        """The filters for the list of requests that select the calls of this group."""
        return {
            "outcome": self.kind.outcome,
            "status": str(self.kind.status or NO_STATUS),
            "code": self.kind.error_code or NO_NAME,
            "model": self.kind.model or NO_NAME,
            "route": self.kind.route or NO_NAME,
        }

    @property
    def trend_path(self) -> str:
        """The numbers of calls over time as an SVG path: one bar for each bin of time, up to 20 high, all 96 wide."""
        most = max(self.trend, default=0) or 1
        heights = [max(1.5, 20 * count / most) if count else 0 for count in self.trend]
        step = 4 * TREND_BINS / len(self.trend)
        return "".join(
            f"M{number * step:g} 20v-{height:.1f}h{step - 1:g}v{height:.1f}z"
            for number, height in enumerate(heights)
            if height
        )


KIND_COLUMNS, KIND_COLUMNS_OF_DAYS, KIND_COLUMNS_OF_GROUPS = (
    ", ".join(table + name for name in ErrorKind._fields) for table in ("", "days.", "groups.")
)
# Only `MAX_GROUPS` groups are selected before details are read, because a caller who invents names of models makes any
# number of groups. The groups are not sorted by their texts, because that would take longer than the rest of the query.
GROUPS_SQL = f"""
    WITH totals AS (
        SELECT *, width_bucket(start, %s::timestamptz[]) - 1 AS bin
        FROM usage_errortotal WHERE calls > 0 AND ({{within}})
    ), groups AS (
        SELECT {KIND_COLUMNS}, sum(calls)::bigint AS calls, max(last_at) AS last_at,
               max(sample_id::text)::uuid AS sample_id,
               row_number() OVER (ORDER BY sum(calls) DESC, max(last_at) DESC) AS nr
        FROM totals GROUP BY {KIND_COLUMNS} ORDER BY nr LIMIT {MAX_GROUPS}
    ), details AS (
        SELECT nr, bin, key_name, totals.calls FROM totals JOIN groups USING ({KIND_COLUMNS})
    ), bins AS (
        SELECT nr, array_agg(bin) AS bins, array_agg(calls) AS trend
        FROM (SELECT nr, bin, sum(calls)::bigint AS calls FROM details GROUP BY nr, bin) AS by_bin GROUP BY nr
    ), keys AS (
        SELECT nr, count(*) AS key_count, (array_agg(key_name ORDER BY calls DESC, key_name))[:{MAX_KEYS}] AS keys
        FROM (SELECT nr, key_name, sum(calls) AS calls FROM details GROUP BY nr, key_name) AS by_key GROUP BY nr
    )
    SELECT {KIND_COLUMNS}, (
        SELECT min(first_at) FROM usage_errortotal AS days
        WHERE days.span = 'day' AND days.calls > 0 AND ({KIND_COLUMNS_OF_DAYS}) = ({KIND_COLUMNS_OF_GROUPS})
    ), last_at, sample_id, calls, keys, key_count, bins, trend
    FROM groups JOIN bins USING (nr) JOIN keys USING (nr) ORDER BY nr
"""


def read_groups(time_range: TimeRange) -> list[ErrorGroup]:
    """Reads the failed calls of a range of time from the database, grouped by kind of error, the largest group first.

    The range is extended to whole hours. Returns at most `MAX_GROUPS` groups, with examples and marks.
    """
    # Failures are counted by hour.
    start, end = floor(time_range.start, Span.HOUR), ceiling(time_range.end, Span.HOUR)
    bins, stretches = _bins(start, end), [(Span.HOUR, start, end)]
    if end - start > LONGEST_IN_HOURS:
        months = complete_months(start, end) if end - start > LONGEST_IN_DAYS else ()
        stretches = list(pieces_of_range(start, end, end, months))
    within = " OR ".join("(span = %s AND start >= %s AND start < %s)" for _ in stretches)
    ends = [value for span, first, last in stretches for value in (span.value, first, last)]
    with connection.cursor() as cursor:
        cursor.execute(GROUPS_SQL.format(within=within), [bins, *ends])
        width = len(ErrorKind._fields)
        groups = [_group(len(bins), ErrorKind(*row[:width]), *row[width:]) for row in cursor.fetchall()]
    _add_samples(groups)
    _add_known(groups)
    return groups


def in_state(groups: Iterable[ErrorGroup], state: str) -> list[ErrorGroup]:
    """Returns the groups in a state: `known` if somebody has looked into the error, `new` if not.

    Any other state stands for all groups.
    """
    return [group for group in groups if state not in ("new", "known") or bool(group.known) == (state == "known")]


def _bins(start: datetime, end: datetime) -> list[datetime]:
    """Returns the starts of the bins of a trend: equal parts of a range of time, or months if the range is a long one.

    Of many months, several are one bin.
    """
    if end - start <= LONGEST_IN_DAYS:
        return [start + number * (end - start) / TREND_BINS for number in range(TREND_BINS)]
    months = [start, *starts_of(Span.MONTH, next_month(start), end)]
    return months[:: -(-len(months) // TREND_BINS)]


def _group(
    bin_count: int,
    kind: ErrorKind,
    first_at: datetime,
    last_at: datetime,
    sample_id: UUID,
    calls: int,
    keys: list[str],
    key_count: int,
    bins: Sequence[int],
    counts: Sequence[int],
) -> ErrorGroup:
    """Makes a group of failed calls from a row of `GROUPS_SQL`.

    Its trend counts calls in `bin_count` bins of time: `bins` are the numbers of bins, `counts` their calls.
    """
    trend = [0] * bin_count
    for number, count in zip(bins, counts, strict=True):
        trend[max(0, number)] += count
    return ErrorGroup(kind, first_at, last_at, sample_id, calls, keys, key_count, trend)


def read_kind(text: str) -> ErrorKind:
    """Parses the text of `ErrorGroup.kind_text` in a form field; returns the kind of error.

    Raises:
        ValueError: the text describes no kind of error.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(values, list) or [type(value) for value in values] != [str, int, str, str, str]:
        raise ValueError("a kind has a text, a number and three texts")
    kind = ErrorKind(*values)
    if kind.outcome not in OUTCOMES or not 0 <= kind.status < 1000 or any(len(str(one)) > 200 for one in kind):
        raise ValueError("there is no such kind")
    return kind


def mark_known(kind: ErrorKind, note: str, who: str) -> None:
    """Stores in the database that the person `who` has looked into a kind of error, with the remark `note`.

    An earlier mark is replaced.
    """
    KnownError.objects.update_or_create(
        **kind._asdict(), defaults={"note": note, "marked_by": who, "marked_at": timezone.now()}
    )


def unmark(kind: ErrorKind) -> None:
    """Deletes from the database the mark that somebody has looked into a kind of error."""
    KnownError.objects.filter(**kind._asdict()).delete()


def _add_samples(groups: list[ErrorGroup]) -> None:
    """Adds an example to each group of failed calls: its newest call.

    A group gets none if the row of this call has been deleted or corrected to a success.
    """
    calls = Request.objects.filter(pk__in=[group.sample_id for group in groups]).filter(FAILED).in_bulk()
    for group in groups:
        group.sample = calls.get(group.sample_id)


def _add_known(groups: list[ErrorGroup]) -> None:
    """Adds to each group of failed calls the mark of its kind of error, if somebody has looked into it."""
    known = {
        ErrorKind(*(getattr(error, name) for name in ErrorKind._fields)): error for error in KnownError.objects.all()
    }
    for group in groups:
        group.known = known.get(group.kind)
