"""Finds the next newer and the next older call of a filtered list, for links from one call's page to another's."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from uuid import UUID

from usage.ids import first_id
from usage.page_data.call_search.scan_merging import Walk
from usage.page_data.call_search.word_search import WordSearch
from usage.page_data.filters import Filters
from usage.page_data.search import PAGE_SECONDS, WORDS_SECONDS, find, plan_scans


@dataclass(frozen=True)
class Neighbours:
    """The calls next to a call in a filtered list: the ids of the newer and of the older one; None if none was found.

    * `is_newest`: whether the list has no newer call.
    * `older_below`: the request id below which calls have not been searched, if time ran out before an older call was
      found; otherwise None.
    """

    newer: UUID | None
    is_newest: bool
    older: UUID | None
    older_below: UUID | None


def find_neighbours(filters: Filters, call_id: UUID) -> Neighbours:
    """Returns the next newer and the next older call that match the filters, as seen from the call `call_id`.

    Each of the two searches ends after `PAGE_SECONDS` or, if it is for words in prompts and answers, after half of
    `WORDS_SECONDS`.
    """
    seconds = WORDS_SECONDS / 2 if filters.text else PAGE_SECONDS
    newer, is_newest = _find_newer(filters, call_id, seconds)
    page = find(filters, call_id, wanted=1, max_seconds=seconds)
    if page.calls:
        return Neighbours(newer, is_newest, page.calls[0].pk, None)
    return Neighbours(newer, is_newest, None, page.before)


def _find_newer(filters: Filters, call_id: UUID, seconds: float) -> tuple[UUID | None, bool]:
    """Searches for the next newer call that matches the filters; returns its id, and whether this call is the newest.

    The id is None if no newer call was found. If the search ran out of `seconds`, both are unknown: None and false.
    """
    until = first_id(filters.until) if filters.until else None
    scans = [replace(scan, at=call_id, floor=until, is_upward=True, found=[]) for scan in plan_scans(filters, None)]
    walk, deadline = Walk(scans), time.monotonic() + seconds
    if filters.text:
        search = WordSearch(filters.text, walk)
        search.go_on(1, deadline)
        newer, reached = next(iter(search.found), None), search.reached
    else:
        walk.read(1, deadline)
        newer, reached = next(iter(walk.found(1)), None), walk.border
    return newer, newer is None and reached is None
