"""Makes databases for single tests on the throw-away PostgreSQL, and runs commands of `manage.py` on them.

A server that starts on an empty database spends two seconds of CPU on its migrations. Most tests are not about these:
their databases are copies of one that was migrated once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import LiteralString

import psycopg
from django.conf import settings
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.support.polling import PATIENCE

TEMPLATE = "migrated"  # the name of the database that is copied; `make_template` makes it

_numbers = count(1)


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Creates a migrated database, yields its URL, and drops it when the block ends."""
    with copied_database(server_url, url_of(server_url, TEMPLATE)) as url:
        yield url


@contextmanager
def copied_database(server_url: str, url: str) -> Iterator[str]:
    """Copies the database at `url`, to which nobody is connected; yields the copy's URL, and drops it at the end."""
    # Copying files takes a third of the time of copying each page through the write-ahead log.
    copying = sql.SQL("TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(str(conninfo_to_dict(url)["dbname"])))
    with empty_database(server_url, copying) as copy:
        yield copy


@contextmanager
def empty_database(server_url: str, options: LiteralString | sql.Composed = "") -> Iterator[str]:
    """Creates an empty database with `options` of CREATE DATABASE, yields its URL, and drops it when the block ends.

    The first server that starts on it migrates it.
    """
    name = f"own_{next(_numbers)}"
    given = sql.SQL(options) if isinstance(options, str) else options
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), given))
    try:
        yield url_of(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def make_template(server: psycopg.Connection, migrated: str) -> None:
    """Makes the database that `new_database` copies: a copy of the database `migrated`, to which nobody is connected.

    `server` is a connection to another database of the same PostgreSQL.
    """
    names = sql.Identifier(TEMPLATE), sql.Identifier(migrated)
    server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(*names))


def url_of(server_url: str, name: str) -> str:
    """Returns the URL of the database `name` on the server of `server_url`."""
    old = str(conninfo_to_dict(server_url)["dbname"])
    return server_url.replace(f"/{old}?", f"/{name}?")


def manage(url: str, directory: Path, *arguments: str) -> str:
    """Runs a command of `manage.py` on the database at `url`, with `directory` as DATA_DIR; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": url, "DATA_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
