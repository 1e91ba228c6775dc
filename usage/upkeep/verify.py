"""Verifies the ledger: that rows are unchanged, sums agree with rows, and calls in the journal have rows.

Calls are written and pruned meanwhile. So a check compares what one query sees, and the time since which rows are kept
belongs to the same snapshot.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from usage.database.time_limits import without_time_limits
from usage.journal import segments
from usage.journal_shipping.digests import IS_UNCHANGED
from usage.money.spent_and_reserved import find_strays
from usage.sums.pruned_calls import comparable_since, histograms_since, latest
from usage.sums.sum_tables import (
    DAY_KEYS,
    DAY_SUMS,
    FAILURE_KEYS,
    HISTOGRAMS,
    HOUR_KEYS,
    HOUR_SUMS,
    TEAM_DAY_KEYS,
    HistogramName,
)
from usage.sums.summed_names import SUMMED_CODE_SQL, SUMMED_MODEL_SQL
from usage.upkeep.differing_sums import (
    DAY_GROUPS,
    HAS_TEAM,
    HOUR,
    HOUR_GROUPS,
    IS_CALL,
    TEAM_DAY_GROUPS,
    adding_cursor,
    differing_groups,
    differing_histograms,
    first_row,
    one_snapshot_of_rows,
)
from usage.upkeep.label_sums.combining import wrong_combinations
from usage.upkeep.label_sums.grand_totals import wrong_grand_totals
from usage.upkeep.label_sums.label_check import wrong_labels
from usage.upkeep.label_sums.month_check import wrong_months
from usage.upkeep.wrong_totals import (
    missing_names,
    wrong_breakdowns,
    wrong_durations,
    wrong_histograms_of_totals,
    wrong_minutes,
    wrong_peaks,
    wrong_totals,
)

MOST_FAULTS = 100  # of one kind; a check ends after so many
SHIPPING_SECONDS = 15.0  # within this time a running server writes the calls in its journal to the database


class Kept(NamedTuple):
    """The times from which on `ledger verify` can compare sums: `rows` for sums of calls, `histograms` for histograms.

    Each is the later of two times: the one given as `--since`, and the one up to which rows, or histograms, were
    deleted. None means that there is neither, so that all are compared.
    """

    rows: datetime | None
    histograms: datetime | None


def find_faults(
    journal: Path,
    since: datetime | None = None,
    progress: Callable[[str], object] = lambda _: None,
    parallel: int = 1,
) -> Iterator[str]:
    """Checks the ledger for `ledger verify`: rows, sums, reservations, journal; yields a line of text for each fault.

    * `journal` is the directory of the journals.
    * `since`, the beginning of a UTC day, leaves out rows and sums of earlier days.
    * `progress` is called before each check with a text: the check's name, and its number among all checks.
    * `parallel` is the number of checks that run at the same time; `progress` then names the check that is awaited.

    A check ends after 100 faults of a kind.
    """
    checks = list(_checks(journal, since))
    with ThreadPoolExecutor(parallel) as pool:
        results = [pool.submit(_run_check, faults) for _, faults in checks] if parallel > 1 else []
        try:
            for number, (name, faults) in enumerate(checks, 1):
                progress(f"{name} ({number} of {len(checks)})")
                yield from results[number - 1].result() if results else faults
        finally:
            pool.shutdown(cancel_futures=True)


def is_of_newer_version() -> bool:
    """Returns whether a newer version of chatproxy has migrated the ledger's tables.

    The digest of a row that it has written may cover columns that this version does not know. Then this version takes
    the row for a changed one.
    """
    known = MigrationLoader(None).disk_migrations
    applied = MigrationRecorder(connection).applied_migrations()
    return any(app == "usage" and (app, name) not in known for app, name in applied)


def _run_check(faults: Iterator[str]) -> list[str]:
    """Runs one check in a thread and returns the faults that it finds; closes the thread's database connection."""
    try:
        with without_time_limits():
            return list(faults)
    finally:
        connections.close_all()


def _checks(journal: Path, since: datetime | None) -> Iterator[tuple[str, Iterator[str]]]:
    """Yields the checks of `ledger verify`: a name, and an iterator that runs the check and yields its faults."""

    def kept(check: Callable[[Kept], Iterator[str]]) -> Iterator[str]:
        return _check_kept(check, since)

    yield "rows", changed_rows(since)
    yield "sums of hours", kept(lambda at: wrong_sums("usage_usagehour", HOUR_KEYS, HOUR_GROUPS, HOUR_SUMS, at.rows))
    yield "sums of days", kept(lambda at: wrong_sums("usage_usageday", DAY_KEYS, DAY_GROUPS, DAY_SUMS, at.rows))
    team_days = ("usage_teamday", TEAM_DAY_KEYS, TEAM_DAY_GROUPS, DAY_SUMS)
    yield "sums of teams' days", kept(lambda at: wrong_sums(*team_days, at.rows, HAS_TEAM))
    for name in HISTOGRAMS:
        yield from _histogram_checks(name, since)
    yield "totals of hours, days and months", wrong_totals(since)
    yield "breakdowns", wrong_breakdowns(since)
    yield "durations of breakdowns", kept(lambda at: wrong_durations(at.histograms))
    yield "peaks", wrong_peaks(since)
    yield "names", missing_names()
    yield "sums by label", kept(lambda at: wrong_labels(at.rows))
    yield "sums by label of months", wrong_months(since)
    yield "grand totals of labels", wrong_grand_totals(since)
    yield "sums by all labels", kept(lambda at: wrong_combinations(at.rows))
    yield "totals of minutes", kept(lambda at: wrong_minutes(at.rows))
    yield "failures", kept(lambda at: wrong_failures(at.rows))
    yield "reservations", stray_reservations()
    yield "journal", missing_records(journal)


def _histogram_checks(name: HistogramName, since: datetime | None) -> Iterator[tuple[str, Iterator[str]]]:
    """Yields the two checks of a latency's histograms, by hour and in the totals, each as its name and its faults.

    `name` is the latency, such as `duration_ms`. The faults are lines of text; a check runs while its faults are read.
    """
    of_hours = _check_kept(lambda at: wrong_histograms(name, latest(at.rows, at.histograms)), since)
    yield f"{name} of hours", of_hours
    yield f"{name} of totals", _check_kept(lambda at: wrong_histograms_of_totals(name, at.histograms), since)


def _check_kept(check: Callable[[Kept], Iterator[str]], since: datetime | None) -> Iterator[str]:
    """Runs a check in one snapshot of the database, and yields the faults that it finds.

    `check` gets the times from which on rows and histograms still exist (`Kept`), read in the same snapshot. So rows
    that are deleted during the check do not look like wrong sums.
    """
    with one_snapshot_of_rows():
        faults = list(check(Kept(latest(since, comparable_since()), latest(since, histograms_since()))))
    yield from faults


def changed_rows(since: datetime | None) -> Iterator[str]:
    """Yields a line of text for each call's row that was changed after it was written, which its digest shows.

    At most 100 rows are named. Only calls that began at `since` or later are checked, and some that began minutes
    before; all if it is None.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT request_id FROM usage_request WHERE request_id >= %s AND NOT ({IS_UNCHANGED})"
            " ORDER BY request_id LIMIT 100",
            [first_row(since)],
        )
        for (request_id,) in cursor.fetchall():
            yield f"row {request_id} was changed after it was written"


def wrong_sums(
    table: str,
    keys: tuple[str, ...],
    groups: str,
    sums: tuple[str, ...],
    since: datetime | None,
    summed: str = "true",
) -> Iterator[str]:
    """Compares a table of sums with the rows of calls; yields a line for each group with wrong sums, at most 100.

    * `keys`: the columns that identify a group.
    * `groups`: the SQL that computes these columns from a call's row.
    * `sums`: the columns with the sums to compare.
    * `since`: only groups from this time on are compared; None compares all.
    * `summed`: the SQL condition for the calls' rows that the table counts.
    """
    texts = [f"COALESCE(a.{key}::text, b.{key}::text)" for key in keys]
    for group in differing_groups(table, keys, groups, sums, since, ", ".join(texts), MOST_FAULTS, summed):
        yield f"{table} is not the sum of its rows for {' / '.join(group)}"


def wrong_histograms(name: HistogramName, since: datetime | None) -> Iterator[str]:
    """Compares the histograms in the table `UsageHour` with calls' rows; yields a line of text for each wrong one.

    At most 100 are named. `name` is the latency, such as `duration_ms`. Only hours from `since` on are compared; None
    compares all.
    """
    texts = ", ".join(f"{key}::text" for key in HOUR_KEYS)
    for group in differing_histograms(name, since, texts, MOST_FAULTS):
        yield f"usage_usagehour's histogram of {name} is off for {' / '.join(group)}"


def wrong_failures(since: datetime | None) -> Iterator[str]:
    """Compares the counts of failed calls with the rows of calls; yields a line of text for each wrong count.

    At most 100 are named. Each count is for one hour, day or month and for one kind of failure (`FAILURE_KEYS`). Only
    counts from `since` on are compared; all if it is None.
    """
    keys = ", ".join(FAILURE_KEYS)
    query = f"""
        WITH a AS (
            SELECT span, start, outcome, COALESCE(status, 0) AS status, {SUMMED_CODE_SQL} AS error_code,
                   {SUMMED_MODEL_SQL} AS model, route, key_name, count(*) AS calls
            FROM usage_request, LATERAL (
                VALUES ('hour', {HOUR}), ('day', date_trunc('day', started_at, 'UTC')),
                       ('month', date_trunc('month', started_at, 'UTC'))
            ) AS spans (span, start)
            WHERE request_id >= %s AND outcome <> 'success' AND {IS_CALL} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ), b AS (
            SELECT {keys}, calls FROM usage_errortotal
            WHERE calls <> 0 AND start >= COALESCE(%s, '-infinity'::timestamptz)
        )
        SELECT {", ".join(f"{key}::text" for key in FAILURE_KEYS)} FROM a FULL JOIN b USING ({keys})
        WHERE start >= COALESCE(%s, '-infinity'::timestamptz) AND a.calls IS DISTINCT FROM b.calls
        LIMIT 100
    """
    with adding_cursor() as cursor:
        cursor.execute(query, [first_row(since), since, since])
        for group in cursor.fetchall():
            yield f"usage_errortotal does not count its rows for {' / '.join(group)}"


def stray_reservations() -> Iterator[str]:
    """Yields a line of text for each reservation that was not removed when the call's row was written; at most 100.

    A reservation is a part of a budget, set aside for a call until its cost is known. If a call's background response
    is still polled, its reservation is no fault.
    """
    for request_id in find_strays():
        yield f"money is still held for call {request_id}, whose row is in the table"


def missing_records(journal: Path) -> Iterator[str]:
    """Checks that the journal is readable, and that its ended calls have rows; yields a line of text for each fault.

    At most `MOST_FAULTS` of each kind of fault are named, and the number of the others. Waits `SHIPPING_SECONDS` at
    most for rows that a running server may still be writing.
    """
    wanted: set[str] = set()
    damaged: list[str] = []
    for path in sorted(journal.glob("*.journal")):
        try:
            for found in segments.read_all(path):
                wanted.update(record["request_id"] for record in found.records if record["kind"] == "end")
                damaged += [f"{path.name} has a damaged record" for _ in found.damaged]
        except FileNotFoundError:  # shipped and deleted in the meantime
            continue
    yield from _first(damaged, "damaged records are in the journal")
    deadline = time.monotonic() + SHIPPING_SECONDS
    while wanted:
        with connection.cursor() as cursor:
            cursor.execute("SELECT request_id FROM usage_request WHERE request_id = ANY(%s::uuid[])", [list(wanted)])
            wanted -= {str(request_id) for (request_id,) in cursor.fetchall()}
        if not wanted or time.monotonic() > deadline:
            break
        time.sleep(0.5)  # a running server may be writing the rows now
    missing = [f"call {request_id} is in the journal and not in the table" for request_id in sorted(wanted)]
    yield from _first(missing, "calls are in the journal and not in the table")


def _first(faults: list[str], others: str) -> Iterator[str]:
    """Yields the first `MOST_FAULTS` of the texts `faults`; if there are more, also a text that counts the others.

    That text is the number of the others, the word "more", and the text `others`, such as "calls are in the journal and
    not in the table".
    """
    yield from faults[:MOST_FAULTS]
    if len(faults) > MOST_FAULTS:
        yield f"{len(faults) - MOST_FAULTS:,} more {others}"
