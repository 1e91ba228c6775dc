"""Searches for calls among millions, in a time that does not grow with their number.

Calls are scanned newest first, by their id (a UUIDv7: the order of ids is the order of time), through the index of the
condition that the fewest calls fulfil. They are read slice by slice, and the other conditions are checked for each
slice. A scan ends when a page is full, when there are no more calls, or when its time is up. Then the page says how far
back the scan has come, and the next page goes on from there. Calls are never counted, and never skipped with OFFSET.

A search for words in prompts and answers goes through the bodies of the calls that match all other filters.
`call_search` has the parts of a search.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connection

from usage.call_record import CALLED_MODEL_SQL
from usage.database.query_deadline import limit_query_time
from usage.ids import first_id, time_of
from usage.models import Dimension, Request
from usage.page_data.call_search.hit_excerpts import Excerpt
from usage.page_data.call_search.index_scan import MAX_RARE_CALLS, IndexScan
from usage.page_data.call_search.scan_merging import Walk
from usage.page_data.call_search.word_search import WordSearch, first_call_with_body
from usage.page_data.filters import FAILED, UNKNOWN, Condition, Filters, conditions_of, find_names
from usage.sums.summed_names import UNKNOWN_MODEL

PAGE_SIZE = 50
PAGE_SECONDS = 0.08  # after this time no further slice is read for a page
WORDS_SECONDS = 0.8  # the same for a search in prompts and answers, which has much more to read
FIRST_BATCH = 100  # calls
BATCH_SECONDS = 1.0  # after this time no further slice is read for a batch of an export
MAX_NAMES = 8  # names of keys, and of models, that contain the searched text; further ones are not searched
ID_COLUMNS = ("incoming_request_id", "upstream_request_id", "response_id")


@dataclass(frozen=True)
class Page:
    """One page of search results: calls, by default newest first.

    * `before`: the request id below which the next page begins; None if there is no next page.
    * `is_full`: whether the page has as many calls as it may have.
    * `searched_to`: set if the search ran out of time: only the calls since this time have been searched.
    """

    calls: list[Request]
    before: UUID | None = None
    is_full: bool = False
    searched_to: datetime | None = None
    excerpts: Mapping[UUID, Sequence[Excerpt]] = field(default_factory=dict)  # of a search for words: those around them


def find(
    filters: Filters, before: UUID | None = None, wanted: int = PAGE_SIZE, max_seconds: float | None = None
) -> Page:
    """Searches for the newest calls that match the filters; returns one page of at most `wanted` calls.

    With `before`, a request id, only older calls are searched. If the searched text `q` is an id, the first page has
    the calls with this id, whatever the other filters say.

    The search stops after `max_seconds`, even if the page is not full; `Page.searched_to` is then set. The default is
    `PAGE_SECONDS`, or `WORDS_SECONDS` for words in prompts and answers.
    """
    if filters.q and before is None and (calls := find_by_id(filters.q)):
        return Page(calls)
    walk = Walk(plan_scans(filters, before))
    if filters.text:
        return _page_with_words(filters, walk, wanted, WORDS_SECONDS if max_seconds is None else max_seconds)
    walk.read(wanted + 1, time.monotonic() + (PAGE_SECONDS if max_seconds is None else max_seconds))
    return _page(walk, wanted)


def find_all(filters: Filters, batch: int = 1000) -> Iterator[list[Request]]:
    """Yields all calls that match the filters, newest first, in batches for exports. A batch may be empty.

    The first batch is small, so that the first bytes of an export are sent soon.

    Raises:
        django.db.OperationalError: the queries for one batch take longer than the time limit of a page's queries.
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
    """Returns the calls that have the given text as an id, newest first; an empty list if there are none.

    The request id is tried first, then the columns `ID_COLUMNS` in order. The first column with a match decides; at
    most `PAGE_SIZE` calls are returned.
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
    """Plans a search: returns the scans that together find all calls that match the filters.

    Only calls below the request id `before` are searched, if it is given.
    """
    floor = first_id(filters.since) if filters.since else None
    if filters.text:
        floor = first_call_with_body(floor)
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
    """Returns the SQL condition that the searched text occurs in a call's error code, error message or model.

    Error messages are searched only for people who may see them, and models only in calls whose model is unknown.
    """
    # A model that upstream has never answered for has no totals of its own, so its name is found in failed calls only.
    texts = ["error_code ILIKE %s", "unknown_model AND model ILIKE %s"]
    texts += ["error_message ILIKE %s"] if filters.with_messages else []
    return Condition(f"({' OR '.join(texts)})", (f"%{_escaped(filters.q)}%",) * len(texts))


def _find_rare(conditions: Sequence[Condition]) -> Condition | None:
    """Returns the first condition on cost or duration that is rare: fewer than `MAX_RARE_CALLS` calls fulfil it.

    A search then reads only these calls. Returns None if no condition is rare.
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


def _page(walk: Walk, wanted: int) -> Page:
    """Makes a page of at most `wanted` calls: the newest that a `Walk` (a search for calls) has found until now."""
    found = walk.found(wanted + 1)
    if len(found) > wanted:
        return Page(read_calls(found[:wanted]), before=found[wanted - 1], is_full=True)
    if walk.border is None:
        return Page(read_calls(found))
    return Page(read_calls(found), before=walk.border, searched_to=time_of(walk.border))


def _page_with_words(filters: Filters, walk: Walk, wanted: int, max_seconds: float) -> Page:
    """Searches calls for words in prompts and answers; returns a page of at most `wanted` calls.

    `walk` finds the calls that match all other filters; only these are searched. The search ends after about
    `max_seconds`.
    """
    search = WordSearch(filters.text, walk)
    search.go_on(wanted + 1, time.monotonic() + max_seconds)
    found = list(search.found)
    excerpts = {call_id: search.found[call_id] for call_id in found[:wanted]}
    if len(found) > wanted:
        return Page(read_calls(found[:wanted]), before=found[wanted - 1], is_full=True, excerpts=excerpts)
    if search.reached is None:
        return Page(read_calls(found), excerpts=excerpts)
    return Page(read_calls(found), before=search.reached, searched_to=time_of(search.reached), excerpts=excerpts)


def read_calls(ids: Sequence[UUID]) -> list[Request]:
    """Reads the calls with the given ids from the database, in the order of the ids; leaves out ids without a row."""
    by_id = Request.objects.in_bulk(ids)
    return [by_id[call_id] for call_id in ids if call_id in by_id]


def _escaped(text: str) -> str:
    r"""Escapes the wildcards of SQL's LIKE in a text, so that they stand for themselves: `50\%` for `50%`."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
