"""The columns of the tables of sums, and the SQL statements that `usage.sums.totals_rollup` adds to them with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

from django.db.backends.utils import CursorWrapper

from usage.call_record import COUNTS, CountName, SummedRow
from usage.models import CostKind, Dimension

SumName = Literal[CountName, "request_bytes", "response_bytes", "cost", "duration_ms"]
MaxName = Literal["duration_ms", "input_tokens", "cached_tokens", "output_tokens"]
HistogramName = Literal["duration_ms", "upstream_ms", "overhead_ms"]

SUMS: tuple[SumName, ...] = (*COUNTS, "request_bytes", "response_bytes", "cost", "duration_ms")
TOKEN_MAXES: tuple[MaxName, ...] = ("input_tokens", "cached_tokens", "output_tokens")
MAXES: tuple[MaxName, ...] = ("duration_ms", *TOKEN_MAXES)
# The parts of `cost` that are not exact, and the kind of the dollars in each.
COST_PARTS = {"estimated_cost": CostKind.ESTIMATED, "provisional_cost": CostKind.PROVISIONAL}
PART_OF_KIND = {kind.value: name for name, kind in COST_PARTS.items()}
HOUR_SUMS = (*SUMS, *COST_PARTS)
DAY_SUMS = ("input_tokens", "output_tokens", "cost", *COST_PARTS)
# The sums to which a request of the gateway's own for a background response adds. It is no call, and nobody waited.
POLL_SUMS: tuple[SumName, ...] = (*COUNTS, "cost")
BREAKDOWN_SUMS = (*COUNTS, "cost", *COST_PARTS, "duration_ms")
TOTAL_SUMS = ("input_tokens", "cached_tokens", "output_tokens", "cost", *COST_PARTS, "duration_ms")
DURATION: HistogramName = "duration_ms"
HISTOGRAMS: tuple[HistogramName, ...] = (DURATION, "upstream_ms", "overhead_ms")
NO_HISTOGRAMS: dict[str, list[int]] = {f"{name}_histogram": [] for name in HISTOGRAMS}
# The columns of packed histograms. The totals of one key, model or route have that of durations only.
PACKED: dict[HistogramName, str] = {DURATION: "durations", "upstream_ms": "upstream_times", "overhead_ms": "overheads"}
DURATIONS = PACKED[DURATION]
NAMED = (Dimension.KEY, Dimension.MODEL, Dimension.ROUTE)

# The columns of a call's row that are added up, and those by which they are grouped.
ROW_COLUMNS = (
    "request_id", "started_at", "key_name", "team", "request_model", "response_model", "route", "outcome", "status",
    "error_code", "by_gateway", "unknown_model", "other_code", "error_group", "owner", "end_user", "tags",
    *dict.fromkeys((*SUMS, *MAXES, *HISTOGRAMS)), "cost_kind",
)  # fmt: skip
SUMMED_NAMES = (*ROW_COLUMNS, "needs_price")
NEEDS_PRICE_SQL = "usage_request.cost IS NULL AND usage_request.price IS NULL"
SUMMED_SQL = ", ".join([*(f"usage_request.{name}" for name in ROW_COLUMNS), NEEDS_PRICE_SQL])
HOUR_KEYS = ("hour", "key_name", "model", "route", "outcome")
DAY_KEYS = ("day", "key_name")
TEAM_DAY_KEYS = ("day", "team")
TOTAL_KEYS = ("span", "dimension", "start", "value")
BREAKDOWN_KEYS = ("span", "dimension", "start", "value", "model", "route", "outcome")
FAILURE_KEYS = ("span", "start", "outcome", "status", "error_code", "model", "route", "key_name")
DIMENSIONS = (*NAMED, Dimension.OUTCOME)  # in the order of HOUR_KEYS
HISTOGRAMS_OF: dict[str, tuple[HistogramName, ...]] = {Dimension.OUTCOME: (), **dict.fromkeys(NAMED, (DURATION,))}


@dataclass(frozen=True)
class SumTable:
    """A table of sums: its columns, and the SQL statement that adds sums to it.

    * `keys`: the columns that identify a group of calls.
    * `counters`, `histograms` and `packed` (packed histograms): the columns that are added up.
    * `maxima` and `minima`: the columns of which the larger or the smaller value is kept.
    """

    name: str
    keys: tuple[str, ...]
    counters: tuple[str, ...]
    maxima: tuple[str, ...] = ()
    histograms: tuple[str, ...] = ()
    packed: tuple[str, ...] = ()
    minima: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns: first those that identify a group of calls, then those with the group's sums."""
        return (*self.keys, *self.counters, *self.maxima, *self.histograms, *self.packed, *self.minima)

    @property
    def add(self) -> str:
        """The SQL statement that adds sums to the table; its parameter is a JSON array with one object per group."""
        names = ", ".join(self.columns)
        sums = _assignments(self.name, self.counters, self.maxima, self.histograms, self.packed, self.minima)
        return (
            f"INSERT INTO {self.name} ({names})"
            f" SELECT {names} FROM jsonb_populate_recordset(NULL::{self.name}, %s::jsonb)"
            f" ON CONFLICT ({', '.join(self.keys)}) DO UPDATE SET {', '.join(sums)}"
        )


def _assignments(
    table: str,
    counters: Iterable[str],
    maxima: Iterable[str],
    histograms: Iterable[str],
    packed: Iterable[str],
    minima: Iterable[str],
) -> list[str]:
    """Returns SQL assignments, one for each column, that add new sums of a group to the group's row in `table`.

    For a column in `maxima` the larger value is kept, for one in `minima` the smaller; the other columns are added up.
    """
    sums = [f"{name} = {table}.{name} + EXCLUDED.{name}" for name in counters]
    sums += [f"{name} = greatest({table}.{name}, EXCLUDED.{name})" for name in maxima]
    sums += [f"{name} = least({table}.{name}, EXCLUDED.{name})" for name in minima]
    # Only the sums of all calls have these histograms: most rows add none.
    sums += [
        f"{name} = CASE WHEN EXCLUDED.{name} = '{{}}' THEN {table}.{name} ELSE ARRAY("
        f"SELECT COALESCE(a, 0) + COALESCE(b, 0) FROM unnest({table}.{name}, EXCLUDED.{name})"
        " WITH ORDINALITY AS pairs(a, b, number) ORDER BY number) END"
        for name in histograms
    ]
    sums += [f"{name} = {_packed_sum(f'{table}.{name}', f'EXCLUDED.{name}')}" for name in packed]
    return sums


def histograms_sql(name: HistogramName) -> str:
    """Returns an SQL expression that reads one latency's two histograms, a plain and a packed one, from a row of sums.

    The expression is a table with a row for each of the two. `first` is the number of the histogram's first bucket, and
    `histogram` has the numbers of calls from this bucket on. The latency's whole histogram is the sum of both.
    """
    packed = PACKED[name]
    return f"(VALUES (0, {name}_histogram), ({packed}[1], {packed}[2:]::bigint[])) AS one (first, histogram)"


def _packed_sum(one: str, other: str) -> str:
    """Returns an SQL expression for the sum of two packed histograms, bucket by bucket; its value is packed, too.

    `one` and `other` are SQL expressions, each of a packed histogram (`usage.sums.histogram`).
    """
    # Of a packed histogram `h`, the first bucket is number `h[1]`, and the calls in bucket `n` are `h[n - h[1] + 2]`,
    # which is null behind the last bucket.
    in_one, in_other = (f"CASE WHEN n >= {h}[1] THEN {h}[n - {h}[1] + 2] END" for h in (one, other))
    last = ", ".join(f"{h}[1] + cardinality({h}) - 2" for h in (one, other))
    return (
        f"CASE WHEN {one} = '{{}}' THEN {other} WHEN {other} = '{{}}' THEN {one}"
        f" ELSE least({one}[1], {other}[1]) || ARRAY("
        f"SELECT COALESCE({in_one}, 0) + COALESCE({in_other}, 0)"
        f" FROM generate_series(least({one}[1], {other}[1]), greatest({last})) AS n ORDER BY n) END"
    )


_CALLS = ("calls", "unpriced_calls")
_OF_DAYS = (*_CALLS, *DAY_SUMS)
_LATENCIES = tuple(f"{name}_histogram" for name in HISTOGRAMS)
HOURS = SumTable(
    "usage_usagehour",
    HOUR_KEYS,
    (*_CALLS, *HOUR_SUMS),
    tuple(f"max_{name}" for name in MAXES),
    packed=tuple(PACKED.values()),
)
# With the histograms to which older versions have added.
ALL_OF_HOURS = replace(HOURS, histograms=_LATENCIES)
PEAKS = SumTable("usage_usagepeak", ("day",), (), HOURS.maxima)
DAYS = SumTable("usage_usageday", DAY_KEYS, _OF_DAYS)
TEAM_DAYS = SumTable("usage_teamday", TEAM_DAY_KEYS, _OF_DAYS)
TOTALS = SumTable(
    "usage_usagetotal",
    TOTAL_KEYS,
    ("calls", "errors", "unpriced_calls", *TOTAL_SUMS),
    histograms=_LATENCIES,
    packed=(DURATIONS,),
)
BREAKDOWNS = SumTable("usage_usagebreakdown", BREAKDOWN_KEYS, (*_CALLS, *BREAKDOWN_SUMS), packed=(DURATIONS,))
FAILURES = SumTable("usage_errortotal", FAILURE_KEYS, ("calls",), maxima=("last_at", "sample_id"), minima=("first_at",))
ADD_HOURS, ADD_PEAKS, ADD_DAYS, ADD_TEAM_DAYS = HOURS.add, PEAKS.add, DAYS.add, TEAM_DAYS.add
ADD_TOTALS, ADD_BREAKDOWNS, ADD_FAILURES = TOTALS.add, BREAKDOWNS.add, FAILURES.add
OF_MONTHS = (TOTALS, BREAKDOWNS, FAILURES)  # the tables that have sums of months
# An advisory lock until the end of the transaction, for whoever adds to sums, before the first row of sums is locked.
# All calls are counted in some common rows, so writers wait for each other in any case. At a row, each commit would
# wake all of them, who look the row up again, and the same one may lose for many seconds; this lock goes to whoever
# has waited longest. The sums do not depend on it: older versions beside this one do without.
TAKE_TURN = "SELECT pg_advisory_xact_lock(hashtextextended('chatproxy sums', 0))"
ADD_NAMES = """
    INSERT INTO usage_summedname (dimension, value)
    SELECT dimension, value FROM unnest(%s::text[], %s::text[]) AS one (dimension, value) ON CONFLICT DO NOTHING
"""


def fetch_summed_rows(cursor: CursorWrapper) -> list[SummedRow]:
    """Returns the rows that the cursor's last statement has selected or changed, each as a dictionary.

    The columns of the statement's result must be `SUMMED_SQL`: those from which the sums of calls are computed.
    """
    return [cast(SummedRow, dict(zip(SUMMED_NAMES, values, strict=True))) for values in cursor.fetchall()]
