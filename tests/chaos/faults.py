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

from chatproxy.processes.shipper_watch import LONGEST_PAUSE
from tests.chaos.damage import flip_bytes
from tests.chaos.lab import RESERVE_BYTES, WORKERS, Lab
from tests.chaos.processes import kill, open_journals, wait_for

BOOT = 30.0  # seconds, for a worker to take its predecessor's place
LONGEST_STOP = 45.0  # 20 s for the shipper; calls in flight, and a slow machine


@dataclass(frozen=True)
class Fault:
    """One fault that a run of chaos causes.

    `happen` causes the fault and puts everything back; it may return a remark for the report. `unnoticed`: no caller
    may notice the fault. `full_only`: a short run leaves the fault out.
    """

    name: str
    happen: Callable[[Lab, bool], str | None]
    unnoticed: bool = False
    full_only: bool = False


def workers_killed(lab: Lab, short: bool) -> None:
    """Kills random workers at random moments of their lives, also while they start."""
    for _ in range(3 if short else 30):
        time.sleep(random.uniform(0.05, 1.5))
        if workers := lab.server.workers:
            lab.kill_worker(random.choice(workers))
    wait_until_manned(lab)


def master_killed(lab: Lab, short: bool) -> None:
    """Kills the master, and starts the server again.

    The workers of the killed master must finish their calls, exit, and leave the port to the next master.
    """
    for _ in range(1 if short else 3):
        lab.server.kill_master()
        lab.server.start()
        wait_until_manned(lab)
        time.sleep(1)
    lab.server.wait_for_orphans()


def master_and_workers_killed(lab: Lab, short: bool) -> None:
    """Kills all processes of the server, as a system that is out of memory may do it, and starts the server again.

    The new processes find only journals of dead workers.
    """
    for _ in range(1 if short else 3):
        workers, shippers = lab.server.workers, lab.server.shippers
        lab.server.kill_master()
        for pid in workers:
            lab.kill_worker(pid)
        kill(*shippers)
        lab.server.start()
        wait_until_manned(lab)
        time.sleep(1)


def database_stopped(lab: Lab, short: bool) -> None:
    lab.postgres.stop()
    time.sleep(5 if short else 60)
    lab.postgres.start()
    time.sleep(1)


def database_killed(lab: Lab, short: bool) -> None:
    """Kills PostgreSQL again and again, while it commits the calls that have waited for it."""
    for _ in range(2 if short else 8):
        time.sleep(random.uniform(0.2, 1.0))
        lab.postgres.kill()
        time.sleep(0.5)
        lab.postgres.start()


def database_restarted(lab: Lab, short: bool) -> None:
    """Restarts PostgreSQL while the pool has connections open, each of which then fails once."""
    for _ in range(1 if short else 5):
        lab.postgres.stop()
        lab.postgres.start()
        time.sleep(1)


def database_frozen(lab: Lab, short: bool) -> None:
    """Freezes PostgreSQL for a while: connections to it are accepted, but get no answer."""
    for _ in range(1 if short else 2):
        lab.postgres.freeze()
        time.sleep(3 if short else 15)
        lab.postgres.thaw()
        time.sleep(1)


def stopped_while_frozen(lab: Lab, short: bool) -> str:
    """Stops the server while PostgreSQL hangs; the stop must end nevertheless.

    What the server could not ship, the next start ships. Returns how long the stop took, for the report.
    """
    lab.postgres.freeze()
    time.sleep(2)
    seconds = lab.server.stop()
    lab.postgres.thaw()
    lab.server.start()
    wait_until_manned(lab)
    assert seconds < LONGEST_STOP, f"the server took {seconds:.0f} s to stop while its database hung"
    return f"the stop took {seconds:.0f} s"


def restarted(lab: Lab, short: bool) -> None:
    """Stops the server by SIGTERM and starts it again; no call that it has accepted may be cut."""
    lab.server.stop()
    lab.server.start()
    wait_until_manned(lab)


def shipper_killed(lab: Lab, short: bool) -> None:
    """Kills the shipper at random moments of its life, also while it starts or is in the middle of a transaction."""
    for _ in range(2 if short else 12):
        time.sleep(random.uniform(0.05, 2.0))  # waits for nothing: the moment is the fault
        kill(*lab.server.shippers)
    wait_until_shipping(lab)


def shipper_and_others_killed(lab: Lab, short: bool) -> None:
    """Kills the shipper together with a worker, with PostgreSQL, and with the master."""
    for _ in range(1 if short else 3):
        wait_until_shipping(lab)
        kill(*lab.server.shippers)
        lab.kill_worker(random.choice(lab.server.workers))
        wait_until_manned(lab)
        wait_until_shipping(lab)
        lab.postgres.kill()
        kill(*lab.server.shippers)
        lab.postgres.start()
        wait_until_shipping(lab)
        shippers = lab.server.shippers
        lab.server.kill_master()
        kill(*shippers)
        lab.server.start()
        wait_until_manned(lab)


def adopter_killed(lab: Lab, short: bool) -> str:
    """Kills the shipper while it holds the journal of a dead worker.

    PostgreSQL is stopped before, so that shipping that journal takes long enough. Returns how often the shipper was
    caught at it, for the report.
    """
    times = 1 if short else 4
    caught = 0
    for _ in range(times):
        lab.postgres.stop()
        time.sleep(1)
        lab.kill_worker(random.choice(lab.server.workers))
        wait_until_manned(lab)
        lab.postgres.start()
        with suppress(TimeoutError, StopIteration):  # it was too quick for us
            wait_for(lambda: any(map(adopts, lab.server.shippers)), 8)
            time.sleep(random.uniform(0, 0.03))
            kill(next(filter(adopts, lab.server.shippers)))
            caught += 1
        wait_until_shipping(lab)
    return f"{caught} of {times} were caught at it"


def disk_full(lab: Lab, short: bool) -> None:
    """Fills the journal's disk, first partly and then completely.

    At first half of the reserve is still free, which calls in flight may use; then no byte is, not even for them.
    """
    for left in (RESERVE_BYTES // 2, 0) * (1 if short else 3):
        ballast = fill(lab.journal, left)
        time.sleep(1.2 if short else 2)  # the journal looks once a second
        ballast.unlink()
        time.sleep(1.2 if short else 2)


def disk_full_without_database(lab: Lab, short: bool) -> None:
    """Fills the journal's disk while PostgreSQL is stopped, so that nothing can be removed from the journal."""
    lab.postgres.stop()
    time.sleep(2)
    ballast = fill(lab.journal, 0)
    time.sleep(3)
    ballast.unlink()
    time.sleep(1)
    lab.postgres.start()


def bytes_flipped(lab: Lab, short: bool) -> None:
    """Changes bytes in the journal of a worker that was killed while PostgreSQL was stopped.

    So the journal is full of records that could not be shipped.
    """
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
    Fault("shipper killed", shipper_killed, unnoticed=True),
    Fault("adopter killed", adopter_killed),
    Fault("shipper and others", shipper_and_others_killed),
    Fault("disk full", disk_full),
    Fault("disk full, no database", disk_full_without_database, full_only=True),
    Fault("master killed", master_killed),
    Fault("all killed", master_and_workers_killed, full_only=True),
    Fault("stopped while frozen", stopped_while_frozen, full_only=True),
    Fault("restarted", restarted, full_only=True),
)
ON_A_SMALL_DISK = {disk_full, disk_full_without_database}


def adopts(pid: int) -> bool:
    """Returns whether a shipper has the lock of a journal open."""
    return bool(open_journals(pid, ".lock"))


def fill(directory: Path, left: int) -> Path:
    """Fills the file system of a directory with a file until `left` bytes are free; returns the file.

    The file has no name of a journal, so that the server does not take it for one.
    """
    ballast = directory / "ballast"
    with ballast.open("wb") as file:
        while True:
            disk = os.statvfs(directory)
            with suppress(OSError):  # the journal was quicker
                os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - left)
                return ballast


def wait_until_manned(lab: Lab) -> None:
    """Waits until all workers run and have their journals open."""
    wait_for(
        lambda: len([pid for pid in lab.server.workers if open_journals(pid, ".journal")]) == WORKERS,
        BOOT,
        f"{WORKERS} workers; the log ends with\n{lab.server.log.read_text(errors='replace')[-2000:]}",
    )


def wait_until_shipping(lab: Lab) -> None:
    """Waits until there is a shipper; the master starts one again later, the more often it was killed."""
    wait_for(lambda: lab.server.shippers, BOOT + LONGEST_PAUSE, "a shipper")
