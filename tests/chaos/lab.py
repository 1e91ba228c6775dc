"""Owns what is broken: a PostgreSQL, a simulated OpenAI, the server, and the file system of its journal."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres
from tests.chaos.damage import Damage
from tests.chaos.processes import children, is_alive, is_shipper, kill, send, wait_for
from tests.support.servers.gateway import SECURITY_KEY, UPSTREAM_KEY, free_port

WORKERS = 2
TMPFS_BYTES = 64 * 1024 * 1024
RESERVE_BYTES = 4 * 1024 * 1024
PATIENCE = 60.0


class Postgres:
    """The bundled PostgreSQL in a directory of its own; its processes can be frozen and killed."""

    def __init__(self, home: Path, make: Callable[[Path], BundledPostgres] = BundledPostgres) -> None:
        home.mkdir()
        self._bundled = make(home)
        self.start()
        self.url = self._bundled.url

    def start(self) -> None:
        self._bundled.start()
        pid_file = self._bundled.cluster / "postmaster.pid"
        self.postmaster = int(pid_file.read_text().splitlines()[0])

    def stop(self) -> None:
        self._bundled.stop()

    def kill(self) -> None:
        """Kills all processes of PostgreSQL, and waits until they are gone.

        The postmaster is frozen before, because it would replace a killed child by a new one.
        """
        with self._frozen() as pids:
            send(signal.SIGKILL, pids)
        wait_for(lambda: not any(map(is_alive, pids)), 10)
        self._bundled.stop()  # gives its lock back

    def freeze(self) -> None:
        send(signal.SIGSTOP, self._processes())

    def thaw(self) -> None:
        send(signal.SIGCONT, self._processes())

    def delete(self) -> None:
        self.thaw()
        self._bundled.stop()
        self._bundled.delete()

    @contextmanager
    def _frozen(self) -> Iterator[list[int]]:
        """Freezes the postmaster, so that it starts no new process, and yields the ids of all processes."""
        send(signal.SIGSTOP, [self.postmaster])
        yield self._processes()

    def _processes(self) -> list[int]:
        return [self.postmaster, *children(self.postmaster)] if is_alive(self.postmaster) else []


class Server:
    """The server, `manage.py serve`, on one port and with one DATA_DIR, through all its restarts."""

    def __init__(self, variables: dict[str, str], log: Path) -> None:
        self.url = f"http://127.0.0.1:{variables['PORT']}"
        self.log = log
        ours = {setting.name for setting in setting_reader.SETTINGS}
        self._variables = {**{name: value for name, value in os.environ.items() if name not in ours}, **variables}
        self._ever: set[int] = set()  # every worker and shipper that was seen: one may outlive its master

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.master = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                cwd=setting_reader.BASE_DIR,
                env=self._variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_for(self.answers, PATIENCE, f"an answer of the server; its log:\n{self.log.read_text()[-3000:]}")

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that the master has now."""
        return [pid for pid in self._children() if not is_shipper(pid)]

    @property
    def shippers(self) -> list[int]:
        """The process id of the shipper that the master has now; none while it has none."""
        return list(filter(is_shipper, self._children()))

    def _children(self) -> list[int]:
        found = children(self.master.pid)
        self._ever.update(found)
        return found

    def stop(self) -> float:
        """Stops the server by SIGTERM, and waits until its calls are finished and all its processes have ended.

        Returns how many seconds that took. Processes whose master was killed earlier are waited for, too.
        """
        began = time.monotonic()
        self._children()
        if self.master.poll() is None:
            self.master.terminate()
        self.master.wait(PATIENCE)
        self.wait_for_orphans()
        return time.monotonic() - began

    def kill_master(self) -> None:
        self._children()
        self.master.kill()
        self.master.wait()

    def wait_for_orphans(self) -> None:
        """Waits until the workers and shippers whose master was killed have ended by themselves."""
        mine = set(self._children()) if self.master.poll() is None else set()
        wait_for(lambda: not any(is_alive(pid) for pid in self._ever - mine), PATIENCE, "the end of orphaned processes")
        self._ever = mine

    def kill_orphans(self) -> None:
        """Kills all workers and shippers, also those whose master was killed earlier."""
        kill(*(pid for pid in self._ever if is_alive(pid)))

    def answers(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/healthz", timeout=5).status_code == 200
        except httpx2.RequestError:
            if self.master.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log.read_text()[-3000:]}") from None
            return False

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=setting_reader.BASE_DIR, env=self._variables, capture_output=True, text=True, check=False
        )

    def tracebacks(self) -> list[str]:
        """Returns the last line of each traceback in the server's log."""
        found = re.findall(r'"exception": "((?:[^"\\]|\\.)*)"', self.log.read_text(errors="replace"))
        return [trace.strip().rpartition("\\n")[2] for trace in found]


@dataclass
class Lab:
    """All servers of a run, and what was done to them; times are those of `time.time()`."""

    postgres: Postgres
    server: Server
    upstream: str
    journal: Path
    has_tmpfs: bool
    deaths: list[float] = field(default_factory=list)  # when a worker was killed
    damaged: dict[str, Damage] = field(default_factory=dict)  # by request id

    def kill_worker(self, pid: int) -> None:
        self.deaths.append(time.time())
        kill(pid)

    def simulator(self, page: str) -> Any:
        return httpx2.get(self.upstream.replace("/v1", f"/_simulator/{page}"), timeout=PATIENCE).json()


@contextmanager
def running_lab() -> Iterator[Lab]:
    """Starts PostgreSQL, the simulated OpenAI and the server; yields them, and at the end stops and deletes all."""
    with ExitStack() as undo:
        home = Path(tempfile.mkdtemp(prefix="chatproxy-chaos-"))
        undo.callback(shutil.rmtree, home, ignore_errors=True)
        postgres = Postgres(home / "database")
        undo.callback(postgres.delete)
        upstream = undo.enter_context(_simulator())
        journal = home / "data" / "journal"
        journal.mkdir(parents=True, mode=0o700)
        has_tmpfs = _mount(journal)
        if has_tmpfs:
            undo.callback(subprocess.run, ["umount", "--lazy", str(journal)], check=True)
        variables = {
            "SECURITY_KEY": SECURITY_KEY,
            "OPENAI_API_KEY": UPSTREAM_KEY,
            "OPENAI_BASE_URL": upstream,
            "DATABASE_URL": postgres.url,
            "DATA_DIR": str(home / "data"),
            "PORT": str(free_port()),
            "WEB_CONCURRENCY": str(WORKERS),
            "REQUEST_TIMEOUT": "30",
            "JOURNAL_RESERVE_BYTES": str(RESERVE_BYTES if has_tmpfs else 0),
            setting_reader.NO_ENV_FILES: "1",
        }
        server = Server(variables, home / "serve.log")
        undo.callback(_end, server)
        server.start()
        yield Lab(postgres, server, upstream, journal, has_tmpfs)


def _end(server: Server) -> None:
    server.kill_master()
    server.kill_orphans()


@contextmanager
def _simulator() -> Iterator[str]:
    """Runs the simulated OpenAI until the block ends, and yields its URL.

    It runs in a process of its own, because in the process of the callers it would have to wait for them.
    """
    command = [sys.executable, "-m", "tests.simulator"]
    with subprocess.Popen(command, cwd=setting_reader.BASE_DIR, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        try:
            yield found[0]
        finally:
            process.terminate()


def _mount(directory: Path) -> bool:
    """Mounts a small file system for the journal, and returns whether that succeeded.

    Only root may mount one, and in most containers not even root.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=700", "chaos", str(directory)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False
