"""Adds the copies of a week to the sums of months.

A day of the copied week is in a month as often as it was copied into the month. So the sums of a month grow by those of
the week's seven days, each times that number, and PostgreSQL need not add up hundreds of days.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from bench.ledger.filling.moved_values import moved
from usage.models import ErrorTotal
from usage.sums.labels.label_tables import CONFLICT, GROUP_COLUMNS, NAMES, SUMS, TABLE
from usage.sums.sum_tables import OF_MONTHS, SumTable

# How often each day of the copied week was copied into each month, and the first and last week into which it was.
COPIES = """
    SELECT day, date_trunc('month', day - 7 * week)::date AS month, count(*) AS number, min(week) AS last,
           max(week) AS first
    FROM (SELECT %(start)s::date + nth AS day FROM generate_series(0, 6) AS nth) AS days,
         generate_series(1, %(weeks)s) AS week GROUP BY 1, 2
"""
LABELS = f"""
    INSERT INTO {TABLE} ({NAMES})
    SELECT 'month', label, copies.month, value, {", ".join(GROUP_COLUMNS)},
           {", ".join(f"sum({name} * copies.number)" for name in SUMS)}
    FROM week_of_{TABLE} JOIN ({COPIES}) AS copies ON copies.day = start
    GROUP BY label, copies.month, value, {", ".join(GROUP_COLUMNS)}
    {CONFLICT}
"""
# Aggregates of histograms, each of which counts several times. Of a packed histogram, the first number is that of its
# first bucket (`usage.sums.histogram`).
AGGREGATES = """
    CREATE FUNCTION pg_temp.add_times(known bigint[], added bigint[], times bigint) RETURNS bigint[] LANGUAGE sql AS $$
        SELECT CASE WHEN added = '{}' THEN known ELSE ARRAY(
            SELECT COALESCE(a, 0) + COALESCE(b, 0) * times
            FROM unnest(known, added) WITH ORDINALITY AS pairs(a, b, number) ORDER BY number) END
    $$;
    CREATE FUNCTION pg_temp.add_packed_times(known int[], added int[], times bigint) RETURNS int[] LANGUAGE sql AS $$
        SELECT CASE WHEN added = '{}' THEN known ELSE (
            SELECT least(known[1], added[1]) || ARRAY(
                SELECT COALESCE(CASE WHEN n >= known[1] THEN known[n - known[1] + 2] END, 0)
                       + COALESCE(CASE WHEN n >= added[1] THEN added[n - added[1] + 2] END, 0) * times::int
                FROM generate_series(least(known[1], added[1]), greatest(
                    known[1] + cardinality(known) - 2, added[1] + cardinality(added) - 2)) AS n ORDER BY n)) END
    $$;
    CREATE AGGREGATE pg_temp.sum_times(bigint[], bigint)
        (sfunc = pg_temp.add_times, stype = bigint[], initcond = '{}');
    CREATE AGGREGATE pg_temp.sum_packed_times(int[], bigint)
        (sfunc = pg_temp.add_packed_times, stype = int[], initcond = '{}');
"""


def add_copies_to_months(start: datetime, weeks: int) -> None:
    """Adds to the sums of months the copies of the week that begins at `start`, in each of the `weeks` weeks before it.

    The week's sums by day must be in tables `week_of_…`, and each table of sums must have its primary key.

    Raises:
        django.db.Error: the database fails.
    """
    values: dict[str, datetime | int] = {"start": start, "weeks": weeks}
    with connection.cursor() as cursor:
        cursor.execute(LABELS, values)
        cursor.execute(AGGREGATES)
        for table in OF_MONTHS:
            cursor.execute(_months_of(table), values)


def _months_of(table: SumTable) -> str:
    """Returns the SQL statement that adds the copies' sums to those of months, in a table that has sums of both."""
    keys = [
        {"span": "'month'", "start": "copies.month::timestamp AT TIME ZONE 'UTC'"}.get(key, key) for key in table.keys
    ]
    columns = (
        *keys,
        *(f"sum({name} * copies.number)" for name in table.counters),
        *(_outer("max", name, "last") for name in table.maxima),
        *(f"pg_temp.sum_times({name}, copies.number)" for name in table.histograms),
        *(f"pg_temp.sum_packed_times({name}, copies.number)" for name in table.packed),
        *(_outer("min", name, "first") for name in table.minima),
    )
    _, _, conflict = table.add.partition(" ON CONFLICT ")
    return f"""
        INSERT INTO {table.name} ({", ".join(table.columns)})
        SELECT {", ".join(columns)}
        FROM week_of_{table.name} JOIN ({COPIES}) AS copies ON copies.day = (start AT TIME ZONE 'UTC')::date
        WHERE span = 'day' GROUP BY {", ".join(str(number + 1) for number in range(len(keys)))}
        ON CONFLICT {conflict}
    """


def _outer(function: str, name: str, weeks: str) -> str:
    """Returns the SQL expression for the last or first time of copied failures, or for the id of the last one.

    `function` is `max` or `min`; `weeks` is the column of `COPIES` for the last or first week.
    """
    (field,) = (field for field in ErrorTotal._meta.concrete_fields if field.name == name)
    value = moved(field, f"copies.{weeks}")
    # PostgreSQL has no `max` for UUIDs; their texts have the same order.
    return f"max(({value})::text)::uuid" if name == "sample_id" else f"{function}({value})"
