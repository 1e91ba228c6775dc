"""Owns one cluster's directory: its making, and the start and stop of the server on it."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql

from chatproxy.postgres.binaries import BundledPostgresError, Postgres

SOCKET_NAME = ".s.PGSQL.5432"
NO_PID = 4_194_305  # one more than Linux ever gives
READY_WITHIN = 120.0  # seconds; recovery after a power cut takes longer than a start

# What is not here is PostgreSQL's default: fsync on, 100 connections, 128 MB of shared buffers.
OPTIONS = {
    "listen_addresses": "",
    "cluster_name": "chatproxy",
    "work_mem": "16MB",  # the sums of a month are grouped without a file
    # A week of logs, one file a day. Statements and rows stay out of them: they hold what callers sent.
    "logging_collector": "on",
    "log_filename": "%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    # Reading ahead in processes of its own takes 9 MB, and serves much larger tables than pages here read.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
}


class _StillInUse(BundledPostgresError):
    """Processes of a killed server are still about; they end by themselves."""


class Cluster(NamedTuple):
    """`socket_dir` is `path` itself, unless sockets cannot be there."""

    path: Path
    socket_dir: Path

    @property
    def unfinished(self) -> Path:
        return self.path.with_name(self.path.name + ".new")

    def create(self, postgres: Postgres) -> None:
        """Makes the cluster under another name first: what was interrupted is never taken for a cluster."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(mode=0o700)
        os.chown(self.unfinished, *postgres.account, follow_symlinks=False)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions")
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        postgres.call("initdb", "-D", ".", *options, *locale, cwd=self.unfinished)
        self.unfinished.rename(self.path)

    def check_version(self, postgres: Postgres) -> None:
        found = (self.path / "PG_VERSION").read_text().strip()
        if found != postgres.major:
            raise BundledPostgresError(
                f"{self.path} was made by PostgreSQL {found}, this is {postgres.major}; pg_dump it with {found}, "
                "move it away and restore, or set DATABASE_URL"
            )

    def run(self, postgres: Postgres, database: str) -> None:
        deadline = time.monotonic() + READY_WITHIN
        fault = "it does not answer"
        while time.monotonic() < deadline:
            try:
                if self.pid() is None:
                    self._launch(postgres)
                return self._create_database(database)
            except psycopg.OperationalError as error:  # an adopted server may be starting or stopping
                fault = str(error).partition("\n")[0]
            except _StillInUse as error:
                fault = str(error)
            time.sleep(0.05)
        raise BundledPostgresError(f"the bundled PostgreSQL in {self.path} did not become ready: {fault}")

    def stop(self, postgres: Postgres) -> None:
        """Returns when the server is gone."""
        try:
            postgres.call("pg_ctl", "stop", "-D", ".", "-m", "fast", "-t", "60", cwd=self.path)
        except BundledPostgresError:
            if self.pid() is not None:
                postgres.call("pg_ctl", "stop", "-D", ".", "-m", "immediate", cwd=self.path)

    def _launch(self, postgres: Postgres) -> None:
        """pg_ctl gives the server a session of its own, so Ctrl-C does not reach it, and waits until it answers.

        Its shell sees only the relative names given here, so no name of a directory needs quoting.
        """
        self._disown_pid_file()
        socket_dir = "." if self.socket_dir == self.path else str(self.socket_dir)
        settings = {**OPTIONS, "unix_socket_directories": socket_dir}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        start = ("start", "--silent", "-D", ".", "-l", "start.log", "-o", options, "-t", str(int(READY_WITHIN)))
        log = self.path / "start.log"
        log.unlink(missing_ok=True)
        try:
            postgres.call("pg_ctl", *start, cwd=self.path)
        except BundledPostgresError as error:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            said = next((line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line), str(error))
            fault = _StillInUse if "still in use" in said else BundledPostgresError
            raise fault(f"the bundled PostgreSQL in {self.path} does not start: {said}") from None

    def _disown_pid_file(self) -> None:
        """A dead server's file may name a process that is somebody else's by now, and PostgreSQL would believe it.

        Only the number is changed: the file also says which shared memory to look at, and that is how PostgreSQL
        knows that processes of the dead server still write to the cluster.
        """
        with suppress(FileNotFoundError):
            # Root may do this in a directory of somebody else's, who could have put a link here.
            descriptor = os.open(self.path / "postmaster.pid", os.O_RDWR | os.O_NOFOLLOW)
            with open(descriptor, "r+") as file:
                _, *rest = file.read().splitlines(keepends=True) or [""]
                file.seek(0)
                file.truncate()
                file.write("".join([f"{NO_PID}\n", *rest]))
        (self.socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _create_database(self, name: str) -> None:
        host = str(self.socket_dir)
        with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def pid(self) -> int | None:
        """The server's process. A file left by a dead one may name a process that is somebody else by now."""
        try:
            pid = int((self.path / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
            same = not Path("/proc/self/cwd").exists() or Path(f"/proc/{pid}/cwd").samefile(self.path)
        except (OSError, ValueError, IndexError):
            return None
        return pid if same else None
