"""Deletes old rows and bodies, and abandoned reservations. Sums stay for ever.

A request id is a UUIDv7, so "older than" is a range of the primary key and needs no other index.

* Rows of calls are deleted with the partition of their month, when the whole month is older than RETENTION_DAYS. That
  takes no time, whatever their number, and frees the space.
* Bodies are private, so they are deleted day by day, in small batches. When the whole month is due, their partition is
  deleted, too.
* Rows in no month's partition are deleted day by day as well: calls from before the table was partitioned, and those
  in the default partition.

A wrong clock must not delete the ledger:

* All times are the database's, and nothing is deleted while this machine's clock differs from it by minutes.
* If the database's own clock is wrong, one prune deletes the calls of one month at most, or of `PRUNED_AT_ONCE`,
  counted from where the last prune stopped. `ledger prune --yes` deletes more at once.
* The stored time up to which rows were deleted is ignored if it lies in the future, because a wrong clock has left it.
* Calls with ids from long before the last prune stay, because a wrong clock has made these ids.

Over 300 lines, since what is deleted together is in one place.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import Error, connection, transaction
from django.db.backends.utils import CursorWrapper

from usage.database.clock import ClocksDiffer, check_clocks
from usage.database.fault_words import is_unreached, words_of
from usage.database.lock import try_lock
from usage.database.partitions import (
    Partition,
    RowCount,
    change_tables,
    count_rows,
    drop_partitions,
    has_rows,
    partitions,
)
from usage.database.time_limits import without_time_limits
from usage.ids import first_id
from usage.journal_shipping.background_responses import GIVE_UP_AFTER
from usage.models import LedgerState, Span, UsageTotal
from usage.money.spent_and_reserved import drop_orphans
from usage.number_words import counted
from usage.sums.pruned_calls import credible_mark, oldest_call
from usage.sums.totals_reader import MINUTES_KEPT
from usage.upkeep.label_sums.combining import combine_labels, delete_old_combinations
from usage.upkeep.label_sums.folding import fold_labels
from usage.upkeep.months import BODIES, CALLS, make_months
from usage.upkeep.old_histograms import empty_old_histograms
from usage.upkeep.periodic_thread import PeriodicThread

logger = logging.getLogger(__name__)

BATCH_SIZE = 2000
PAUSE_SECONDS = 0.05  # between two batches
FIRST_CHECK_SECONDS, CHECK_SECONDS = 60.0, 3600.0  # until the first check whether pruning is due, and between checks
STOP_SECONDS = 2.0
DAY = timedelta(days=1)
PRUNED_AT_ONCE = timedelta(days=3)  # one prune deletes what began in so much time at most, where it goes day by day
LOCK = 0x7072756E  # the number of an advisory lock, the same in all processes


class Pruned(NamedTuple):
    """The result of a deletion of old data: how many rows of calls, and how many logged bodies, were deleted.

    `is_more_due` is true if more data are old enough, but were left because of the limit for one deletion.
    `are_estimates` is true if whole months were deleted that had too many rows to count (`count_rows`).
    """

    rows: int
    bodies: int
    is_more_due: bool
    are_estimates: bool = False

    @property
    def text(self) -> str:
        """The numbers of deleted rows and bodies in words, such as `about 1,200,000 rows and 0 bodies`."""
        about = "about " if self.are_estimates else ""
        return f"{about}{counted(self.rows, 'row')} and {counted(self.bodies, 'body', 'bodies')}"


class Deletion(NamedTuple):
    """A plan to delete from one table the rows of calls that began at `since` or later, and before `until`.

    If `since` is None, there is no lower limit. All calls from before `wanted` are old enough to be deleted; `until` is
    earlier than `wanted` if they are too many for one deletion.
    """

    table: str
    since: datetime | None
    until: datetime
    wanted: datetime

    @property
    def leaves_more(self) -> bool:
        """True if the table has any rows of calls from before `wanted`, which are old enough to be deleted."""
        return has_rows(self.table, first_id(self.wanted))

    def of_responses(self, table: str, now: datetime) -> Deletion:
        """Returns this plan for `table`, a table about responses, whose rows stay for 30 days, as the responses do.

        Until then, the key that made a response may name it, and a call that reads it must not be billed for it again.
        """
        since = self.since and self.since - GIVE_UP_AFTER
        return self._replace(table=table, since=since, until=min(self.until, now - GIVE_UP_AFTER))

    def includes(self, partition: Partition) -> bool:
        """Returns whether a partition of the table is to be dropped as a whole, instead of row by row.

        It is dropped if it ends at `until` or before, and if one of these is true: `since` is None, the partition is
        empty, or it is the partition of a month and ends after `since`.
        """
        if partition.end > self.until:
            return False
        # The partition of all calls from before the table was partitioned may have those of years, so its rows go day
        # by day.
        is_reached = self.since is None or (partition.start is not None and partition.end > self.since)
        return is_reached or not has_rows(partition.name)


def prune(now: datetime | None = None, stopping: threading.Event | None = None, *, all_at_once: bool = False) -> Pruned:
    """Deletes rows of calls older than RETENTION_DAYS and logged bodies older than BODY_RETENTION_DAYS (0: never).

    Returns how many rows and bodies were deleted, and whether more are old enough.

    * The body and the short-lived stored objects of a call go with its row. Where rows are stored by month, a row goes
      once all calls of its month are old enough.
    * Other old data are deleted, too: totals of minutes, histograms of hours, names in the sums by label, and expired
      sessions of the admin.
    * One run deletes at most a month of rows, or `PRUNED_AT_ONCE` where rows are not stored by month, unless
      `all_at_once` is true. It ends early once the event `stopping` is set.
    * `now` is the database's time by default.

    Raises:
        ClocksDiffer: this machine's clock is not the database's; only if `now` is not given.
        django.db.OperationalError: a dump or an export uses the tables, so that no partition can be deleted.
    """
    now = now or check_clocks()
    stopping = stopping or threading.Event()
    state = LedgerState.load()
    bodies, rows, is_more_due = RowCount(), RowCount(), False
    last = state.pruned_at if state.pruned_at and state.pruned_at <= now and not all_at_once else now
    UsageTotal.objects.filter(span=Span.MINUTE, start__lt=min(now, last + PRUNED_AT_ONCE) - MINUTES_KEPT).delete()
    empty_old_histograms(now, stopping, all_at_once=all_at_once)
    Session.objects.filter(expire_date__lt=now).delete()  # also those of strangers who have begun to sign in
    if settings.BODY_RETENTION_DAYS:
        wanted = now - timedelta(days=settings.BODY_RETENTION_DAYS)
        mark = credible_mark(state.bodies_pruned_before, now)
        deletion = _plan_deletion(BODIES, (), wanted, mark, all_at_once=all_at_once)
        state.bodies_pruned_before = max(mark or deletion.until, deletion.until)
        bodies = _delete(deletion, stopping, note=partial(state.save, update_fields=["bodies_pruned_before"]))
        is_more_due = deletion.leaves_more
    if settings.RETENTION_DAYS and not stopping.is_set():
        months = [partition for partition in partitions(CALLS) if partition.start]
        wanted = now - timedelta(days=settings.RETENTION_DAYS)
        wanted = next((month.start for month in months if month.start and month.covers(wanted)), wanted)
        mark = credible_mark(state.pruned_before, now)
        deletion = _plan_deletion(CALLS, months, wanted, mark and mark - DAY, all_at_once=all_at_once)
        # The sums of an hour or a day that is partly pruned can no longer be compared with their rows.
        comparable = deletion.until
        # The stored time is in the future: a wrong clock has left it, and has pruned all rows before the oldest one.
        if state.pruned_before and mark is None:
            comparable = max(comparable, oldest_call(CALLS) or comparable)
        state.pruned_before = max(mark or comparable + DAY, comparable + DAY)
        bodies += _delete(deletion._replace(table=BODIES), stopping)
        _delete(deletion.of_responses("usage_countedresponse", now), stopping)
        _delete(deletion.of_responses("usage_storedobject", now), stopping, condition="NOT lasts")
        if not stopping.is_set():
            rows = _delete(deletion, stopping, note=partial(state.save, update_fields=["pruned_before"]))
        is_more_due = is_more_due or deletion.leaves_more
    if not stopping.is_set():
        _fold(now)
    return Pruned(rows.rows, bodies.rows, is_more_due, rows.is_estimate or bodies.is_estimate)


def _fold(now: datetime) -> None:
    """Deletes old sums by all labels together, and shortens those by one label (`fold_labels`). Logs errors."""
    # Apart from the deletion, and after it: that must not be done again, nor wait, because the sums are in use.
    try:
        delete_old_combinations(now)
        fold_labels(now)
    except Error as error:
        logger.warning("the sums by label keep all names until the next pruning: %s", words_of(error))


def _plan_deletion(
    table: str, months: Iterable[Partition], wanted: datetime, mark: datetime | None, *, all_at_once: bool
) -> Deletion:
    """Plans which of the rows of `table` from before `wanted` to delete now; deletes nothing.

    With `all_at_once`, these are all of them. Otherwise the plan begins shortly before `mark`, the end of the last
    deletion (if None, before the oldest call). It ends with the partition in `months` that includes this time; without
    one, `PRUNED_AT_ONCE` later. It never ends after `wanted`.
    """
    if all_at_once:
        return Deletion(table, None, wanted, wanted)
    # Without a last deletion, it begins at the oldest call. It includes calls from `PRUNED_AT_ONCE` before.
    begin = mark or oldest_call(table) or wanted
    end = next((month.end for month in months if month.covers(begin)), begin + PRUNED_AT_ONCE)
    return Deletion(table, begin - PRUNED_AT_ONCE, min(wanted, end), wanted)


def _delete(
    deletion: Deletion,
    stopping: threading.Event,
    *,
    condition: str = "true",
    note: Callable[[], object] = lambda: None,
) -> RowCount:
    """Deletes the rows that a `Deletion` plans; returns how many, or an estimate if whole partitions had very many.

    First drops whole partitions, then deletes other rows in batches: only those that fulfil the SQL `condition`. `note`
    is called in the transaction that drops the partitions, to store something in the same transaction. Once the event
    `stopping` is set, the deletion ends after the present batch.
    """

    def drop(cursor: CursorWrapper) -> RowCount:
        names = [partition.name for partition in partitions(deletion.table) if deletion.includes(partition)]
        rows = sum((count_rows(cursor, name) for name in names), RowCount())
        note()
        drop_partitions(cursor, names)
        return rows

    total = change_tables(drop)
    since = first_id(deletion.since) if deletion.since else UUID(int=0)
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                f"DELETE FROM {deletion.table} WHERE request_id IN"
                f" (SELECT request_id FROM {deletion.table} WHERE request_id >= %s AND request_id < %s AND {condition}"
                f" ORDER BY request_id LIMIT {BATCH_SIZE}) AND {condition} RETURNING request_id",
                [since, first_id(deletion.until)],
            )
            gone = [request_id for (request_id,) in cursor.fetchall()]
        total += RowCount(len(gone))
        if len(gone) < BATCH_SIZE or stopping.wait(PAUSE_SECONDS):
            return total
        since = max(gone)  # so that no batch reads the index entries of rows that earlier batches have deleted


class DailyPruning(PeriodicThread):
    """A thread that deletes old rows and bodies once a day, and makes the partitions of coming months.

    The shipper process of each host has such a thread; a lock in the database lets only one of them delete at a time.
    """

    name = "retention"
    # Soon, so that data are deleted even by a server that never runs for an hour.
    first_seconds, every_seconds = FIRST_CHECK_SECONDS, CHECK_SECONDS
    stop_seconds = STOP_SECONDS  # a batch that has not ended then is rolled back
    failure = "pruning failed and is tried again in an hour"

    def work(self) -> None:
        """Deletes abandoned reservations, makes partitions, deletes old rows once a day, and sums up past days.

        If a task fails because of the database, the error is logged, and the next task is done. If the database cannot
        be reached, the other tasks are left out.
        """
        long_tasks = (partial(task, self.stopping) for task in (prune_if_due, combine_labels))
        tasks: tuple[Callable[[], object], ...] = (drop_orphans, make_months, *long_tasks)
        for task in tasks:
            try:
                with without_time_limits():
                    task()
            except Error as error:
                logger.warning("%s: %s", self.failure, words_of(error))
                if is_unreached(error):
                    return


def prune_if_due(stopping: threading.Event | None = None) -> bool:
    """Deletes old rows and bodies, unless that was done in the last 24 hours.

    Returns whether this call has completed the deletion. Nothing is deleted while another process does so, or if this
    machine's clock differs from the database's by minutes (`check_clocks`).
    """
    with try_lock(LOCK) as is_mine:
        if not is_mine:
            return False
        try:
            now = check_clocks()
        except ClocksDiffer as fault:
            logger.warning("%s", fault)
            return False
        state = LedgerState.load()
        pruned_at = credible_mark(state.pruned_at, now)
        if pruned_at and now - pruned_at < DAY:
            return False
        pruned = prune(now, stopping)
        if stopping and stopping.is_set():
            return False
        LedgerState.objects.filter(pk=state.pk).update(pruned_at=now)
        logger.info("pruned %s", pruned.text)
        if pruned.is_more_due:
            logger.warning("more is past its time, and waits; `manage.py ledger prune --yes` deletes all of it")
        return True
