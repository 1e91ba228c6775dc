"""Owns forgetting: rows and bodies past their time go, in small batches; sums stay for ever. Orphaned holds go too.

A request id is a UUIDv7, so "older than" is a range of the primary key and needs no other index.

A wrong clock must not delete the ledger:

* All times are the database's, and nothing goes while this machine's clock is minutes away from it.
* Of a database whose own clock is wrong, one prune takes `FEW_DAYS` of calls at most, counted from where the last one
  stopped. Whoever wants more to go at once says so (`ledger prune --yes`).
* Marks in the future, which a wrong clock left, are ignored.
* Calls that are older than what had been pruned before they came have ids of a wrong clock, and stay.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import Error, connection, connections, transaction

from usage.database.clock import ClocksDiffer, check_clocks, database_now
from usage.database.lock import try_lock
from usage.ids import first_id
from usage.models import LedgerState, Span, UsageTotal
from usage.money.holds import drop_orphans

logger = logging.getLogger(__name__)

BATCH_SIZE = 2000
PAUSE_SECONDS = 0.05
FIRST_SECONDS, HOUR_SECONDS = 60.0, 3600.0
STOP_SECONDS = 2.0
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FEW_DAYS = timedelta(days=3)
MINUTES_KEPT = timedelta(days=3)  # the totals of minutes, which only the dashboard's shortest times need
FIRST_CALL = datetime(2020, 1, 1, tzinfo=UTC)  # the API is younger; an older id is of a wrong clock
LOCK = 0x7072756E  # any number that all our processes share


class Pruned(NamedTuple):
    """How many rows and bodies went. `is_more_due`: what is past its time is more than may go at once."""

    rows: int
    bodies: int
    is_more_due: bool


class Cut(NamedTuple):
    """What goes of a table: ids from `since` (None: from the first) to `until`; `wanted` is where their time ends."""

    table: str
    since: datetime | None
    until: datetime
    wanted: datetime

    @property
    def leaves_more(self) -> bool:
        """Whether there are still ids before `wanted`."""
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {self.table} WHERE request_id < %s)", [first_id(self.wanted)])
            [(found,)] = cursor.fetchall()
        return bool(found)


def prune(now: datetime | None = None, stopping: threading.Event | None = None, *, all_at_once: bool = False) -> Pruned:
    """Deletes what is older than RETENTION_DAYS and BODY_RETENTION_DAYS (0: for ever), until `stopping` is set.

    At most `FEW_DAYS` of calls go, unless `all_at_once`. `now` is the database's time if it is not given.

    Raises:
        ClocksDiffer: this machine's clock is not the database's; only if `now` is not given.
    """
    now = now or check_clocks()
    stopping = stopping or threading.Event()
    state = LedgerState.load()
    bodies = rows = 0
    is_more_due = False
    last = state.pruned_at if state.pruned_at and state.pruned_at <= now and not all_at_once else now
    UsageTotal.objects.filter(span=Span.MINUTE, start__lt=min(now, last + FEW_DAYS) - MINUTES_KEPT).delete()
    if settings.BODY_RETENTION_DAYS:
        wanted = now - timedelta(days=settings.BODY_RETENTION_DAYS)
        mark = _believed(state.bodies_pruned_before, now)
        cut = _cut("usage_requestbody", wanted, mark, all_at_once=all_at_once)
        state.bodies_pruned_before = max(mark or cut.until, cut.until)
        state.save(update_fields=["bodies_pruned_before"])
        bodies = _delete(cut, stopping)
        is_more_due = cut.leaves_more
    if settings.RETENTION_DAYS:
        wanted = now - timedelta(days=settings.RETENTION_DAYS)
        mark = _believed(state.pruned_before, now)
        cut = _cut("usage_request", wanted, mark and mark - DAY, all_at_once=all_at_once)
        # Sums of an hour or a day that is partly pruned can no longer be compared with their rows.
        comparable = cut.until
        if state.pruned_before and mark is None:  # the clock that left this mark has pruned up to the first row
            comparable = max(comparable, _oldest("usage_request") or comparable)
        state.pruned_before = max(mark or comparable + DAY, comparable + DAY)
        state.save(update_fields=["pruned_before"])
        bodies += _delete(cut._replace(table="usage_requestbody"), stopping)
        _delete(cut._replace(table="usage_countedresponse"), stopping)
        _delete(cut._replace(table="usage_storedobject"), stopping, condition="NOT lasts")
        rows = _delete(cut, stopping)
        is_more_due = is_more_due or cut.leaves_more
    return Pruned(rows, bodies, is_more_due)


def comparable_since() -> datetime | None:
    """From when on sums can be compared with rows; None: from the first. Before it, rows may have been pruned."""
    mark = LedgerState.load().pruned_before
    if mark is None or _believed(mark, database_now()):
        return mark
    oldest = _oldest("usage_request")
    return oldest + DAY if oldest else mark


def hours_with_pruned_calls(hours: Collection[datetime]) -> set[datetime]:
    """Which of these hours have counted more calls than there are rows: sums stay when rows are pruned."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT sums.hour FROM usage_usagehour AS sums
            JOIN unnest(%s::timestamptz[], %s::uuid[], %s::uuid[]) AS wanted (hour, first_id, end_id) USING (hour)
            GROUP BY sums.hour, first_id, end_id
            HAVING sum(calls) >
                (SELECT count(*) FROM usage_request
                 WHERE request_id >= first_id AND request_id < end_id AND NOT by_gateway)
            """,
            [list(hours), [first_id(hour) for hour in hours], [first_id(hour + HOUR) for hour in hours]],
        )
        return {hour for (hour,) in cursor.fetchall()}


def pruned_ids_end() -> UUID | None:
    """The id below which rows have been pruned; None: none have. Sums have counted them, and keep them."""
    state = LedgerState.objects.filter(pk=1).first()  # a look makes no row
    mark = _believed(state.pruned_before, database_now()) if state else None
    return first_id(mark - DAY) if mark else None


def _believed(mark: datetime | None, now: datetime) -> datetime | None:
    """The mark, unless it lies in the future: then a wrong clock has left it."""
    return mark if mark and mark <= now else None


def _cut(table: str, wanted: datetime, mark: datetime | None, *, all_at_once: bool) -> Cut:
    """What may go of `table` at once. `mark` is where the last prune stopped; None: there was none."""
    if all_at_once:
        return Cut(table, None, wanted, wanted)
    begin = mark or _oldest(table) or wanted
    return Cut(table, begin - FEW_DAYS, min(wanted, begin + FEW_DAYS), wanted)


def _oldest(table: str) -> datetime | None:
    """When the first call began that has a row in `table`; ids of clocks that were years behind do not count."""
    with connection.cursor() as cursor:
        query = f"SELECT request_id FROM {table} WHERE request_id >= %s ORDER BY request_id LIMIT 1"
        cursor.execute(query, [first_id(FIRST_CALL)])
        found: tuple[UUID] | None = cursor.fetchone()
    return datetime.fromtimestamp((found[0].int >> 80) / 1000, UTC) if found else None


def _delete(cut: Cut, stopping: threading.Event, *, condition: str = "true") -> int:
    total = 0
    since = first_id(cut.since) if cut.since else UUID(int=0)
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {cut.table} WHERE request_id IN"
                f" (SELECT request_id FROM {cut.table} WHERE request_id >= %s AND request_id < %s AND {condition}"
                f" ORDER BY request_id LIMIT {BATCH_SIZE}) AND {condition} RETURNING request_id",
                [since, first_id(cut.until)],
            )
            gone = [request_id for (request_id,) in cursor.fetchall()]
        total += len(gone)
        if len(gone) < BATCH_SIZE or stopping.wait(PAUSE_SECONDS):
            return total
        since = max(gone)  # so that no batch walks over the dead entries of those before it


class DailyPruning:
    """A thread that prunes once a day, in one of all processes: whoever has the lock."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns in seconds: what is being deleted rolls back, and a database that hangs holds nobody up."""
        self._stopping.set()
        self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        """The first time is soon: a server that never runs for an hour prunes, too."""
        pause = FIRST_SECONDS
        while not self._stopping.wait(pause):
            pause = HOUR_SECONDS
            try:
                self._prune()
            except Exception:  # the border: without this thread nothing would be pruned until the next start
                logger.exception("pruning failed and is tried again in an hour")

    def _prune(self) -> None:
        try:
            drop_orphans()
            prune_if_due(self._stopping)
        except Error as error:
            logger.warning("pruning failed and is tried again in an hour: %s", type(error).__name__)
        finally:
            connections.close_all()


def prune_if_due(stopping: threading.Event | None = None) -> bool:
    """Prunes unless some process has done so in the last day, or is doing it, or the clocks differ."""
    with try_lock(LOCK) as is_mine:
        if not is_mine:
            return False
        try:
            now = check_clocks()
        except ClocksDiffer as fault:
            logger.warning("%s", fault)
            return False
        state = LedgerState.load()
        pruned_at = _believed(state.pruned_at, now)
        if pruned_at and now - pruned_at < DAY:
            return False
        pruned = prune(now, stopping)
        if stopping and stopping.is_set():
            return False
        LedgerState.objects.filter(pk=state.pk).update(pruned_at=now)
        logger.info("pruned %d rows and %d bodies", pruned.rows, pruned.bodies)
        if pruned.is_more_due:
            logger.warning(
                "more than %d days are past their time, and wait; `manage.py ledger prune --yes` deletes all of them",
                FEW_DAYS.days,
            )
        return True
