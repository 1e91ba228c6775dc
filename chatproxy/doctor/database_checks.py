"""Checks of the database's version and settings: whether it can hold the ledger, the records of all calls.

They are made at the start, so that calls need not check. No setting is changed automatically, since it belongs to the
database or to its role, and other programs may rely on it. Each function raises `psycopg.Error` if the database does
not answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from django.conf import settings
from django.db import connection as django_connection
from psycopg import sql
from psycopg.rows import TupleRow

from chatproxy.doctor.finding import Finding, Level, fault, warning
from usage.database.pooler import is_pooled
from usage.money.lease_rounds import CONNECTIONS as LEASE_CONNECTIONS

KEYRING_CONNECTIONS = 1  # of the thread that keeps the keys of a worker in memory
PRUNING_CONNECTIONS = 1  # for the lock of the shipper that deletes old rows

Database = psycopg.Connection[TupleRow]


def check_version(database: Database) -> Iterator[Finding]:
    """Yields a fault if PostgreSQL is too old for Django; otherwise yields a finding that states its version."""
    number = database.info.server_version
    oldest = (django_connection.features.minimum_database_version or (0,))[0]
    if number // 10_000 < oldest:
        yield fault(f"PostgreSQL {number // 10_000} is too old; {oldest} or later is required")
    else:
        yield Finding(Level.OK, f"PostgreSQL {number // 10_000}.{number % 10_000}")


def check_writable(database: Database) -> Iterator[Finding]:
    """Yields a fault if the database accepts no writes, because it is a standby or is set to read-only."""
    [(is_standby,)] = database.execute("SELECT pg_is_in_recovery()").fetchall()
    if is_standby:
        yield fault(
            "the database is a read-only standby; DATABASE_URL must name the primary (with several hosts, add "
            "target_session_attrs=read-write to it)"
        )
    elif _value(database, "transaction_read_only") != "off":
        yield fault(
            f"the database takes no writes: default_transaction_read_only is on for {_place(database)}; set it off, or "
            "name another in DATABASE_URL"
        )


def check_encoding(database: Database) -> Iterator[Finding]:
    """Yields a fault if the database's encoding is not UTF8, and so cannot store every text."""
    if (encoding := _value(database, "server_encoding")) != "UTF8":
        yield fault(
            f"the database {database.info.dbname!r} has the encoding {encoding}, which cannot hold every call; it must "
            "be UTF8 (CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0)"
        )


def check_date_style(database: Database) -> Iterator[Finding]:
    """Yields a fault if the database's `DateStyle` writes times in a form that the gateway cannot read."""
    if not (style := _value(database, "DateStyle")).startswith("ISO"):
        remedy = _remedy(database, "DateStyle", "'ISO, MDY'")
        yield fault(f"DateStyle is {style!r} for {_place(database)}, and times can be read as ISO only; {remedy}")


def check_digits(database: Database) -> Iterator[Finding]:
    """Yields a fault if the database rounds floating-point numbers when it writes them as text."""
    if int(digits := _value(database, "extra_float_digits")) < 1:
        remedy = _remedy(database, "extra_float_digits", "1")
        yield fault(
            f"extra_float_digits is {digits} for {_place(database)}, so durations would be read rounded, and the sums "
            f"of the ledger look wrong; {remedy}"
        )


def check_connections(database: Database) -> Iterator[Finding]:
    """Yields a warning if the database allows fewer connections than all processes of this server may open.

    The lowest of the limits of the PostgreSQL server, the user and the database counts. With a connection pooler,
    yields only a finding that nothing was compared.
    """
    if is_pooled(database):
        yield Finding(Level.OK, "not compared, since a connection pooler shares those of PostgreSQL")
        return
    needed = connections_needed(settings.WEB_CONCURRENCY)
    query = """
        SELECT least(
            (SELECT sum(setting::int * CASE name WHEN 'max_connections' THEN 1 ELSE -1 END)::int FROM pg_settings
             WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')),
            (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = session_user),
            (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())
        )
    """
    [(allowed,)] = database.execute(query).fetchall()
    if allowed < needed:
        yield warning(
            f"the workers and the shipper open up to {needed} connections, and PostgreSQL allows {allowed} for "
            f"{_place(database)}; lower WEB_CONCURRENCY, raise max_connections, or use a pooler"
        )


def connections_needed(workers: int) -> int:
    """Returns how many connections to the database the processes of a server with `workers` workers may open."""
    pool: int = django_connection.settings_dict["OPTIONS"]["pool"]["max_size"]
    of_a_worker = pool + LEASE_CONNECTIONS + KEYRING_CONNECTIONS
    return workers * of_a_worker + pool + PRUNING_CONNECTIONS


def _value(database: Database, setting: str) -> str:
    """Returns the value that one of PostgreSQL's settings has for this connection."""
    [(value,)] = database.execute("SELECT current_setting(%s)", [setting]).fetchall()
    return str(value)


def _place(database: Database) -> str:
    """Returns the name of a connection's database and that of its user as text, for a message about their settings."""
    return f"database {database.info.dbname!r} or user {database.info.user!r}"


def _remedy(database: Database, setting: str, value: str) -> str:
    """Returns the SQL that sets a setting to `value`, for a person to run: for the database, or else for the user."""
    name = sql.Identifier(database.info.dbname).as_string(database)
    return f"ALTER DATABASE {name} SET {setting} TO {value} (or ALTER ROLE {database.info.user} …)"
