"""Runs a real PgBouncer for a test. In transaction mode, each transaction may get another connection."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import free_port

SETTINGS = """
[databases]
* = host={host} port=5432 user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 20
min_pool_size = 4
server_round_robin = 1
"""


@contextmanager
def run_pgbouncer(database_url: str, directory: Path, mode: str = "transaction") -> Iterator[str]:
    """Runs PgBouncer in front of a database until the block ends, and yields the database's URL behind it.

    Skips the test if PgBouncer is not installed.
    """
    command = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if command is None:
        pytest.skip("there is no pgbouncer; on Debian and Ubuntu: apt install pgbouncer")
    server = conninfo_to_dict(database_url)
    socket_directory, port = Path(str(server["host"])), free_port()
    owner = socket_directory.stat()  # PgBouncer refuses to run as root, and nobody else can open the socket
    settings = directory / "pgbouncer.ini"
    settings.write_text(SETTINGS.format(host=socket_directory, port=port, mode=mode))
    with (directory / "pgbouncer.log").open("ab") as log, settings.open("rb") as text:
        process = subprocess.Popen(
            [command, "/dev/stdin"], stdin=text, stdout=log, stderr=log, user=owner.st_uid, cwd="/"
        )
    url = f"postgresql://postgres@127.0.0.1:{port}/{quote(str(server['dbname']))}"
    try:
        wait_until(lambda: answers(url))
        yield url
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    with suppress(psycopg.OperationalError), psycopg.connect(url, connect_timeout=1):
        return True
    return False
