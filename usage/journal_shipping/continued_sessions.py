"""Gives calls that continue a stored response, and state no session, the session of the call that created it.

If the first call of such a chain states no session either, the id of its response becomes the session of all calls of
the chain, as soon as a second call continues it. If the first call has no row yet, it stays without a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.db.backends.utils import CursorWrapper

from usage.call_record import CallRecord
from usage.journal_shipping.digests import IS_UNCHANGED, UPDATE_DIGESTS
from usage.journal_shipping.stored_object_rows import object_ids

FIND_MAKERS = """
    SELECT object_id, request_id::text, usage_request.key_name, session
    FROM usage_storedobject JOIN usage_request USING (request_id) WHERE object_id = ANY(%s)
"""
LOCK_ROWS = f"""
    SELECT request_id, {IS_UNCHANGED} FROM usage_request WHERE request_id = ANY(%s::uuid[])
    ORDER BY request_id FOR UPDATE
"""
NAME_SESSION = """
    UPDATE usage_request SET session = named.session
    FROM unnest(%s::uuid[], %s::text[]) AS named (request_id, session)
    WHERE usage_request.request_id = ANY(%s::uuid[]) AND usage_request.request_id = named.request_id
"""

Maker = tuple[str, str, str]  # of a call that made a response: its request id, its key's name, its session


class NamedSessions(NamedTuple):
    """The rows of a batch of calls with their sessions, and sessions for calls that are in the database already.

    `rows` are the rows to insert. `begun` maps the request ids of calls in the database to the sessions to store for
    them.
    """

    rows: list[CallRecord]
    begun: dict[str, str]


def name_sessions(cursor: CursorWrapper, rows: Sequence[CallRecord]) -> NamedSessions:
    """Gives each call that continues a stored response the session of the call that created the response.

    * A row that states a session keeps it.
    * If the creating call has no session, the response's id becomes the session of both calls.
    * If the creating call is unknown, or of another key, only the continuing call gets the response's id as its
      session.

    Returns all rows. The result's `begun` has the new sessions of creating calls that are in the database already;
    store them with `begin_sessions`. Call this in the transaction that writes the rows.
    """
    if not any(map(_continues, rows)):  # as nearly always
        return NamedSessions(list(rows), {})
    made: dict[str, CallRecord] = {}  # the rows that are written now, by the ids of what they have made
    named = {str(row["request_id"]): row for row in rows}
    begun: dict[str, str] = {}  # sessions for rows in the table, by their request ids
    stored = _find_makers(cursor, {row["previous_response_id"] for row in rows if _continues(row)})
    for request_id, row in sorted(named.items()):  # in the order in which the calls began
        if _continues(row):
            response = row["previous_response_id"]
            session = response
            if (before := made.get(response)) is not None and before["key_name"] == row["key_name"]:
                session = before.get("session") or response
                before["session"] = session
            elif response in stored and stored[response][1] == row["key_name"]:
                maker, _, known = stored[response]
                session = known or response
                begun |= {} if known else {maker: session}
            row = {**row, "session": session}
        else:
            row = {**row}  # it may get a session below, and what the caller has given must not change
        named[request_id] = row
        made |= dict.fromkeys(object_ids(row), row)
    return NamedSessions([named[str(row["request_id"])] for row in rows], begun)


def begin_sessions(cursor: CursorWrapper, begun: Mapping[str, str]) -> None:
    """Writes sessions to rows that are in the table of calls already; `begun` maps the calls' request ids to sessions.

    Before calling this, lock the responses of these calls in `PendingResponse`: polls lock in this order, too, so that
    there is no deadlock. The digest of a row (a checksum) is renewed only if it was right before, so that a change that
    somebody else has made is still noticed.
    """
    if not begun:
        return
    ids = sorted(begun)
    cursor.execute(LOCK_ROWS, [ids])
    unchanged = [request_id for request_id, is_unchanged in cursor.fetchall() if is_unchanged]
    cursor.execute(NAME_SESSION, [ids, [begun[one] for one in ids], ids])
    # A row that somebody has changed keeps its digest, so that `ledger verify` still notices that.
    cursor.execute(UPDATE_DIGESTS, [unchanged])


def _continues(row: CallRecord) -> bool:
    return bool(row.get("previous_response_id")) and not row.get("session")


def _find_makers(cursor: CursorWrapper, responses: set[str]) -> dict[str, Maker]:
    """Returns the calls in the table that have created the given responses, as a map from the responses' ids.

    Each call is a tuple of its request id, its key's name and its session.
    """
    cursor.execute(FIND_MAKERS, [sorted(responses)])
    return {response: (request_id, key, session) for response, request_id, key, session in cursor.fetchall()}
