"""Starts the parts of a worker process before its first call, and ends them after its last one (ASGI's lifespan).

Each part is started, and the step that ends it is added at the same place. The steps run in reverse order: first end
the tasks that make new work, then the parts that this work needs. The ledger is last but one. The last is the worker's
status file, so that it has the last counts; it is also started after the ledger, because it reports the journal's
state.

This module is imported after Django was set up (`chatproxy.asgi`).
"""

from __future__ import annotations

import asyncio
import gc

from django.db import connection

from chatproxy.processes.exit_steps import ShutdownSteps, on_port_close, on_server_stop
from proxyapi.call.caller_connection import Receive, Send
from proxyapi.call.capacity import capacity
from proxyapi.keys.keyring import keyring
from proxyapi.limits.limiter import limiter
from proxyapi.object_owners import owner_store
from proxyapi.unauthenticated.body_memory import stranger_budget
from proxyapi.upstream import client as upstream
from usage.ledger import ledger
from usage.live.status import build_report
from usage.live.worker_files import WorkerFile, WorkerReport
from usage.money.reservations import reservations

# How many objects are made before Python's garbage collector examines the young ones; 700 by default. A call makes
# hundreds, and nearly all of them are freed without the collector, by their reference counts.
GC_YOUNG_THRESHOLD = 10_000


async def run_lifespan(receive: Receive, send: Send) -> None:
    """Starts all parts of a worker process, and ends them at its shutdown (the `lifespan` scope of ASGI).

    If the journal cannot be written, uvicorn is told that the start has failed.
    """
    on_server_stop.append(capacity.stop)
    on_port_close.append(capacity.drain)
    # uvicorn's first message asks for the start, the second for the end.
    await receive()
    async with ShutdownSteps() as steps:
        try:
            start_ledger(steps)
        except OSError as error:
            await send({"type": "lifespan.startup.failed", "message": f"the journal cannot be written: {error}"})
            return
        await start_parts(steps)
        freeze_loaded_objects()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


def start_ledger(steps: ShutdownSteps) -> None:
    """Starts the ledger, which writes records of calls to this worker's journal, and the worker's status file.

    Adds the steps that end both to `steps`. A worker whose status file cannot be written serves without it
    (`usage.live.worker_files`), since it is only for pages and `/metrics`.

    Raises:
        OSError: the journal cannot be written. Nothing was added to `steps`.
    """
    worker = WorkerFile(worker_report)
    ledger.start()
    worker.start()
    steps.add("worker file", worker.stop)
    steps.add("ledger", ledger.stop)


async def start_parts(steps: ShutdownSteps) -> None:
    """Starts the parts of this worker other than the ledger: keys, budgets, limits, and the connections to upstream.

    Call this after `start_ledger`. The steps that end all of this are added to `steps`. Also starts a task that deletes
    files with the owners of stored objects, once these owners are in the database.
    """
    keyring.start()
    steps.add("keyring", keyring.stop)
    await reservations.open(ledger.journal.writer)
    steps.add("reservations", reservations.close)
    await limiter.start()
    steps.add("limits", limiter.stop)
    await asyncio.to_thread(upstream.prepare)
    steps.add("upstream's connections", upstream.close)
    sweep = asyncio.create_task(owner_store.sweep_forever())

    async def end_sweep() -> None:
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)

    steps.add("sweep of owners", end_sweep)


def freeze_loaded_objects() -> None:
    """Exempts all objects that exist now from garbage collection, and turns garbage collection on for later ones."""
    # Nearly all objects that exist now stay until the process ends: searching them again and again would only cost
    # time. So would a first search: it takes 80 ms of the start, to find that 2 % of them are garbage.
    gc.freeze()
    gc.set_threshold(GC_YOUNG_THRESHOLD)
    gc.enable()


def pool_gauges() -> dict[str, float]:
    """Returns how many database connections this worker's pages have open, and how many threads wait for one."""
    found = connection.pool.get_stats()  # type: ignore[attr-defined]  # the PostgreSQL backend's
    return {"pool_connections": found["pool_size"], "pool_waiting": found["requests_waiting"]}


def worker_report() -> WorkerReport:
    """Returns the state of this worker for its status file, as a dictionary for JSON.

    It has the calls in flight, whether the worker drains, gauges, and the state of the journal and of upstream. The
    dashboard and `/metrics` show it.
    """
    keyring.log_silence()  # here, since a thread that waits for the database cannot say so
    gauges = {
        "keyring_age_seconds": keyring.age,
        "redis_away_seconds": limiter.away_seconds,
        "stranger_bytes": stranger_budget.bytes_in_use,
        "budgets_failing": float(bool(reservations.fault)),
        **pool_gauges(),
    }
    return build_report(in_flight=capacity.in_flight, draining=capacity.draining, gauges=gauges)
