"""How far the journals of this host have been shipped, from the shipper's report and the journals' files.

It needs neither the database nor a running shipper. If no shipper runs, all bytes in the journals count as waiting, and
the time of the shipper's lock file shows up to when everything was shipped.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from usage.ids import started_at
from usage.journal import segments
from usage.live.worker_files import WorkerReport, read_shipper_report

NOT_RUNNING = "not running"


class BudgetUse(NamedTuple):
    """The part of a budget that is spent or reserved; 1.0 stands for all of it. `span` is `day`, `month` or `total`."""

    name: str  # of the key or team
    span: str
    part: float
    kind: str = "key"  # or `team`; older versions report keys only


@dataclass(frozen=True)
class ShippingState:
    """The state of copying this host's journals to the database: how far it lags behind, and any present error.

    `database_fault` describes an error of the database. `shipper_fault` names any other error of the shipper (the
    process that copies), or is `NOT_RUNNING`. Both are empty if there is no error.
    """

    waiting_bytes: int  # of records that are not in the tables yet
    lag_seconds: float  # for which the oldest of them has waited, at most
    database_fault: str
    shipper_fault: str
    clock_difference: float | None = None  # seconds by which this machine's clock is ahead of the database's
    budgets: tuple[BudgetUse, ...] = ()  # the fullest ones

    @classmethod
    def read(cls) -> ShippingState:
        """Returns the present state of copying this host's journals to the database, as the shipper has reported it."""
        return cls.of(read_shipper_report())

    @classmethod
    def of(cls, report: WorkerReport | None) -> ShippingState:
        """Makes the state of copying journals to the database from the shipper's report and the sizes of the journals.

        `report` is None if no shipper (the process that copies) runs; then the state of the database is not known.
        """
        if report is None:
            report = {"shipper": NOT_RUNNING, "shipped_until": _last_shipped()}
        shipped, until = report.get("shipped_bytes"), report.get("shipped_until")
        difference, budgets = report.get("clock_difference"), report.get("budgets")
        waiting = segments.waiting_bytes(_journal(), shipped if isinstance(shipped, dict) else {})
        is_late = waiting > 0 and isinstance(until, int | float)
        return cls(
            waiting_bytes=waiting,
            lag_seconds=max(0.0, time.time() - float(str(until))) if is_late else 0.0,
            database_fault=str(report.get("database", "")),
            shipper_fault=str(report.get("shipper", "")),
            clock_difference=difference if isinstance(difference, float) else None,
            budgets=tuple(BudgetUse(*use) for use in budgets) if isinstance(budgets, list) else (),
        )


def report_shipping(
    lock: int,
    *,
    shipped_bytes: Mapping[str, int],
    complete_at: float,
    database_fault: str,
    shipper_fault: str,
    clock_difference: float | None = None,
    budgets: Sequence[BudgetUse] = (),
) -> WorkerReport:
    """Returns the shipper's report on its work, from which other processes make their `ShippingState`.

    The shipper is the process that copies this host's journals to the database. It has copied all records written
    before `complete_at`, in seconds of `time.monotonic()`. Also sets the modification time of the shipper's lock file,
    whose descriptor is `lock`, to this time: it can then be read even after the shipper has died.
    """
    until = unix_time(complete_at)
    # The lock file keeps this time after the shipper's death.
    os.utime(lock, (until, until))
    return {
        "shipped_bytes": shipped_bytes,
        "shipped_until": until,
        "database": database_fault,
        "shipper": shipper_fault,
        "clock_difference": clock_difference,
        "budgets": [list(use) for use in budgets],
    }


def shipper_lock() -> Path:
    """Returns the path of the lock file that lets only one shipper run on a host.

    The shipper is the process that copies journals to the database.
    """
    return Path(settings.DATA_DIR) / "shipper.lock"


@contextmanager
def no_shipper_runs() -> Iterator[bool]:
    """Context manager that keeps this host's shipper from starting while the block runs.

    The shipper is the process that copies journals to the database. Yields True normally. Yields False if a shipper
    runs already; that one goes on.
    """
    with shipper_lock().open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def unix_time(moment: float) -> float:
    """Converts a moment of `time.monotonic()` to Unix time, by the present clock."""
    # Converted anew for each report: so the times stay right when the clock is set.
    return time.time() - (time.monotonic() - moment)


def _journal() -> Path:
    return Path(settings.DATA_DIR) / "journal"


def _last_shipped() -> float | None:
    """Returns the Unix time before which all of this host's journal records have been copied to the database.

    It is stored as the modification time of the lock file of the shipper, the process that copies. If no shipper has
    ever run, returns the time at which the oldest journal began, or None if there is no journal.
    """
    try:
        return shipper_lock().stat().st_mtime
    except OSError:
        first = next(iter(segments.writers(_journal())), None)
        return None if first is None else started_at(first).timestamp()
