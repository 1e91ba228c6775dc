"""Merges several scans of calls: yields the ids that they find in the order of time, as far as all scans have come."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from usage.page_data.call_search.index_scan import IndexScan


@dataclass
class Walk:
    """A search for calls by one or more scans (`IndexScan`), whose results are merged in the order of time.

    Calls come newest first; if the scans read upwards (`is_upward`), oldest first. A call counts as found only once all
    scans have read up to it, because another scan may find a call that comes before it.
    """

    scans: Sequence[IndexScan]

    @property
    def _is_upward(self) -> bool:
        return self.scans[0].is_upward

    @property
    def border(self) -> UUID | None:
        """The request id at which the slowest scan is: all calls that come before it have been compared.

        Scans that have read everything do not count. None if all scans have read everything, or none has begun.
        """
        reached = (scan.at for scan in self.scans if not scan.is_done and scan.at is not None)
        return min(reached, default=None) if self._is_upward else max(reached, default=None)

    def read(self, wanted: int, deadline: float) -> None:
        """Searches on until `wanted` calls are found, no calls are left, or `time.monotonic()` reaches `deadline`.

        Calls are read in slices of some hundreds or thousands. Each scan reads at least one slice, even after the
        deadline, so that every search makes progress.
        """
        for scan in self._unfinished(wanted):
            scan.scan_slice(wanted)
        while time.monotonic() < deadline:
            # Always the scan that has come the least far reads its next slice.
            behind = self._unfinished(wanted)
            if not behind or len(self.found(wanted)) >= wanted:
                break
            self._last(behind).scan_slice(wanted)

    def found(self, most: int | None = None) -> list[UUID]:
        """Returns the ids of the calls found until now, at most `most`, in the order of the search.

        A call that lies beyond the place up to which all scans have read (`border`) is left out.
        """
        border = self.border
        found = {one for scan in self.scans for one in scan.found if border is None or self._is_reached(one, border)}
        return sorted(found, reverse=not self._is_upward)[:most]

    def take(self) -> list[UUID]:
        """Returns the ids of all calls found until now, and removes them from the results; `read` then searches on."""
        taken = self.found()
        known = set(taken)
        for scan in self.scans:
            scan.found = [one for one in scan.found if one not in known]
        return taken

    def _unfinished(self, wanted: int) -> list[IndexScan]:
        return [scan for scan in self.scans if not scan.is_done and len(scan.found) < wanted]

    def _last(self, scans: Sequence[IndexScan]) -> IndexScan:
        """Returns the scan that is furthest behind: the one of the given scans that has read the least far."""
        at = {id(scan): (scan.at or UUID(int=0)).int for scan in scans}
        order = 1 if self._is_upward else -1
        return min(scans, key=lambda scan: order * at[id(scan)])

    def _is_reached(self, one: UUID, border: UUID) -> bool:
        return one <= border if self._is_upward else one >= border
