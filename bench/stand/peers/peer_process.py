"""Runs the process of another gateway for comparison, on the server's core, until its measure ends."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2

from bench.stand.processes import SERVER_CORE, pinned
from bench.stand.stand import Server, wait_for

BIN = Path(".venv-peers/bin").absolute()


@contextmanager
def peer(server: Server, health: str, command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Server]:
    """Runs `command`, a program of `.venv-peers`, until the `with` block ends; yields its `Server`.

    It runs on the server's core. `server` says where it listens. It has started once it answers 200 to a GET of the
    path `health`. `environment` is added to this process's own. What it prints is not kept. Raises SystemExit if it
    does not start.
    """
    variables = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment}
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory, pinned(SERVER_CORE):
        process = subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=directory,
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for(lambda: httpx2.get(f"{server.url}{health}").status_code == 200, f"{server.name} does not start")
            yield server._replace(root=process.pid)
        finally:
            process.terminate()
            process.wait(30)


def version(package: str) -> str:
    """Returns the version of the package that is installed in `.venv-peers`."""
    command = [str(BIN / "python"), "-c", f"import importlib.metadata as m; print(m.version({package!r}))"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
