"""How long the shippers of many hosts wait for each other in one PostgreSQL: `python -m bench.ledger.writers`.

Each of the writers, a process, writes a batch of rows each second, as the shipper of a host does, at moments that are
spread over the second. All of them add to the same sums, so from there to its commit each transaction keeps the others
waiting. PostgreSQL is the bundled one, in a temporary directory that is removed afterwards.

The last column is how long a batch waited for the locks of others: from samples of `pg_stat_activity`, the mean number
of waiting connections divided by the batches per second (Little's law).
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from bench.ledger.shipper import assert_whole, cpu_of_tree, records, set_up
from bench.stand.streams import quantile
from chatproxy.postgres.bundled import BundledPostgres

SAMPLE_SECONDS = 0.02
HEAD_START_SECONDS = 2.0  # in which all writers connect
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


class Waits(NamedTuple):
    """The work of some writers together: rows and batches a second, the seconds that a batch took, and it waited.

    `postgres_cpu` is how many seconds of CPU PostgreSQL has used per second.
    """

    writers: int
    rows: float
    batches: float
    median: float
    p95: float
    longest: float
    postgres_cpu: float
    waited: float


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ledger.writers", description=__doc__.partition("\n")[0])
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 10, 40])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=25, help="rows in a batch")
    parser.add_argument("--every", type=float, default=1.0, help="seconds from batch to batch of a writer; 0: no pause")
    arguments = parser.parse_args()
    titles = {"writers": 8, "rows/s": 8, "batches/s": 10, "median": 9, "p95": 9, "longest": 9, "PG CPU": 8, "waited": 9}
    print("".join(f"{title:>{width}}" for title, width in titles.items()))
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        for waits in run(Path(name), arguments.writers, arguments.seconds, arguments.rows, arguments.every):
            times = "".join(f"{1000 * value:>6.0f} ms" for value in (waits.median, waits.p95, waits.longest))
            print(
                f"{waits.writers:>8}{waits.rows:>8,.0f}{waits.batches:>10,.1f}{times}{waits.postgres_cpu:>8.2f}"
                f"{1000 * waits.waited:>6.1f} ms",
                flush=True,
            )


def run(directory: Path, numbers: list[int], seconds: int, rows: int, every: float) -> list[Waits]:
    """Measures the waits of each number of writers in turn, in a new PostgreSQL, and checks that nothing was lost."""
    postgres = BundledPostgres(directory)
    postgres.start()
    try:
        set_up(directory, postgres.url)
        _close_pool()
        server = int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])
        found = [measure(postgres.url, server, number, seconds, rows, every) for number in numbers]
        assert_whole(sum(round(waits.rows * seconds) for waits in found))
        return found
    finally:
        postgres.stop()
        postgres.delete()


def measure(url: str, server: int, writers: int, seconds: int, rows: int, every: float) -> Waits:
    """Lets some writers write for some seconds, and returns how long their batches took."""
    context = multiprocessing.get_context("fork")  # Django is loaded already, and the children share its memory
    queue: SimpleQueue[list[float]] = context.SimpleQueue()
    start = time.monotonic() + HEAD_START_SECONDS
    processes = [
        context.Process(target=_write, args=(queue, number, start + every * number / writers, seconds, rows, every))
        for number in range(writers)
    ]
    for process in processes:
        process.start()
    samples: list[int] = []
    with psycopg.connect(url, autocommit=True) as watching:
        time.sleep(max(0.0, start - time.monotonic()))
        cpu = cpu_of_tree(server)
        while time.monotonic() < start + seconds:
            [(waiting,)] = watching.execute(WAITING).fetchall()
            samples.append(waiting)
            time.sleep(SAMPLE_SECONDS)
        cpu = cpu_of_tree(server) - cpu
    times = [seconds for _ in processes for seconds in queue.get()]
    for process in processes:
        process.join()
    batches = len(times) / seconds
    return Waits(
        writers, rows * batches, batches, statistics.median(times), quantile(times, 0.95), max(times), cpu / seconds,
        statistics.mean(samples) / batches,
    )  # fmt: skip


def _write(queue: SimpleQueue[list[float]], number: int, start: float, seconds: int, rows: int, every: float) -> None:
    """Runs as one writer: writes batches for some seconds, and puts the seconds that each has taken into the queue."""
    from usage.journal_shipping.rows import write_rows
    from usage.money.row_pricing import Pricer

    chance, pricer = random.Random(number), Pricer()
    pricer.refresh()
    times: list[float] = []
    due = start
    while due < start + seconds:
        time.sleep(max(0.0, due - time.monotonic()))
        batch = [_row(chance) for _ in range(rows)]
        began = time.perf_counter()
        write_rows(pricer.priced(batch))
        times.append(time.perf_counter() - began)
        due = due + every if every else time.monotonic()
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
    connections["default"].close_pool()  # type: ignore[attr-defined]  # PostgreSQL's


if __name__ == "__main__":
    main()
