"""gunicorn's settings, and the hooks that its master process calls when it starts and ends.

gunicorn reads every name in this module that is the name of one of its settings. The master does not load Django, and
reads the environment by itself, so that new workers get new code and new settings with `--reload`.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import signal
import time
from contextlib import ExitStack
from math import inf
from typing import TYPE_CHECKING

from gunicorn.arbiter import Arbiter

from chatproxy import logs
from chatproxy.configuration import setting_reader
from chatproxy.processes.shipper_watch import ShipperWatch
from chatproxy.processes.unix_signals import MasterSignals, reset_in_new_worker, unblock_signals
from chatproxy.processes.upgrade import AdoptedWorker, Upgrade
from chatproxy.processes.worker import Worker
from usage.ip_addresses import both_forms

if TYPE_CHECKING:
    from chatproxy.postgres.watch import PostgresWatch


logger = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
FORGOTTEN_SECONDS = 120.0  # longer than the longest pause and a start on a busy machine together


class StartPauses:
    """The pauses that gunicorn's master makes between starts of workers, while each new worker dies before it serves.

    Without them, gunicorn would start one worker after the other at once, which takes CPU from the workers that serve.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self._failed_at = -inf
        self._is_installed = False

    def install(self, server: Arbiter) -> None:
        """Makes gunicorn's master start no worker during a pause; its main loop tries again each second."""
        start_workers = server.spawn_workers
        self._is_installed = True

        def start_unless_paused() -> None:
            if not self._is_pause():
                start_workers()

        server.spawn_workers = start_unless_paused

    def worker_has_ended(self, worker: Worker | AdoptedWorker) -> None:
        """Begins a pause before the next start of a worker, if `worker` has ended before it was ready to serve.

        The first pause lasts a second, and each further one twice as long, up to 30 seconds. After two minutes without
        such an end, a pause lasts a second again. During a pause, and before `install` was called, does nothing.
        """
        if worker.has_started or not self._is_installed or self._is_pause():
            return
        now = time.monotonic()
        is_first = now - self._failed_at > FORGOTTEN_SECONDS
        self._pause = FIRST_PAUSE_SECONDS if is_first else min(self._pause * 2, LONGEST_PAUSE_SECONDS)
        self._failed_at = now
        logger.warning("a worker has ended before it served; no other one is started for %.0f s", self._pause)

    def _is_pause(self) -> bool:
        return time.monotonic() < self._failed_at + self._pause


def _bundled_postgres() -> PostgresWatch | None:
    """Returns the thread that restarts the bundled PostgreSQL when needed; None if DATABASE_URL is set."""
    if _values["DATABASE_URL"] is not None:
        return None
    # Imported only if needed. `manage.py serve` has started the server before.
    from chatproxy.postgres.bundled import BundledPostgres
    from chatproxy.postgres.watch import PostgresWatch

    return PostgresWatch(BundledPostgres(setting_reader.data_dir(_values)))


_values = setting_reader.load()
_master = os.getpid()
_signals = MasterSignals(_values["DRAIN_SECONDS"])
_shipper = ShipperWatch()
_start_pauses = StartPauses()
_upgrade = Upgrade(_shipper)
_postgres = _bundled_postgres()

proc_name = "chatproxy"
worker_class = "chatproxy.processes.worker.Worker"
workers = _values["WEB_CONCURRENCY"]
_host = _values["HOST"]
bind = f"[{_host}]:{_values['PORT']}" if ":" in _host else f"{_host}:{_values['PORT']}"
keepalive = 900  # seconds a client may keep an idle connection
forwarded_allow_ips = ",".join(form for proxy in _values["TRUSTED_PROXIES"] for form in both_forms(proxy))

# Seconds. When the port closes, the last call may have just begun, or its body be still arriving.
graceful_timeout = math.ceil(_values["DRAIN_SECONDS"] + _values["REQUEST_TIMEOUT"]) + 30
# Seconds without a heartbeat after which a worker is killed and replaced: its event loop stands still, or it cannot
# load. With the start of the new one, that is less than a minute.
timeout = 50
max_requests = 0
preload_app = False
control_socket_disable = True
# The directory of the file that is a worker's heartbeat, which should not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  (the kernel's own)

reload_extra_files = [str(setting_reader.BASE_DIR / "templates" / "**" / "*")]

logconfig_dict = logs.config({"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}})


STANDSTILL_SECONDS = 5.0  # gunicorn's main loop has a round each second
SPARED_SECONDS = 20.0


def spare_workers_after_standstill(server: Arbiter) -> None:
    """Keeps gunicorn from killing workers without heartbeats in the first 20 seconds after the master has stood still.

    The master has stood still if its main loop made no round for 5 seconds, for example because the machine was
    suspended. Then no worker could send a heartbeat either.
    """
    # All processes may have been stopped, by Ctrl-Z or with their virtual machine: then no worker could send a
    # heartbeat.
    kill_silent_workers = server.murder_workers
    last_round_at, spared_until = time.monotonic(), 0.0

    def kill_unless_spared() -> None:
        nonlocal last_round_at, spared_until
        now = time.monotonic()
        if now - last_round_at > STANDSTILL_SECONDS:
            spared_until = now + SPARED_SECONDS
        last_round_at = now
        if now >= spared_until:
            kill_silent_workers()

    server.murder_workers = kill_unless_spared


def when_ready(server: Arbiter) -> None:
    """Hook of gunicorn, called once the master listens on its port: starts the shipper and installs signal handlers.

    Also starts the threads that watch the shipper and the bundled PostgreSQL. Without `--reload`, pauses are made
    between starts of workers that fail (`StartPauses`).
    """
    spare_workers_after_standstill(server)
    if not server.cfg.reload:  # whoever corrects the code waits for it
        _start_pauses.install(server)
    _signals.install(server)
    _upgrade.install(server)
    if _postgres is not None:
        _postgres.watch()
    _shipper.start(reload=server.cfg.reload)
    unblock_signals()


def post_fork(server: Arbiter, worker: Worker) -> None:
    """Hook of gunicorn, called at the start of each new worker process: removes the master's signal handlers."""
    reset_in_new_worker(server, worker)


def child_exit(_server: Arbiter, worker: Worker | AdoptedWorker) -> None:
    """Hook of gunicorn, called in the master for each worker that has ended.

    Tells the objects that pause between starts of failing workers (`StartPauses`) and that replace workers (`Upgrade`).
    """
    _start_pauses.worker_has_ended(worker)
    _upgrade.worker_has_ended(worker)


def worker_int(_worker: Worker) -> None:
    """Hook of gunicorn, called in a worker whose code has changed: ends the worker; gunicorn then starts a new one."""
    # gunicorn's own way to end a worker does not end uvicorn.
    os.kill(os.getpid(), signal.SIGQUIT)


@atexit.register
def _end() -> None:
    """Ends the shipper (the process that copies the journals to the database), then the bundled PostgreSQL.

    Python calls this when gunicorn's master exits. In a worker, it does nothing.
    """
    # A worker has inherited this exit function. When the master exits, the workers have ended.
    if os.getpid() == _master:
        with ExitStack() as steps:  # PostgreSQL is stopped whatever becomes of the shipper
            if _postgres is not None:
                steps.callback(_postgres.stop)
            _shipper.stop()
