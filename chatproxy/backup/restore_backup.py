"""Restores a backup into an empty place: a `DATA_DIR` without a journal, and a database without the gateway's tables.

Everything is checked before anything is written. The database is restored last, in one transaction, so an interrupted
restore leaves no database that looks complete. A restore that fails deletes what it has written.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import psycopg
from django.conf import settings
from django.db.migrations.loader import MigrationLoader
from psycopg.rows import TupleRow

from chatproxy.backup.archive import Manifest, check_archive, read_parts
from chatproxy.backup.data_files import write_data_files
from chatproxy.backup.make_backup import DATABASE, check_is_direct
from chatproxy.configuration import setting_reader
from chatproxy.doctor.checkup import check_database, obey
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.postgres.client_programs import ClientProgram
from chatproxy.start import directory_lock
from chatproxy.start.secret_canary import SecretsDiffer, check_secrets
from chatproxy.start.startup import (
    MIGRATION_LOCK,
    Output,
    assumed_role,
    close_connections,
    connect,
    connection_parameters,
    wait_for_database,
)
from proxyapi.keys.private_file import make_private_directory
from usage.database.lock import wait_for_lock

OUR_APPS = ("chatproxy", "proxyapi", "usage")


class RestoreRefused(Exception):
    """Error: a backup cannot be restored here, and nothing was written. Its message is one line."""


def restore_backup(path: Path, output: Output) -> Manifest:
    """Restores the backup in the file `path` into this server's empty `DATA_DIR` and database; returns its manifest.

    The server must not be running; the bundled PostgreSQL is started for the time of the restore. If the restore fails,
    everything that it has written is deleted. If secrets that the database was used with are missing here, or differ, a
    line about that is written to `output`.

    Raises:
        BadArchive: the file is no whole backup, or has a file with an impossible name.
        RestoreRefused: `DATA_DIR` or the database is not empty, or the backup is of a newer version.
        StartError: the database cannot be reached, or only through a connection pooler, or cannot hold the ledger.
        BundledPostgresError: the bundled PostgreSQL does not start.
        ClientProgramError: pg_restore is missing, too old, or has failed.
        OSError: the backup cannot be read, or a file cannot be written.
    """
    manifest = check_archive(path)
    _check_version(manifest)
    data_dir: Path = settings.DATA_DIR
    postgres = BundledPostgres(data_dir) if settings.DATABASE_IS_BUNDLED else None
    _check_directory(data_dir, path, manifest, postgres)
    with ExitStack() as undo:
        make_private_directory(data_dir)
        if postgres:
            postgres.start()
            undo.callback(_delete, postgres)  # there was none before: `_check_directory`
        undo.callback(close_connections)
        obey(wait_for_database(output, check_database), output)
        with wait_for_lock(MIGRATION_LOCK, lambda: _say_waiting(output)), connect() as database:
            check_is_direct(database)
            _check_database(database, manifest)
            major = database.info.server_version // 10_000
            pg_restore = ClientProgram.find_pg_restore(
                major, manifest.dumped_by, is_bundled=settings.DATABASE_IS_BUNDLED
            )
            write_data_files(read_parts(path), data_dir, undo, has_secrets=manifest.has_secrets)
            dump = (content for name, content in read_parts(path) if name == DATABASE)
            pg_restore.restore(connection_parameters(), major, manifest.schema, dump, assumed_role())
        undo.pop_all()
    try:
        # the secrets with which the keys in the database were made may be missing here
        check_secrets(setting_reader.load(), data_dir / setting_reader.SECRETS_FILE)
    except SecretsDiffer as fault:
        output.write(f"chatproxy: before the start: {fault}")
    finally:
        close_connections()
        if postgres:
            postgres.stop()
    return manifest


def _check_version(manifest: Manifest) -> None:
    """Checks that this version of chatproxy knows all migrations of the backup's database.

    Raises:
        RestoreRefused: a newer version has made the backup.
    """
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    newer = [name for name in manifest.migrations if name.partition(".")[0] in OUR_APPS and name not in known]
    if newer:
        raise RestoreRefused(
            f"the backup is of chatproxy {manifest.version}, whose tables this version ({settings.VERSION}) does not "
            "know; restore it with that version"
        )


def _check_directory(data_dir: Path, backup: Path, manifest: Manifest, postgres: BundledPostgres | None) -> None:
    """Checks that `DATA_DIR` is empty, and that the bundled PostgreSQL has no database for this `DATA_DIR` elsewhere.

    These files are allowed: the backup, `lost+found`, and the lock file of a failed start. If the backup has no
    secrets, `secrets.env` is allowed, too.

    Raises:
        RestoreRefused: `DATA_DIR` contains another file, or there is a database for it.
    """
    expected = {backup.resolve(), data_dir / "lost+found", data_dir / directory_lock.NAME}
    if not manifest.has_secrets:
        expected.add(data_dir / setting_reader.SECRETS_FILE)
    found = sorted(path.name for path in data_dir.iterdir() if path not in expected) if data_dir.exists() else []
    if found:
        raise RestoreRefused(
            f"DATA_DIR {data_dir} is not empty ({', '.join(found[:5])}); name another one, or move these away"
        )
    if postgres and postgres.cluster.exists():
        raise RestoreRefused(f"there is a database of this DATA_DIR in {postgres.cluster}; move it away")


def _check_database(database: psycopg.Connection[TupleRow], manifest: Manifest) -> None:
    """Checks that no server has ever used the database, and that new tables would be made in the backup's schema.

    Raises:
        RestoreRefused: the database was migrated before, or new tables would be made in another schema.
    """
    query = "SELECT current_schema(), to_regclass('django_migrations') IS NOT NULL"
    [(schema, is_used)] = database.execute(query).fetchall()
    if schema != manifest.schema:
        raise RestoreRefused(
            f"the backup is of the schema {manifest.schema!r}, and tables would be made in {schema!r} here; create "
            "that schema, and let search_path begin with it"
        )
    if is_used:
        raise RestoreRefused("the database has been used by a server already; name an empty one in DATABASE_URL")


def _delete(postgres: BundledPostgres) -> None:
    """Stops the PostgreSQL server that a failed restore has created, and deletes its database."""
    close_connections()
    postgres.stop()
    postgres.delete()


def _say_waiting(output: Output) -> None:
    output.write("chatproxy: waiting for a server of this database, which is starting")
