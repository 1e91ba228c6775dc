"""Prepares what a server needs to start: open files, the port, the database, its schema."""

from __future__ import annotations

import errno
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import psycopg
from django.conf import settings
from django.db import connection, connections
from django.db.utils import Error, OperationalError
from psycopg import sql
from psycopg.pq import Conninfo
from psycopg.rows import TupleRow

from chatproxy.postgres.database_refusals import is_lasting, reason_of
from chatproxy.start.applied_migrations import has_all_migrations
from chatproxy.start.directory_lock import is_directory_locked, lock_directory
from usage.database.lock import wait_for_lock
from usage.database.partitions import is_locked
from usage.live.worker_files import has_living_worker
from usage.upkeep.months import make_months

PORT_SECONDS = 3.0  # how long a port may stay in use; longer if a worker of a killed server may have it
WORKERS_SECONDS = 60.0  # how long such workers may take to see that their master is dead, on a busy machine
DATABASE_SECONDS = 60.0  # how long the database may be unreachable
# A number that all our processes share. Not the 0x63686174 of older versions: behind a pooler, a connection whose
# process ended long ago may still hold that lock.
MIGRATION_LOCK = 0x63686175

T = TypeVar("T")


class StartError(Exception):
    """Error: the server cannot start. Its message is one line for a person."""


class Output(Protocol):
    """Stream for messages to the person who starts the server, such as a Django command's `stderr`."""

    def write(self, msg: str) -> object: ...


def raise_open_files() -> None:
    """Raises this process's limit of open files to the highest number that the system allows (the hard limit)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def lock_data_dir() -> None:
    """Makes this process, and the program that replaces it by `exec`, the only server of `DATA_DIR`.

    Raises:
        StartError: another server uses `DATA_DIR`, or the lock file cannot be made or locked.
    """
    try:
        is_ours = lock_directory(settings.DATA_DIR)
    except OSError as error:
        raise StartError(f"DATA_DIR {settings.DATA_DIR} cannot be locked: {error.strerror}") from None
    if not is_ours:
        raise StartError(in_use())


def in_use() -> str:
    """Returns the error message for a `DATA_DIR` that another server uses."""
    return f"another chatproxy runs on {settings.DATA_DIR}; stop it, or give this one its own DATA_DIR"


def check_port(host: str, port: int, output: Output) -> None:
    """Checks that the server can listen on its port; if the port is in use, waits a while for it to become free.

    If workers of a killed server of this DATA_DIR still use the port, a line about the wait is written to `output`.

    Raises:
        StartError: the server cannot listen there; another server of the same DATA_DIR runs; or the port stays in use
            for `PORT_SECONDS`, or for `WORKERS_SECONDS` if such workers live.
    """
    # gunicorn would report a port in use later, and at length.
    began_at = time.monotonic()
    has_written = False
    while True:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
                probe.listen()
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise StartError(f"HOST {host} port {port} cannot be listened on: {error.strerror}") from None
            if is_directory_locked(settings.DATA_DIR):
                raise StartError(in_use()) from None
            waits_for_workers = has_living_worker()
            if time.monotonic() - began_at > (WORKERS_SECONDS if waits_for_workers else PORT_SECONDS):
                raise StartError(f"port {port} is in use; stop its owner, or set PORT to another") from None
            if waits_for_workers and not has_written:
                output.write(f"chatproxy: waiting for workers of another server of this DATA_DIR to leave port {port}")
                has_written = True
            time.sleep(0.1)
        else:
            return


def wait_for_database(output: Output, ask: Callable[[psycopg.Connection[TupleRow]], T]) -> T:
    """Waits until the database answers, then calls `ask` with a connection to it and returns what `ask` returns.

    If `ask` raises a psycopg error that may be temporary, `ask` is called again. A line about the wait is written to
    `output`.

    Raises:
        StartError: the database did not answer within `DATABASE_SECONDS`, or refuses for a reason that will last.
    """
    # The database may start after this server: compose and Kubernetes keep no order.
    deadline = time.monotonic() + DATABASE_SECONDS
    has_written = False
    while True:
        try:
            with connect() as probe:
                return ask(probe)
        except psycopg.Error as error:
            reason = reason_of(error)
            if is_lasting(error):
                raise StartError(f"the database refuses: {reason}; correct DATABASE_URL, or the database") from None
            if time.monotonic() > deadline:
                raise StartError(f"the database cannot be reached: {reason}") from None
            if not has_written:
                output.write(f"chatproxy: waiting for the database, up to {DATABASE_SECONDS:.0f} s: {reason}")
                has_written = True
            time.sleep(0.5)


@contextmanager
def migrated_database(output: Output) -> Iterator[None]:
    """Context manager that migrates the database's schema, and holds a lock in the database until its block ends.

    So servers that start at the same time migrate one after the other; one that waits writes a line to `output`. Also
    makes the ledger's partitions of this month and the next. At the end, Django's connections are closed.

    Raises:
        StartError: a migration has failed, or the block has raised an error of the database; the message is one line.
    """

    def notice() -> None:
        output.write(
            "chatproxy: waiting for another server of this database, which is starting and may be migrating it"
        )

    try:
        with wait_for_lock(MIGRATION_LOCK, notice):
            if not has_all_migrations():
                # Imported here: Django's code for migrations, which most starts do not need.
                from chatproxy.start.waiting_migrations import NOTICE, migrate

                migrate(lambda: output.write(NOTICE))
            _make_months()
            yield
    except (Error, psycopg.Error) as error:
        reason = str(error).strip().partition("\n")[0]
        raise StartError(f"the database cannot be migrated: {reason}") from None
    finally:
        close_connections()


def _make_months() -> None:
    """Makes the missing partitions by month of the tables of calls: this month's and the next one's.

    They may be missing if no server has run for a long time. If other transactions use the tables, the shipper process
    makes them later.
    """
    try:
        make_months()
    except OperationalError as error:
        if not is_locked(error):
            raise
        # The shipper tries again, and no call is lost without them.


def close_connections() -> None:
    """Closes all of Django's database connections, including those in the pool."""
    connections.close_all()
    connection.close_pool()  # type: ignore[attr-defined]  # the PostgreSQL backend's


def connect() -> psycopg.Connection[TupleRow]:
    """Returns a new connection to the database that is not taken from Django's pool; it has the same role as Django's.

    Raises:
        psycopg.Error: the database cannot be reached, or refuses the connection.
    """
    # The pool's own time-out would hide why a connection fails.
    probe = psycopg.connect(**connection.get_connection_params(), autocommit=True)
    if role := assumed_role():  # as Django does
        probe.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role)))
    return probe


def connection_parameters() -> dict[str, str]:
    """Returns libpq's parameters for a connection to the database, for another program such as pg_dump."""
    # Only those that are set: a program with an older libpq does not know all others.
    keywords = {option.keyword.decode() for option in Conninfo.get_defaults()}
    given = connection.get_connection_params()
    return {name: str(value) for name, value in given.items() if name in keywords and value not in {None, ""}}


def assumed_role() -> str | None:
    """Returns the role that each database connection takes by `SET ROLE`; None if connections keep their own role."""
    role: str | None = connection.settings_dict["OPTIONS"].get("assume_role")
    return role
