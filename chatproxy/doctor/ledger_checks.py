"""Checks of a database with the ledger's tables: its clock, its partitions by month, and its secrets."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.db.utils import ProgrammingError
from psycopg.errors import UndefinedColumn, UndefinedTable

from chatproxy.configuration import setting_reader
from chatproxy.doctor.finding import Finding, Level, fault, warning
from chatproxy.start.secret_canary import SecretsDiffer, check_secrets
from usage.database.clock import ClocksDiffer, check_clocks, database_now
from usage.database.partitions import partitions
from usage.upkeep.months import CALLS, missing_months, tables_with_strays

NOT_MIGRATED = "since the database has not been migrated; the next start does both"


def check_clock() -> Iterator[Finding]:
    """Yields a warning if this machine's clock and the database server's clock are far apart."""
    try:
        check_clocks()
    except ClocksDiffer as difference:
        yield warning(str(difference))


def check_months() -> Iterator[Finding]:
    """Yields a warning if the tables of calls have no partition for this month or for the next one.

    Also yields a warning for each table with rows in its default partition: their month had no partition. If the
    database has not been migrated, only says that nothing was checked.
    """
    if not partitions(CALLS):
        yield Finding(Level.OK, f"not made, {NOT_MIGRATED}")
        return
    if missing := [partition.name for _, partition in missing_months(database_now())]:
        yield warning(f"{', '.join(missing)}: a running server makes these partitions within the hour; see its log")
    for table in tables_with_strays():
        yield warning(
            f"{table}_default has rows: a clock was wrong, or calls came while their month had no partition; "
            "they are read like others, and deleted with RETENTION_DAYS"
        )


def check_secrets_of_database() -> Iterator[Finding]:
    """Yields a fault if a secret that the database was used with is not set on this server, or has changed.

    If the database has not been migrated, only says that nothing was compared.
    """
    try:
        check_secrets(setting_reader.load(), settings.DATA_DIR / setting_reader.SECRETS_FILE)
    except SecretsDiffer as difference:
        yield fault(str(difference))
    except ProgrammingError as error:
        if not isinstance(error.__cause__, UndefinedTable | UndefinedColumn):
            raise
        # `doctor` runs before the first start, or before the first one of a newer version.
        yield Finding(Level.OK, f"not compared, {NOT_MIGRATED}")
