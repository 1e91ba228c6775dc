"""Owns what goes wrong: a function for each fault, which does it and puts everything back.

Each runs in a thread beside the callers, often in the full run and as little as it takes in the short one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.damage import flip_bytes
from tests.chaos.lab import RESERVE_BYTES, WORKERS, Lab
from tests.chaos.processes import open_journals, wait_for

BOOT = 30.0  # seconds, for a worker to take its predecessor's place
LONGEST_STOP = 45.0  # 20 s for the shipper; calls in flight, and a slow machine


@dataclass(frozen=True)
class Fault:
    """`happen` may return a remark. `unnoticed`: no caller may see anything of it."""

    name: str
    happen: Callable[[Lab, bool], str | None]
    unnoticed: bool = False
    full_only: bool = False


def workers_killed(lab: Lab, short: bool) -> None:
    """A random worker, at a random moment of its life: also while it boots, adopts and ships."""
    for _ in range(3 if short else 30):
        time.sleep(random.uniform(0.05, 1.5))
        if workers := lab.server.workers:
            lab.kill_worker(random.choice(workers))
    wait_until_manned(lab)


def master_killed(lab: Lab, short: bool) -> None:
    """Its workers must finish their calls and go, and leave the port to the next master."""
    for _ in range(1 if short else 3):
        lab.server.kill_master()
        lab.server.start()
        wait_until_manned(lab)
        time.sleep(1)
    lab.server.wait_for_orphans()


def master_and_workers_killed(lab: Lab, short: bool) -> None:
    """As a machine's out-of-memory killer may do it. The next start finds everything dead."""
    for _ in range(1 if short else 3):
        workers = lab.server.workers
        lab.server.kill_master()
        for pid in workers:
            lab.kill_worker(pid)
        lab.server.start()
        wait_until_manned(lab)
        time.sleep(1)


def database_stopped(lab: Lab, short: bool) -> None:
    lab.postgres.stop()
    time.sleep(5 if short else 60)
    lab.postgres.start()
    time.sleep(1)


def database_killed(lab: Lab, short: bool) -> None:
    """Again and again, while it commits what has waited."""
    for _ in range(2 if short else 8):
        time.sleep(random.uniform(0.2, 1.0))
        lab.postgres.kill()
        time.sleep(0.5)
        lab.postgres.start()


def database_restarted(lab: Lab, short: bool) -> None:
    """With the pool's connections open: each of them fails once."""
    for _ in range(1 if short else 5):
        lab.postgres.stop()
        lab.postgres.start()
        time.sleep(1)


def database_frozen(lab: Lab, short: bool) -> None:
    """It takes connections and answers nothing."""
    for _ in range(1 if short else 2):
        lab.postgres.freeze()
        time.sleep(3 if short else 15)
        lab.postgres.thaw()
        time.sleep(1)


def stopped_while_frozen(lab: Lab, short: bool) -> str:
    """A stop ends in spite of a database that hangs; what it could not ship, the next start ships."""
    lab.postgres.freeze()
    time.sleep(2)
    seconds = lab.server.stop()
    lab.postgres.thaw()
    lab.server.start()
    wait_until_manned(lab)
    assert seconds < LONGEST_STOP, f"the server took {seconds:.0f} s to stop while its database hung"
    return f"the stop took {seconds:.0f} s"


def restarted(lab: Lab, short: bool) -> None:
    """A polite restart: no call that was taken is cut."""
    lab.server.stop()
    lab.server.start()
    wait_until_manned(lab)


def adopters_killed(lab: Lab, short: bool) -> str:
    """A worker dies while it holds a dead one's journal; after an outage that takes long enough to be caught at it."""
    times = 1 if short else 4
    caught = 0
    for _ in range(times):
        lab.postgres.stop()
        time.sleep(1)
        lab.kill_worker(random.choice(lab.server.workers))
        wait_until_manned(lab)
        lab.postgres.start()
        with suppress(TimeoutError, StopIteration):  # it was too quick for us
            wait_for(lambda: any(map(adopts, lab.server.workers)), 8)
            time.sleep(random.uniform(0, 0.03))
            lab.kill_worker(next(filter(adopts, lab.server.workers)))
            caught += 1
        wait_until_manned(lab)
    return f"{caught} of {times} were caught at it"


def disk_full(lab: Lab, short: bool) -> None:
    """At first the reserve is touched, which calls in flight may use; then not a byte is left, and they may not."""
    for left in (RESERVE_BYTES // 2, 0) * (1 if short else 3):
        ballast = fill(lab.journal, left)
        time.sleep(1.2 if short else 2)  # the journal looks once a second
        ballast.unlink()
        time.sleep(1.2 if short else 2)


def disk_full_without_database(lab: Lab, short: bool) -> None:
    """The journal cannot shrink: nothing of it may go."""
    lab.postgres.stop()
    time.sleep(2)
    ballast = fill(lab.journal, 0)
    time.sleep(3)
    ballast.unlink()
    time.sleep(1)
    lab.postgres.start()


def bytes_flipped(lab: Lab, short: bool) -> None:
    """In the journal of a worker that has just died, and that is full of what PostgreSQL could not take."""
    for _ in range(1 if short else 3):
        lab.postgres.stop()
        time.sleep(2 if short else 4)
        pid = lab.server.workers[0]
        journals = open_journals(pid, ".journal")
        lab.kill_worker(pid)
        for path in journals:
            lab.damaged.update(flip_bytes(path, records=8))
        wait_until_manned(lab)
        lab.postgres.start()
        time.sleep(1)


FAULTS = (
    Fault("workers killed", workers_killed),
    Fault("database stopped", database_stopped, unnoticed=True),
    Fault("database killed", database_killed, unnoticed=True),
    Fault("database restarted", database_restarted, unnoticed=True),
    Fault("database frozen", database_frozen, unnoticed=True),
    Fault("bytes flipped", bytes_flipped),
    Fault("adopters killed", adopters_killed),
    Fault("disk full", disk_full),
    Fault("disk full, no database", disk_full_without_database, full_only=True),
    Fault("master killed", master_killed),
    Fault("all killed", master_and_workers_killed, full_only=True),
    Fault("stopped while frozen", stopped_while_frozen, full_only=True),
    Fault("restarted", restarted, full_only=True),
)
ON_A_SMALL_DISK = {disk_full, disk_full_without_database}


def adopts(pid: int) -> bool:
    """Whether the process holds a lock besides its own journal's."""
    return len(open_journals(pid, ".lock")) > 1


def fill(directory: Path, left: int) -> Path:
    """A file that leaves so many bytes on the file system. Its name is no journal's."""
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        while True:
            disk = os.statvfs(directory)
            with suppress(OSError):  # the journal was quicker
                os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - left)
                return ballast


def wait_until_manned(lab: Lab) -> None:
    """Every worker is there and has its journal open."""
    wait_for(
        lambda: len([pid for pid in lab.server.workers if open_journals(pid, ".journal")]) == WORKERS,
        BOOT,
        f"{WORKERS} workers; the log ends with\n{lab.server.log.read_text(errors='replace')[-2000:]}",
    )
