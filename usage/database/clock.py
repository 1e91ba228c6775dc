"""Owns the clock of the ledger, which is the database's: each host has a clock of its own, and one may be wrong."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from django.db import connection

MOST_DIFFERENCE = timedelta(minutes=5)


class ClocksDiffer(Exception):
    """This machine's clock and the database's are minutes apart; the message is one line for a person."""


def database_now() -> datetime:
    """The time by the database's clock.

    Raises:
        django.db.Error: the database does not answer.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        [(now,)] = cursor.fetchall()
    assert isinstance(now, datetime)  # noqa: S101  (timestamptz)
    return now


def check_clocks() -> datetime:
    """The time by the database's clock, if this machine's agrees. The time that the question took is no difference.

    Raises:
        ClocksDiffer: they are more than `MOST_DIFFERENCE` apart.
        django.db.Error: the database does not answer.
    """
    asked_at = time.time()
    now = database_now()
    ahead, behind = asked_at - now.timestamp(), now.timestamp() - time.time()
    difference = timedelta(seconds=round(max(ahead, behind)))
    if difference > MOST_DIFFERENCE:
        raise ClocksDiffer(
            f"the clock of this machine is {difference} {'ahead of' if ahead > behind else 'behind'} the database's; "
            "set the wrong one right: nothing is pruned before they agree"
        )
    return now
