"""Copies the calls of one week, with their sums, into the weeks before; PostgreSQL does all of the work.

A copy has other times and other ids; everything else is the same. So the sums can be copied, too: the sums of an hour
become those of the same hour in another week. Only the digests of rows are computed again.

The sums by label are folded as the product does it: the copied week's days once, before they are copied, and the months
at the end. The months are added up from the days as they were before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, models
from django.db.backends.utils import CursorWrapper

from usage.ids import first_id
from usage.journal_shipping.digests import DIGEST
from usage.models import (
    CountedResponse,
    ErrorTotal,
    LabelTotal,
    Request,
    StoredObject,
    TeamDay,
    UsageBreakdown,
    UsageDay,
    UsageHour,
    UsagePeak,
    UsageTotal,
)
from usage.sums.labels.label_tables import CONFLICT, GROUP_COLUMNS, NAMES, SUMS, TABLE
from usage.upkeep.label_sums.folding import LATE, fold_labels
from usage.upkeep.rebuild_totals import rebuild_months

WEEK = timedelta(days=7)
BY_ID = "request_id >= %(first_id)s AND request_id < %(end_id)s"
BY_DAY = "day >= %(start)s AND day < %(end)s"
BY_START = "start >= %(start)s AND start < %(end)s"
# The tables to copy, each with the condition that selects the rows of the week. Totals of minutes are kept for less
# than a week, and those of months are longer.
TABLES: dict[type[models.Model], str] = {
    Request: BY_ID,
    CountedResponse: BY_ID,
    StoredObject: BY_ID,
    UsageHour: "hour >= %(start)s AND hour < %(end)s",
    UsageDay: BY_DAY,
    TeamDay: BY_DAY,
    UsagePeak: BY_DAY,
    UsageTotal: f"span IN ('hour', 'day') AND {BY_START}",
    UsageBreakdown: f"span = 'day' AND {BY_START}",
    ErrorTotal: f"span IN ('hour', 'day') AND {BY_START}",
    LabelTotal: f"span = 'day' AND {BY_START}",
}
# Texts that no two rows share end in three digits (hex); in a copy, in `w` and the number of the week.
UNIQUE_TEXTS = {"response_id", "upstream_request_id", "object_id"}
# A UUIDv7 with an earlier time: its first twelve digits are milliseconds.
MOVED_ID = """(lpad(to_hex(('x' || left({0}::text, 8) || substr({0}::text, 10, 4))::bit(48)::bigint
    - %(milliseconds)s), 12, '0') || substr({0}::text, 15))::uuid"""
FIND_INDEXES = """
    SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')
    FROM pg_index WHERE indrelid = ANY(%s::regclass[]) AND NOT indisunique ORDER BY 1
"""
LABELS = LabelTotal._meta.db_table
# Adds the copies' sums by label to the months: each of the copied week's days is in a month as often as it was copied.
LABELS_OF_MONTHS = f"""
    INSERT INTO {TABLE} ({NAMES})
    SELECT 'month', label, copies.month, value, {", ".join(GROUP_COLUMNS)},
           {", ".join(f"sum({name} * copies.number)" for name in SUMS)}
    FROM week_of_{LABELS} JOIN (
        SELECT day, date_trunc('month', day - 7 * week)::date AS month, count(*) AS number
        FROM (SELECT %(start)s::date + nth AS day FROM generate_series(0, 6) AS nth) AS days,
             generate_series(1, %(weeks)s) AS week GROUP BY 1, 2
    ) AS copies ON copies.day = start
    GROUP BY label, copies.month, value, {", ".join(GROUP_COLUMNS)}
    {CONFLICT}
"""


def copy_back(start: datetime, weeks: int) -> None:
    """Copies the calls and sums of the week that begins at `start` into each of the `weeks` weeks before it.

    Indexes that do not ensure uniqueness are dropped first, and created again afterwards. That takes a fraction of the
    time that adding each row to them would take.

    Raises:
        django.db.Error: the database fails.
    """
    began = time.perf_counter()
    ends: dict[str, datetime | UUID] = {
        "start": start,
        "end": start + WEEK,
        "first_id": first_id(start),
        "end_id": first_id(start + WEEK),
    }
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET maintenance_work_mem = '1GB'")
        cursor.execute(FIND_INDEXES, [[model._meta.db_table for model in TABLES]])
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for model in TABLES:
            _take_week(cursor, model, ends)
        cursor.execute(LABELS_OF_MONTHS, {"start": start, "weeks": weeks})
        fold_labels(start + WEEK + LATE)
        cursor.execute(f"DROP TABLE week_of_{LABELS}")
        _take_week(cursor, LabelTotal, ends)
        print(f"sums by label of months, {time.perf_counter() - began:,.0f} s", flush=True)
        for week in range(weeks, 0, -1):
            copied = sum(_copy(cursor, model, week) for model in TABLES)
            print(f"week -{week}: {copied:,} rows and sums, {time.perf_counter() - began:,.0f} s", flush=True)
        for model in TABLES:
            cursor.execute(f"DROP TABLE week_of_{model._meta.db_table}")
        for name, definition in indexes:
            cursor.execute(definition)
            print(f"{name}, {time.perf_counter() - began:,.0f} s", flush=True)
        rebuild_months()
        fold_labels(start + WEEK, (start - weeks * WEEK).date().replace(day=1))
        print(f"sums of months, {time.perf_counter() - began:,.0f} s", flush=True)
        cursor.execute("RESET synchronous_commit")
        cursor.execute("RESET maintenance_work_mem")


def _take_week(cursor: CursorWrapper, model: type[models.Model], ends: Mapping[str, datetime | UUID]) -> None:
    """Makes a temporary table of the rows of one table that are of the copied week."""
    table = model._meta.db_table
    cursor.execute(f"CREATE TEMPORARY TABLE week_of_{table} AS SELECT * FROM {table} WHERE {TABLES[model]}", ends)


def _copy(cursor: CursorWrapper, model: type[models.Model], week: int) -> int:
    """Copies the rows of one table from the copied week into another week; returns the number of rows.

    That other week is `week` weeks earlier.
    """
    fields = [field for field in model._meta.concrete_fields if field.name != "digest"]
    names = ", ".join(str(field.column) for field in fields)
    moved = ", ".join(f"{_moved(field)} AS {field.column}" for field in fields)
    table = model._meta.db_table
    into, values = (f"{names}, digest", f"{names}, {DIGEST}") if model is Request else (names, names)
    milliseconds = week * WEEK // timedelta(milliseconds=1)
    cursor.execute(
        f"INSERT INTO {table} ({into}) SELECT {values} FROM (SELECT {moved} FROM week_of_{table} OFFSET 0) AS moved",
        {"milliseconds": milliseconds, "week": week},
    )
    return int(cursor.rowcount)


def _moved(field: models.Field[Any, Any]) -> str:
    """Returns the SQL expression for a column's value in a copy: times and ids are those of another week."""
    column = str(field.column)
    if isinstance(field, models.DateTimeField):
        return f"{column} - %(week)s * interval '7 days'"
    if isinstance(field, models.DateField):
        return f"{column} - %(week)s * 7"
    if isinstance(field, models.UUIDField):
        return MOVED_ID.format(column)
    if column in UNIQUE_TEXTS:
        return f"CASE WHEN {column} = '' THEN '' ELSE left({column}, -3) || 'w' || lpad(to_hex(%(week)s), 2, '0') END"
    return column
