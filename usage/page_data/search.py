"""The search for calls among millions, in a time that does not grow with them.

Calls are scanned newest first, by their id (a UUIDv7: the order of ids is the order of time), along the index of the
narrowest condition. The other conditions are checked on the way, in slices. A scan ends when a page is full, when there
are no more calls, or when its time is up; then the page says how far back the scan has come, and the next one goes on
from there. Calls are never counted, and OFFSET skips none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connection

from usage.call_record import CALLED_MODEL_SQL
from usage.database.query_deadline import limit_query_time
from usage.ids import first_id, time_of
from usage.models import Dimension, Request, Span, UsageTotal
from usage.page_data.filters import FAILED, UNKNOWN, Condition, Filters, SQLValue, conditions_of
from usage.sums.summed_names import UNKNOWN_MODEL

PAGE_SIZE = 50
PAGE_SECONDS = 0.08  # then no slice more begins
BATCH_SECONDS = 1.0  # likewise, for a batch of an export
SLICE_SECONDS = 0.02  # slices that take less grow, others shrink
FIRST_SLICE, MAX_SLICE = 1000, 8000  # calls
MAX_RARE_CALLS = 10_000  # beyond a threshold: so few are sorted anew for each slice
MAX_NAMES = 8  # keys, and models, whose names contain the text that is looked for
ID_COLUMNS = ("incoming_request_id", "upstream_request_id", "response_id")
# The columns of a slice: all that conditions are about.
SLICE_COLUMNS = f"""request_id, key_name, {CALLED_MODEL_SQL} AS model, unknown_model, route, outcome, status, stream,
    cost, duration_ms, error_code, other_code, error_message, client_address"""


@dataclass(frozen=True)
class Page:
    """The calls of one page of search results, newest first.

    If `before` is set, older calls may follow: the next page begins before this id. Then either the page is full, or
    the time was up when the calls back to `searched_to` had been searched.
    """

    calls: list[Request]
    before: UUID | None = None
    is_full: bool = False
    searched_to: datetime | None = None


@dataclass
class IndexScan:
    """One search through the calls, newest first: along an index of ids, checking the conditions `others` on the way.

    `rare` is a threshold that few calls exceed. Its index is ordered by the value, so those few are sorted by their id.
    """

    along: Condition | None  # its index gives the calls in the order of their ids; None: the primary key does
    others: list[Condition]
    at: UUID | None  # only calls before this id have yet to be looked at; None: all
    floor: UUID | None  # no call before this id is wanted
    rare: Condition | None = None
    size: int = field(default_factory=lambda: FIRST_SLICE)  # calls of the next slice
    found: list[UUID] = field(default_factory=list)
    is_done: bool = False

    def scan_slice(self, wanted: int) -> None:
        """Searches one more slice of the calls, for as many matches as are missing to `wanted`."""
        wanted -= len(self.found)
        started = time.monotonic()
        found, last, seen = self._read_slice(wanted)
        self.found += found
        if len(found) == wanted:
            self.at = found[-1]
        elif seen < self.size:
            self.is_done = True
        else:
            self.at = last
            is_quick = time.monotonic() - started < SLICE_SECONDS
            self.size = min(self.size * 2, MAX_SLICE) if is_quick else max(self.size // 2, FIRST_SLICE)

    def _read_slice(self, wanted: int) -> tuple[list[UUID], UUID | None, int]:
        """Returns the ids of matching calls, at most `wanted`; the oldest id of the slice; and the slice's length."""
        bounds = self._bounds()
        others = " AND ".join(condition.in_slice or condition.sql for condition in self.others) or "TRUE"
        query = f"""
            WITH slice AS MATERIALIZED (
                SELECT {SLICE_COLUMNS} FROM usage_request WHERE {_joined(bounds)}
                ORDER BY request_id DESC LIMIT {self.size}
            )
            SELECT ARRAY(SELECT request_id FROM slice WHERE {others}
                         ORDER BY request_id DESC LIMIT {wanted}),
                   (SELECT request_id FROM slice ORDER BY request_id LIMIT 1), (SELECT count(*) FROM slice)
        """
        with connection.cursor() as cursor:
            cursor.execute(query, _values([*bounds, *self.others]))
            found, last, seen = cursor.fetchone()
        return found, last, seen

    def _bounds(self) -> list[Condition]:
        """Returns the SQL conditions that select the next slice of calls."""
        bounds = [self.along] if self.along else []
        if self.at is not None:
            bounds.append(Condition("request_id < %s", (self.at,)))
        if self.floor is not None:
            bounds.append(Condition("request_id >= %s", (self.floor,)))
        if self.rare is not None:
            ids = (
                "request_id = ANY(ARRAY(SELECT request_id FROM ("
                f"SELECT request_id FROM usage_request WHERE {self.rare.sql} LIMIT {MAX_RARE_CALLS}) AS rare"
                f" WHERE {_joined(bounds)} ORDER BY request_id DESC LIMIT {self.size}))"
            )
            bounds.append(Condition(ids, (*self.rare.values, *_values(bounds))))
        return bounds


def find(
    filters: Filters, before: UUID | None = None, wanted: int = PAGE_SIZE, max_seconds: float = PAGE_SECONDS
) -> Page:
    """Returns the newest calls that match the filters and are older than the call `before`.

    After `max_seconds` no further slice of the calls is searched.
    """
    if filters.q and before is None and (calls := find_by_id(filters.q)):
        return Page(calls)
    scans = _plan(filters, before)
    deadline = time.monotonic() + max_seconds
    for scan in scans:
        # Each scan gets one slice; then the least advanced goes on, until all have found enough or time is up.
        scan.scan_slice(wanted + 1)
    while time.monotonic() < deadline:
        behind = [scan for scan in scans if not scan.is_done and len(scan.found) <= wanted]
        if not behind or len(_found_by_all(scans, wanted)) > wanted:
            break
        max(behind, key=lambda scan: scan.at or UUID(int=0)).scan_slice(wanted + 1)
    return _merge(scans, wanted)


def find_all(filters: Filters, batch: int = 1000) -> Iterator[list[Request]]:
    """Yields all calls that match the filters, newest first, in batches, for exports. A batch may be empty."""
    before = None
    while True:
        with limit_query_time():
            page = find(filters, before, batch, max_seconds=BATCH_SECONDS)
        yield page.calls
        if page.before is None:
            return
        before = page.before


def find_by_id(text: str) -> list[Request]:
    """Returns the calls with this whole id: as request id, else in the first of `ID_COLUMNS` where any call has it."""
    try:
        if call := Request.objects.filter(pk=UUID(text)).first():
            return [call]
    except ValueError:
        pass
    for column in ID_COLUMNS:
        # Empty ids are excluded explicitly, so that the planner sees that the index, which leaves them out, will do.
        calls = Request.objects.filter(**{column: text}).exclude(**{column: ""}).order_by("-request_id")[:PAGE_SIZE]
        if found := list(calls):
            return found
    return []


def _plan(filters: Filters, before: UUID | None) -> list[IndexScan]:
    """Returns the scans that together find the calls which match the filters.

    Without a text to search for there is one scan; else one for each key or model whose name contains the text, and one
    for failed calls, whose errors may contain the text.
    """
    floor = first_id(filters.since) if filters.since else None
    until = first_id(filters.until) if filters.until else None
    at = min(filter(None, (before, until)), default=None)
    conditions = conditions_of(filters)
    if not filters.q:
        rare = _find_rare(conditions)
        along = next((condition for condition in conditions if condition.has_index), None) if rare is None else None
        return [IndexScan(along, [condition for condition in conditions if condition is not along], at, floor, rare)]
    names = [
        UNKNOWN if name == UNKNOWN_MODEL else Condition(f"{column} = %s", (name,))
        for dimension, column in ((Dimension.KEY, "key_name"), (Dimension.MODEL, CALLED_MODEL_SQL))
        for name in _names_like(dimension, filters.q)
    ]
    return [
        *(IndexScan(name, conditions, at, floor) for name in names),
        IndexScan(FAILED, [_error_text_condition(filters), *conditions], at, floor),
    ]


def _error_text_condition(filters: Filters) -> Condition:
    """Returns the SQL condition that an error's code or message, or the name of an unknown model, contains `q`."""
    # The totals do not know the names of models that upstream has never answered for; the rows of failures do.
    texts = ["error_code ILIKE %s", "unknown_model AND model ILIKE %s"]
    texts += ["error_message ILIKE %s"] if filters.with_messages else []
    return Condition(f"({' OR '.join(texts)})", (f"%{_escaped(filters.q)}%",) * len(texts))


def _find_rare(conditions: Sequence[Condition]) -> Condition | None:
    """Returns the first threshold (of cost or duration) that fewer than `MAX_RARE_CALLS` calls exceed, or None."""
    for condition in conditions:
        if condition.is_threshold:
            with connection.cursor() as cursor:
                beyond = f"SELECT FROM usage_request WHERE {condition.sql} LIMIT {MAX_RARE_CALLS}"
                cursor.execute(f"SELECT count(*) FROM ({beyond}) AS beyond", condition.values)
                (count,) = cursor.fetchone()
            if count < MAX_RARE_CALLS:
                return condition
    return None


def _names_like(dimension: Dimension, text: str) -> list[str]:
    """Returns the names of keys or models that contain the text, from the totals: they have all names, and few rows."""
    names = UsageTotal.objects.filter(span=Span.DAY, dimension=dimension, value__icontains=text).order_by("value")
    return list(names.values_list("value", flat=True).distinct()[:MAX_NAMES])


def _found_by_all(scans: Sequence[IndexScan], wanted: int) -> list[UUID]:
    """Returns the ids of the calls found in the part that every scan has searched, newest first, at most `wanted` + 1.

    Further back a slower scan may yet find calls that belong between the calls already found.
    """
    border = _border(scans)
    found = {request_id for scan in scans for request_id in scan.found if border is None or request_id >= border}
    return sorted(found, reverse=True)[: wanted + 1]


def _border(scans: Sequence[IndexScan]) -> UUID | None:
    """Returns the id down to which every scan has searched; None if all scans have ended."""
    return max((scan.at for scan in scans if not scan.is_done and scan.at is not None), default=None)


def _merge(scans: Sequence[IndexScan], wanted: int) -> Page:
    """Returns a page of the calls that all scans together have found."""
    found = _found_by_all(scans, wanted)
    by_id = Request.objects.in_bulk(found[:wanted])
    calls = [by_id[request_id] for request_id in found[:wanted] if request_id in by_id]
    if len(found) > wanted:
        return Page(calls, before=found[wanted - 1], is_full=True)
    border = _border(scans)
    if border is None:
        return Page(calls)
    return Page(calls, before=border, searched_to=time_of(border))


def _joined(conditions: Sequence[Condition]) -> str:
    return " AND ".join(condition.sql for condition in conditions) or "TRUE"


def _values(conditions: Sequence[Condition]) -> list[SQLValue]:
    return [value for condition in conditions for value in condition.values]


def _escaped(text: str) -> str:
    """Returns a text with the wildcards of SQL's LIKE escaped, so that a pattern takes them literally."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
