"""Checks at the start whether a database's settings allow it to hold the ledger, rather than at each call.

Each fault is one line that names the value and what to do. Nothing is changed automatically: these settings belong to
the database or its role, and other programs may rely on them.
"""

from __future__ import annotations

import psycopg
from psycopg.rows import TupleRow

QUERY = """
SELECT current_database(), current_user, pg_is_in_recovery(), current_setting('transaction_read_only'),
       current_setting('server_encoding'), current_setting('DateStyle'), current_setting('extra_float_digits')::int
"""


def find_fault(connection: psycopg.Connection[TupleRow]) -> str:
    """Returns why a database cannot hold the ledger (the records of all calls); "" if its settings allow it.

    The reason is one line, which names the wrong setting and what to do. If several settings are wrong, only the first
    one is reported.

    Raises:
        psycopg.Error: the database does not answer.
    """
    [(database, user, is_standby, read_only, encoding, date_style, digits)] = connection.execute(QUERY).fetchall()
    if is_standby:
        return (
            "the database is a read-only standby; DATABASE_URL must name the primary (with several hosts, add "
            "target_session_attrs=read-write to it)"
        )
    if read_only != "off":
        return (
            f"the database takes no writes: default_transaction_read_only is on for database {database!r} or user "
            f"{user!r}; set it off, or name another in DATABASE_URL"
        )
    if encoding != "UTF8":
        return (
            f"the database {database!r} has the encoding {encoding}, which cannot hold every call; it must be UTF8 "
            "(CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
        )
    if not date_style.startswith("ISO"):
        return (
            f"DateStyle is {date_style!r} for database {database!r} or user {user!r}, and times can be read as ISO "
            f"only; ALTER DATABASE {database} SET DateStyle TO 'ISO, MDY' (or ALTER ROLE {user} …)"
        )
    if digits < 1:
        return (
            f"extra_float_digits is {digits} for database {database!r} or user {user!r}, so durations would be read "
            f"rounded, and the sums of the ledger look wrong; ALTER DATABASE {database} SET extra_float_digits TO 1 "
            f"(or ALTER ROLE {user} …)"
        )
    return ""
