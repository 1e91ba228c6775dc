"""Owns the three books (the callers', upstream's, the ledger) and what must hold between them."""

from __future__ import annotations

import base64
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.chaos.damage import Damage
from tests.chaos.lab import Lab
from tests.chaos.load import Entry
from tests.chaos.processes import wait_for
from tests.simulator.wire.recording import KEPT_REQUESTS
from usage.journal import segments

MARKER = re.compile(r"chaos-[0-9a-f-]{36}")
SHIPPED_WITHIN = 90.0
# What a killed worker's call may look like on either side of its death, in seconds; a caller who left looks no longer.
AROUND_A_DEATH = 0.25
AFTER_LEAVING = 2.0
OURS = {502: "unreachable", 503: "rejected", 504: "timeout"}

Row = dict[str, Any]


@dataclass
class Books:
    """What the callers, upstream and the ledger have each recorded of the same calls, and what was done to the server.

    `sent` are upstream's requests and `rows` the ledger's rows, both by the call's marker. `strangers` are rows that
    belong to no known call. `deaths` are the times at which a worker was killed. `damaged` has the damage to journal
    records by request id. `unnoticed` are the phases in which no caller may notice a fault.
    """

    callers: Sequence[Entry]
    sent: Mapping[str, list[dict[str, Any]]]
    rows: Mapping[str, list[Row]]
    strangers: list[Row]
    deaths: Sequence[float]
    damaged: Mapping[str, Damage]
    unnoticed: set[str]
    _damaged_markers: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._damaged_markers = {damage.marker for damage in self.damaged.values()}

    def was_in_the_air(self, entry: Entry) -> bool:
        """Returns whether a worker was killed while this call went on, or shortly before or after."""
        until = entry.ended + (AFTER_LEAVING if entry.saw == "left" else AROUND_A_DEATH)
        return any(entry.started - AROUND_A_DEATH <= death <= until for death in self.deaths)

    def is_damaged(self, entry: Entry) -> bool:
        return entry.marker in self._damaged_markers

    def is_beyond_repair(self, entry: Entry) -> bool:
        """Returns whether the only record of this call, its begin record, was damaged in the journal.

        If the damage has hit the id in that record, nothing is left of the call, so its row may be missing.
        """
        return any(damage.only_record for damage in self.damaged.values() if damage.marker == entry.marker)

    def faults_of(self, entry: Entry) -> Iterator[str]:
        """Yields what is wrong with one call, in words; yields nothing if the three books agree."""
        sent, rows = self.sent.get(entry.marker, []), self.rows.get(entry.marker, [])
        if entry.saw == "hung":
            yield "its caller waited in vain"
        if len(sent) > 1:
            yield "sent upstream more than once"
        if len(rows) > 1:
            yield "duplicated"
        if sent and not rows and not self.is_beyond_repair(entry):
            yield "lost"
        if sent and (entry.saw == "refused" or entry.status == 503):
            yield "refused, and sent upstream"
        noticed = entry.saw in {"refused", "cut"} or entry.status == 503
        if noticed and entry.phase in self.unnoticed and not self.was_in_the_air(entry):
            yield "its caller noticed the fault"
        if entry.saw == "complete" and entry.status not in {entry.kind.status, 503}:
            yield "an answer that upstream did not give"
        if len(rows) == 1:
            yield from self._faults_of_row(entry, rows[0], sent=bool(sent))

    def _faults_of_row(self, entry: Entry, row: Row, *, sent: bool) -> Iterator[str]:
        outcome, in_the_air = row["outcome"], self.was_in_the_air(entry)
        if entry.request_id and entry.request_id != str(row["request_id"]):
            yield "the row is another call's"
        if outcome == "interrupted":
            if not self.is_damaged(entry) and not (in_the_air and entry.saw != "complete"):
                yield "interrupted by nothing"
            return
        if not sent and outcome not in {"rejected", "client_cancelled"}:
            yield "a row of a call that upstream has not seen"
        if entry.saw == "complete":
            code_outcome = OURS.get(entry.status or 0, "") if entry.code else ""
            expected = code_outcome or ("success" if (entry.status or 0) < 300 else "upstream_error")
            if (outcome, row["status"]) != (expected, entry.status):
                yield f"the caller saw {entry.status}, the ledger says {outcome} {row['status']}"
        elif entry.saw in {"left", "failed"}:
            was_too_late = not sent and outcome == "rejected"  # nobody was there any more to see it
            if outcome != entry.kind.outcome and not in_the_air and not was_too_late:
                yield f"the caller {entry.saw}, the ledger says {outcome}"
        elif not in_the_air:
            yield f"{entry.saw} for no reason"


COLUMNS = ("calls", "admitted", "refused", "cut", "lost", "duplicated", "interrupted", "explained", "damaged", "off")


def compare(books: Books) -> tuple[dict[str, Counter[str]], list[str]]:
    """Compares the three books, call by call.

    Returns the counts for each line of the table, by the name of the fault, and a description of each call with which
    something is wrong.
    """
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    offenders = [f"a row of no call: {row}" for row in books.strangers]
    for entry in books.callers:
        faults = list(books.faults_of(entry))
        rows = books.rows.get(entry.marker, [])
        interrupted = any(row["outcome"] == "interrupted" for row in rows)
        lines[entry.phase].update(
            calls=1,
            admitted=entry.marker in books.sent,
            refused=entry.saw == "refused" or entry.status == 503,
            cut=entry.saw == "cut",
            lost="lost" in faults,
            duplicated="duplicated" in faults,
            interrupted=interrupted,
            explained=interrupted and "interrupted by nothing" not in faults,
            damaged=books.is_damaged(entry),
            off=bool(faults),
        )
        if faults:
            seen_upstream = [(one["outcome"], one["status"]) for one in books.sent.get(entry.marker, [])]
            deaths = [f"{death - entry.started:+.3f}" for death in books.deaths if abs(death - entry.started) < 5]
            offenders.append(
                f"{', '.join(faults)}\n    caller   {entry} ({entry.seconds:.3f} s)\n    upstream {seen_upstream}\n"
                f"    ledger   {rows}\n    workers killed at {deaths} s of it, damaged: {books.is_damaged(entry)}"
            )
    return lines, offenders


def read_books(lab: Lab, callers: Sequence[Entry], unnoticed: set[str]) -> Books:
    """Returns the three books, once every record of the journal is in the tables or `SHIPPED_WITHIN` is over."""
    with psycopg.connect(lab.postgres.url, autocommit=True, row_factory=dict_row) as connection:
        with suppress(TimeoutError):  # the comparison will say what is missing
            wait_for(lambda: is_shipped(lab, connection), SHIPPED_WITHIN)
        query = "SELECT request_id, incoming_request_id, outcome, status, error_code, route, tags FROM usage_request"
        rows = connection.execute(query).fetchall()
    sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    requests = lab.simulator("requests")
    assert len(requests) < KEPT_REQUESTS, "upstream's book is full: its first pages are gone"
    for request in requests:
        body = request.get("body") or base64.b64decode(request.get("body_base64", "")).decode("latin-1")
        for marker in MARKER.findall(body)[:1]:
            sent[marker].append(request)
    known = {entry.marker for entry in callers}
    by_marker: dict[str, list[Row]] = defaultdict(list)
    strangers = []
    for row in rows:
        damage = lab.damaged.get(str(row["request_id"]))
        marker = row["incoming_request_id"] or (damage.marker if damage else "")
        if marker in known:
            by_marker[marker].append(row)
        elif "background" not in row["tags"]:  # the server's own look at what became of a response whose caller left
            strangers.append(row)
    return Books(callers, sent, by_marker, strangers, lab.deaths, lab.damaged, unnoticed)


def is_shipped(lab: Lab, connection: psycopg.Connection[Any]) -> bool:
    """Returns whether all records of all journals have been shipped to the database.

    That is so if no journal of a dead worker is left, and the table has every record of those of the living workers.
    """
    writers = segments.writers(lab.journal)
    wanted: set[str] = set()
    with suppress(FileNotFoundError):  # shipped while we looked
        for path in lab.journal.glob("*.journal"):
            wanted.update(record["request_id"] for found in segments.read_all(path) for record in found.records)
        query = "SELECT count(*) AS count FROM usage_request WHERE request_id = ANY(%s::uuid[])"
        found = connection.execute(query, [list(wanted)]).fetchone()
        has_no_dead = all(segments.is_alive(lab.journal, writer) for writer in writers)
        return has_no_dead and found is not None and found["count"] == len(wanted)
    return False
