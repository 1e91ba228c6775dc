"""The SQL statements with which a worker gets dollars of budgets from PostgreSQL (leases), and gives them back.

A grant first takes the advisory lock of its spender (a key or a team). The snapshot of the next statement therefore
shows every earlier grant. This statement adds to the lease's row no more than the spent, reserved and leased dollars
leave of each budget. Dollars are given back without that lock, since more room in a budget harms nobody.

The reservation of a background response (a row without a writer) counts in the budget of its call's day, and of each
later day and month until the response's usage is known: the cost is filed under the day on which it becomes known.

A worker that gets no answer to a statement does not know whether it was executed, or will be later. So each statement
has the number of its round trip, `version`, and has no effect on a row that was changed in a later round trip.

Rows of leases are locked in the order of their ids, and a transaction locks no further row after it has waited for a
spender. So workers and shippers never deadlock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

from usage.database.last_statements import WAIT_FOR_DISK
from usage.money.leases import Lease, Need
from usage.money.spenders import SpenderKind

SPANS = ("day", "month", "total")
PART = 8  # a lease gets at most an eighth of what is left for calls to come, and nothing once that is less than a call
RECALL_SECONDS = 3  # within which a worker that is alive has given back what it does not use

BEGIN = """
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL statement_timeout = 900"""
COMMIT = "COMMIT"
# The same for a key as in older versions.
LOCKS: dict[SpenderKind, str] = {
    "key": "SELECT pg_advisory_xact_lock(hashtextextended('chatproxy budget ' || %s, 0))",
    "team": "SELECT pg_advisory_xact_lock(hashtextextended('chatproxy budget of a team ' || %s, 0))",
}
_GRANT = """
WITH spent AS (
    SELECT
        COALESCE(sum(cost) FILTER (WHERE day = %(day)s), 0) AS day,
        COALESCE(sum(cost) FILTER (WHERE day >= %(month_start)s AND day < %(month_end)s), 0) AS month,
        COALESCE(sum(cost), 0) AS total
    FROM {days} WHERE {column} = %(name)s AND day >= COALESCE(%(since)s::date, '-infinity')
), held AS (
    SELECT
        COALESCE(sum(GREATEST(dollars, 0)) FILTER (WHERE day = %(day)s), 0) AS day,
        COALESCE(sum(GREATEST(dollars, 0)) FILTER (WHERE day >= %(month_start)s AND day < %(month_end)s), 0) AS month,
        COALESCE(sum(GREATEST(dollars, 0)), 0) AS total
    FROM (
        SELECT dollars, CASE WHEN writer = '' THEN GREATEST(day, %(day)s) ELSE day END AS day
        FROM usage_hold WHERE {column} = %(name)s
    ) AS one
), room AS (
    SELECT COALESCE(LEAST(
        %(day_budget)s::numeric - spent.day - held.day,
        %(month_budget)s::numeric - spent.month - held.month,
        %(total_budget)s::numeric - spent.total - held.total
    ), %(need)s + %(part)s * %(spare)s) AS dollars
    FROM spent, held
), needed AS (
    SELECT CASE WHEN dollars >= %(least)s THEN GREATEST(LEAST(%(need)s, dollars), 0) ELSE 0 END AS dollars FROM room
), part AS (
    SELECT
        needed.dollars AS needed,
        CASE WHEN needed.dollars = %(need)s AND (room.dollars - needed.dollars) / %(part)s >= %(unit)s
            THEN LEAST(%(spare)s, trunc((room.dollars - needed.dollars) / %(part)s, 8)) ELSE 0 END AS spare
    FROM needed, room
), lease AS (
    INSERT INTO usage_hold (request_id, key_name, team, day, writer, dollars, granted, version, has_spare)
    SELECT
        %(id)s::uuid, %(key_name)s, %(team)s, %(day)s, %(writer)s,
        needed + spare, needed + spare, %(version)s, spare > 0
    FROM part WHERE needed + spare > 0
    ON CONFLICT (request_id) DO UPDATE SET
        dollars = usage_hold.dollars + EXCLUDED.dollars, granted = usage_hold.granted + EXCLUDED.granted,
        version = EXCLUDED.version, made_at = now(),
        has_spare = EXCLUDED.has_spare OR (usage_hold.has_spare AND %(need)s = 0),
        recalled_at = CASE WHEN usage_hold.has_spare THEN usage_hold.recalled_at END
    WHERE usage_hold.version <= EXCLUDED.version
    RETURNING granted
), others AS (
    SELECT request_id, recalled_at FROM usage_hold
    WHERE {column} = %(name)s AND has_spare AND request_id <> %(id)s::uuid
        AND COALESCE(recalled_at > now() - make_interval(secs => %(recall_seconds)s), true)
), recalled AS (
    UPDATE usage_hold SET recalled_at = now() WHERE request_id IN (
        SELECT usage_hold.request_id FROM usage_hold JOIN others USING (request_id), part
        WHERE others.recalled_at IS NULL AND part.needed < %(need)s
        FOR UPDATE OF usage_hold SKIP LOCKED
    )
)
SELECT spent.*, held.*, (SELECT count(*) FROM others), part.spare, (SELECT granted FROM lease) AS granted
FROM spent, held, part"""
GRANTS: dict[SpenderKind, str] = {
    "key": _GRANT.format(days="usage_usageday", column="key_name"),
    "team": _GRANT.format(days="usage_teamday", column="team"),
}
# Rows that somebody else has locked are waited for in the order in which the shipper locks them.
LOCK_LEASES = "SELECT FROM usage_hold WHERE request_id = ANY(%(ids)s::uuid[]) ORDER BY request_id FOR UPDATE"
GIVE_BACK = """
UPDATE usage_hold SET
    dollars = usage_hold.dollars - given.dollars, granted = granted - given.dollars, version = %(version)s,
    has_spare = given.has_spare, made_at = now(), recalled_at = CASE WHEN given.has_spare THEN recalled_at END
FROM unnest(%(ids)s::uuid[], %(dollars)s::numeric[], %(has_spare)s::boolean[]) AS given (id, dollars, has_spare)
WHERE request_id = given.id AND version <= %(version)s"""
DELETE_SHIPPED = "DELETE FROM usage_hold WHERE request_id = ANY(%s::uuid[]) AND dollars <= 0"
LOOK = """
SELECT request_id::text, recalled_at IS NOT NULL AS is_recalled, granted AS granted_in_all FROM usage_hold
WHERE request_id = ANY(%s::uuid[])"""


class Mogrify(Protocol):
    """Function that returns an SQL statement with the parameters put into its text, as psycopg's client cursors do."""

    def __call__(self, query: str, parameters: Sequence[object] | Mapping[str, object], /) -> str: ...


@dataclass(frozen=True)
class Grant:
    """The database's answer to a lease's request for dollars; a lease is the part of a budget that one worker may use.

    * `spent`: the dollars spent of the budgets, by span (`day`, `month` and `total`).
    * `held`: the dollars reserved or leased before this answer, by span.
    * `granted`: all dollars that this lease has got, less those given back; None if this request got nothing.
    * `spare`: the part of the new dollars that is meant for later calls.
    * `others`: the number of other workers' leases that may have unused dollars.
    """

    spent: dict[str, Decimal]
    held: dict[str, Decimal]
    others: int
    spare: Decimal
    granted: Decimal | None

    @classmethod
    def from_row(cls, row: Sequence[object]) -> Grant:
        """Makes a `Grant` from the row that is the result of the SQL statement that grants dollars to a lease."""
        *sums, others, spare, granted = row
        spent, held = (dict(zip(SPANS, three, strict=True)) for three in (sums[:3], sums[3:]))
        return cls(spent, held, others, spare, granted)  # type: ignore[arg-type]  # a row of a driver is untyped


def grant(need: Need, writer: str, version: int, mogrify: Mogrify) -> list[str]:
    """Returns the SQL statements of a transaction that gives a lease more dollars of its key's or team's budgets.

    If fewer dollars are left than needed, other workers are asked to give back those that no call uses. `need` has the
    lease and the dollars that it asks for. `writer` is the id of the worker's journal, and `version` the number of the
    worker's round trip; both are stored with the lease. `mogrify` puts values into SQL.
    """
    lease = need.lease
    kind, name = lease.spender
    month_start = lease.day.replace(day=1)
    day_budget, month_budget, total_budget = lease.budgets
    since = lease.day if month_budget is None else month_start  # the first day whose costs are added up
    values = {
        "id": lease.id, "name": name, "key_name": name if kind == "key" else "", "team": name if kind == "team" else "",
        "day": lease.day, "writer": writer, "version": version,
        "month_start": month_start, "month_end": (month_start + timedelta(days=31)).replace(day=1),
        "since": since if total_budget is None else None,
        "day_budget": day_budget, "month_budget": month_budget, "total_budget": total_budget,
        "part": PART, "recall_seconds": RECALL_SECONDS,
        "need": need.dollars, "least": need.least, "spare": need.spare, "unit": need.unit,
    }  # fmt: skip
    return [BEGIN, mogrify(LOCKS[kind], [name]), mogrify(GRANTS[kind], values), WAIT_FOR_DISK, COMMIT]


def give_back(given: Mapping[Lease, Decimal], version: int, mogrify: Mogrify) -> list[str]:
    """Returns the SQL statements of a transaction that renews leases, and gives some of their dollars back to budgets.

    `given` maps each lease to the dollars to give back; with 0, the lease is only renewed. `version` is the number of
    this round trip; a row that a later round trip has changed stays as it is. `mogrify` puts values into SQL.
    """
    values = {
        "ids": [lease.id for lease in given],
        "dollars": list(given.values()),
        "has_spare": [lease.has_spare for lease in given],
        "version": version,
    }
    return [BEGIN, mogrify(LOCK_LEASES, values), mogrify(GIVE_BACK, values), COMMIT]


def look(leases: Sequence[Lease], over: Sequence[Lease], mogrify: Mogrify) -> list[str]:
    """Returns the SQL statements of a transaction that reads the rows of budget leases from the database.

    `leases` are those to read. `over` are leases that no call uses any more; before reading, the transaction deletes
    each of them whose calls have all been written to the table of calls. `mogrify` puts values into SQL.
    """
    deletion = [mogrify(DELETE_SHIPPED, [[lease.id for lease in over]])] if over else []
    return [BEGIN, *deletion, mogrify(LOOK, [[lease.id for lease in leases]]), COMMIT]
