"""The clock of the ledger. It is the database's clock, since each host has a clock of its own, which may be wrong."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import connection

MAX_DIFFERENCE = timedelta(minutes=5)


class ClocksDiffer(Exception):
    """Error: this machine's clock and the database's differ by more than `MAX_DIFFERENCE`.

    The error's message is one line to show to people.
    """


def database_now() -> datetime:
    """Returns the current time by the database's clock.

    Raises:
        django.db.Error: the database does not answer.
    """
    return _read_time("clock_timestamp()")


def database_started_at() -> datetime:
    """Returns when the PostgreSQL server was started that answers now, by its own clock.

    After a failover this is the start of another server, which may lack the last transactions of the one before.

    Raises:
        django.db.Error: the database does not answer.
    """
    return _read_time("pg_postmaster_start_time()")


def check_clocks() -> datetime:
    """Checks that this machine's clock agrees with the database's clock; returns the database's time.

    Raises:
        ClocksDiffer: the clocks are more than `MAX_DIFFERENCE` apart.
        django.db.Error: the database does not answer.
    """
    now, ahead = _compare_clocks()
    difference = timedelta(seconds=round(abs(ahead)))
    if difference > MAX_DIFFERENCE:
        raise ClocksDiffer(
            f"the clock of this machine is {difference} {'ahead of' if ahead > 0 else 'behind'} the database's; "
            "set the wrong one right: nothing is pruned before they agree"
        )
    return now


def clock_difference() -> float:
    """Returns by how many seconds this machine's clock is ahead of the database's clock; negative if behind.

    A difference that the duration of the query can explain counts as 0.

    Raises:
        django.db.Error: the database does not answer.
    """
    _, ahead = _compare_clocks()
    return ahead


def _compare_clocks() -> tuple[datetime, float]:
    """Asks the database for its time; returns that time, and by how many seconds this machine's clock is ahead of it.

    The seconds are negative if this machine's clock is behind, and 0 if the duration of the query can explain the
    difference.

    Raises:
        django.db.Error: the database does not answer.
    """
    asked_at = time.time()
    now = database_now()
    # The clocks agree if the database's time lies between the times before and after the query.
    ahead, behind = asked_at - now.timestamp(), now.timestamp() - time.time()
    return now, max(ahead, 0.0) - max(behind, 0.0)


def _read_time(expression: str) -> datetime:
    """Returns the value of an SQL expression for a point in time."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {expression}")
        [(moment,)] = cursor.fetchall()
    assert isinstance(moment, datetime)  # noqa: S101  (timestamptz)
    return moment
