"""Compares totals, breakdowns and peaks with the sums of hours, and totals of minutes with the rows of calls.

`usage.upkeep.verify` reports the differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from django.db import connection

from usage.database.clock import database_now
from usage.ids import first_id
from usage.models import Dimension, Span
from usage.sums.sum_tables import (
    BREAKDOWN_KEYS,
    BREAKDOWN_SUMS,
    DIMENSIONS,
    DURATION,
    HOUR_KEYS,
    MAXES,
    NAMED,
    NEEDS_PRICE_SQL,
    TOTAL_KEYS,
    TOTAL_SUMS,
    HistogramName,
    histograms_sql,
)
from usage.sums.summed_names import SUMMED_MODEL_SQL
from usage.upkeep.differing_sums import DIFFERS, DIFFERS_CLEARLY, DOUBLES, IS_CALL, adding_cursor, summed_value

# The column of `UsageHour` in which a dimension of the totals has its values.
COLUMNS = dict(zip(DIMENSIONS, HOUR_KEYS[1:], strict=True))
SPANS = "(VALUES ('day', date_trunc('day', hour, 'UTC')), ('month', date_trunc('month', hour, 'UTC')))"
BREAKDOWN_TEXTS = ", ".join(f"{key}::text" for key in BREAKDOWN_KEYS)
BREAKDOWN_NAMES = ", ".join(BREAKDOWN_KEYS)
SINCE = "COALESCE(%(since)s, '-infinity'::timestamptz)"


def wrong_totals(since: datetime | None) -> Iterator[str]:
    """Compares totals of hours, days and months with the table `UsageHour`; yields a description of each wrong one.

    Totals (`UsageTotal`) are the sums of all calls, and those of each key, model, route and outcome. At most 100 wrong
    ones are described. Only totals from `since` on are compared; all if it is None.
    """
    columns = ", ".join((*HOUR_KEYS, "calls", "unpriced_calls", *TOTAL_SUMS))
    hours = f"SELECT {columns} FROM usage_usagehour WHERE hour >= COALESCE(%s, '-infinity'::timestamptz)"
    yield from _wrong_totals((Span.HOUR, Span.DAY, Span.MONTH), hours, [since], since)


def wrong_minutes(since: datetime | None) -> Iterator[str]:
    """Compares the dashboard's totals of minutes with the rows of calls; yields a description of each wrong total.

    At most 100 are described. Only totals of the last 24 hours are compared, and none from before `since`.
    """
    day_ago = database_now() - timedelta(days=1)
    minutes_since = max(day_ago, since) if since else day_ago
    columns = ", ".join(f"COALESCE({summed_value(name)}, 0)" for name in TOTAL_SUMS)
    rows = f"""
        SELECT started_at AS hour, key_name, {SUMMED_MODEL_SQL} AS model, route, outcome, ({IS_CALL})::int AS calls,
               ({NEEDS_PRICE_SQL})::int, {columns}
        FROM usage_request WHERE started_at >= %s AND request_id >= %s
    """
    yield from _wrong_totals((Span.MINUTE,), rows, [minutes_since, first_id(minutes_since)], minutes_since)


def _wrong_totals(
    spans: tuple[Span, ...], source: str, values: Sequence[datetime | UUID | None], since: datetime | None
) -> Iterator[str]:
    """Compares the dashboard's totals with sums of the rows of a query; yields a description of each wrong total.

    `spans` are the lengths of the totals to compare, such as hour and day. `source` is the query, and `values` are its
    parameters. At most 100 wrong totals are described. Only those from `since` on are compared; all if it is None.
    """
    starts = ", ".join(f"('{span}', date_trunc('{span}', hour, 'UTC'))" for span in spans)
    groups = ", ".join(f"('{dimension}', {column})" for dimension, column in COLUMNS.items())
    differs = " OR ".join(
        (DIFFERS_CLEARLY if name in DOUBLES else DIFFERS).format(name)
        for name in ("calls", "errors", "unpriced_calls", *TOTAL_SUMS)
    )
    columns = ", ".join(("hour", *HOUR_KEYS[1:], "calls", "unpriced_calls", *TOTAL_SUMS))
    query = f"""
        WITH a AS (
            SELECT span, dimension, start, value, sum(calls) AS calls,
                   COALESCE(sum(calls) FILTER (WHERE outcome <> 'success'), 0) AS errors,
                   {", ".join(f"sum({name}) AS {name}" for name in ("unpriced_calls", *TOTAL_SUMS))}
            FROM ({source}) AS source ({columns}),
                 LATERAL (VALUES {starts}) AS spans (span, start),
                 LATERAL (VALUES ('all', ''), {groups}) AS groups (dimension, value)
            GROUP BY 1, 2, 3, 4
        ), b AS (
            SELECT * FROM usage_usagetotal WHERE span = ANY(%s) AND start >= COALESCE(%s, '-infinity'::timestamptz)
        )
        SELECT COALESCE(a.span, b.span), COALESCE(a.dimension, b.dimension), COALESCE(a.start, b.start)::text,
               COALESCE(a.value, b.value)
        FROM a FULL JOIN b ON {" AND ".join(f"a.{key} = b.{key}" for key in TOTAL_KEYS)}
        WHERE COALESCE(a.start, b.start) >= COALESCE(%s, '-infinity'::timestamptz)
          AND ({differs})
        LIMIT 100
    """
    with adding_cursor() as cursor:
        cursor.execute(query, [*values, [span.value for span in spans], since, since])
        for group in cursor.fetchall():
            yield f"usage_usagetotal is not the sum of its calls for {' / '.join(group)}"


def wrong_histograms_of_totals(name: HistogramName, since: datetime | None) -> Iterator[str]:
    """Yields a description of each of the dashboard's totals whose latency histogram is wrong, at most 100.

    The histogram must be the sum of the histograms of the total's hours. `name` is the latency. For `duration_ms`, the
    totals of each key, model and route are compared, too, except those to which an earlier release added calls without
    histograms; for other latencies, only the totals of all calls are. Only totals of hours, days and months from
    `since` on are compared; all if it is None.
    """
    columns = {Dimension.ALL: "''"}
    if name == DURATION:
        columns |= {dimension: COLUMNS[dimension] for dimension in NAMED}
    groups = ", ".join(f"('{dimension}', {column})" for dimension, column in columns.items())
    both = histograms_sql(name) if name == DURATION else f"(VALUES (0, {name}_histogram)) AS one (first, histogram)"
    query = f"""
        WITH a AS (
            SELECT span, dimension, start, value, first + number AS number, sum(count) AS count
            FROM (SELECT * FROM usage_usagehour WHERE hour >= COALESCE(%(since)s, '-infinity'::timestamptz)) AS hours,
                 LATERAL {histograms_sql(name)}, unnest(histogram) WITH ORDINALITY AS counts (count, number),
                 LATERAL (VALUES ('hour', hour), ('day', date_trunc('day', hour, 'UTC')),
                                 ('month', date_trunc('month', hour, 'UTC'))) AS spans (span, start),
                 LATERAL (VALUES {groups}) AS groups (dimension, value)
            WHERE count <> 0 GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0
        ), b AS (
            SELECT span, dimension, start, value, first + number AS number, sum(count) AS count
            FROM usage_usagetotal, LATERAL {both},
                 unnest(histogram) WITH ORDINALITY AS counts (count, number)
            WHERE span <> 'minute' AND start >= COALESCE(%(since)s, '-infinity'::timestamptz)
              AND dimension = ANY(%(dimensions)s)
            GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0
        ), incomplete AS (
            SELECT span, dimension, start, value FROM usage_usagetotal
            WHERE dimension = ANY(%(named)s) AND start >= COALESCE(%(since)s, '-infinity'::timestamptz) AND calls > (
                SELECT COALESCE(sum(count), 0) FROM unnest(duration_ms_histogram || durations[2:]::bigint[]) AS count
            )
        )
        SELECT DISTINCT span, dimension, start::text, value
        FROM a FULL JOIN b USING (span, dimension, start, value, number)
        LEFT JOIN incomplete USING (span, dimension, start, value)
        WHERE a.count IS DISTINCT FROM b.count AND incomplete.span IS NULL
          AND start >= COALESCE(%(since)s, '-infinity'::timestamptz) LIMIT 100
    """
    with adding_cursor() as cursor:
        cursor.execute(query, {"since": since, "dimensions": list(columns), "named": list(NAMED)})
        for group in cursor.fetchall():
            yield f"usage_usagetotal's histogram of {name} is off for {' / '.join(group)}"


def wrong_peaks(since: datetime | None) -> Iterator[str]:
    """Yields a description of each day whose row in the table `UsagePeak` is missing or wrong, at most 100.

    The row must have the longest duration and the highest token counts that any hour of the day has. Only days from
    `since` on are compared; all if it is None.
    """
    for day in differing_peaks(since, 100):
        yield f"usage_usagepeak has not the highest figures of {day}"


def differing_peaks(since: datetime | None, most: int | None) -> list[date]:
    """Returns the days (UTC) whose row in the table `UsagePeak` is missing or wrong; at most `most`, if not None.

    The row must have the longest duration and the highest token counts that any hour of the day has. Only days from
    `since` on are compared; all if it is None.
    """
    names = [f"max_{name}" for name in MAXES]
    query = f"""
        WITH a AS (
            SELECT (hour AT TIME ZONE 'UTC')::date AS day, {", ".join(f"max({name}) AS {name}" for name in names)}
            FROM usage_usagehour WHERE hour >= COALESCE(%(since)s, '-infinity'::timestamptz) GROUP BY 1
        ), b AS (SELECT * FROM usage_usagepeak WHERE day >= COALESCE(%(day)s::date, '-infinity'))
        SELECT day FROM a FULL JOIN b USING (day)
        WHERE {" OR ".join(f"a.{name} IS DISTINCT FROM b.{name}" for name in names)} ORDER BY day LIMIT %(most)s
    """
    with adding_cursor() as cursor:
        cursor.execute(query, {"since": since, "day": since and since.astimezone(UTC).date(), "most": most})
        return [day for (day,) in cursor.fetchall()]


def missing_names() -> Iterator[str]:
    """Yields a description of each key, model or route that has totals of days, but is missing in the table of names.

    At most 100 are described.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT dimension, value FROM usage_usagetotal WHERE span = 'day' AND dimension = ANY(%s)"
            " EXCEPT SELECT dimension, value FROM usage_summedname LIMIT 100",
            [list(NAMED)],
        )
        for name in cursor.fetchall():
            yield f"usage_summedname lacks {' / '.join(name)}"


def wrong_breakdowns(since: datetime | None) -> Iterator[str]:
    """Compares the breakdowns of days and months with the table `UsageHour`; yields a description of each wrong one.

    Breakdowns are sums by model, route and outcome, of each key and of all keys. At most 100 wrong ones are described.
    Only days and months that begin at `since` or later are compared; all if it is None.
    """
    names = ("calls", "unpriced_calls", *BREAKDOWN_SUMS)
    differs = " OR ".join((DIFFERS_CLEARLY if name in DOUBLES else DIFFERS).format(name) for name in names)
    query = f"""
        WITH a AS (
            SELECT {BREAKDOWN_NAMES}, {", ".join(f"sum({name}) AS {name}" for name in names)}
            FROM usage_usagehour, LATERAL {SPANS} AS spans (span, start),
                 LATERAL (VALUES ('all', ''), ('key', key_name)) AS groups (dimension, value)
            WHERE hour >= {SINCE} GROUP BY {BREAKDOWN_NAMES}
        ), b AS (SELECT * FROM usage_usagebreakdown WHERE start >= {SINCE})
        SELECT {BREAKDOWN_TEXTS} FROM a FULL JOIN b USING ({BREAKDOWN_NAMES})
        WHERE start >= {SINCE} AND ({differs}) LIMIT 100
    """
    with adding_cursor() as cursor:
        cursor.execute(query, {"since": since})
        for group in cursor.fetchall():
            yield f"usage_usagebreakdown is not the sum of its calls for {' / '.join(group)}"


def wrong_durations(since: datetime | None) -> Iterator[str]:
    """Yields a description of each breakdown of a day or month whose histogram of durations is wrong; at most 100.

    A breakdown has the sums of a key's calls with the same model, route and outcome. Its histogram must be the sum of
    the histograms of its hours. Only breakdowns that begin at `since` or later are compared, or all if it is
    None. `since` must be so late that the histograms of all these hours still exist.
    """
    query = f"""
        WITH a AS (
            SELECT {BREAKDOWN_NAMES}, first + number AS bucket, sum(count) AS count
            FROM usage_usagehour, LATERAL {histograms_sql(DURATION)},
                 unnest(histogram) WITH ORDINALITY AS counts (count, number),
                 LATERAL {SPANS} AS spans (span, start), LATERAL (VALUES ('key', key_name)) AS groups (dimension, value)
            WHERE hour >= {SINCE} AND count <> 0 GROUP BY {BREAKDOWN_NAMES}, bucket HAVING sum(count) <> 0
        ), b AS (
            SELECT {BREAKDOWN_NAMES}, durations[1] + number AS bucket, count
            FROM usage_usagebreakdown, unnest(durations[2:]) WITH ORDINALITY AS counts (count, number)
            WHERE start >= {SINCE} AND count <> 0
        )
        SELECT DISTINCT {BREAKDOWN_TEXTS}
        FROM a FULL JOIN b USING ({BREAKDOWN_NAMES}, bucket)
        WHERE start >= {SINCE} AND a.count IS DISTINCT FROM b.count LIMIT 100
    """
    with adding_cursor() as cursor:
        cursor.execute(query, {"since": since})
        for group in cursor.fetchall():
            yield f"usage_usagebreakdown's histogram is off for {' / '.join(group)}"
