"""Runs pg_dump and pg_restore on a database, either the bundled PostgreSQL's programs or this machine's.

A program must be at least as new as the server, and pg_restore at least as new as the pg_dump that has written the
dump. From version `STRICT_MAJOR` on, pg_restore sets a parameter that older servers do not know. So for these it writes
an SQL script, which psql executes without that line. Nothing else in a dump of the gateway's tables by version 18 is
unknown to version 15.

The password is passed in the environment, because everybody can read the arguments of a process.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

from psycopg.conninfo import make_conninfo

from chatproxy.postgres.binaries import PACKAGE

STRICT_MAJOR = 17  # of PostgreSQL, which has brought `transaction_timeout`
NEW_LINES = {b"SET transaction_timeout = 0;\n"}
HEAD_LINES = 40  # of a script, within which the parameters are set; tables come later
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

        `is_bundled` is whether that server is the bundled PostgreSQL, for which only its own pg_dump is used.

        Raises:
            ClientProgramError: no pg_dump on this machine is new enough.
        """
        return cls._find("pg_dump", range(server_major, sys.maxsize), is_bundled=is_bundled)

    @classmethod
    def find_pg_restore(cls, server_major: int, dump_major: int, *, is_bundled: bool) -> ClientProgram:
        """Returns a pg_restore that can read a dump and restore it into a server.

        * `server_major`: the major version of the server.
        * `dump_major`: the major version of the pg_dump that has written the dump.
        * `is_bundled`: whether the server is the bundled PostgreSQL. Only the pg_restore that comes with it is used
          then.

        Raises:
            ClientProgramError: there is no such pg_restore on this machine, or there is no psql beside it although it
                is needed (`needs_script`).
        """
        found = cls._find("pg_restore", range(max(server_major, dump_major), sys.maxsize), is_bundled=is_bundled)
        if found.needs_script(server_major) and not found._psql.exists():
            raise ClientProgramError(
                f"{found._psql} is needed to restore into PostgreSQL {server_major}, and is missing"
            )
        return found

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
        raise ClientProgramError(f"{name} of PostgreSQL {majors.start} or later is needed in PATH; {others}")

    def needs_script(self, server_major: int) -> bool:
        """Returns whether a dump must be restored by way of an SQL script instead of by this pg_restore alone.

        From the major version `STRICT_MAJOR` on, pg_restore sets a parameter that older servers do not know. A script
        can leave it out.
        """
        return server_major < STRICT_MAJOR <= self.major

    @property
    def _psql(self) -> Path:
        return self.path.with_name("psql")

    def dump(self, database: Mapping[str, str], schema: str, chunk_bytes: int, role: str | None) -> Iterator[bytes]:
        """Runs pg_dump on one schema of a database, and yields the dump (custom format) in chunks.

        `database` has libpq's parameters for the connection, and `role` is the role for `SET ROLE`. The whole
        dump shows the database at one moment, soon after the first chunk was requested.

        Raises:
            ClientProgramError: pg_dump has failed; the chunks that were yielded are useless.
        """
        # A schema's pattern: quoted, so that all characters stand for themselves.
        options = ["--format=custom", "--schema", _quoted(schema), *_role(role)]
        with self._running([*OPTIONS, *options], database, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101  (a pipe)
            while chunk := process.stdout.read(chunk_bytes):
                yield chunk

    def restore(
        self, database: Mapping[str, str], server_major: int, schema: str, dump: Iterable[bytes], role: str | None
    ) -> None:
        """Runs pg_restore, which restores the dump of a schema into a database in one transaction.

        `database` has libpq's parameters for the connection, `server_major` is the major version of its server, and
        `role` is the role for `SET ROLE`.

        Raises:
            ClientProgramError: pg_restore or psql has failed; the database is unchanged.
        """
        # Restores what is in the schema, and not the schema, which is there.
        arguments = [*OPTIONS, "--single-transaction", "--schema", schema, *_role(role)]
        if self.needs_script(server_major):
            self._restore_by_script(arguments, database, dump)
            return
        with self._running(arguments, database, stdin=subprocess.PIPE) as process:
            _feed(process, dump)

    def _restore_by_script(self, arguments: Iterable[str], database: Mapping[str, str], dump: Iterable[bytes]) -> None:
        """Restores a dump by two programs: pg_restore writes an SQL script, and psql executes it.

        The script begins and commits a transaction. If pg_restore breaks off, psql never gets the statement that
        commits.

        Raises:
            ClientProgramError: pg_restore or psql has failed; the database is unchanged.
        """
        psql = ClientProgram(self._psql, self.major)
        of_psql = ["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-"]
        pipe = subprocess.PIPE
        with (
            # psql is waited for first: if it fails, pg_restore ends because of that.
            self._running([*arguments, "--file=-"], stdin=pipe, stdout=pipe) as writer,
            psql._running(of_psql, database, stdin=pipe) as reader,
        ):
            script = threading.Thread(target=_pass_script_on, args=(writer, reader), name="script of pg_restore")
            script.start()
            try:
                _feed(writer, dump)
                _close(writer.stdin)
            except BaseException:  # a border: whatever has failed, the thread ends with the programs
                writer.kill()
                reader.kill()
                raise
            finally:
                script.join()

    @contextmanager
    def _running(
        self,
        arguments: Iterable[str],
        database: Mapping[str, str] | None = None,
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Context manager that runs this program, yields its process, waits for its end; kills it if the block fails.

        The program connects to `database`, unless this is None.

        Raises:
            ClientProgramError: the program cannot be run or has failed; or the database's URL contains a secret that
                everybody could see in the list of processes.
        """
        command, environment = [str(self.path), *arguments], {**os.environ, "LC_ALL": "C"}
        if database is not None:
            if shown := sorted(SECRET_PARAMETERS & database.keys()):
                raise ClientProgramError(
                    f"{shown[0]} in DATABASE_URL would stand in the list of processes; leave it out"
                )
            place = make_conninfo(**{name: value for name, value in database.items() if name != "password"})
            command.append(f"--dbname={place}")
            if "password" in database:
                environment["PGPASSWORD"] = database["password"]
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(  # noqa: S603  (a program of PostgreSQL, no shell)
                    command, env=environment, stdin=stdin, stdout=stdout, stderr=errors
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
    """Returns the major version that a PostgreSQL program prints for `--version`.

    Returns 0 if the program prints none, or cannot be run.
    """
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError:
        return 0
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(found[1]) if found else 0


def _error_line(name: str, code: int, said: bytes) -> str:
    """Returns one line for people that says why the program `name`, such as pg_dump, has failed.

    `said` is the program's output. The line quotes the first error in it; else its last line; else the exit code.
    """
    lines = said.decode(errors="replace").strip().splitlines() or [f"exit code {code}"]
    errors = (re.search(r"(?:error|ERROR): +(.+)", line) for line in lines)
    error = next((error[1] for error in errors if error), lines[-1])
    return f"{name} failed: {error.strip()}"


def _role(role: str | None) -> list[str]:
    return [f"--role={role}"] if role else []


def _feed(process: subprocess.Popen[bytes], dump: Iterable[bytes]) -> None:
    """Writes a dump to the standard input of pg_restore, until all is written or pg_restore has ended."""
    assert process.stdin is not None  # noqa: S101  (a pipe)
    with suppress(BrokenPipeError):  # pg_restore has ended, and says why
        for chunk in dump:
            process.stdin.write(chunk)


def _pass_script_on(writer: subprocess.Popen[bytes], reader: subprocess.Popen[bytes]) -> None:
    """Copies the SQL script that pg_restore (`writer`) writes to psql (`reader`), and closes both pipes at the end.

    The lines `NEW_LINES`, which an older server does not understand, are left out of the script's head.
    """
    assert writer.stdout is not None  # noqa: S101  (a pipe)
    assert reader.stdin is not None  # noqa: S101  (a pipe)
    try:
        # Closed if psql has ended, so that pg_restore ends, too, instead of waiting for somebody to read the rest.
        with writer.stdout as script, suppress(BrokenPipeError):
            reader.stdin.writelines(line for line in islice(script, HEAD_LINES) if line not in NEW_LINES)
            shutil.copyfileobj(script, reader.stdin)
    finally:
        _close(reader.stdin)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _close(pipe: IO[bytes] | None) -> None:
    """Closes the pipe to a program, unless `pipe` is None; raises no error if the program has ended."""
    if pipe is not None:
        with suppress(BrokenPipeError):
            pipe.close()
