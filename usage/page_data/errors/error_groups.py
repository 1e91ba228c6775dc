"""The groups of the errors page: calls that failed in the same way; how often, since when, and by whose fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import orjson
from django.db import connection

from usage.kept_bodies.error_messages import SIGN, pattern_of, split_group
from usage.models import FAILED, ErrorState, KnownError, Outcome, Request, Span
from usage.page_data.errors.call_faults import ACCOUNT, CALLER, FAULT_SQL, FAULTS, GATEWAY, UPSTREAM, outcome_words
from usage.page_data.errors.error_marks import NO_MESSAGE, ErrorKind
from usage.page_data.filters import NO_STATUS, in_address
from usage.sums.ranges import TimeRange
from usage.sums.summed_names import OTHER_CODE
from usage.sums.totals_reader import ceiling, complete_months, floor, next_month, pieces_of_range, starts_of

MAX_GROUPS = 50
MAX_PARTS = 5  # keys, models, routes and statuses that are shown of each group
TREND_BINS = 24
# Longer ranges are read from the totals of whole days. In a shorter one the total of a day would be the only bar of the
# trend: just after midnight (UTC), the last 24 hours contain all of the day before.
LONGEST_IN_HOURS = timedelta(days=2)
# In longer ranges months are read where possible, and are the bins of the trend.
LONGEST_IN_DAYS = timedelta(days=92)
STATES = ("new", "known", "resolved")
ORDERS = {"calls": "calls DESC, last_at DESC", "newest": "last_at DESC, calls DESC"}  # of groups, as SQL
# Errors that are grouped further than by their code: by message and parameter, or by parameter alone.
GROUPED_OUTCOMES = (Outcome.UPSTREAM_ERROR, Outcome.REJECTED)
# The error code of a group, without the group of the message (`split_group`).
CODE_SQL = f"regexp_replace(judged.error_code, '{SIGN}[^{SIGN}]*$', '')"
# Only `MAX_GROUPS` groups are selected before details are read, because a caller who invents names of models makes any
# number of rows. The groups are not sorted by their texts, because that would take longer than the rest of the query.
# The fault of a group is that of most of its calls.
# A mark without a message is of all errors with its code: it is from before these were told apart. Older code may have
# left several marks of a kind: the newest counts. What was resolved has returned if it has occurred since, in or
# out of the range; sums of days tell the time of their last call, and `first_at`, of the same day, is in their index.
GROUPS_SQL = f"""
    WITH totals AS (
        SELECT *, width_bucket(start, %s::timestamptz[]) - 1 AS bin, {FAULT_SQL} AS fault
        FROM usage_errortotal WHERE calls > 0 AND ({{within}})
    ), every AS (
        SELECT outcome, error_code, sum(calls)::bigint AS calls, max(last_at) AS last_at,
               max(sample_id::text)::uuid AS sample_id,
               sum(calls) FILTER (WHERE fault = '{CALLER}') AS by_caller,
               sum(calls) FILTER (WHERE fault = '{GATEWAY}') AS by_gateway,
               sum(calls) FILTER (WHERE fault = '{ACCOUNT}') AS by_account
        FROM totals GROUP BY outcome, error_code
    ), judged AS (
        SELECT *, CASE
            WHEN 2 * by_caller > calls THEN '{CALLER}' WHEN 2 * by_gateway > calls THEN '{GATEWAY}'
            WHEN 2 * by_account > calls THEN '{ACCOUNT}' ELSE '{UPSTREAM}' END AS fault
        FROM every
    ), marks AS (
        SELECT DISTINCT ON (outcome, error_code, message) *
        FROM usage_knownerror ORDER BY outcome, error_code, message, marked_at DESC
    ), marked AS (
        SELECT judged.*, COALESCE(own.id, of_code.id) AS mark_id, COALESCE(own.state, of_code.state) AS state,
               COALESCE(own.marked_at, of_code.marked_at) AS marked_at
        FROM judged
        LEFT JOIN marks AS own ON own.outcome = judged.outcome AND own.error_code = {CODE_SQL}
             AND own.message = COALESCE(
                 NULLIF(substring(judged.error_code FROM '{SIGN}([^{SIGN}]*)$'), ''), '{NO_MESSAGE}')
        LEFT JOIN marks AS of_code ON of_code.outcome = judged.outcome AND of_code.error_code = {CODE_SQL}
             AND of_code.message = ''
    ), compared AS (
        SELECT *, CASE WHEN state = '{ErrorState.RESOLVED}' THEN EXISTS (
            SELECT FROM usage_errortotal AS days
            WHERE days.span = 'day' AND days.calls > 0
            AND days.error_code = marked.error_code AND days.outcome = marked.outcome
            AND days.first_at >= date_trunc('day', marked_at, 'UTC')
            AND days.start >= date_trunc('day', marked_at, 'UTC') AND days.last_at > marked_at
        ) ELSE FALSE END AS has_returned
        FROM marked
    ), groups AS (
        SELECT *, row_number() OVER (ORDER BY {{order}}) AS nr
        FROM compared WHERE %s IN ('', fault)
        AND %s IN ('', CASE WHEN state IS NULL OR has_returned THEN 'new' ELSE state END)
        ORDER BY nr LIMIT {MAX_GROUPS}
    ), parts AS (
        SELECT nr, sum(totals.calls)::bigint AS calls,
               CASE WHEN grouping(bin) = 0 THEN 'bin' WHEN grouping(key_name) = 0 THEN 'key'
                    WHEN grouping(model) = 0 THEN 'model' WHEN grouping(route) = 0 THEN 'route' ELSE 'status' END
               AS part,
               COALESCE(bin::text, key_name, model, route, status::text) AS value
        FROM totals JOIN groups USING (outcome, error_code)
        GROUP BY nr, GROUPING SETS (bin, key_name, model, route, status)
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY nr, part ORDER BY calls DESC, value) AS rank,
               count(*) OVER (PARTITION BY nr, part) AS count
        FROM parts
    ), gathered AS (
        SELECT nr, jsonb_agg(jsonb_build_array(part, value, calls, count) ORDER BY part, rank) AS parts
        FROM ranked WHERE part = 'bin' OR rank <= {MAX_PARTS} GROUP BY nr
    )
    SELECT mark_id, has_returned, outcome, error_code, fault, (
        SELECT min(first_at) FROM usage_errortotal AS days
        WHERE days.span = 'day' AND days.calls > 0
        AND days.error_code = groups.error_code AND days.outcome = groups.outcome
    ), last_at, sample_id, calls, parts
    FROM groups JOIN gathered USING (nr) ORDER BY nr
"""


class GroupPart(NamedTuple):
    """One key, model, route or HTTP status in a group of failed calls, and how many calls of the group have it."""

    value: str
    calls: int


@dataclass
class ErrorGroup:
    """One group on the errors page: the calls that failed in the same way within a range of time.

    Two facts also consider calls outside of the range: `first_at`, the time of the first call that ever failed in this
    way, and `has_returned`: whether the error has occurred again after somebody marked it as resolved.
    """

    kind: ErrorKind
    fault: str  # one of `FAULTS`: of most of the calls
    first_at: datetime
    last_at: datetime
    sample_id: UUID  # of the newest call
    calls: int
    parts: dict[str, list[GroupPart]]  # by `key`, `model`, `route` and `status`: those with the most calls
    counts: dict[str, int]  # how many keys, models, routes and statuses there are
    trend: list[int]  # calls in each of the parts of the range (`_bins`)
    sample: Request | None = None  # the newest call; None if its row has been deleted
    known: KnownError | None = field(default=None)  # the mark of somebody who has looked into it
    has_returned: bool = False  # it was marked as resolved, and has occurred since

    @property
    def outcome_label(self) -> str:
        return outcome_words(self.kind.outcome, self.fault, self.kind.error_code)

    @property
    def fault_label(self) -> str:
        return FAULTS[self.fault]

    @property
    def state(self) -> str:
        """The state of this group, one of `STATES`; a resolved error that has occurred again counts as new."""
        return "new" if self.known is None or self.has_returned else self.known.state

    @property
    def message(self) -> str:
        """The error message of the group's newest call, for people who may see bodies; an empty text if there is none.

        If the group consists of similar messages, ids and numbers in it are replaced by `#`. The text is also empty if
        the row of the call was deleted, or if the group has several error codes.
        """
        if self.sample is None or not self.sample.error_message or self.kind.error_code == OTHER_CODE:
            return ""
        if not self.kind.message:
            return self.sample.error_message
        return pattern_of(self.sample.error_message, (self.sample.request_model, self.sample.response_model))

    @property
    def newest_message(self) -> str:
        """The newest call's error message as it is, for people who may see bodies; an empty text if there is none."""
        return self.sample.error_message if self.sample else ""

    @property
    def parameter(self) -> str:
        """The request parameter that was refused in the group's newest call; an empty text if it is not known.

        It is also empty if the group's calls have different messages, because each call may then name another
        parameter.
        """
        return self.sample.error_param if self.sample and self.kind.message else ""

    @property
    def filters(self) -> dict[str, str]:
        """The query parameters with which the list of requests shows this group's calls, of any time."""
        found = {"outcome": self.kind.outcome, "code": in_address(self.kind.error_code)}
        if self.kind.outcome in GROUPED_OUTCOMES and self.kind.error_code != OTHER_CODE:
            found["message"] = in_address(self.kind.message)
        return found

    @property
    def trend_path(self) -> str:
        """The numbers of calls over time as an SVG path: a bar for each bin of time with calls; 96 wide and 20 high."""
        most = max(self.trend, default=0) or 1
        heights = [max(1.5, 20 * count / most) if count else 0 for count in self.trend]
        step = 4 * TREND_BINS / len(self.trend)
        return "".join(
            f"M{number * step:g} 20v-{height:.1f}h{step - 1:g}v{height:.1f}z"
            for number, height in enumerate(heights)
            if height
        )

    def filter_by(self, part: str, value: str) -> dict[str, str]:
        """Returns query parameters for the list of requests: this group's calls of one key, model, route or status.

        `part` is one of `key`, `model`, `route` and `status`, and `value` is the name of that key, model and so on.
        """
        if part == "status":
            return {**self.filters, part: value if value != "0" else NO_STATUS}
        return {**self.filters, part: in_address(value)}


def read_groups(time_range: TimeRange, fault: str = "", state: str = "", order: str = "calls") -> list[ErrorGroup]:
    """Reads the failed calls of a range of time, grouped by kind of error; returns the first `MAX_GROUPS` groups.

    The range is extended to whole hours.

    * `fault`: one of `FAULTS`, to read only groups with this fault; empty for all.
    * `state`: one of `STATES`, to read only groups in this state; any other text for all.
    * `order`: `calls` for the most calls first, `newest` for the newest call first.
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
        cursor.execute(
            GROUPS_SQL.format(within=within, order=ORDERS[order]),
            [bins, *ends, fault, state if state in STATES else ""],
        )
        rows = cursor.fetchall()
    groups = [_group(len(bins), *row) for _, _, *row in rows]
    _add_samples(groups)
    marks = KnownError.objects.in_bulk([mark_id for mark_id, *_ in rows if mark_id is not None])
    for group, (mark_id, has_returned, *_) in zip(groups, rows, strict=True):
        group.known, group.has_returned = marks.get(mark_id), has_returned
    return groups


def _bins(start: datetime, end: datetime) -> list[datetime]:
    """Returns the start of each bin in which a group's trend counts calls; there are at most `TREND_BINS` bins.

    The bins are equal parts of the range. If the range is longer than `LONGEST_IN_DAYS`, each bin is one month, or
    several whole months.
    """
    if end - start <= LONGEST_IN_DAYS:
        return [start + number * (end - start) / TREND_BINS for number in range(TREND_BINS)]
    months = [start, *starts_of(Span.MONTH, next_month(start), end)]
    return months[:: -(-len(months) // TREND_BINS)]


def _group(
    bin_count: int,
    outcome: str,
    code: str,
    fault: str,
    first_at: datetime,
    last_at: datetime,
    sample_id: UUID,
    calls: int,
    details: str,
) -> ErrorGroup:
    """Makes a group of failed calls (`ErrorGroup`) from the values in a row of the query `GROUPS_SQL`.

    The group's trend has `bin_count` numbers. `details` is JSON: the numbers of calls by bin of time, key, model, route
    and status.
    """
    trend = [0] * bin_count
    parts: dict[str, list[GroupPart]] = {"key": [], "model": [], "route": [], "status": []}
    counts = dict.fromkeys(parts, 0)
    rows: Sequence[tuple[str, str, int, int]] = orjson.loads(details)
    for part, value, of_part, count in rows:
        if part == "bin":
            trend[max(0, int(value))] += of_part
        else:
            parts[part].append(GroupPart(value, of_part))
            counts[part] = count
    kind = ErrorKind(outcome, *split_group(code))
    return ErrorGroup(kind, fault, first_at, last_at, sample_id, calls, parts, counts, trend)


def _add_samples(groups: list[ErrorGroup]) -> None:
    """Reads the newest call of each group of failed calls, and sets it as the example (`sample`) of the group.

    A group gets no example if the row of this call was deleted, or corrected to a success.
    """
    calls: Mapping[UUID, Request] = (
        Request.objects.filter(pk__in=[group.sample_id for group in groups]).filter(FAILED).in_bulk()
    )
    for group in groups:
        group.sample = calls.get(group.sample_id)
