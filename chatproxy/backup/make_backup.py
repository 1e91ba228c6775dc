"""Makes a backup of a running server: one archive with all calls that had begun before the backup.

The journal's files are copied first, and the database is dumped last. A record that moves from the journal to the
database in between is then in the dump. A record that is in both becomes one row after a restore, because a row's key
is the id of its call.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import psycopg
from django.conf import settings
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from psycopg.rows import TupleRow

from chatproxy.backup.archive import PART_BYTES, ArchiveWriter, Manifest
from chatproxy.backup.data_files import read_data_files
from chatproxy.configuration.setting_reader import SECRETS_FILE
from chatproxy.postgres.client_programs import ClientProgram
from chatproxy.postgres.database_refusals import reason_of
from chatproxy.start.startup import StartError, assumed_role, connect, connection_parameters
from usage.database.pooler import is_pooled

DATABASE = "database"  # the name of the dump in the archive


def write_backup(file: BinaryIO, *, with_secrets: bool) -> Manifest:
    """Writes a backup of this server to `file`, which need not be seekable; returns the facts about the backup.

    The bundled PostgreSQL must be running. `with_secrets` puts `secrets.env` into the backup, if there is such a file.

    Raises:
        StartError: the database cannot be reached, or only through a connection pooler.
        ClientProgramError: pg_dump is missing, too old, or has failed.
        OSError: the file cannot be written, or a file of `DATA_DIR` cannot be read.
    """
    try:
        database = connect()
    except psycopg.Error as error:
        raise StartError(f"the database cannot be reached; is the server running? ({reason_of(error)})") from None
    with database:
        check_is_direct(database)
        [(schema,)] = database.execute("SELECT current_schema()").fetchall()
        major = database.info.server_version // 10_000
        pg_dump = ClientProgram.find_pg_dump(major, is_bundled=settings.DATABASE_IS_BUNDLED)
        data_dir: Path = settings.DATA_DIR
        manifest = Manifest(
            version=settings.VERSION,
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            schema=schema,
            dumped_by=pg_dump.major,
            migrations=sorted(f"{app}.{name}" for app, name in MigrationRecorder(connection).applied_migrations()),
            has_secrets=with_secrets and (data_dir / SECRETS_FILE).exists(),
        )
        archive = ArchiveWriter(file, manifest)
        for name, chunks in read_data_files(data_dir, with_secrets=manifest.has_secrets):
            archive.add(name, chunks)
        archive.add(DATABASE, pg_dump.dump(connection_parameters(), schema, PART_BYTES, assumed_role()))
        archive.close()
    return manifest


def check_is_direct(database: psycopg.Connection[TupleRow]) -> None:
    """Checks that a connection leads to PostgreSQL itself and not to a pooler, as pg_dump and pg_restore require.

    Raises:
        StartError: the connection leads to a pooler, such as PgBouncer.
    """
    if is_pooled(database):
        raise StartError(
            "DATABASE_URL leads to a connection pooler; run this command with a DATABASE_URL of the database itself"
        )
