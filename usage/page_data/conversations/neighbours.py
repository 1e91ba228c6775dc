"""Finds the next newer and the next older call of a filtered list, for links from one call's page to another's."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import UUID

from usage.ids import first_id
from usage.page_data.call_search.walk import Walk
from usage.page_data.call_search.word_search import WordSearch
from usage.page_data.filters import Filters
from usage.page_data.search import PAGE_SECONDS, find, plan_scans


def find_neighbours(filters: Filters, call_id: UUID) -> tuple[UUID | None, UUID | None]:
    """Returns the ids of the next newer and the next older call that match the filters.

    Either is None if there is no such call, or none was found within `PAGE_SECONDS`.
    """
    older = find(filters, call_id, wanted=1, max_seconds=PAGE_SECONDS).calls
    return _find_newer(filters, call_id), older[0].pk if older else None


def _find_newer(filters: Filters, call_id: UUID) -> UUID | None:
    """Returns the id of the oldest call that matches the filters and is newer than another call."""
    until = first_id(filters.until) if filters.until else None
    scans = [replace(scan, at=call_id, floor=until, is_upward=True, found=[]) for scan in plan_scans(filters, None)]
    walk, deadline = Walk(scans), time.monotonic() + PAGE_SECONDS
    if filters.text:
        search = WordSearch(filters.text, walk)
        search.go_on(1, deadline)
        return next(iter(search.found), None)
    walk.read(1, deadline)
    return next(iter(walk.found(1)), None)
