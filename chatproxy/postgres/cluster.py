"""One PostgreSQL cluster (the data directory of a server): creates it, and starts and stops its server.

psycopg is imported only in the functions that start a server. So gunicorn's master, which only watches a running
server, saves its 8 MB.
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from chatproxy.postgres.binaries import BundledPostgresError, Postgres

SOCKET_NAME = ".s.PGSQL.5432"
NO_PID = 4_194_305  # one more than the highest process id of Linux
READY_SECONDS = 120.0  # how long a start may take; recovery after a power cut takes longer than an ordinary start

# Everything else is PostgreSQL's default: fsync on, 100 connections, 128 MB of shared buffers.
OPTIONS = {
    "listen_addresses": "",
    "cluster_name": "chatproxy",
    "work_mem": "16MB",  # enough to group the sums of a month without a temporary file
    # A week of logs, one file a day, without statements and rows: these contain what callers sent.
    "logging_collector": "on",
    "log_filename": "%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    # Workers that read ahead would take 9 MB, and help with much larger tables than the pages here read.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
}


class _StillInUse(BundledPostgresError):
    """Error: a PostgreSQL server cannot start yet, because processes of a killed server are still ending."""


class Cluster(NamedTuple):
    """A PostgreSQL cluster: the data of one server (in the directory `path`), and its socket (in `socket_dir`).

    If the socket can be in `path`, both are the same directory.
    """

    path: Path
    socket_dir: Path

    @property
    def unfinished(self) -> Path:
        """The directory in which a new cluster is created, before it is renamed to its final name."""
        return self.path.with_name(self.path.name + ".new")

    def create(self, postgres: Postgres) -> None:
        """Creates the PostgreSQL cluster with the program initdb.

        Raises:
            BundledPostgresError: initdb has failed.
        """
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(mode=0o700)
        os.chown(self.unfinished, *postgres.account, follow_symlinks=False)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions")
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        postgres.call("initdb", "-D", ".", *options, *locale, cwd=self.unfinished)
        # Only now: an interrupted one is not taken for a cluster.
        self.unfinished.rename(self.path)

    def check_version(self, postgres: Postgres) -> None:
        """Checks that the bundled PostgreSQL has the major version that created the cluster.

        Raises:
            BundledPostgresError: another major version has created the cluster.
        """
        found = (self.path / "PG_VERSION").read_text().strip()
        if found != postgres.major:
            raise BundledPostgresError(
                f"{self.path} was made by PostgreSQL {found}, this is {postgres.major}; make a backup with the version "
                f"of chatproxy that has {found}, and restore it into an empty DATA_DIR (docs/backup.md)"
            )

    def run(self, postgres: Postgres, database: str) -> None:
        """Starts the PostgreSQL server if it is not running, waits until it answers, and creates a missing `database`.

        Raises:
            BundledPostgresError: the server does not start, or does not answer within `READY_SECONDS`.
        """
        import psycopg

        deadline = time.monotonic() + READY_SECONDS
        fault = "it does not answer"
        while time.monotonic() < deadline:
            try:
                if self.pid() is None:
                    self._launch(postgres)
                return self._create_database(database)
            except psycopg.OperationalError as error:  # a server that was found running may be starting or stopping
                fault = str(error).partition("\n")[0]
            except _StillInUse as error:
                fault = str(error)
            time.sleep(0.05)
        raise BundledPostgresError(f"the bundled PostgreSQL in {self.path} did not become ready: {fault}")

    def stop(self, postgres: Postgres) -> None:
        """Stops the PostgreSQL server and waits for its end; by force after a minute.

        Raises:
            BundledPostgresError: the server cannot be stopped by force either.
        """
        try:
            postgres.call("pg_ctl", "stop", "-D", ".", "-m", "fast", "-t", "60", cwd=self.path)
        except BundledPostgresError:
            if self.pid() is not None:
                postgres.call("pg_ctl", "stop", "-D", ".", "-m", "immediate", cwd=self.path)

    def _launch(self, postgres: Postgres) -> None:
        """Starts the PostgreSQL server with the program pg_ctl, and waits until the server answers.

        Raises:
            BundledPostgresError: the server does not start.
        """
        self._disown_pid_file()
        socket_dir = "." if self.socket_dir == self.path else str(self.socket_dir)
        settings = {**OPTIONS, "unix_socket_directories": socket_dir}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        start = ("start", "--silent", "-D", ".", "-l", "start.log", "-o", options, "-t", str(int(READY_SECONDS)))
        log = self.path / "start.log"
        log.unlink(missing_ok=True)
        try:
            # pg_ctl gives the server a session of its own, so Ctrl-C does not stop it. pg_ctl also runs a shell, in
            # which the name of the cluster's directory might need quoting: so it runs in this directory and gets `.`
            # for it.
            postgres.call("pg_ctl", *start, cwd=self.path)
        except BundledPostgresError as error:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            reason = next((line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line), str(error))
            fault = _StillInUse if "still in use" in reason else BundledPostgresError
            raise fault(f"the bundled PostgreSQL in {self.path} does not start: {reason}") from None

    def _disown_pid_file(self) -> None:
        """Replaces the process id in the file `postmaster.pid` of a dead server by one that no process can have.

        Otherwise PostgreSQL could take another program with this id for a running server. Also deletes the lock file of
        the dead server's socket.
        """
        # Another program may have the server's process id by now, and PostgreSQL would take that program for a running
        # server. Only the id is changed: the file also names the shared memory, by which PostgreSQL finds out whether
        # processes of the dead server still write to the cluster.
        with suppress(FileNotFoundError):
            # Root may do this in another user's directory, and that user could have put a link here.
            descriptor = os.open(self.path / "postmaster.pid", os.O_RDWR | os.O_NOFOLLOW)
            with open(descriptor, "r+") as file:
                _, *rest = file.read().splitlines(keepends=True) or [""]
                file.seek(0)
                file.truncate()
                file.write("".join([f"{NO_PID}\n", *rest]))
        (self.socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _create_database(self, name: str) -> None:
        """Creates the database `name` in the running PostgreSQL server, if there is none.

        Raises:
            psycopg.OperationalError: the server does not answer.
        """
        import psycopg
        from psycopg import sql

        host = str(self.socket_dir)
        with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def pid(self) -> int | None:
        """Returns the process id of the running PostgreSQL server; None if no server runs."""
        try:
            pid = int((self.path / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
            # The file may be a dead server's, and another program may have the id by now: the process must also have
            # the cluster as its working directory.
            same = not Path("/proc/self/cwd").exists() or Path(f"/proc/{pid}/cwd").samefile(self.path)
        except (OSError, ValueError, IndexError):
            return None
        return pid if same else None
