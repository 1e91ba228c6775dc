"""The search for calls among millions, in a time that does not grow with their number.

Calls are scanned newest first, by their id (a UUIDv7: the order of ids is the order of time), along the index of the
condition that the fewest calls fulfil. They are read slice by slice, and the other conditions are checked for each
slice. A scan ends when a page is full, when there are no more calls, or when its time is up. Then the page says how far
back the scan has come, and the next page goes on from there. Calls are never counted, and never skipped with OFFSET.
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
from usage.models import Dimension, Request
from usage.page_data.filters import FAILED, UNKNOWN, Condition, Filters, SQLValue, conditions_of, find_names
from usage.sums.summed_names import UNKNOWN_MODEL

PAGE_SIZE = 50
PAGE_SECONDS = 0.08  # after this time no further slice is read for a page
FIRST_BATCH = 100  # calls
BATCH_SECONDS = 1.0  # after this time no further slice is read for a batch of an export
SLICE_SECONDS = 0.02  # after a slice that took less, the next one is larger; otherwise it is smaller
FIRST_SLICE, MAX_SLICE = 1000, 8000  # numbers of calls
MAX_RARE_CALLS = 10_000  # if fewer calls exceed a threshold, they are quick to sort again for each slice
MAX_NAMES = 8  # names of keys, and of models, that contain the searched text; further ones are not searched
ID_COLUMNS = ("incoming_request_id", "upstream_request_id", "response_id")
# The columns that are read for each call of a slice: all that conditions may refer to.
SLICE_COLUMNS = f"""request_id, key_name, {CALLED_MODEL_SQL} AS model, unknown_model, route, outcome, status, stream,
    cost, duration_ms, error_code, other_code, error_message, client_address, team, owner, end_user, session, tags"""


@dataclass(frozen=True)
class Page:
    """One page of search results: calls, newest first.

    If `before` is set, there may be older calls, and the next page has those with a lower request id than `before`.
    This page then ended because it is full (`is_full`), or because the time was up. In the second case `searched_to` is
    the time back to which calls have been searched.
    """

    calls: list[Request]
    before: UUID | None = None
    is_full: bool = False
    searched_to: datetime | None = None


@dataclass
class IndexScan:
    """One search for calls through an index of their table, in slices: newest first, or oldest first (`is_upward`).

    The scan reads the calls in the order of the index, and checks the conditions `others` on each call without an
    index. If there is a condition `rare`, on cost or duration, only the few calls that fulfil it are read. They are
    found by the index of that column, which is not in the order of time, so they are sorted by id.
    """

    along: Condition | None  # the scan follows the index of this condition; None: it follows the primary key
    others: list[Condition]
    at: UUID | None  # calls beyond this id have not been searched yet; None: no call has been searched
    floor: UUID | None  # the search ends at this id; None: at the last call
    rare: Condition | None = None
    size: int = field(default_factory=lambda: FIRST_SLICE)  # the number of calls in the next slice
    found: list[UUID] = field(default_factory=list)
    is_done: bool = False
    is_upward: bool = False

    def scan_slice(self, wanted: int) -> None:
        """Searches the next slice of calls, and adds the ids of matching calls to `found`, up to `wanted` ids in all.

        Sets `is_done` after the last slice.
        """
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
            # A slice that was read quickly is followed by a larger one.
            self.size = min(self.size * 2, MAX_SLICE) if is_quick else max(self.size // 2, FIRST_SLICE)

    @property
    def _onward(self) -> str:
        """The order in which the scan reads calls, in SQL."""
        return "ASC" if self.is_upward else "DESC"

    def _read_slice(self, wanted: int) -> tuple[list[UUID], UUID | None, int]:
        """Reads the next slice of calls from the database, and searches it for calls that match all conditions.

        Returns the ids of at most `wanted` matching calls, the last id in the slice, and the number of calls in the
        slice.
        """
        onward, back = self._onward, "DESC" if self.is_upward else "ASC"
        bounds = self._bounds()
        others = " AND ".join(condition.in_slice or condition.sql for condition in self.others) or "TRUE"
        query = f"""
            WITH slice AS MATERIALIZED (
                SELECT {SLICE_COLUMNS} FROM usage_request WHERE {_joined(bounds)}
                ORDER BY request_id {onward} LIMIT {self.size}
            )
            SELECT ARRAY(SELECT request_id FROM slice WHERE {others}
                         ORDER BY request_id {onward} LIMIT {wanted}),
                   (SELECT request_id FROM slice ORDER BY request_id {back} LIMIT 1), (SELECT count(*) FROM slice)
        """
        with connection.cursor() as cursor:
            cursor.execute(query, _values([*bounds, *self.others]))
            found, last, seen = cursor.fetchone()
        return found, last, seen

    def _bounds(self) -> list[Condition]:
        """Returns the SQL conditions for the calls of the next slice, without the conditions in `others`."""
        bounds = [self.along] if self.along else []
        if self.at is not None:
            bounds.append(Condition(f"request_id {'>' if self.is_upward else '<'} %s", (self.at,)))
        if self.floor is not None:
            bounds.append(Condition(f"request_id {'<' if self.is_upward else '>='} %s", (self.floor,)))
        if self.rare is not None:
            ids = (
                "request_id = ANY(ARRAY(SELECT request_id FROM ("
                f"SELECT request_id FROM usage_request WHERE {self.rare.sql} LIMIT {MAX_RARE_CALLS}) AS rare"
                f" WHERE {_joined(bounds)} ORDER BY request_id {self._onward} LIMIT {self.size}))"
            )
            bounds.append(Condition(ids, (*self.rare.values, *_values(bounds))))
        return bounds


def find(
    filters: Filters, before: UUID | None = None, wanted: int = PAGE_SIZE, max_seconds: float = PAGE_SECONDS
) -> Page:
    """Searches for the newest calls that match the filters, and returns one page of them.

    With `before`, a request id, only older calls are searched. If the searched text `q` is an id, the first page has
    just its calls, whatever the other filters say. After `max_seconds` the search ends, and the page says how far back
    it has come.
    """
    if filters.q and before is None and (calls := find_by_id(filters.q)):
        return Page(calls)
    scans = plan_scans(filters, before)
    deadline = time.monotonic() + max_seconds
    for scan in scans:
        # Each scan reads one slice. Then always the scan that has come the least far back reads its next slice, until
        # all have found enough or the time is up.
        scan.scan_slice(wanted + 1)
    while time.monotonic() < deadline:
        behind = [scan for scan in scans if not scan.is_done and len(scan.found) <= wanted]
        if not behind or len(_found_by_all(scans, wanted)) > wanted:
            break
        max(behind, key=lambda scan: scan.at or UUID(int=0)).scan_slice(wanted + 1)
    return _merge(scans, wanted)


def find_all(filters: Filters, batch: int = 1000) -> Iterator[list[Request]]:
    """Yields all calls that match the filters, newest first, in batches for exports. A batch may be empty.

    The first batch is a small one, so that the first bytes of an export are soon there.

    Raises:
        django.db.OperationalError: the queries for one batch take longer than a page may.
    """
    before = None
    wanted = min(FIRST_BATCH, batch)
    while True:
        with limit_query_time():
            page = find(filters, before, wanted, max_seconds=BATCH_SECONDS)
        yield page.calls
        if page.before is None:
            return
        before, wanted = page.before, batch


def find_by_id(text: str) -> list[Request]:
    """Returns the calls with the given text as an id: as request id or, if no call matches, as another id.

    The columns of other ids (`ID_COLUMNS`) are tried in order, up to the first with a match, of which at most
    `PAGE_SIZE` calls are returned, newest first.
    """
    try:
        if call := Request.objects.filter(pk=UUID(text)).first():
            return [call]
    except ValueError:
        pass
    for column in ID_COLUMNS:
        # The index has no empty ids. They are excluded here, too, so that PostgreSQL's planner sees that it can use it.
        calls = Request.objects.filter(**{column: text}).exclude(**{column: ""}).order_by("-request_id")[:PAGE_SIZE]
        if found := list(calls):
            return found
    return []


def plan_scans(filters: Filters, before: UUID | None) -> list[IndexScan]:
    """Returns the scans that together find all calls that match the filters and are older than `before`."""
    floor = first_id(filters.since) if filters.since else None
    until = first_id(filters.until) if filters.until else None
    at = min(filter(None, (before, until)), default=None)
    conditions = conditions_of(filters)
    if not filters.q:
        # One scan suffices, or one for each name of a model that has several.
        rare = _find_rare(conditions)
        indexed = (condition for condition in conditions if condition.has_index or condition.any_of)
        along = next(indexed, None) if rare is None else None
        others = [condition for condition in conditions if condition is not along]
        return [IndexScan(one, others, at, floor, rare) for one in (along.any_of if along else ()) or (along,)]
    names = [
        UNKNOWN if name == UNKNOWN_MODEL else Condition(f"{column} = %s", (name,))
        for dimension, column in ((Dimension.KEY, "key_name"), (Dimension.MODEL, CALLED_MODEL_SQL))
        for name in find_names(dimension, filters.q, MAX_NAMES)
    ]
    # One scan for each key or model whose name has the text, and one for failed calls, whose errors may have it.
    return [
        *(IndexScan(name, conditions, at, floor) for name in names),
        IndexScan(FAILED, [_error_text_condition(filters), *conditions], at, floor),
    ]


def _error_text_condition(filters: Filters) -> Condition:
    """Returns the SQL condition that a call's error code, message or unknown model contains the searched text.

    Messages are searched only for people who may see them.
    """
    # A model that upstream has never answered for has no totals of its own, so its name is found in failed calls only.
    texts = ["error_code ILIKE %s", "unknown_model AND model ILIKE %s"]
    texts += ["error_message ILIKE %s"] if filters.with_messages else []
    return Condition(f"({' OR '.join(texts)})", (f"%{_escaped(filters.q)}%",) * len(texts))


def _find_rare(conditions: Sequence[Condition]) -> Condition | None:
    """Returns the first condition on cost or duration that fewer than `MAX_RARE_CALLS` calls fulfil.

    A search then needs to read only these calls. Returns None if there is no such condition.
    """
    for condition in conditions:
        if condition.is_threshold:
            with connection.cursor() as cursor:
                beyond = f"SELECT FROM usage_request WHERE {condition.sql} LIMIT {MAX_RARE_CALLS}"
                cursor.execute(f"SELECT count(*) FROM ({beyond}) AS beyond", condition.values)
                (count,) = cursor.fetchone()
            if count < MAX_RARE_CALLS:
                return condition
    return None


def _found_by_all(scans: Sequence[IndexScan], wanted: int) -> list[UUID]:
    """Returns the ids of the matching calls, newest first, back to the time that all scans have reached.

    At most `wanted` + 1 ids are returned: the last one shows that there is a further page.
    """
    border = _border(scans)
    # Before that time, a slower scan may still find newer calls.
    found = {request_id for scan in scans for request_id in scan.found if border is None or request_id >= border}
    return sorted(found, reverse=True)[: wanted + 1]


def _border(scans: Sequence[IndexScan]) -> UUID | None:
    """Returns the request id that all unfinished scans have reached; None if all scans are finished."""
    return max((scan.at for scan in scans if not scan.is_done and scan.at is not None), default=None)


def _merge(scans: Sequence[IndexScan], wanted: int) -> Page:
    """Returns a page of at most `wanted` calls, the newest that all scans together have found."""
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
    """Returns a text with SQL's wildcards escaped, so that LIKE takes it literally: `50\\%` for `50%`."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
