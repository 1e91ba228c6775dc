"""Owns gunicorn's settings, and what its master process does at start and end.

The master has no Django in it and reads the environment by itself, so that `--reload` gives new workers new code
and new settings. gunicorn takes every name of this module that is one of its settings.
"""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from chatproxy import environment
from usage.addresses import both_forms

if TYPE_CHECKING:
    from chatproxy.postgres.watch import PostgresWatch

_values = environment.load()
_master = os.getpid()
_hangups_are_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN  # as nohup does
_REPLACE_SECONDS = 60.0
_watch: PostgresWatch | None = None

proc_name = "chatproxy"
worker_class = "chatproxy.processes.worker.Worker"
workers = _values["WEB_CONCURRENCY"]
_host = _values["HOST"]
bind = f"[{_host}]:{_values['PORT']}" if ":" in _host else f"{_host}:{_values['PORT']}"
keepalive = 900  # seconds a client may keep an idle connection
forwarded_allow_ips = ",".join(form for proxy in _values["TRUSTED_PROXIES"] for form in both_forms(proxy))

# A draining worker does not beat, and may have a call that has just begun.
graceful_timeout = math.ceil(_values["REQUEST_TIMEOUT"]) + 30
timeout = graceful_timeout + 30
max_requests = 0
preload_app = False
control_socket_disable = True
# Its heartbeat is a file, which should not wait for a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108  (the kernel's own)

reload_extra_files = [str(environment.BASE_DIR / "templates" / "**" / "*")]

logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "chatproxy.logs.JsonFormatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": [], "propagate": True}},
}


def when_ready(server: Any) -> None:
    """Ctrl-C and SIGTERM mean the same: the first drains, the next one cancels what is still in flight.

    SIGHUP, the end of the terminal, drains as well, however often it comes. A worker's `REPLACE_WORKERS` starts as many
    new workers as there are, and ends the old ones, whose calls in flight are finished.
    """
    from chatproxy.processes.worker import REPLACE_WORKERS

    asked = False
    replaced_at = -math.inf

    def stop(number: int, _frame: object) -> None:
        nonlocal asked
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal may say it more than once
        if asked and number == signal.SIGHUP:
            return
        server.SIG_QUEUE.put_nowait(signal.SIGQUIT if asked else signal.SIGTERM)
        asked = True

    def replace(_signal: int, _frame: object) -> None:
        """Each worker may ask, and all of them at once."""
        nonlocal replaced_at
        if time.monotonic() - replaced_at < _REPLACE_SECONDS:
            return
        replaced_at = time.monotonic()
        for number in (signal.SIGTTIN, signal.SIGTTOU):  # one worker more; one, the oldest, less
            for _ in range(server.num_workers):
                server.SIG_QUEUE.put_nowait(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    if _hangups_are_ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(REPLACE_WORKERS, replace)
    if _watch is not None:
        _watch.start()
    # `serve` blocked them before it became gunicorn, lest one be lost, or leave PostgreSQL running.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


def post_fork(server: Any, worker: Any) -> None:
    """A signal that came between the fork and this line is in a queue that nobody reads here."""
    for number in worker.SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    # The base class gives SIGHUP its default once more; blocked, it does no harm before the worker ignores it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while not server.SIG_QUEUE.empty():
        if server.SIG_QUEUE.get_nowait() in {signal.SIGTERM, signal.SIGQUIT}:
            sys.exit(0)


def worker_int(_worker: Any) -> None:
    """The reloader has seen a change; its own way of ending a worker does not end uvicorn."""
    os.kill(os.getpid(), signal.SIGQUIT)


if _values["DATABASE_URL"] is None:
    # Only then: psycopg, which comes with it, is half of what the master would load.
    from chatproxy.postgres.bundled import BundledPostgres
    from chatproxy.postgres.watch import PostgresWatch

    _postgres = BundledPostgres(environment.data_dir(_values))
    _watch = _postgres_watch = PostgresWatch(_postgres)

    @atexit.register
    def _stop_postgres() -> None:
        """Whatever ended the master, but never a worker's end: a worker inherits what was registered here."""
        if os.getpid() == _master:
            _postgres_watch.stop()
            _postgres.stop()
