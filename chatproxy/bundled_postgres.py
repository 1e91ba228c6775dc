"""Owns the bundled PostgreSQL: where its cluster lives, and its start and stop.

An ordinary user's cluster is `DATA_DIR/postgres`. PostgreSQL refuses to run as root, so root's is run by the
system user `chatproxy-postgres` and lives under `/var/lib/chatproxy`, to which `DATA_DIR/postgres` is a link:
no existing directory needs another mode. If that path is a directory already (of an ordinary user), root runs
it as its owner. Either way it listens on a socket only, in a directory of mode 0700: who cannot open that
cannot connect.

A POSIX record lock beside the cluster says whose it is: it outlives `exec` as long as its descriptor does, is
not inherited by forked workers, and goes with its process, however that dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from chatproxy.postgres_binaries import ROOT_HOME, Account, BundledPostgresError, Postgres

DATABASE = "chatproxy"
LONGEST_SOCKET_PATH = 107  # bytes, sun_path in unix(7)
SOCKET_NAME = ".s.PGSQL.5432"
NO_PID = 4_194_305  # one more than Linux ever gives
READY_WITHIN = 120.0  # seconds; recovery after a power cut takes longer than a start

# What is not here is PostgreSQL's default: fsync on, 100 connections, 128 MB of shared buffers.
OPTIONS = {
    "listen_addresses": "",
    "cluster_name": DATABASE,
    # A week of logs, one file a day. Statements and rows stay out of them: they hold what callers sent.
    "logging_collector": "on",
    "log_filename": "%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}


class _StillInUse(BundledPostgresError):
    """Processes of a killed server are still about; they end by themselves."""


class BundledPostgres:
    """The PostgreSQL server of one `DATA_DIR`."""

    def __init__(self, data_dir: Path) -> None:
        self._link = data_dir.absolute() / "postgres"
        self.cluster = self._locate()
        self._lock: int | None = None

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self._socket_dir), safe='/')}"

    @property
    def running(self) -> bool:
        return self._pid() is not None

    def start(self) -> None:
        """Makes the cluster if there is none, starts its server or adopts one that a killed process left.

        Raises:
            BundledPostgresError: another process has it, or it does not start; one line.
        """
        account = Account.of(self.cluster)
        self._take_lock()
        try:
            postgres = Postgres.for_account(account)
            self._make_socket_dir(account)
            if not (self.cluster / "PG_VERSION").exists():
                self._create(postgres)
            self._check_version(postgres)
            self._run(postgres)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops the server, waits until it is gone, gives the lock back; does nothing if it does not run."""
        if self.running:
            postgres = Postgres.for_account(Account.of(self.cluster))
            try:
                postgres.call("pg_ctl", "stop", "-D", ".", "-m", "fast", "-t", "60", cwd=self.cluster)
            except BundledPostgresError:
                postgres.call("pg_ctl", "stop", "-D", ".", "-m", "immediate", cwd=self.cluster)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete(self) -> None:
        """Removes a stopped cluster and all that belongs to it."""
        for path in {self.cluster, self._new_cluster, self._socket_dir}:
            if path.exists():
                shutil.rmtree(path)
        self._lock_file.unlink(missing_ok=True)
        if self._link.is_symlink():
            self._link.unlink()

    # Where things are.

    def _locate(self) -> Path:
        if os.geteuid() != 0 or (self._link.is_dir() and not self._link.is_symlink()):
            return self._link
        if self._link.is_symlink() and self._link.readlink().parent == ROOT_HOME:
            return self._link.readlink()  # DATA_DIR may have been moved since
        return ROOT_HOME / _digest(self._link)

    @property
    def _socket_dir(self) -> Path:
        """The cluster itself, unless its path is too long for a socket or splits in a list of hosts."""
        path = self.cluster / SOCKET_NAME
        if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH and "," not in str(path):
            return self.cluster
        # Not tempfile's directory: TMPDIR may be long itself, and differ between the server and a shell.
        return Path("/tmp") / f"chatproxy-{_digest(self.cluster)}"  # noqa: S108  (its owner is checked at start)

    @property
    def _new_cluster(self) -> Path:
        return self.cluster.with_name(self.cluster.name + ".new")

    @property
    def _lock_file(self) -> Path:
        return self.cluster.with_name(self.cluster.name + ".lock")

    # Starting.

    def _take_lock(self) -> None:
        self.cluster.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise BundledPostgresError(
                f"another chatproxy runs on {self._link.parent}; stop it, or give this one its own DATA_DIR"
            ) from None
        self._lock = descriptor

    def keep_lock_through_exec(self) -> None:
        """The program that replaces this process keeps the lock; children of `subprocess` still do not get it."""
        if self._lock is not None:
            os.set_inheritable(self._lock, True)

    def _make_socket_dir(self, account: Account) -> None:
        if self._socket_dir == self.cluster:
            return
        with suppress(FileExistsError):
            self._socket_dir.mkdir(mode=0o700)
            os.chown(self._socket_dir, account.uid, account.gid)
        found = self._socket_dir.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise BundledPostgresError(f"{self._socket_dir} is not a directory of ours with mode 0700; remove it")

    def _create(self, postgres: Postgres) -> None:
        """Makes the cluster under another name first: what was interrupted is never taken for a cluster."""
        shutil.rmtree(self._new_cluster, ignore_errors=True)
        self._new_cluster.mkdir(mode=0o700)
        os.chown(self._new_cluster, postgres.account.uid, postgres.account.gid)
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions")
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        postgres.call("initdb", "-D", ".", *options, *locale, cwd=self._new_cluster)
        self._new_cluster.rename(self.cluster)
        if self.cluster != self._link:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.cluster)

    def _check_version(self, postgres: Postgres) -> None:
        found = (self.cluster / "PG_VERSION").read_text().strip()
        if found != postgres.major:
            raise BundledPostgresError(
                f"{self._link} was made by PostgreSQL {found}, this is {postgres.major}; pg_dump it with {found}, "
                "move it away and restore, or set DATABASE_URL"
            )

    def _run(self, postgres: Postgres) -> None:
        deadline = time.monotonic() + READY_WITHIN
        fault = "it does not answer"
        while time.monotonic() < deadline:
            try:
                if not self.running:
                    self._launch(postgres)
                return self._create_database()
            except psycopg.OperationalError as error:  # an adopted server may be starting or stopping
                fault = str(error).splitlines()[0]
            except _StillInUse as error:
                fault = str(error)
            time.sleep(0.05)
        raise BundledPostgresError(f"the bundled PostgreSQL in {self.cluster} did not become ready: {fault}")

    def _launch(self, postgres: Postgres) -> None:
        """pg_ctl gives the server a session of its own, so Ctrl-C does not reach it, and waits until it answers.

        Its shell sees only the relative names given here, so no name of a directory needs quoting.
        """
        self._disown_pid_file()
        socket_dir = "." if self._socket_dir == self.cluster else str(self._socket_dir)
        settings = {**OPTIONS, "unix_socket_directories": socket_dir}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        start = ("start", "--silent", "-D", ".", "-l", "start.log", "-o", options, "-t", str(int(READY_WITHIN)))
        log = self.cluster / "start.log"
        log.unlink(missing_ok=True)
        try:
            postgres.call("pg_ctl", *start, cwd=self.cluster)
        except BundledPostgresError as error:
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            said = next((line.partition("FATAL:")[2].strip() for line in lines if "FATAL:" in line), str(error))
            fault = _StillInUse if "still in use" in said else BundledPostgresError
            raise fault(f"the bundled PostgreSQL in {self.cluster} does not start: {said}") from None

    def _disown_pid_file(self) -> None:
        """A dead server's file may name a process that is somebody else's by now, and PostgreSQL would believe it.

        Only the number is changed: the file also says which shared memory to look at, and that is how PostgreSQL
        knows that processes of the dead server still write to the cluster.
        """
        with suppress(FileNotFoundError):
            path = self.cluster / "postmaster.pid"
            _, *rest = path.read_text().splitlines(keepends=True) or [""]
            path.write_text("".join([f"{NO_PID}\n", *rest]))
        (self._socket_dir / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _create_database(self) -> None:
        host = str(self._socket_dir)
        with psycopg.connect(host=host, user="postgres", dbname="postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _pid(self) -> int | None:
        """The server's process. A file left by a dead one may name a process that is somebody else by now."""
        try:
            pid = int((self.cluster / "postmaster.pid").read_text().splitlines()[0])
            os.kill(pid, 0)
            same = not Path("/proc/self/cwd").exists() or Path(f"/proc/{pid}/cwd").samefile(self.cluster)
        except (OSError, ValueError, IndexError):
            return None
        return pid if same else None


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
