"""Makes the monthly partitions of the tables of calls and of their bodies, before their months begin.

If a month has no partition, no call is lost: its row goes to the default partition, and moves when there is one.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from usage.database.clock import database_now
from usage.database.compression import compress_by
from usage.database.partitions import Partition, has_rows, make_partition, partitions
from usage.models import Span
from usage.sums.totals_reader import floor, next_month

logger = logging.getLogger(__name__)

CALLS, BODIES = TABLES = ("usage_request", "usage_requestbody")


def month_of(moment: datetime) -> datetime:
    """Returns the beginning of the month (UTC) that contains a time."""
    return floor(moment.astimezone(UTC), Span.MONTH)


def make_months(now: datetime | None = None) -> list[str]:
    """Creates the missing partitions of this month and the next one, for the tables of calls and of bodies.

    Returns the names of the new partitions. Bodies that are stored from now on are compressed by lz4, if the database
    supports it. `now` is the database's time by default.

    Raises:
        django.db.OperationalError: another transaction, such as a dump, uses a table; or the database is away.
    """
    now = now or database_now()
    missing = missing_months(now)
    for table, partition in missing:
        make_partition(table, partition)
        logger.info("made the partition %s", partition.name)
    compress_by("lz4", BODIES, ("request_body", "response_body"))
    return [partition.name for _, partition in missing]


def missing_months(now: datetime) -> list[tuple[str, Partition]]:
    """Returns the missing partitions of this month and the next one, for the tables of calls and of bodies.

    Each is a pair: the name of the table, and the description of the partition to create.
    """
    return [
        (table, month_partition(table, start))
        for table in TABLES
        for start in (month_of(now), next_month(now))
        if not any(partition.covers(start) for partition in partitions(table))
    ]


def month_partition(table: str, start: datetime) -> Partition:
    """Returns the description of a table's partition for the month (UTC) that begins at `start`; creates nothing."""
    return Partition(f"{table}_{start:%Y_%m}", start, next_month(start))


def tables_with_strays() -> list[str]:
    """Returns the tables that have rows in their default partition, where rows without a month's partition go.

    The cause is a wrong clock, or a month whose partition was not created.
    """
    return [table for table in TABLES if has_rows(f"{table}_default")]
