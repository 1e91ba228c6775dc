"""Makes databases for single tests on the throw-away PostgreSQL, and runs commands of `manage.py` on them."""

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

_numbers = count(1)


@contextmanager
def new_database(server_url: str, options: LiteralString = "") -> Iterator[str]:
    """Creates an empty database with `options` of CREATE DATABASE, yields its URL, and drops it when the block ends."""
    name = f"own_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {} " + options).format(sql.Identifier(name)))
    try:
        yield url_of(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as server:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


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
