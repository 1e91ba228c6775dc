"""Explains an error of the database in words, for `/readyz` and the dashboard.

The words are fixed texts, because an error's own words may contain names of hosts, users and tables, and anybody may
read `/readyz`.
"""

from __future__ import annotations

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout

# By SQLSTATE (PostgreSQL's manual, appendix A).
WORDS = {
    "25006": "it takes no writes, as a standby does",
    "28000": "it refuses the user",
    "28P01": "it refuses the password",
    "40P01": "another transaction was in the way",
    "42501": "a permission is missing",
    "42703": "a column is missing; it may be of another version",
    "42P01": "a table is missing; it may be of another version",
    "53100": "its disk is full",
    "53200": "it is out of memory",
    "53300": "it has no connection free",
    "55P03": "another transaction was in the way",
    "57014": "a statement was cancelled",
    "57P01": "it is stopping",
    "57P02": "it has crashed",
    "57P03": "it is starting or stopping",
}
UNREACHED = (psycopg.OperationalError, psycopg.InterfaceError, OperationalError, InterfaceError, PoolTimeout, OSError)
LOST = "it cannot be reached"  # no connection was made, or it has broken
OTHER = "the log says more"


def words_of(error: BaseException) -> str:
    """Returns a database error's class name and its meaning in words, such as "OperationalError: it cannot be reached".

    `error` is an error of psycopg or psycopg_pool, or Django's error with one of these as its cause. If the meaning is
    not known, the words are "the log says more".
    """
    words = LOST if is_unreached(error) else WORDS.get(_sqlstate(error), OTHER)
    return f"{type(error).__name__}: {words}"


def is_explained(error: BaseException) -> bool:
    """Returns whether the meaning of a database error is known, such as an outage; any other one may be a bug."""
    return is_unreached(error) or _sqlstate(error) in WORDS


def is_unreached(error: BaseException) -> bool:
    """Returns whether an error of the database means that no connection was made, or that it has broken."""
    return isinstance(error, UNREACHED) and not _sqlstate(error)


def _sqlstate(error: BaseException) -> str:
    """Returns the SQLSTATE (PostgreSQL's error code) of a database error or of its cause; "" if there is none."""
    causes = [error, error.__cause__]
    return next((one.sqlstate for one in causes if isinstance(one, psycopg.Error) and one.sqlstate), "")
