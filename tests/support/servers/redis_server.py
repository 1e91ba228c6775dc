"""Runs a real redis-server for a test, on a port of its own; it can be killed, frozen and started again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.servers.disks import wait_until
from tests.support.servers.gateway import free_port


class RedisServer:
    """A redis-server that a test starts and stops; it stores nothing on disk."""

    def __init__(self, directory: Path) -> None:
        command = shutil.which("redis-server")
        if command is None:
            pytest.skip("there is no redis-server; on Debian and Ubuntu: apt install redis-server")
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Starts the redis-server, and waits until it answers."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self._directory)]
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([self._command, *options], stdout=log, stderr=log)
        wait_until(self._answers)

    def kill(self) -> None:
        self._send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()
        self.kill()

    def _send(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False
