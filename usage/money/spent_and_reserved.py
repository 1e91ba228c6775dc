"""Reads how much keys and teams have spent and reserved of their budgets, and ends leases and reservations.

One transaction writes a call's row, adds its cost to `UsageDay` and `TeamDay`, and subtracts the same dollars from its
worker's lease (a row of `Hold`, `usage.money.leases`); so every reader finds the dollars in exactly one of the two
places. A call of a key in a team may have shares of two leases: the key's and the team's. In the same transaction, the
reservation for a background response becomes a row of its own (for key and team). This row stays while the gateway
polls upstream for the response (`PendingResponse`), until the usage is counted. Until then it counts in the budgets of
each day, since the cost is filed under the day on which it becomes known. If the gateway does not poll
(BACKGROUND_POLL_SECONDS is 0), the reservation ends with the call.

A worker deletes its own leases. The leases of a killed worker are deleted when its journal has been shipped to the end
or, if that never happens, when they have not been renewed for a long time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.backends.utils import CursorWrapper

from usage.answers.reader import UNFINISHED_STATUSES
from usage.call_record import CallRecord, LeaseShare
from usage.database.last_statements import LastStatements
from usage.money.spenders import SpenderKind

# A host may be lost with its journals: then what its workers have leased is never given back, and its calls never get
# a row. A call takes no longer than REQUEST_TIMEOUT and the time in which its caller reads the answer.
ORPHANED_AFTER = timedelta(hours=1)
FORGOTTEN_AFTER = timedelta(days=31)  # upstream keeps a background response for 30 days

IS_PENDING = "EXISTS (SELECT FROM usage_pendingresponse AS pending WHERE pending.request_id = usage_hold.request_id)"
HAS_ROW = "EXISTS (SELECT FROM usage_request AS call WHERE call.request_id = usage_hold.request_id)"
# The gateway is going to learn the usage of the call's response by itself.
IS_AWAITED = f"(%(are_polled)s AND {IS_PENDING})"
SETTLE = f"DELETE FROM usage_hold WHERE request_id = ANY(%(ids)s::uuid[]) AND NOT {IS_AWAITED}"
SHRINK = """
    UPDATE usage_hold SET dollars = GREATEST(0, dollars - COALESCE(call.cost, 0)) FROM usage_request AS call
    WHERE call.request_id = usage_hold.request_id AND usage_hold.request_id = ANY(%s::uuid[])
"""
# Several leases are locked in the order of their ids, as workers lock them (`usage.money.lease_statements`).
TAKE_OFF = """
    WITH taken AS (
        SELECT id, sum(dollars) AS dollars FROM unnest(%s::uuid[], %s::numeric[]) AS one (id, dollars) GROUP BY id
    ), locked AS (SELECT request_id FROM usage_hold WHERE request_id IN (SELECT id FROM taken) ORDER BY 1 FOR UPDATE)
    UPDATE usage_hold SET dollars = usage_hold.dollars - taken.dollars FROM taken JOIN locked ON id = request_id
    WHERE usage_hold.request_id = taken.id
"""
RESERVE_APART = """
    INSERT INTO usage_hold (request_id, key_name, team, day, dollars)
    SELECT id, key_name, team, day, dollars FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::date[], %s::numeric[])
        AS one (id, key_name, team, day, dollars)
    WHERE EXISTS (SELECT FROM usage_pendingresponse AS pending WHERE pending.request_id = id)
    ON CONFLICT (request_id) DO NOTHING
"""
# `made_at` is a time by the database's clock, so it is only compared with that clock.
DROP_ORPHANS = (
    "DELETE FROM usage_hold WHERE made_at < COALESCE(%(now)s, now()) - %(forgotten_after)s"
    f" OR (made_at < COALESCE(%(now)s, now()) - %(orphaned_after)s OR {HAS_ROW}) AND NOT {IS_AWAITED}"
)
FIND_STRAYS = f"SELECT request_id FROM usage_hold WHERE {HAS_ROW} AND NOT {IS_AWAITED} ORDER BY request_id LIMIT 100"
_SPENT = """
    SELECT {column},
        sum(dollars) FILTER (WHERE day = %(today)s),
        sum(dollars) FILTER (WHERE date_trunc('month', day) = date_trunc('month', %(today)s::date)),
        sum(dollars),
        sum(dollars) FILTER (WHERE is_held),
        max(day) FILTER (WHERE calls > 0)
    FROM (
        SELECT {column}, day, cost AS dollars, calls, false AS is_held FROM {days} WHERE {column} = ANY(%(names)s)
        UNION ALL
        SELECT {column}, CASE WHEN writer = '' THEN GREATEST(day, %(today)s) ELSE day END, GREATEST(dollars, 0), 0, true
        FROM usage_hold WHERE {column} = ANY(%(names)s)
    ) AS spent
    GROUP BY {column}
"""
SPENT: dict[SpenderKind, str] = {
    "key": _SPENT.format(column="key_name", days="usage_usageday"),
    "team": _SPENT.format(column="team", days="usage_teamday"),
}


@dataclass(frozen=True)
class Spent:
    """The dollars that one spender has spent on one UTC day, in the month of this day, and in `total`.

    All three include the dollars that are reserved for calls in flight, or leased to workers for later calls. `held` is
    the sum of such reserved and leased dollars, of all days. `last_day` is the UTC day of the spender's newest call, or
    None if there is none.
    """

    day: Decimal = Decimal(0)
    month: Decimal = Decimal(0)
    total: Decimal = Decimal(0)
    held: Decimal = Decimal(0)
    last_day: date | None = field(default=None, compare=False)


def spent_by(kind: SpenderKind, names: Collection[str], today: date) -> dict[str, Spent]:
    """Returns the dollars that keys or teams have spent: on the UTC day `today`, in this day's month, and in total.

    A team's dollars are the cost of calls whose keys belonged to the team when the calls were made. Reserved dollars
    count as spent. The result maps each of `names` to its `Spent`.
    """
    none = Decimal(0)
    with connection.cursor() as cursor:
        cursor.execute(SPENT[kind], {"names": list(names), "today": today})
        found = {
            name: Spent(day or none, month or none, total or none, held or none, last_day)
            for name, day, month, total, held, last_day in cursor.fetchall()
        }
    return {name: found.get(name, Spent()) for name in names}


def responses_are_polled() -> bool:
    """Returns whether the gateway polls upstream for background responses: whether an interval and a key are set."""
    return bool(settings.BACKGROUND_POLL_SECONDS and settings.OPENAI_API_KEY)


def take_off_leases(cursor: CursorWrapper | LastStatements, rows: Iterable[CallRecord]) -> None:
    """Subtracts the dollars that ended calls took from their leases; a lease is a part of a budget for one worker.

    A call may have ended while its response goes on in the background. If the gateway polls that response, the call
    also gets a reservation of its own for the same dollars, until its usage is known. Call this function in the
    transaction that inserts the calls' rows.
    """
    with_shares = [(row, shares) for row in rows if (shares := _shares(row))]
    if not with_shares:
        return
    taken = [share for _, shares in with_shares for share in shares.values()]
    cursor.execute(TAKE_OFF, [[share["id"] for share in taken], [share["dollars"] for share in taken]])
    going_on = [
        (row, shares)
        for row, shares in with_shares
        if row.get("key_name") and row.get("response_status") in UNFINISHED_STATUSES
    ]
    if going_on and responses_are_polled():
        cursor.execute(RESERVE_APART, [
            [row["request_id"] for row, _ in going_on],
            [row["key_name"] if "key" in shares else "" for row, shares in going_on],
            [row.get("team", "") if "team" in shares else "" for row, shares in going_on],
            [str(row["started_at"])[:10] for row, _ in going_on],
            [max((share["dollars"] for share in shares.values()), key=Decimal) for _, shares in going_on],
        ])  # fmt: skip


def _shares(row: CallRecord) -> dict[SpenderKind, LeaseShare]:
    """Returns the dollars that a call has used of its key's lease and of its team's lease.

    A lease is a worker's part of a budget. The result maps `key` and `team` to the lease's id and the dollars; a lease
    that the call did not use is left out.
    """
    shares: dict[SpenderKind, LeaseShare | None] = {"key": row.get("lease"), "team": row.get("team_lease")}
    return {kind: share for kind, share in shares.items() if share is not None}


def end_leases(writer: str) -> None:
    """Deletes the leases (parts of budgets) of an ended worker.

    Call this when all records of the worker's journal have been copied to the database.
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_hold WHERE writer = %s AND writer <> ''", [writer])


def settle_reservations(cursor: CursorWrapper | LastStatements, ids: str, estimated: Collection[str] = ()) -> None:
    """Deletes the reservations (parts of budgets, set aside for one call) of calls whose rows have been written.

    `ids` are the calls' request ids, as the text of a PostgreSQL array. Call this in the transaction that writes the
    rows.

    The reservation of a background response stays while the response is polled. If its call is in `estimated`, the
    reservation is lowered by the estimated cost, because the sums have this cost now, and it must not count twice.
    """
    cursor.execute(SETTLE, {"ids": ids, "are_polled": responses_are_polled()})
    # The sums have their estimated cost now. A reservation that stays is reduced by it: otherwise the budget would
    # count the same dollars twice.
    if estimated:
        cursor.execute(SHRINK, [list(estimated)])


def drop_orphans(now: datetime | None = None) -> int:
    """Deletes abandoned leases and reservations, which set dollars of budgets aside; returns how many were deleted.

    * A lease, for the calls of one worker, is abandoned if it was not renewed for a long time.
    * A reservation, for one call, is abandoned if the call has ended and is in the ledger, or if the reservation is so
      old that a crash must have lost the call.
    * The reservation of a background response stays as long as the gateway asks upstream about the response, and
      upstream may still have it.

    `now` is the database's time by default.
    """
    orphaned_after = ORPHANED_AFTER + timedelta(seconds=settings.REQUEST_TIMEOUT)
    values: dict[str, Any] = {"now": now, "forgotten_after": FORGOTTEN_AFTER, "orphaned_after": orphaned_after}
    values["are_polled"] = responses_are_polled()
    with connection.cursor() as cursor:
        cursor.execute(DROP_ORPHANS, values)
        return int(cursor.rowcount)


def find_strays() -> list[str]:
    """Returns the request ids of at most 100 calls that budgets count twice: by the call's row, and by a reservation.

    Calls whose background response is still polled are left out, since they rightly have both.
    """
    with connection.cursor() as cursor:
        cursor.execute(FIND_STRAYS, {"are_polled": responses_are_polled()})
        return [str(request_id) for (request_id,) in cursor.fetchall()]
