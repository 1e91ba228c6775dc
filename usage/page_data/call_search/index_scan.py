"""Scans calls through one index, slice by slice, newest first or oldest first.

Calls are read by their id (a UUIDv7: the order of ids is the order of time).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from django.db import connection

from usage.call_record import CALLED_MODEL_SQL
from usage.page_data.filters import Condition, SQLValue

SLICE_SECONDS = 0.02  # after a slice that took less, the next one is larger; otherwise it is smaller
FIRST_SLICE, MAX_SLICE = 250, 8000  # numbers of calls
MAX_RARE_CALLS = 10_000  # if fewer calls exceed a threshold, they are quick to sort again for each slice
# The columns that are read for each call of a slice: all that conditions may refer to.
SLICE_COLUMNS = f"""request_id, key_name, {CALLED_MODEL_SQL} AS model, unknown_model, route, outcome, status, stream,
    cost, duration_ms, error_code, other_code, error_group, error_message, client_address, team, owner, end_user,
    session, tags, by_gateway, output_tokens, cost IS NULL AND price IS NULL AS needs_price"""


class CallSums(NamedTuple):
    """The number of some calls, their cost in dollars, and how many of them lack a price.

    Polls (the gateway's own requests for background responses) are not in the number of calls, but in the other two
    sums.
    """

    calls: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0

    def plus(self, other: CallSums) -> CallSums:
        return CallSums(self.calls + other.calls, self.cost + other.cost, self.unpriced + other.unpriced)


@dataclass
class IndexScan:
    """A search for calls through one database index, which reads some thousand calls at a time (a slice).

    * `is_upward`: whether the calls are read oldest first; by default, newest first.
    * `rare`: None, or a condition on cost or duration that few calls fulfil. If set, only these few calls are read.
    * `others`: the further conditions that a call must fulfil to be found, besides those by which it is read.
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
        """Reads and searches the next slice of calls; adds the ids of matching calls to `found`.

        Stops within the slice when `found` has `wanted` ids. After the last slice, `is_done` is set.
        """
        wanted -= len(self.found)
        started = time.monotonic()
        found, last, seen = self._read_slice(wanted)
        self.found += found
        if len(found) == wanted:
            self.at = found[-1]
        else:
            self._go_on(last, seen, started)

    def sum_slice(self) -> CallSums:
        """Reads the next slice of calls; returns the sums (`CallSums`) of those calls in it that match all conditions.

        After the last slice, `is_done` is set.
        """
        started = time.monotonic()
        query = f"""
            {self._slice_sql()}
            SELECT count(*) FILTER (WHERE is_match AND NOT by_gateway), COALESCE(sum(cost) FILTER (WHERE is_match), 0),
                   count(*) FILTER (WHERE is_match AND needs_price), {self._last_sql()}, count(*)
            FROM (SELECT *, ({self._others_sql()}) AS is_match FROM slice) AS judged
        """
        with connection.cursor() as cursor:
            cursor.execute(query, values_of([*self._bounds(), *self.others]))
            *sums, last, seen = cursor.fetchone()
        self._go_on(last, seen, started)
        return CallSums(*sums)

    def rank_slice(self, column: str, most: int) -> dict[UUID, float]:
        """Reads the next slice of calls; returns the matching calls in it that have the largest values of `column`.

        The result maps at most `most` request ids to their values in this numeric column; an unknown value counts as 0.
        After the last slice, `is_done` is set.
        """
        started = time.monotonic()
        query = f"""
            {self._slice_sql()}, largest AS MATERIALIZED (
                SELECT request_id, COALESCE({column}, 0)::float8 AS value FROM slice WHERE {self._others_sql()}
                ORDER BY value DESC, request_id DESC LIMIT {most}
            )
            SELECT ARRAY(SELECT request_id FROM largest ORDER BY request_id),
                   ARRAY(SELECT value FROM largest ORDER BY request_id), {self._last_sql()},
                   (SELECT count(*) FROM slice)
        """
        with connection.cursor() as cursor:
            cursor.execute(query, values_of([*self._bounds(), *self.others]))
            ids, values, last, seen = cursor.fetchone()
        self._go_on(last, seen, started)
        return dict(zip(ids, values, strict=True))

    def _go_on(self, last: UUID | None, seen: int, started: float) -> None:
        """Prepares the reading of the next slice; sets `is_done` if the slice that was just read was not full.

        That slice had `seen` calls, the last with the id `last`; its reading began at `started` (`time.monotonic()`).
        The next slice is larger after a quick reading, and smaller after a slow one.
        """
        if seen < self.size:
            self.is_done = True
            return
        self.at = last
        is_quick = time.monotonic() - started < SLICE_SECONDS
        self.size = min(self.size * 2, MAX_SLICE) if is_quick else max(self.size // 2, FIRST_SLICE)

    @property
    def _onward(self) -> str:
        """The SQL keyword for the order in which the scan reads calls: `ASC` (oldest first) or `DESC`."""
        return "ASC" if self.is_upward else "DESC"

    def _read_slice(self, wanted: int) -> tuple[list[UUID], UUID | None, int]:
        """Reads the next slice of calls from the database, and searches it for calls that match all conditions.

        Returns the ids of at most `wanted` matching calls, the last id in the slice, and the number of calls in the
        slice.
        """
        # Without further conditions, each call of the slice matches.
        query = f"""
            {self._slice_sql(self.size if self.others else min(self.size, wanted))}
            SELECT ARRAY(SELECT request_id FROM slice WHERE {self._others_sql()}
                         ORDER BY request_id {self._onward} LIMIT {wanted}), {self._last_sql()},
                   (SELECT count(*) FROM slice)
        """
        with connection.cursor() as cursor:
            cursor.execute(query, values_of([*self._bounds(), *self.others]))
            found, last, seen = cursor.fetchone()
        return found, last, seen

    def _slice_sql(self, size: int | None = None) -> str:
        """Returns the SQL clause `WITH slice AS …`, which reads the next slice of calls, at most `size`.

        If `size` is None, it is `self.size`. The clause has placeholders for the values of the conditions that
        `_bounds` returns.
        """
        return f"""WITH slice AS MATERIALIZED (
                SELECT {SLICE_COLUMNS} FROM usage_request WHERE {joined(self._bounds())}
                ORDER BY request_id {self._onward} LIMIT {size or self.size}
            )"""

    def _others_sql(self) -> str:
        return " AND ".join(condition.in_slice or condition.sql for condition in self.others) or "TRUE"

    def _last_sql(self) -> str:
        back = "DESC" if self.is_upward else "ASC"
        return f"(SELECT request_id FROM slice ORDER BY request_id {back} LIMIT 1)"

    def _bounds(self) -> list[Condition]:
        """Returns the SQL conditions that limit the next slice of calls: of the index, by request id, and `rare`.

        Each is left out if there is none. The conditions in `others`, which choose calls within the slice, are not
        included.
        """
        bounds = [self.along] if self.along else []
        if self.at is not None:
            bounds.append(Condition(f"request_id {'>' if self.is_upward else '<'} %s", (self.at,)))
        if self.floor is not None:
            bounds.append(Condition(f"request_id {'<' if self.is_upward else '>='} %s", (self.floor,)))
        if self.rare is not None:
            ids = (
                "request_id = ANY(ARRAY(SELECT request_id FROM ("
                f"SELECT request_id FROM usage_request WHERE {self.rare.sql} LIMIT {MAX_RARE_CALLS}) AS rare"
                f" WHERE {joined(bounds)} ORDER BY request_id {self._onward} LIMIT {self.size}))"
            )
            bounds.append(Condition(ids, (*self.rare.values, *values_of(bounds))))
        return bounds


def joined(conditions: Sequence[Condition]) -> str:
    """Joins SQL conditions by AND; returns `TRUE` if there are none."""
    return " AND ".join(condition.sql for condition in conditions) or "TRUE"


def values_of(conditions: Sequence[Condition]) -> list[SQLValue]:
    """Returns the values for the placeholders of SQL conditions, in their order."""
    return [value for condition in conditions for value in condition.values]
