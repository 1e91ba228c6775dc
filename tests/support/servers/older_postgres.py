"""Runs a PostgreSQL that is older than the bundled one, if this machine has one, with a cluster of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

PROGRAMS = Path("/usr/lib/postgresql")  # of Debian and Ubuntu: a folder for each major version
USER = "postgres"  # of these packages; PostgreSQL refuses to run as root


@contextmanager
def older_postgres(before: int) -> Iterator[str]:
    """Context manager that runs a PostgreSQL server of a major version below `before`; yields its URL.

    Skips the test if there is none.
    """
    majors = sorted(int(path.name) for path in PROGRAMS.glob("[0-9]*") if (path / "bin" / "initdb").exists())
    found = [major for major in majors if major < before]
    if not found:
        pytest.skip(f"there is no PostgreSQL before {before}; on Debian 12: apt install postgresql-15")
    directory = Path(tempfile.mkdtemp(prefix="older-", dir="/tmp"))  # short enough for a socket
    options = f"-c listen_addresses='' -c fsync=off -c unix_socket_directories={directory}"

    def run(name: str, *arguments: str) -> None:
        user = USER if os.geteuid() == 0 else None
        program = PROGRAMS / str(found[-1]) / "bin" / name
        command = [str(program), "-D", str(directory / "data"), *arguments]
        subprocess.run(command, user=user, cwd="/", check=True, stdout=subprocess.DEVNULL)

    try:
        if os.geteuid() == 0:
            shutil.chown(directory, USER)
        run("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "start", "--wait", "--silent", f"--log={directory}/log", f"--options={options}")
        try:
            yield f"postgresql://postgres@/postgres?host={quote(str(directory), safe='/')}"
        finally:
            run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")
    finally:
        shutil.rmtree(directory)
