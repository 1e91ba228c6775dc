"""Measures how long shippers of many hosts wait for each other in one PostgreSQL: `python -m bench.ledger.writers`.

Each writer is a process that writes a batch of rows each second, like the shipper of a host, at moments that are spread
over the second. All of them add to the same sums, so from that point until its commit, each transaction makes the
others wait for their turn. PostgreSQL is the bundled one, in a temporary directory that is removed afterwards.

The last column is how long a batch waited for the locks of others: from samples of `pg_stat_activity`, the mean number
of waiting connections divided by the batches per second (Little's law). Behind it stands what they waited for, in
percent of all waits: their turn, the rows of a table, or the end of a transaction that has changed a row.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench.ledger.shipper import assert_whole, cpu_of_tree, records, set_up
from bench.stand.streams import quantile
from chatproxy.postgres.bundled import BundledPostgres

SAMPLE_SECONDS = 0.02
# What connections wait for: the rows of a table; their turn to add to the sums (`TAKE_TURN`); or another lock, such as
# `transactionid`, the end of the transaction that has changed a row, whose table PostgreSQL does not tell then.
WAITING = """
    SELECT COALESCE((SELECT max(relation::regclass::text) FROM pg_locks AS lock
                     WHERE lock.pid = activity.pid AND locktype = 'tuple'),
                    CASE wait_event WHEN 'advisory' THEN 'turn' ELSE wait_event END)
    FROM pg_stat_activity AS activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


class Waits(NamedTuple):
    """The work of several writers together: rows and batches per second, and the seconds that a batch took and waited.

    `calls` are all rows that were written, `postgres_cpu` the seconds of CPU that PostgreSQL has used per second.
    `tables` says how often a batch was seen to wait for its turn, or for a lock in each table.
    """

    writers: int
    calls: int
    rows: float
    batches: float
    median: float
    p95: float
    longest: float
    postgres_cpu: float
    waited: float
    tables: Counter[str]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.writers", description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 10, 40])
    parser.add_argument("--batches", type=int, default=20, help="batches of each writer")
    parser.add_argument("--rows", type=int, default=25, help="rows in a batch")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from batch to batch of a writer; 0: no pause")
    arguments = parser.parse_args()
    titles = {"writers": 8, "rows/s": 8, "batches/s": 10, "median": 9, "p95": 9, "longest": 9, "PG CPU": 8, "waited": 9}
    print("".join(f"{title:>{width}}" for title, width in titles.items()))
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        for waits in run(Path(name), arguments.writers, arguments.batches, arguments.rows, arguments.every):
            times = "".join(f"{1000 * value:>6.0f} ms" for value in (waits.median, waits.p95, waits.longest))
            tables = (f"{name} {seen / waits.tables.total():.0%}" for name, seen in waits.tables.most_common(4))
            print(
                f"{waits.writers:>8}{waits.rows:>8,.0f}{waits.batches:>10,.1f}{times}{waits.postgres_cpu:>8.2f}"
                f"{1000 * waits.waited:>6.1f} ms  {', '.join(tables)}",
                flush=True,
            )


def run(directory: Path, numbers: list[int], batches: int, rows: int, every: float) -> list[Waits]:
    """Measures the waits of each number of writers in turn, in a new PostgreSQL, and checks that nothing was lost."""
    postgres = BundledPostgres(directory)
    postgres.start()
    try:
        set_up(directory, postgres.url)
        _close_pool()
        server = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
        found = [measure(postgres.url, server, number, batches, rows, every) for number in numbers]
        assert_whole(sum(waits.calls for waits in found))
        return found
    finally:
        postgres.stop()
        postgres.delete()


def measure(url: str, server: int, writers: int, batches: int, rows: int, every: float) -> Waits:
    """Runs several writers at the same time; returns how long the batches took that they have written.

    Each of `writers` processes writes `batches` batches of `rows` rows, one every `every` seconds.
    """
    context = multiprocessing.get_context("fork")  # Django is loaded already, and the children share its memory
    queue: SimpleQueue[list[float]] = context.SimpleQueue()
    are_ready = context.Barrier(writers + 1)
    processes = [
        context.Process(target=_write, args=(queue, are_ready, every * number / writers, batches, rows, every))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    times: list[list[float]] = []
    samples: list[int] = []
    tables = Counter[str]()
    with psycopg.connect(url, autocommit=True) as watching:
        are_ready.wait()
        start, cpu = time.monotonic(), cpu_of_tree(server)
        while len(times) < writers:
            waiting = [table for (table,) in watching.execute(WAITING)]
            samples.append(len(waiting))
            tables.update(waiting)
            time.sleep(SAMPLE_SECONDS)  # the distance of two samples, which no event ends
            has_ended = not any(process.is_alive() for process in processes)
            while not queue.empty():
                times.append(queue.get())
            if has_ended and len(times) < writers:
                raise SystemExit("a writer has failed")
        seconds, cpu = time.monotonic() - start, cpu_of_tree(server) - cpu
    for process in processes:
        process.join()
    taken = [one for each in times for one in each]
    pace = len(taken) / seconds
    return Waits(
        writers, len(taken) * rows, rows * pace, pace, statistics.median(taken), quantile(taken, 0.95), max(taken),
        cpu / seconds, statistics.mean(samples) / pace, tables,
    )  # fmt: skip


def _write(
    queue: SimpleQueue[list[float]], are_ready: Barrier, late: float, batches: int, rows: int, every: float
) -> None:
    """Runs as one writer: writes batches, the first one `late` seconds after all writers are ready.

    Puts the seconds that each batch has taken into the queue.
    """
    from usage.journal_shipping.rows import write_rows
    from usage.money.row_pricing import Pricer

    chance, pricer = random.Random(late), Pricer()
    pricer.refresh()
    times: list[float] = []
    are_ready.wait()
    due = time.monotonic() + late
    for _ in range(batches):
        time.sleep(max(0.0, due - time.monotonic()))  # a batch is due each second, like a shipper's
        batch = [_row(chance) for _ in range(rows)]
        began = time.perf_counter()
        write_rows(pricer.priced(batch))
        times.append(time.perf_counter() - began)
        due += every
    queue.put(times)


def _row(chance: random.Random) -> Any:
    """Makes the row of a call that begins now, as a shipper reads it from a journal."""
    from uuid_utils import uuid7

    _, row = records(str(uuid7()), datetime.now(UTC), chance)
    return {**row, "started_at": row["started_at"].isoformat()}


def _close_pool() -> None:
    """Closes this process's connections, so that no child inherits one."""
    from django.db import connections

    connections.close_all()
    connections["default"].close_pool()  # type: ignore[attr-defined]  # the PostgreSQL backend's


if __name__ == "__main__":
    main()
