"""Verifies the ledger: rows are as they were written, sums agree with rows, and calls in the journal have rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.db import connection

from usage.database.clock import database_now
from usage.ids import first_id
from usage.journal import segments
from usage.models import Span
from usage.money.holds import find_strays
from usage.shipping.digests import IS_UNCHANGED
from usage.sums.adding_up import (
    COST_PARTS,
    DAY_KEYS,
    DAY_SUMS,
    DIMENSIONS,
    FAILURE_KEYS,
    HISTOGRAMS,
    HOUR_KEYS,
    HOUR_SUMS,
    NEEDS_PRICE_SQL,
    POLL_SUMS,
    TOTAL_KEYS,
    TOTAL_SUMS,
)
from usage.sums.histogram import ENDS
from usage.sums.pruned import comparable_since
from usage.sums.summed_names import SUMMED_CODE_SQL, SUMMED_MODEL_SQL

HOUR = "date_trunc('hour', started_at, 'UTC')"
DAY = "(started_at AT TIME ZONE 'UTC')::date"
HOUR_GROUPS = f"{HOUR} AS hour, key_name, {SUMMED_MODEL_SQL} AS model, route, outcome"
DAY_GROUPS = f"{DAY} AS day, key_name"
# `a` is added up from the rows, `b` is the table of sums. A group that is missing on one side counts as zeros.
DIFFERS = "COALESCE(a.{0}, 0) <> COALESCE(b.{0}, 0)"
# A sum of doubles depends on the order in which they are added, so two such sums may differ a little.
DOUBLES = {"audio_seconds", "duration_ms"}
DIFFERS_CLEARLY = "abs(COALESCE(a.{0}, 0) - COALESCE(b.{0}, 0)) > 1e-6 * greatest(1, abs(COALESCE(a.{0}, 0)))"
IS_CALL = "NOT by_gateway"
SHIPPING_SECONDS = 15.0  # within this time a running server writes the calls in its journal to the database


def find_faults(journal: Path) -> Iterator[str]:
    """Checks the whole ledger for `ledger verify`, and yields one line of text for each fault that is found.

    It checks that the rows are unchanged, that all sums agree with the rows, that no reservation is left over, and that
    all calls in the journal get into the table. A check ends after 100 faults of a kind.
    """
    yield from changed_rows()
    since = comparable_since()
    yield from wrong_sums("usage_usagehour", HOUR_KEYS, HOUR_GROUPS, HOUR_SUMS, since)
    yield from wrong_sums("usage_usageday", DAY_KEYS, DAY_GROUPS, DAY_SUMS, since)
    for name in HISTOGRAMS:
        yield from wrong_histograms(name, since)
        yield from wrong_total_histograms(name)
    yield from wrong_totals(since)
    yield from wrong_failures(since)
    yield from stray_holds()
    yield from missing_records(journal)


def changed_rows() -> Iterator[str]:
    """Yields a line of text for each row of a call that was changed after it was written, as its digest shows."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT request_id FROM usage_request WHERE NOT ({IS_UNCHANGED}) ORDER BY request_id LIMIT 100")
        for (request_id,) in cursor.fetchall():
            yield f"row {request_id} was changed after it was written"


def wrong_sums(
    table: str, keys: tuple[str, ...], groups: str, sums: tuple[str, ...], since: datetime | None
) -> Iterator[str]:
    """Yields a line of text for each group in a table of sums whose sums are not those of the rows of its calls.

    Only groups from `since` on are compared, because older rows may have been pruned while the sums still count them.
    `groups` is the SQL that computes the `keys` of a row's group.
    """
    counters = ", ".join(f"COALESCE(sum({_summed_value(name)}), 0) AS {name}" for name in sums)
    same = " AND ".join(f"a.{key} = b.{key}" for key in keys)
    differs = " OR ".join(
        (DIFFERS_CLEARLY if name in DOUBLES else DIFFERS).format(name) for name in ("calls", "unpriced_calls", *sums)
    )
    query = f"""
        WITH a AS (
            SELECT {groups}, count(*) FILTER (WHERE {IS_CALL}) AS calls,
                   count(*) FILTER (WHERE {NEEDS_PRICE_SQL}) AS unpriced_calls, {counters}
            FROM usage_request GROUP BY {", ".join(str(number + 1) for number in range(len(keys)))}
        ), b AS (SELECT * FROM {table})
        SELECT {", ".join(f"COALESCE(a.{key}::text, b.{key}::text)" for key in keys)}
        FROM a FULL JOIN b ON {same}
        WHERE COALESCE(a.{keys[0]}, b.{keys[0]}) >= COALESCE(%s, '-infinity'::timestamptz)
          AND ({differs})
        LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [since])
        for group in cursor.fetchall():
            yield f"{table} is not the sum of its rows for {' / '.join(group)}"


def _summed_value(name: str) -> str:
    """Returns the SQL expression for what a row adds to the sum `name`; null if that is nothing."""
    if kind := COST_PARTS.get(name):
        return f"CASE WHEN cost_kind = '{kind}' THEN cost END"
    return name if name in POLL_SUMS else f"CASE WHEN {IS_CALL} THEN {name} END"


def wrong_histograms(name: str, since: datetime | None) -> Iterator[str]:
    """Yields a line of text for each group in the table of hours whose histogram of latencies is not that of its calls.

    `name` is the latency, such as `duration_ms`. Only groups from `since` on are compared.
    """
    keys = ", ".join(HOUR_KEYS)
    numbers = ", ".join(str(number + 1) for number in range(len(HOUR_KEYS) + 1))
    query = f"""
        WITH a AS (
            SELECT {HOUR_GROUPS}, width_bucket({name}, %s::float8[]) AS bucket, count(*) AS count
            FROM usage_request WHERE {name} IS NOT NULL AND {IS_CALL} GROUP BY {numbers}
        ), b AS (
            SELECT {keys}, number - 1 AS bucket, count
            FROM usage_usagehour, unnest({name}_histogram) WITH ORDINALITY AS counts(count, number) WHERE count <> 0
        )
        SELECT DISTINCT {", ".join(f"{key}::text" for key in HOUR_KEYS)} FROM a FULL JOIN b USING ({keys}, bucket)
        WHERE hour >= COALESCE(%s, '-infinity'::timestamptz) AND a.count IS DISTINCT FROM b.count
        LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [ENDS, since])
        for group in cursor.fetchall():
            yield f"usage_usagehour's histogram of {name} is off for {' / '.join(group)}"


def wrong_totals(since: datetime | None) -> Iterator[str]:
    """Yields a line of text for each of the dashboard's totals that is not the sum of its calls.

    Totals of hours and days are compared with the table of hours, those of minutes with the rows of the last day.
    """
    day_ago = database_now() - timedelta(days=1)
    minutes_since = max(day_ago, since) if since else day_ago
    hour_columns = ", ".join((*HOUR_KEYS, "calls", "unpriced_calls", *TOTAL_SUMS))
    row_columns = ", ".join(f"COALESCE({_summed_value(name)}, 0)" for name in TOTAL_SUMS)
    hours = f"SELECT {hour_columns} FROM usage_usagehour"
    rows = f"""
        SELECT started_at AS hour, key_name, {SUMMED_MODEL_SQL} AS model, route, outcome, ({IS_CALL})::int AS calls,
               ({NEEDS_PRICE_SQL})::int, {row_columns}
        FROM usage_request WHERE started_at >= %s AND request_id >= %s
    """
    yield from _wrong_totals((Span.HOUR, Span.DAY), hours, [], None)
    yield from _wrong_totals((Span.MINUTE,), rows, [minutes_since, first_id(minutes_since)], minutes_since)


def _wrong_totals(
    spans: tuple[Span, ...], source: str, values: list[datetime | UUID], since: datetime | None
) -> Iterator[str]:
    """Yields a line of text for each of the dashboard's totals of the given spans that is not the sum of its calls.

    `source` is the SQL query that reads these calls, from the table of hours or from the table of calls. Only totals
    after `since` are compared.
    """
    starts = ", ".join(f"('{span}', date_trunc('{span}', hour, 'UTC'))" for span in spans)
    groups = ", ".join(
        f"('{dimension}', {column})" for dimension, column in zip(DIMENSIONS, HOUR_KEYS[1:], strict=True)
    )
    differs = " OR ".join(
        (DIFFERS_CLEARLY if name in DOUBLES else DIFFERS).format(name)
        for name in ("calls", "errors", "unpriced_calls", *TOTAL_SUMS)
    )
    columns = ", ".join(("hour", *HOUR_KEYS[1:], "calls", "unpriced_calls", *TOTAL_SUMS))
    query = f"""
        WITH a AS (
            SELECT span, dimension, start, value, sum(calls) AS calls,
                   COALESCE(sum(calls) FILTER (WHERE outcome <> 'success'), 0) AS errors,
                   {", ".join(f"sum({name}) AS {name}" for name in ("unpriced_calls", *TOTAL_SUMS))}
            FROM ({source}) AS source ({columns}),
                 LATERAL (VALUES {starts}) AS spans (span, start),
                 LATERAL (VALUES ('all', ''), {groups}) AS groups (dimension, value)
            GROUP BY 1, 2, 3, 4
        ), b AS (SELECT * FROM usage_usagetotal WHERE span = ANY(%s))
        SELECT COALESCE(a.span, b.span), COALESCE(a.dimension, b.dimension), COALESCE(a.start, b.start)::text,
               COALESCE(a.value, b.value)
        FROM a FULL JOIN b ON {" AND ".join(f"a.{key} = b.{key}" for key in TOTAL_KEYS)}
        WHERE COALESCE(a.start, b.start) > COALESCE(%s, '-infinity'::timestamptz)
          AND ({differs})
        LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [*values, [span.value for span in spans], since])
        for group in cursor.fetchall():
            yield f"usage_usagetotal is not the sum of its calls for {' / '.join(group)}"


def wrong_total_histograms(name: str) -> Iterator[str]:
    """Yields a line of text for each of the dashboard's totals with a wrong histogram, which is not the sum of its
    hours.

    `name` is the latency in the histogram, such as `duration_ms`. Only the totals of all calls, and those of each key's
    days, have histograms. Totals of minutes are not compared.
    """
    query = f"""
        WITH a AS (
            SELECT span, dimension, start, value, number, sum(count) AS count
            FROM usage_usagehour, unnest({name}_histogram) WITH ORDINALITY AS counts (count, number),
                 LATERAL (VALUES ('hour', 'all', hour, ''), ('day', 'all', date_trunc('day', hour, 'UTC'), ''),
                                 ('day', 'key', date_trunc('day', hour, 'UTC'), key_name)
                 ) AS groups (span, dimension, start, value)
            GROUP BY 1, 2, 3, 4, 5 HAVING sum(count) <> 0
        ), b AS (
            SELECT span, dimension, start, value, number, count
            FROM usage_usagetotal, unnest({name}_histogram) WITH ORDINALITY AS counts (count, number)
            WHERE span <> 'minute' AND count <> 0
        )
        SELECT DISTINCT span, start::text, value FROM a FULL JOIN b USING (span, dimension, start, value, number)
        WHERE a.count IS DISTINCT FROM b.count LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(query)
        for group in cursor.fetchall():
            yield f"usage_usagetotal's histogram of {name} is off for {' / '.join(filter(None, group))}"


def wrong_failures(since: datetime | None) -> Iterator[str]:
    """Yields a line of text for each group of failed calls whose count is not the number of their rows.

    Only groups from `since` on are compared.
    """
    keys = ", ".join(FAILURE_KEYS)
    query = f"""
        WITH a AS (
            SELECT span, start, outcome, COALESCE(status, 0) AS status, {SUMMED_CODE_SQL} AS error_code,
                   {SUMMED_MODEL_SQL} AS model, route, key_name, count(*) AS calls
            FROM usage_request, LATERAL (
                VALUES ('hour', {HOUR}), ('day', date_trunc('day', started_at, 'UTC'))
            ) AS spans (span, start)
            WHERE outcome <> 'success' AND {IS_CALL} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ), b AS (SELECT {keys}, calls FROM usage_errortotal WHERE calls <> 0)
        SELECT {", ".join(f"{key}::text" for key in FAILURE_KEYS)} FROM a FULL JOIN b USING ({keys})
        WHERE start >= COALESCE(%s, '-infinity'::timestamptz) AND a.calls IS DISTINCT FROM b.calls
        LIMIT 100
    """
    with connection.cursor() as cursor:
        cursor.execute(query, [since])
        for group in cursor.fetchall():
            yield f"usage_errortotal does not count its rows for {' / '.join(group)}"


def stray_holds() -> Iterator[str]:
    """Yields a line of text for each budget reservation that should be gone, because its call's row has the cost."""
    for request_id in find_strays():
        yield f"money is still held for call {request_id}, whose row is in the table"


def missing_records(journal: Path) -> Iterator[str]:
    """Yields a line of text for each damaged record in the journal, and for each ended call in it that has no row.

    Waits `SHIPPING_SECONDS` at most for the rows, because a running server may still be writing them.
    """
    wanted: set[str] = set()
    for path in sorted(journal.glob("*.journal")):
        try:
            for found in segments.read_all(path):
                wanted.update(record["request_id"] for record in found.records if record["kind"] == "end")
                yield from (f"{path.name} has a damaged record" for _ in found.damaged)
        except FileNotFoundError:  # shipped and deleted in the meantime
            continue
    deadline = time.monotonic() + SHIPPING_SECONDS
    while wanted:
        with connection.cursor() as cursor:
            cursor.execute("SELECT request_id FROM usage_request WHERE request_id = ANY(%s::uuid[])", [list(wanted)])
            wanted -= {str(request_id) for (request_id,) in cursor.fetchall()}
        if not wanted or time.monotonic() > deadline:
            break
        time.sleep(0.5)  # a running server may be writing the rows now
    for request_id in sorted(wanted)[:100]:
        yield f"call {request_id} is in the journal and not in the table"
