"""A place for a server that is backed up or restored: a DATA_DIR, a database, and generated secrets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from django.conf import settings
from psycopg.rows import dict_row

from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.start.first_start import GENERATORS
from tests.support.polling import PATIENCE
from tests.support.servers.databases import empty_database, new_database
from tests.support.servers.environments import variables
from tests.support.servers.gateway import Gateway, run_gateway

UNSET = " "  # as in a shell that exports an empty variable


class Place(NamedTuple):
    """The place where a test runs a server: its directory, and its database.

    `database_url` is empty for the bundled PostgreSQL.
    """

    upstream: str
    data_dir: Path
    database_url: str

    @property
    def secrets(self) -> Path:
        return self.data_dir / "secrets.env"

    @property
    def url(self) -> str:
        return self.database_url or BundledPostgres(self.data_dir).url

    def run(self, **more: str) -> AbstractContextManager[Gateway]:
        """Runs a server at this place; its secrets are in its DATA_DIR, and are generated at the first start."""
        bundled = {} if self.database_url else {"DATABASE_URL": ""}
        return run_gateway(
            self.upstream, self.url, self.data_dir, **dict.fromkeys(GENERATORS, UNSET), **bundled, **more
        )

    def manage(self, *arguments: str, launcher: Sequence[str] = (), **more: str) -> subprocess.CompletedProcess[bytes]:
        """Runs a command of `manage.py` at this place, whether or not a server runs; `launcher` is put before it."""
        database = {"DATABASE_URL": self.database_url} if self.database_url else {}
        return subprocess.run(
            [*launcher, sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=variables(self.data_dir, **database, **more),
            capture_output=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    def backup(self, path: Path, *options: str) -> None:
        """Makes a backup of the server at this place; if it has the bundled PostgreSQL, it must be running."""
        done = self.manage("backup", str(path), *options)
        assert done.returncode == 0, done.stderr
        assert b"the backup is whole" in done.stderr

    def restore(self, path: Path) -> None:
        """Restores a backup into this place, and asserts that there is no warning."""
        done = self.manage("restore", str(path))
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        assert b"restored the backup of 20" in done.stdout

    def refusal(self, path: Path) -> str:
        """Tries to restore a backup that this place must refuse; returns the one line that is printed."""
        done = self.manage("restore", str(path))
        assert done.returncode == 1, done.stdout
        said = done.stderr.decode()
        assert said.startswith("CommandError: ")
        assert said.count("\n") == 1
        return said

    def rows(self) -> dict[str, dict[str, Any]]:
        """Returns the rows of calls at this place, by request id; PostgreSQL must be running."""
        with psycopg.connect(self.url, autocommit=True, row_factory=dict_row) as database:
            rows = database.execute("SELECT * FROM usage_request").fetchall()
        return {str(row["request_id"]): row for row in rows}


@contextmanager
def new_place(upstream: str, data_dir: Path, server_url: str, *, is_migrated: bool) -> Iterator[Place]:
    """Yields a place with a migrated or empty database on the server at `server_url`; without that, the bundled one.

    The database is deleted at the end. Nothing can be restored into a migrated one.
    """
    with ExitStack() as undo:
        make = new_database if is_migrated else empty_database
        database_url = undo.enter_context(make(server_url)) if server_url else ""
        if not server_url:
            undo.callback(_delete_bundled, data_dir)
        yield Place(upstream, data_dir, database_url)


def _delete_bundled(data_dir: Path) -> None:
    postgres = BundledPostgres(data_dir)
    postgres.stop()
    postgres.delete()
