"""The bundled PostgreSQL: where its cluster lives, and how its server is started and stopped.

The cluster (the data of the server) of an ordinary user is `DATA_DIR/postgres`. PostgreSQL refuses to run as root. So
root's cluster is run by the system user `chatproxy-postgres` and lives under `/var/lib/chatproxy`, and
`DATA_DIR/postgres` is a link to it; so no existing directory needs another mode. If `DATA_DIR/postgres` is a directory
already (of an ordinary user), root runs the server as the directory's owner. The server listens on a Unix socket only,
in a directory of mode 0700, so only its owner can connect.

The process that uses the cluster holds a POSIX record lock on a file beside it. Such a lock survives `exec` if its file
descriptor does, is not inherited by forked workers, and ends with its process, however the process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from chatproxy.postgres.binaries import ROOT_HOME, Account, BundledPostgresError, Postgres
from chatproxy.postgres.cluster import SOCKET_NAME, Cluster

DATABASE = "chatproxy"
MAX_SOCKET_PATH = 107  # bytes, sun_path in unix(7)


class BundledPostgres:
    """The bundled PostgreSQL server of one `DATA_DIR`: starts and stops the server, and locks its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._link = data_dir.absolute() / "postgres"
        self.cluster = self._locate()
        self._lock: int | None = None

    @property
    def url(self) -> str:
        """The URL of the database in the bundled PostgreSQL."""
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self._socket_dir), safe='/')}"

    @property
    def running(self) -> bool:
        """True if the server runs, whichever process started it."""
        return self._cluster.pid() is not None

    @property
    def has_socket(self) -> bool:
        """True if the PostgreSQL server's socket file exists, which clients need to connect."""
        return (self._socket_dir / SOCKET_NAME).exists()

    def start(self) -> None:
        """Starts the bundled PostgreSQL server; creates its cluster and database if there are none.

        A server that still runs because its parent was killed is taken over.

        Raises:
            BundledPostgresError: another process uses the cluster, another major version has created it, `DATA_DIR` has
                lost its database, or the server does not start; the message is one line.
        """
        self._check_is_ours()
        account = Account.of(self.cluster)
        self._take_lock()
        try:
            postgres = Postgres.for_account(account)
            self._make_socket_dir(account)
            if not (self.cluster / "PG_VERSION").exists():
                self._cluster.create(postgres)
                self._make_link()
            self._cluster.check_version(postgres)
            self._cluster.run(postgres, DATABASE)
        except BaseException:  # a border: whatever the error is, the server is stopped before it is raised again
            self.stop()
            raise

    def check_version(self) -> None:
        """Checks that the bundled PostgreSQL can run the existing cluster.

        Raises:
            BundledPostgresError: another major version of PostgreSQL created the cluster; the message is one line.
        """
        self._cluster.check_version(Postgres.for_account(Account.of(self.cluster)))

    def revive(self) -> None:
        """Starts the PostgreSQL server again after it was killed; stops it first if it runs but cannot be reached.

        Only the process that has called `start` may call this, since it holds the cluster's lock; it keeps the lock
        when it replaces its program (`exec`).

        Raises:
            BundledPostgresError: the server does not start; the message is one line.
        """
        # The lock is not touched: closing any descriptor of its file would release it.
        account = Account.of(self.cluster)
        postgres = Postgres.for_account(account)
        if self.running:
            self._cluster.stop(postgres)
        self._make_socket_dir(account)
        self._cluster.run(postgres, DATABASE)

    def stop(self) -> None:
        """Stops the bundled PostgreSQL server if it runs, waits for its end, and releases the cluster's lock."""
        if self.running:
            self._cluster.stop(Postgres.for_account(Account.of(self.cluster)))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete(self) -> None:
        """Deletes all files of this PostgreSQL server, which must be stopped.

        They are its data directory (also an unfinished one), its socket directory and lock file, and the symbolic link
        `DATA_DIR/postgres`, if there is one.

        Raises:
            OSError: a file cannot be deleted.
        """
        for path in {self.cluster, self._cluster.unfinished, self._socket_dir}:
            if path.exists():
                shutil.rmtree(path)
        self._lock_file.unlink(missing_ok=True)
        if self._link.is_symlink():
            self._link.unlink()

    def _check_is_ours(self) -> None:
        """Checks that `DATA_DIR` has not lost its database, before a start would create an empty one in its place.

        Raises:
            BundledPostgresError: `DATA_DIR/postgres` is a file, or a symbolic link to a place without a cluster; or the
                directory of the cluster has other contents.
        """
        # A link to no cluster, or a directory with other contents, is the result of an incomplete backup or move. An
        # interrupted start leaves neither: a cluster gets its name when it is complete, and the link is made after
        # that.
        is_cluster = (self.cluster / "PG_VERSION").exists()
        if self._link.is_symlink() and not is_cluster:
            raise BundledPostgresError(
                f"{self._link} leads to {self._link.readlink()}, where there is no database; a copy of the data "
                "directory does not have it. Bring it along, or remove the link to begin with an empty ledger"
            )
        if self._link.is_file():
            raise BundledPostgresError(
                f"{self._link} is a file, where the database would be; move it away to begin with an empty ledger"
            )
        if self.cluster.is_dir() and not is_cluster and any(self.cluster.iterdir()):
            raise BundledPostgresError(
                f"{self.cluster} is no database of PostgreSQL, and not empty; restore all of it, or move it away "
                "to begin with an empty ledger"
            )

    def _locate(self) -> Path:
        """Returns the path of the PostgreSQL cluster's directory, which may not exist yet.

        This is `DATA_DIR/postgres`. For root, it is a directory in /var/lib/chatproxy instead, unless
        `DATA_DIR/postgres` is a real directory.
        """
        if os.geteuid() != 0 or (self._link.is_dir() and not self._link.is_symlink()):
            return self._link
        if self._link.is_symlink() and self._link.readlink().parent == ROOT_HOME:
            return self._link.readlink()  # DATA_DIR may have been moved since
        return ROOT_HOME / _digest(self._link)

    @property
    def _socket_dir(self) -> Path:
        """The directory of the PostgreSQL server's socket: the cluster's directory, or one in /tmp.

        The directory in /tmp is used if the path in the cluster's directory is too long for libpq, or has a comma.
        """
        # libpq cannot use a path that is too long, or has a comma.
        path = self.cluster / SOCKET_NAME
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH and "," not in str(path):
            return self.cluster
        # Not tempfile's directory: TMPDIR may be long itself, and differ between the server and a shell.
        return Path("/tmp") / f"chatproxy-{_digest(self.cluster)}"  # noqa: S108  (its owner is checked at start)

    @property
    def _cluster(self) -> Cluster:
        """The PostgreSQL cluster of this `DATA_DIR`, with the directories of its data and its socket."""
        return Cluster(self.cluster, self._socket_dir)

    @property
    def _lock_file(self) -> Path:
        """The path of the lock file, which is beside the cluster; a process that uses the cluster locks it."""
        return self.cluster.with_name(self.cluster.name + ".lock")

    def _make_link(self) -> None:
        """Makes `DATA_DIR/postgres` a symbolic link to the cluster, if the cluster is elsewhere."""
        if self.cluster != self._link:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.cluster)

    def _take_lock(self) -> None:
        """Locks the cluster for this process; raises `BundledPostgresError` if another process has the lock."""
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
        """Lets the program that replaces this process by `exec` keep the lock of the cluster."""
        # Children of `subprocess` do not get the lock.
        if self._lock is not None:
            os.set_inheritable(self._lock, True)

    def _make_socket_dir(self, account: Account) -> None:
        """Creates the directory in /tmp for the PostgreSQL server's socket, if the socket cannot be in the cluster.

        Raises:
            BundledPostgresError: the name is taken by something other than a directory of `account` with mode 0700.
        """
        if self._socket_dir == self.cluster:
            return
        with suppress(FileExistsError):
            self._socket_dir.mkdir(mode=0o700)
            os.chown(self._socket_dir, *account, follow_symlinks=False)
        # Another user may have prepared it.
        found = self._socket_dir.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise BundledPostgresError(f"{self._socket_dir} is not a directory of ours with mode 0700; remove it")


def ignore_libpq_variables() -> None:
    """Removes the variables that libpq reads, such as PGPORT, from the environment of this process and its children.

    They are set for another PostgreSQL. Here they would lead each connection there, or let it fail.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _digest(path: Path) -> str:
    """Returns a digest of a path: 16 characters, for use as the name of a file or directory."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
