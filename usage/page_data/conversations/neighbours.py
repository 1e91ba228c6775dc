"""The next newer and the next older call of a list, for somebody who reads one call after another."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import UUID

from usage.ids import first_id
from usage.page_data.filters import Filters
from usage.page_data.search import PAGE_SECONDS, find, plan_scans


def find_neighbours(filters: Filters, call_id: UUID) -> tuple[UUID | None, UUID | None]:
    """Returns the ids of the next newer and the next older call that match the filters.

    Either is None if there is no such call, or none was found within `PAGE_SECONDS`.
    """
    older = find(filters, call_id, wanted=1).calls
    return _find_newer(filters, call_id), older[0].pk if older else None


def _find_newer(filters: Filters, call_id: UUID) -> UUID | None:
    """Returns the id of the oldest call that matches the filters and is newer than another call."""
    until = first_id(filters.until) if filters.until else None
    scans = [replace(scan, at=call_id, floor=until, is_upward=True, found=[]) for scan in plan_scans(filters, None)]
    deadline = time.monotonic() + PAGE_SECONDS
    for scan in scans:
        scan.scan_slice(1)
    while time.monotonic() < deadline:
        behind = [scan for scan in scans if not scan.is_done and not scan.found]
        if not behind:
            break
        min(behind, key=lambda scan: scan.at or call_id).scan_slice(1)
    nearest = min((scan.found[0] for scan in scans if scan.found), default=None)
    # A search that has not come so far may still find a call before it.
    reached = min((scan.at for scan in scans if not scan.is_done and not scan.found and scan.at), default=None)
    return None if nearest is None or (reached is not None and reached < nearest) else nearest
