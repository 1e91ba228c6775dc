"""Adds up all calls of the list of requests, on all of its pages: how many there are, and what they cost.

Where the filters are a key, a model, a route, an outcome and a range of time, the whole hours of the range are read
from sums, and only the parts of hours at its ends from the rows. With other filters, the rows are added up, newest
first, until the time is up; then the sums are lower bounds, and say so.

Sums are kept longer than rows. So they are used only from the time on from which no row has been pruned.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.db import connection

from usage.database.snapshot import one_snapshot
from usage.ids import first_id
from usage.models import Outcome, Request, Span
from usage.number_words import counted
from usage.page_data import formatting
from usage.page_data.call_search.index_scan import CallSums, IndexScan
from usage.page_data.call_search.scan_merging import Walk
from usage.page_data.filters import (
    ANY_FAILURE,
    UNKNOWN,
    Filters,
    SQLValue,
    conditions_of,
    model_of_any_date,
    names_of_model,
)
from usage.page_data.search import Page, plan_scans
from usage.sums.breakdown_reader import rows_of_range, sum_sql
from usage.sums.pruned_calls import FIRST_CALL, comparable_since, oldest_call
from usage.sums.summed_names import UNKNOWN_MODEL
from usage.sums.totals_reader import ceiling, floor

SECONDS = 0.1  # after this time no further slice of rows is added up
MAX_FOUND = 5000  # calls that a search for a text adds up
DAY = timedelta(days=1)
SUMS_OF_CALLS = """
    SELECT count(*) FILTER (WHERE NOT by_gateway), COALESCE(sum(cost), 0),
           count(*) FILTER (WHERE cost IS NULL AND price IS NULL)
    FROM usage_request WHERE request_id = ANY(%s)
"""


@dataclass(frozen=True)
class ListSums:
    """The number and the cost of all calls of a filtered list.

    If `is_whole` is false, some calls were not added up, so the list may have more calls, which cost more.
    """

    sums: CallSums
    is_whole: bool

    @property
    def words(self) -> str:
        """The sums as text for a page, such as "1,234 calls, $5.67"; an empty text if there are no calls."""
        calls, cost, unpriced = self.sums
        if self.sums == CallSums():
            return ""
        number, spent = counted(calls, "call"), formatting.dollars(cost)
        words = f"{number}, {spent}" if self.is_whole else f"At least {number}, {spent} or more"
        return f"{words}, {unpriced:,} need{'s' if unpriced == 1 else ''} a price" if unpriced else words


def read_list_sums(filters: Filters, page: Page, now: datetime, *, is_first: bool) -> ListSums | None:
    """Reads the number and cost of all calls that match the filters, on all pages of the list together.

    `page` is the page of the list that is shown, and `is_first` says whether it is the first one. Reading stops after
    `SECONDS`, and for a search by the text `q` also after `MAX_FOUND` calls; then `ListSums.is_whole` is false. A
    search for words in prompts and answers is summed on its first page only, for the calls of that page; on later
    pages, the result is None.
    """
    if _are_summed(filters):
        with one_snapshot():
            return _from_sums(filters, now)
    has_all = page.before is None and not page.is_full and page.searched_to is None
    if is_first and (has_all or filters.text):
        return ListSums(_added_up(page.calls), has_all)
    if filters.text:
        return None
    scans = plan_scans(filters, None)
    if not filters.q:
        return _from_rows(scans, CallSums())
    # The scans of a search for a text may find the same call.
    walk = Walk(scans)
    walk.read(MAX_FOUND, time.monotonic() + SECONDS)
    found = walk.found(MAX_FOUND)
    return ListSums(_sums_of_calls(found), walk.border is None and len(found) < MAX_FOUND)


def _are_summed(filters: Filters) -> bool:
    """Returns whether tables of sums have the number and cost of the calls that match the filters.

    This is so if the filters are only by key, model, route, outcome or time, and the list is not one for the holder of
    a key (`is_own`).
    """
    others = replace(filters, key=None, model=None, route=None, outcome="", since=None, until=None)
    return others == Filters() and not filters.is_own


def _from_sums(filters: Filters, now: datetime) -> ListSums:
    """Returns the number and cost of the calls that match `filters`, from sums of whole hours, else from rows.

    If reading the rows takes more than `SECONDS`, some calls are missing, and `ListSums.is_whole` is false.
    """
    start, end = _hours(filters, now)
    if start >= end:
        return _from_rows(plan_scans(filters, None), CallSums())
    scans = [
        *plan_scans(replace(filters, since=end), None),
        *plan_scans(replace(filters, until=start), None),
    ]
    if filters.model is not None and filters.model != UNKNOWN_MODEL:
        # The sums count calls under a common name if their model was not known when they ended.
        scans.append(IndexScan(UNKNOWN, conditions_of(filters), first_id(end), first_id(start)))
    return _from_rows(scans, _sums_of_hours(filters, start, end))


def _hours(filters: Filters, now: datetime) -> tuple[datetime, datetime]:
    """Returns the start and the end of the whole hours, in the filters' range, whose sums may be read.

    For the rest of the range, rows of calls are read. No calls of the returned hours have been deleted. If there are no
    such hours, the start is at the end or after it.
    """
    mark, latest = comparable_since(), ceiling(now, Span.HOUR)
    first = floor(oldest_call("usage_request", filters.since or FIRST_CALL) or latest, Span.HOUR)
    if mark is not None:
        first = max(first, ceiling(mark - DAY, Span.HOUR))  # `usage.upkeep.retention` stores a day more than it deletes
    if filters.since:
        first = max(first, ceiling(filters.since, Span.HOUR))
    return first, min(latest, floor(filters.until, Span.HOUR)) if filters.until else latest


def _sums_of_hours(filters: Filters, start: datetime, end: datetime) -> CallSums:
    equal = {"key_name": filters.key, "model": filters.model, "route": filters.route}
    further, values = "TRUE", list[SQLValue]()
    if (undated := model_of_any_date(filters.model)) is not None:
        equal["model"] = None
        further, values = "model = ANY(%s)", [names_of_model(undated)]
    if filters.outcome == ANY_FAILURE:
        further += f" AND outcome <> '{Outcome.SUCCESS}'"
    elif filters.outcome:
        equal["outcome"] = filters.outcome
    only = {name: value for name, value in equal.items() if value is not None}
    columns = ("calls", "cost", "unpriced_calls")
    rows = rows_of_range(start, end, columns, only, coarsest=Span.MONTH, by_key=False)
    with connection.cursor() as cursor:
        query = f"SELECT {', '.join(map(sum_sql, columns))} FROM ({rows.sql}) AS sums WHERE {further}"
        cursor.execute(query, [*rows.values, *values])
        return CallSums(*cursor.fetchone())


def _from_rows(scans: Sequence[IndexScan], sums: CallSums) -> ListSums:
    """Reads the calls that the `scans` find, for at most `SECONDS`; returns `sums` with their number and cost added.

    `ListSums.is_whole` says whether all calls were added. No call may be found by two of the scans, since it would
    count twice.
    """
    for part in _slices(scans, time.monotonic() + SECONDS):
        sums = sums.plus(part)
    return ListSums(sums, all(scan.is_done for scan in scans))


def _slices(scans: Iterable[IndexScan], deadline: float) -> Iterator[CallSums]:
    for scan in scans:
        while not scan.is_done and time.monotonic() < deadline:
            yield scan.sum_slice()


def _added_up(calls: Iterable[Request]) -> CallSums:
    sums = CallSums()
    for call in calls:
        is_unpriced = call.cost is None and call.price is None
        sums = sums.plus(CallSums(int(not call.by_gateway), call.cost or Decimal(0), int(is_unpriced)))
    return sums


def _sums_of_calls(ids: list[UUID]) -> CallSums:
    with connection.cursor() as cursor:
        cursor.execute(SUMS_OF_CALLS, [ids])
        return CallSums(*cursor.fetchone())
