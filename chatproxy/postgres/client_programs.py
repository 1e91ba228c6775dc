"""Runs pg_dump and pg_restore on a database, either the bundled PostgreSQL's programs or this machine's.

A program must be at least as new as the server, and pg_restore at least as new as the pg_dump that has written the
dump. From version `STRICT_MAJOR` on, pg_restore sets a parameter that older servers do not know, so it cannot restore
into them. Therefore a dump made by such a new pg_dump can only be restored into such a new server.

The password is passed in the environment, because everybody can read the arguments of a process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from psycopg.conninfo import make_conninfo

from chatproxy.postgres.binaries import PACKAGE

STRICT_MAJOR = 17  # of PostgreSQL, which has brought `transaction_timeout`
OPTIONS = ("--no-owner", "--no-privileges", "--no-password")
SECRET_PARAMETERS = {"sslpassword", "oauth_client_secret"}  # beside the password, for which there is a variable


class ClientProgramError(Exception):
    """Error: a program such as pg_dump is missing, is too old or has failed. Its message is one line."""


class ClientProgram(NamedTuple):
    """A program of PostgreSQL that connects to a server, such as pg_dump, and its major version."""

    path: Path
    major: int

    @classmethod
    def find_pg_dump(cls, server_major: int, *, is_bundled: bool) -> ClientProgram:
        """Returns a pg_dump that can dump databases of a server of the major version `server_major`.

        Raises:
            ClientProgramError: no pg_dump on this machine is new enough.
        """
        return cls._find("pg_dump", range(server_major, sys.maxsize), is_bundled=is_bundled)

    @classmethod
    def find_pg_restore(cls, server_major: int, dump_major: int, *, is_bundled: bool) -> ClientProgram:
        """Returns a pg_restore that can read a dump and restore it into a server.

        `dump_major` is the major version of the pg_dump that has written the dump, and `server_major` that of the
        server.

        Raises:
            ClientProgramError: there is no such program on this machine, or no pg_restore can restore this dump into
                this server.
        """
        if server_major < STRICT_MAJOR <= dump_major:
            raise ClientProgramError(
                f"the dump was written by pg_dump {dump_major}, and can be restored into PostgreSQL {STRICT_MAJOR} or "
                f"later only; this is {server_major}"
            )
        end = STRICT_MAJOR if server_major < STRICT_MAJOR else sys.maxsize
        return cls._find("pg_restore", range(max(server_major, dump_major), end), is_bundled=is_bundled)

    @classmethod
    def _find(cls, name: str, majors: range, *, is_bundled: bool) -> ClientProgram:
        """Returns the program `name`, such as pg_dump, with one of the major versions `majors`.

        For the bundled PostgreSQL, only the program that comes with it is considered. For any other server, the program
        in PATH comes first.

        Raises:
            ClientProgramError: no such program has one of these versions.
        """
        in_path = None if is_bundled else shutil.which(name)
        found = [cls(path, _major_of(path)) for path in (in_path and Path(in_path), _bundled(name)) if path]
        for program in found:
            if program.major in majors:
                return program
        others = ", ".join(f"{program.path} is of {program.major}" for program in found) or "there is none"
        wanted = f"{majors.start} or later" if majors.stop == sys.maxsize else f"{majors.start} to {majors.stop - 1}"
        raise ClientProgramError(f"{name} of PostgreSQL {wanted} is needed in PATH; {others}")

    def dump(self, database: Mapping[str, str], schema: str, chunk_bytes: int, role: str | None) -> Iterator[bytes]:
        """Runs pg_dump on one schema of a database, and yields the dump (custom format) in chunks.

        `database` has libpq's parameters for the connection, and `role` is the role for `SET ROLE`. The whole
        dump shows the database at one moment, soon after the first chunk was requested.

        Raises:
            ClientProgramError: pg_dump has failed; the chunks that were yielded are useless.
        """
        # A schema's pattern: quoted, so that all characters stand for themselves.
        options = ["--format=custom", "--schema", _quoted(schema)]
        with self._running(database, role, options, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101  (a pipe)
            while chunk := process.stdout.read(chunk_bytes):
                yield chunk

    def restore(self, database: Mapping[str, str], schema: str, dump: Iterable[bytes], role: str | None) -> None:
        """Runs pg_restore, which restores the dump of a schema into a database in one transaction.

        Raises:
            ClientProgramError: pg_restore has failed; the database is unchanged.
        """
        # Restores what is in the schema, and not the schema, which is there.
        options = ["--single-transaction", "--schema", schema]
        with self._running(database, role, options, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None  # noqa: S101  (a pipe)
            with suppress(BrokenPipeError):  # pg_restore has ended, and says why
                for chunk in dump:
                    process.stdin.write(chunk)

    @contextmanager
    def _running(
        self,
        database: Mapping[str, str],
        role: str | None,
        options: Iterable[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Context manager that runs this program on a database, and waits for its end; kills it if the block fails.

        Raises:
            ClientProgramError: the program cannot be run or has failed, or the database's URL contains a secret that
                the list of processes would show to everybody.
        """
        if shown := sorted(SECRET_PARAMETERS & database.keys()):
            raise ClientProgramError(f"{shown[0]} in DATABASE_URL would stand in the list of processes; leave it out")
        place = make_conninfo(**{name: value for name, value in database.items() if name != "password"})
        arguments = [*OPTIONS, *([f"--role={role}"] if role else []), *options, f"--dbname={place}"]
        password = {"PGPASSWORD": database["password"]} if "password" in database else {}
        environment = {**os.environ, "LC_ALL": "C", **password}
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(  # noqa: S603  (a program of PostgreSQL, no shell)
                    [self.path, *arguments], env=environment, stdin=stdin, stdout=stdout, stderr=errors
                )
            except OSError as error:
                raise ClientProgramError(f"{self.path} cannot be run: {error.strerror}") from None
            try:
                yield process
            except BaseException:  # a border: whatever has failed, the program ends
                process.kill()
                raise
            finally:
                _close(process.stdin)
                _close(process.stdout)
                process.wait()
            if process.returncode != 0:
                errors.seek(0)
                raise ClientProgramError(_error_line(self.path.name, process.returncode, errors.read()))


def _bundled(name: str) -> Path | None:
    """Returns the path of the program `name` that comes with the bundled PostgreSQL; None if there is none."""
    path = PACKAGE / "pginstall" / "bin" / name
    return path if path.exists() else None


def _major_of(path: Path) -> int:
    """Returns the major version that a PostgreSQL program prints for `--version`; 0 if it prints none."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


def _error_line(name: str, code: int, said: bytes) -> str:
    """Returns one line for people about a program that has failed: the program's error, without prefix and hint."""
    lines = said.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
    line = next((line for line in lines if "error:" in line), lines[-1])
    return f"{name} failed: {line.rpartition('error: ')[2].strip()}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _close(pipe: IO[bytes] | None) -> None:
    """Closes the pipe to a program, unless `pipe` is None; raises no error if the program has ended."""
    if pipe is not None:
        with suppress(BrokenPipeError):
            pipe.close()
