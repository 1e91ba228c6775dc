"""The tables of all checks by name, and functions that run them, as `serve` and `doctor` do."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import ParamSpec

import psycopg
from django.conf import settings
from django.db.utils import Error

from chatproxy.doctor import (
    database_checks,
    host_checks,
    ledger_checks,
    redis_check,
    setting_checks,
    sign_in_check,
    upstream_checks,
)
from chatproxy.doctor.database_checks import Database
from chatproxy.doctor.finding import Finding, Level, fault, warning
from chatproxy.logs import without_secrets
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.database_refusals import reason_of
from chatproxy.start.startup import Output, StartError, connect

P = ParamSpec("P")

DEBUG = "debug pages"  # the names of checks that options of `serve` turn off
DEMO = "demo directory"
SECRETS = "secrets of the database"

OF_HOST: Mapping[str, Callable[[], Iterable[Finding]]] = {
    "names of settings": setting_checks.check_names,
    "options of gunicorn": setting_checks.check_gunicorn_options,
    DEMO: setting_checks.check_demo_directory,
    DEBUG: setting_checks.check_debug,
    "debug pages for others": setting_checks.check_debug_address,
    "length of secrets": setting_checks.check_short_secrets,
    "upstream": setting_checks.check_upstream,
    "data directory": host_checks.check_data_dir,
    "unused database": host_checks.check_unused_database,
    "permissions": host_checks.check_permissions,
    "free disk space": host_checks.check_free_disk,
    "open files": host_checks.check_open_files,
    "Redis": redis_check.check_redis,
    "single sign-on": sign_in_check.check_issuer,
}
OF_UPSTREAM: Mapping[str, Callable[[], Iterable[Finding]]] = {
    "upstream host": upstream_checks.check_upstream_host,
    "upstream key": upstream_checks.check_upstream_key,
}
OF_DATABASE: Mapping[str, Callable[[Database], Iterable[Finding]]] = {
    "database version": database_checks.check_version,
    "database takes writes": database_checks.check_writable,
    "encoding": database_checks.check_encoding,
    "DateStyle": database_checks.check_date_style,
    "extra_float_digits": database_checks.check_digits,
    "connections": database_checks.check_connections,
}
OF_LEDGER: Mapping[str, Callable[[], Iterable[Finding]]] = {
    "clock": ledger_checks.check_clock,
    "months": ledger_checks.check_months,
    SECRETS: ledger_checks.check_secrets_of_database,
}


def run_checks(
    checks: Mapping[str, Callable[P, Iterable[Finding]]],
    without: Container[str],
    /,
    *arguments: P.args,
    **options: P.kwargs,
) -> Iterator[tuple[str, Finding]]:
    """Runs a table of checks, except those named in `without`; yields each check's name with each of its findings.

    A check that finds nothing wrong is yielded once, with `Level.OK`. `arguments` and `options` are passed to each
    check.
    """
    for name, check in checks.items():
        if name not in without:
            for finding in list(check(*arguments, **options)) or [Finding(Level.OK)]:
                yield name, finding


def check_database(database: Database) -> list[tuple[str, Finding]]:
    """Runs the checks of a database on an open connection; returns pairs of a check's name and a finding.

    Raises:
        psycopg.Error: the database does not answer.
    """
    return list(run_checks(OF_DATABASE, (), database))


def obey(results: Iterable[tuple[str, Finding]], output: Output) -> None:
    """Writes one line for each warning among the findings of the checks at a start of the server; stops at a fault.

    Faults that do not prevent a start are written like warnings.

    Raises:
        StartError: a fault prevents the start; the message is that of the first one.
    """
    for _, finding in results:
        if finding.level is Level.FAULT and finding.prevents_start:
            raise StartError(finding.words)
        if finding.level is not Level.OK:
            output.write(f"chatproxy: {without_secrets(finding.words)}")


def examine() -> Iterator[tuple[str, Finding]]:
    """Runs all checks, and yields pairs: the name of a check, and one finding. Starts no service, changes nothing.

    If the database does not run or answer, one finding says so, and the checks that need the database are left out.
    """
    yield from run_checks(OF_HOST, ())
    yield from run_checks(OF_UPSTREAM, ())
    if settings.DATABASE_IS_BUNDLED and not BundledPostgres(settings.DATA_DIR).running:
        yield "database", warning("the bundled PostgreSQL does not run, so it was not checked; `serve` starts it")
        return
    try:
        with connect() as database:
            yield from check_database(database)
        yield from run_checks(OF_LEDGER, ())
    except psycopg.Error as error:
        yield "database", fault(f"the database cannot be reached: {reason_of(error)}")
    except Error as error:  # Django's, of the checks of the ledger
        yield "database", fault(f"the database cannot be read: {type(error).__name__}")
