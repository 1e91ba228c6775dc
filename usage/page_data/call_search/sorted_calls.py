"""Sorts the list of requests by duration, cost or output tokens: finds the matching calls with the largest values.

Without filters other than the time, the index of the duration or the cost has these calls. With other filters, the
matching calls of a small range are all read and compared. Of a range that is too large for that, the calls with the
largest values of all are read through that index, and those that match are listed. If these are too few, if reading
them takes too long, or if the column has no index, only the newest calls of the range are compared; then the page says
so. It takes long where the largest values are those of other times, as in a range of days with quick calls only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import ceil
from uuid import UUID

import psycopg
from django.db import OperationalError, connection, transaction

from usage.ids import first_id, time_of
from usage.page_data.call_search.index_scan import IndexScan, joined, values_of
from usage.page_data.filters import SORTS, Condition, Filters, SQLValue, conditions_of
from usage.page_data.search import PAGE_SIZE, Page, find_by_id, plan_scans, read_calls

COMPARE_SECONDS = 0.12  # after this time no further slice of calls is compared
INDEX_SECONDS = 0.1  # for reading calls through the index of a column
MAX_INDEXED = 2000  # calls that are read through the index of a column
INDEXED = frozenset({"duration", "cost"})


def find_largest(filters: Filters) -> Page:
    """Returns one page of the matching calls with the largest values of the column `filters.sort`, the largest first.

    There is no next page. An unknown value counts as 0. If the search ran out of time, `searched_to` of the page is
    set: only calls since this time were compared. If `filters.q`, the searched text, is an id, the page has the calls
    with this id instead.
    """
    if filters.q and (calls := find_by_id(filters.q)):
        return Page(calls)
    conditions = conditions_of(filters)
    has_index = filters.sort in INDEXED and not filters.q
    if has_index and not conditions:
        indexed = _read_index(filters, [])
        if len(indexed) == PAGE_SIZE:
            return Page(read_calls(indexed), is_full=True)
    scans = plan_scans(filters, None)
    largest = _compare(scans, SORTS[filters.sort])
    reached = max((scan.at for scan in scans if not scan.is_done and scan.at is not None), default=None)
    if reached is not None and has_index and conditions:
        indexed = _read_index(filters, conditions)
        if len(indexed) == PAGE_SIZE:
            return Page(read_calls(indexed), is_full=True)
    found = read_calls(largest)
    searched_to = None if reached is None else time_of(reached)
    return Page(found, is_full=len(found) == PAGE_SIZE, searched_to=searched_to)


def _compare(scans: Sequence[IndexScan], column: str) -> list[UUID]:
    """Reads calls by the `scans` for `COMPARE_SECONDS`; returns the ids of those with the largest values of `column`.

    At most `PAGE_SIZE` ids are returned, the largest value first; of equal values, the newest call comes first. The
    reading ends earlier when all calls have been read.
    """
    largest: dict[UUID, float] = {}
    deadline, slices = time.monotonic() + COMPARE_SECONDS, 0
    while unfinished := [scan for scan in scans if not scan.is_done]:
        # The scan that has come the least far reads on, so that all of them reach about the same time.
        behind = max(unfinished, key=lambda scan: scan.at.int if scan.at else 2**128)
        largest = _first(largest | behind.rank_slice(column, PAGE_SIZE))
        slices += 1
        if time.monotonic() >= deadline and slices >= len(scans):  # each scan has read at least one slice
            break
    return list(largest)


def _first(values: dict[UUID, float]) -> dict[UUID, float]:
    """Returns the `PAGE_SIZE` largest of the given values, as a dict from request id to value, the largest first.

    Of calls with equal values, the newest comes first.
    """
    order = sorted(values.items(), key=lambda item: (item[1], item[0].int), reverse=True)
    return dict(order[:PAGE_SIZE])


def _read_index(filters: Filters, conditions: Sequence[Condition]) -> list[UUID]:
    """Searches the largest values in the index of the sorted column; returns the ids of those calls that match.

    Only the `MAX_INDEXED` largest values in the filters' range of time are searched. `conditions` are the SQL
    conditions of all other filters. At most `PAGE_SIZE` ids are returned, the one with the largest value first; none if
    the search takes longer than `INDEX_SECONDS`.
    """
    column = SORTS[filters.sort]
    most = MAX_INDEXED if conditions else PAGE_SIZE
    bounds = [Condition(f"{column} IS NOT NULL")]  # in this order, calls without a value would come first
    bounds += [Condition("request_id >= %s", (first_id(filters.since),))] if filters.since else []
    bounds += [Condition("request_id < %s", (first_id(filters.until),))] if filters.until else []
    query = f"""
        WITH largest AS MATERIALIZED (
            SELECT request_id FROM usage_request WHERE {joined(bounds)} ORDER BY {column} DESC LIMIT {most}
        )
        SELECT request_id FROM usage_request
        WHERE request_id = ANY(ARRAY(SELECT request_id FROM largest)) AND {joined(conditions)}
        ORDER BY {column} DESC, request_id DESC LIMIT {PAGE_SIZE}
    """
    return _read_in_time(query, values_of([*bounds, *conditions]))


def _read_in_time(query: str, values: Sequence[SQLValue]) -> list[UUID]:
    """Executes a query that reads request ids, and returns them; an empty list if it takes longer than `INDEX_SECONDS`.

    Raises:
        django.db.Error: the database cannot be read.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {ceil(INDEX_SECONDS * 1000)}")
            cursor.execute(query, values)
            found = [request_id for (request_id,) in cursor.fetchall()]
            transaction.set_rollback(True)  # nothing was written, and a transaction around this one keeps its limit
    except OperationalError as error:
        if not isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise
        return []
    return found
