"""Copies the calls of one week, with their sums, into the weeks before; PostgreSQL does all of the work.

A copy has other times and other ids; everything else is the same. So the sums can be copied, too: the sums of an hour
become those of the same hour in another week. Only the digests of rows are computed again.

The tables have no indexes meanwhile, and the partition of each month is filled apart from the others, in a thread.

The sums by label are folded as the product does it: the copied week's days once, before they are copied, and the months
at the end. The months are added up from the days as they were before.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, models, transaction
from django.db.backends.utils import CursorWrapper

from bench.ledger.filling.bulk_loading import take_indexes_off
from bench.ledger.filling.copied_months import add_copies_to_months
from bench.ledger.filling.moved_values import moved
from usage.database.partitions import Partition, has_rows, partitions
from usage.ids import first_id
from usage.journal_shipping.digests import DIGEST
from usage.models import (
    CountedResponse,
    ErrorTotal,
    LabelTotal,
    Request,
    RequestBody,
    StoredObject,
    TeamDay,
    UsageBreakdown,
    UsageDay,
    UsageHour,
    UsagePeak,
    UsageTotal,
)
from usage.upkeep.label_sums.folding import LATE, fold_labels

WEEK = timedelta(days=7)
FILLERS = 2  # partitions that are filled at the same time
CALLS = Request._meta.db_table
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


def copy_back(start: datetime, weeks: int, weeks_with_bodies: int) -> None:
    """Copies the calls and sums of the week that begins at `start` into each of the `weeks` weeks before it.

    The newest `weeks_with_bodies` of these weeks get copies of the bodies, too.

    Raises:
        django.db.Error: the database fails.
    """
    began = time.perf_counter()
    with ThreadPoolExecutor(FILLERS) as fillers, connection.cursor() as cursor:
        for model in TABLES:
            _take_week(cursor, model, start)
        filled = [fillers.submit(_fill_partition, start, weeks, *month) for month in _detach(cursor, start, weeks)]
        add_copies_to_months(start, weeks)
        fold_labels(start + WEEK + LATE)
        _take_week(cursor, LabelTotal, start)
        print(f"sums of months, {time.perf_counter() - began:,.0f} s", flush=True)
        for model in TABLES:
            if model is not Request:
                rows = _copy_table(cursor, model, range(weeks, 0, -1))
                print(f"{model._meta.db_table}: {rows:,} rows, {time.perf_counter() - began:,.0f} s", flush=True)
        for month in filled:
            print(f"{month.result()}, {time.perf_counter() - began:,.0f} s", flush=True)
        if weeks_with_bodies:
            rows = _copy_bodies(cursor, start, min(weeks, weeks_with_bodies))
            print(f"bodies: {rows:,} rows, {time.perf_counter() - began:,.0f} s", flush=True)
        for model in TABLES:
            cursor.execute(f"DROP TABLE week_of_{model._meta.db_table}")
    fold_labels(start + WEEK, (start - weeks * WEEK).date().replace(day=1))
    print(f"sums by label folded, {time.perf_counter() - began:,.0f} s", flush=True)


def _take_week(cursor: CursorWrapper, model: type[models.Model], start: datetime) -> None:
    """Makes a table of the rows of one table that are of the week that begins at `start`; other connections see it."""
    table = model._meta.db_table
    values: dict[str, datetime | UUID] = {
        "start": start,
        "end": start + WEEK,
        "first_id": first_id(start),
        "end_id": first_id(start + WEEK),
    }
    order = " ORDER BY request_id" if model is Request else ""  # two processes have written them
    cursor.execute(f"DROP TABLE IF EXISTS week_of_{table}")
    cursor.execute(
        f"CREATE UNLOGGED TABLE week_of_{table} AS SELECT * FROM {table} WHERE {TABLES.get(model, BY_ID)}{order}",
        values,
    )
    cursor.execute(f"ANALYZE week_of_{table}")


def _detach(cursor: CursorWrapper, start: datetime, weeks: int) -> list[tuple[Partition, datetime]]:
    """Detaches the partitions of calls that get copies; returns each with the beginning of its month, the newest first.

    As long as they are attached, their indexes cannot be dropped.
    """
    found = [
        (partition, partition.start)
        for partition in reversed(partitions(CALLS))
        if partition.start and partition.start < start and partition.end > start - weeks * WEEK
    ]
    for partition, _ in found:
        cursor.execute(f"ALTER TABLE {CALLS} DETACH PARTITION {partition.name}")
    return found


def _fill_partition(start: datetime, weeks: int, partition: Partition, begin: datetime) -> str:
    """Copies the calls of the week that begins at `start` into a detached partition, and attaches it; in a thread.

    The partition is of the month that begins at `begin`. Returns a line about it.
    """
    try:
        with connection.cursor() as cursor:
            statements = take_indexes_off(cursor, partition.name)
            with transaction.atomic():
                if not has_rows(partition.name):
                    cursor.execute(f"TRUNCATE {partition.name}")  # so that its rows are not in PostgreSQL's log
                rows = 0
                for week in range(weeks, 0, -1):
                    if start - week * WEEK < partition.end and start - (week - 1) * WEEK > begin:
                        rows += _copy(cursor, Request, week, partition.name, (begin, partition.end))
            cursor.execute(f"VACUUM (FREEZE, ANALYZE) {partition.name}")  # while its pages are in memory
            for statement in statements:
                cursor.execute(statement)
            bounds = first_id(begin), first_id(partition.end)
            cursor.execute(
                f"ALTER TABLE {CALLS} ATTACH PARTITION {partition.name} FOR VALUES FROM (%s) TO (%s)", bounds
            )
            return f"{partition.name}: {rows:,} rows"
    finally:
        connection.close()  # the thread's


def _copy_table(cursor: CursorWrapper, model: type[models.Model], weeks: Iterable[int]) -> int:
    """Copies the rows of the copied week in one table into other weeks; returns the number of rows."""
    table = model._meta.db_table
    statements = take_indexes_off(cursor, table)
    rows = sum(_copy(cursor, model, week, table) for week in weeks)
    for statement in statements:
        cursor.execute(statement)
    return rows


def _copy_bodies(cursor: CursorWrapper, start: datetime, weeks: int) -> int:
    """Copies the bodies of the week that begins at `start` into the `weeks` weeks before; returns their number."""
    table = RequestBody._meta.db_table
    _take_week(cursor, RequestBody, start)
    rows = sum(_copy(cursor, RequestBody, week, table) for week in range(weeks, 0, -1))
    cursor.execute(f"DROP TABLE week_of_{table}")
    return rows


def _copy(
    cursor: CursorWrapper,
    model: type[models.Model],
    week: int,
    into: str,
    limits: tuple[datetime, datetime] | None = None,
) -> int:
    """Copies the rows of one table from the copied week into another week, which is `week` weeks earlier.

    The rows go into the table `into`; only those of calls between `limits`, if these are given. Returns their number.
    """
    fields = [field for field in model._meta.concrete_fields if field.name != "digest"]
    names = ", ".join(str(field.column) for field in fields)
    values = ", ".join(f"{moved(field, str(week))} AS {field.column}" for field in fields)
    digest = f", {DIGEST}" if model is Request else ""
    ids: Mapping[str, UUID] = {}
    condition = ""
    if limits:
        ids = dict(zip(("first_id", "end_id"), (first_id(limit + week * WEEK) for limit in limits), strict=True))
        condition = f"WHERE {BY_ID}"
    cursor.execute(
        f"INSERT INTO {into} ({names}{digest and ', digest'}) SELECT {names}{digest} FROM"
        f" (SELECT {values} FROM week_of_{model._meta.db_table} {condition} OFFSET 0) AS moved",
        ids,
    )
    return int(cursor.rowcount)
