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
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from chatproxy.postgres.binaries import ROOT_HOME, Account, BundledPostgresError, Postgres
from chatproxy.postgres.cluster import SOCKET_NAME, Cluster

DATABASE = "chatproxy"
LONGEST_SOCKET_PATH = 107  # bytes, sun_path in unix(7)


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
        return self._cluster.pid() is not None

    def start(self) -> None:
        """Makes the cluster if there is none, starts its server or adopts one that a killed process left.

        Raises:
            BundledPostgresError: another process has it, or it does not start; one line.
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
        except BaseException:  # a border: whatever it is, it is cleaned up and goes on
            self.stop()
            raise

    def revive(self) -> None:
        """Starts the server of a cluster whose lock this process has had since `start`, or since before its `exec`.

        The lock is left alone: closing any descriptor of its file would release it.

        Raises:
            BundledPostgresError: it does not start; one line.
        """
        account = Account.of(self.cluster)
        self._make_socket_dir(account)
        self._cluster.run(Postgres.for_account(account), DATABASE)

    def stop(self) -> None:
        """Stops the server, waits until it is gone, gives the lock back; does nothing if it does not run."""
        if self.running:
            self._cluster.stop(Postgres.for_account(Account.of(self.cluster)))
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def delete(self) -> None:
        """Removes a stopped cluster and all that belongs to it."""
        for path in {self.cluster, self._cluster.unfinished, self._socket_dir}:
            if path.exists():
                shutil.rmtree(path)
        self._lock_file.unlink(missing_ok=True)
        if self._link.is_symlink():
            self._link.unlink()

    def _check_is_ours(self) -> None:
        """An empty ledger is made where nothing was before, never in the place of one that is missing.

        A link is made after its cluster, and a cluster appears with all that is in it. So a link that leads nowhere, or
        a directory with something else in it, is what a backup or a move has left of a ledger.
        """
        is_cluster = (self.cluster / "PG_VERSION").exists()
        if self._link.is_symlink() and not is_cluster:
            raise BundledPostgresError(
                f"{self._link} leads to {self._link.readlink()}, where there is no database; a copy of the data "
                "directory does not have it. Bring it along, or remove the link to begin with an empty ledger"
            )
        if self.cluster.is_dir() and not is_cluster and any(self.cluster.iterdir()):
            raise BundledPostgresError(
                f"{self.cluster} is no database of PostgreSQL, and not empty; restore all of it, or move it away "
                "to begin with an empty ledger"
            )

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
    def _cluster(self) -> Cluster:
        return Cluster(self.cluster, self._socket_dir)

    @property
    def _lock_file(self) -> Path:
        return self.cluster.with_name(self.cluster.name + ".lock")

    def _make_link(self) -> None:
        if self.cluster != self._link:
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(self.cluster)

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
            os.chown(self._socket_dir, *account, follow_symlinks=False)
        found = self._socket_dir.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) != 0o700:
            raise BundledPostgresError(f"{self._socket_dir} is not a directory of ours with mode 0700; remove it")


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
