"""Finds out whether the sums by label have all calls: whether an earlier release left some out, or names are folded.

A server with an earlier release adds calls to the totals of days (`UsageTotal`), and not to the sums by label.
`ledger sum` adds those calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from django.db import connection

from usage.sums.labels.label_tables import CLOSED, GRAND_TOTALS, OTHERS, TABLE, TAG
from usage.sums.labels.span_ranges import SpanRange

_OF_KEY = "(%(key)s::text IS NULL OR {}.key_name = %(key)s)"
_SAME_PERIOD = f"""
    SELECT FROM {TABLE} AS one WHERE one.span = folded.span AND one.start = folded.start AND one.label = %(label)s
        AND {_OF_KEY.format("one")}
"""
_UNNAMED = f"""
    SELECT EXISTS (
        SELECT FROM {TABLE} AS folded WHERE span = %(span)s AND start >= %(first)s AND start < %(end)s AND (
            (label = %(label)s AND value = '{OTHERS}' AND {_OF_KEY.format("folded")}
                AND NOT EXISTS ({_SAME_PERIOD} AND one.value = %(value)s))
            OR (label = '{CLOSED}' AND %(label)s LIKE '{TAG}%%' AND NOT EXISTS ({_SAME_PERIOD}))
        )
    )
"""
_COMPARED = ("calls", "input_tokens", "cost")  # what an earlier release has left out is missing in one of these
_ADDED_UP = ", ".join(f"sum({name}) AS {name}" for name in _COMPARED)
# The first day or month whose sums of all calls are not those of the days' totals, which all versions write.
_LACKING = f"""
    WITH a AS (
        SELECT date_trunc(%(span)s, start AT TIME ZONE 'UTC')::date AS start, {_ADDED_UP} FROM usage_usagetotal
        WHERE span = 'day' AND dimension = 'all' AND start >= %(first)s::timestamp AT TIME ZONE 'UTC'
            AND start < %(end)s::timestamp AT TIME ZONE 'UTC' GROUP BY 1
    ), b AS (
        SELECT start, {", ".join(_COMPARED)} FROM {GRAND_TOTALS}
        WHERE span = %(span)s AND label = '' AND start >= %(first)s AND start < %(end)s
    )
    SELECT min(start) FROM a FULL JOIN b USING (start)
    WHERE {" OR ".join(f"COALESCE(a.{name}, 0) <> COALESCE(b.{name}, 0)" for name in _COMPARED)}
"""


def has_unnamed(periods: Iterable[SpanRange], label: str, value: str | None, key: str | None = None) -> bool:
    """Returns whether the stored sums of a label (end user or tag) may lack some of the calls whose label is `value`.

    Calls may be missing in two cases:

    * In one of `periods`, the sums of the label's less costly values are stored together, as `OTHERS`, and `value` has
      no sums of its own. If `value` is None (any value), nothing is missing, since `OTHERS` counts, too.
    * The label is a tag without sums in one of `periods`, in which only the costliest tags have sums (`CLOSED`).

    If `key` is given, only the sums of this key's calls are examined. So the result tells the key's holder nothing of
    other keys' labels.
    """
    wanted = {"label": label, "value": OTHERS if value is None else value, "key": key}
    with connection.cursor() as cursor:
        for span, first, end, _ in periods:
            cursor.execute(_UNNAMED, {"span": span, "first": first, "end": end, **wanted})
            if cursor.fetchone() == (True,):
                return True
    return False


def first_lacking(periods: Iterable[SpanRange]) -> date | None:
    """Returns the first of some days or months whose sums by label lack calls; None if no sums lack calls.

    A month is returned as its first day. Calls are lacking if the sums differ from the totals of all calls: an earlier
    release of the gateway added calls to the totals only.
    """
    with connection.cursor() as cursor:
        for span, first, end, _ in periods:
            cursor.execute(_LACKING, {"span": span, "first": first, "end": end})
            [(found,)] = cursor.fetchall()
            if isinstance(found, date):
                return found
    return None
