"""Runs a real forward proxy for a test (tinyproxy, on a free port), which logs the targets of its connections."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import free_port

SETTINGS = """
Listen 127.0.0.1
Port {port}
Allow 127.0.0.1
LogFile "{log}"
LogLevel Connect
"""


class ForwardProxy:
    """A running forward proxy (the program tinyproxy); `address` is its `host:port`."""

    def __init__(self, address: str, log: Path) -> None:
        self.address = address
        self._log = log

    @property
    def asked_for(self) -> list[str]:
        """The targets to which clients have asked the proxy to connect, as in its request lines, oldest first."""
        return re.findall(r"Request \(file descriptor \d+\): \w+ (\S+) HTTP", self._log.read_text())


@contextmanager
def run_tinyproxy(directory: Path) -> Iterator[ForwardProxy]:
    """Runs tinyproxy until the block ends, and yields it; skips the test if tinyproxy is not installed."""
    command = shutil.which("tinyproxy", path="/usr/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
    if command is None:
        pytest.skip("there is no tinyproxy; on Debian and Ubuntu: apt install tinyproxy-bin")
    port, log, settings = free_port(), directory / "tinyproxy.log", directory / "tinyproxy.conf"
    settings.write_text(SETTINGS.format(port=port, log=log))
    process = subprocess.Popen([command, "-d", "-c", settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield ForwardProxy(f"127.0.0.1:{port}", log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
