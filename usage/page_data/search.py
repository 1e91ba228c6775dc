"""Owns the finding of calls among millions, in a time that does not grow with them.

Calls are walked newest first, by their id (a UUIDv7: the order of ids is the order of time), along the index of the
narrowest condition; what other conditions say is looked at on the way, in slices. A scan ends when a page is full, at
the end, or when its time is up: then it says how far it has come, and can go on from there. Nothing is counted, nothing
is skipped by OFFSET.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.db import connection

from usage.addresses import mapped_address, plain_address
from usage.database.query_deadline import limit_query_time
from usage.ids import first_id
from usage.models import Dimension, Outcome, Request, Span, UsageTotal
from usage.sums.ranges import read_moment, read_range
from usage.sums.summed_names import NAMED_MODEL_SQL, OTHER_CODE, UNKNOWN_MODEL

PAGE_SIZE = 50
PAGE_SECONDS = 0.08  # seconds; a slice more may follow
BATCH_SECONDS = 1.0  # likewise, for a batch of an export
SLICE_SECONDS = 0.02  # how long one should take
FIRST_SLICE, MAX_SLICE = 1000, 8000
MAX_RARE_CALLS = 10_000  # so few calls beyond a threshold are walked one by one
MAX_CHOICES = 300
MAX_NAMES = 8  # of keys and of models that a text is part of
ID_COLUMNS = ("incoming_request_id", "upstream_request_id", "response_id")
# What conditions look at.
SLICE_COLUMNS = f"""request_id, key_name, {NAMED_MODEL_SQL} AS model, unknown_model, route, outcome, status, stream,
    cost, duration_ms, error_code, other_code, error_message, client_address"""
NO_STATUS = "none"
ANY_FAILURE = "failed"
NOT_IN_QUERY = frozenset({"since", "until", "faults", "with_messages"})
NAMES = ("key", "model", "route", "code")
NO_NAME = "(none)"  # an empty name, which an address could not tell from no filter


@dataclass(frozen=True)
class Filters:
    """What is asked for; an empty text asks for nothing. `since` and `until` are moments.

    `with_messages`: `q` is also looked for in the texts of errors, which may quote prompts.
    """

    q: str = ""
    key: str | None = None
    model: str | None = None
    route: str | None = None
    outcome: str = ""
    status: str = ""
    code: str | None = None
    stream: str = ""
    cost: str = ""
    slower: str = ""
    caller: str = ""
    since: datetime | None = None
    until: datetime | None = None
    faults: tuple[str, ...] = field(default=(), compare=False)
    with_messages: bool = field(default=False, compare=False)

    def as_query(self) -> dict[str, str]:
        """The filters as a page's address has them."""
        query = {
            item.name: value
            for item in fields(self)
            if item.name not in NOT_IN_QUERY and (value := getattr(self, item.name)) not in ("", None)
        }
        for name in NAMES:
            if getattr(self, name) == "":
                query[name] = NO_NAME
        for name, moment in (("from", self.since), ("to", self.until)):
            if moment:
                query[name] = f"{moment:%Y-%m-%dT%H:%M}"
        return query


@dataclass(frozen=True)
class Page:
    """`calls`, newest first. With `before`, older ones may follow it: full says that the page is, else time was up."""

    calls: list[Request]
    before: UUID | None = None
    is_full: bool = False
    searched_to: datetime | None = None


@dataclass(frozen=True)
class Condition:
    """`is_threshold`: the index orders by value, so it cannot drive the scan. `in_slice`: the same condition on the
    column names of a slice."""

    sql: str
    values: tuple[Any, ...] = ()
    has_index: bool = False
    is_threshold: bool = False
    in_slice: str = ""


FAILED = Condition("outcome <> 'success'", has_index=True)
UNKNOWN = Condition("unknown_model", has_index=True)
IN_SLICE = {"key": "key_name", "model": "model", "route": "route"}
FAILURES = frozenset(Outcome.values) - {Outcome.SUCCESS}


@dataclass
class Scan:
    """Along calls that fulfil `index_condition`, which has an index of ids, or `rare`, which few do;
    `filters_in_slice` is looked at.
    """

    index_condition: Condition | None
    filters_in_slice: list[Condition]
    at: UUID | None
    floor: UUID | None
    rare: Condition | None = None
    size: int = field(default_factory=lambda: FIRST_SLICE)
    found: list[UUID] = field(default_factory=list)
    is_done: bool = False

    def step(self, wanted: int) -> None:
        """One slice more."""
        bounds = [self.index_condition] if self.index_condition else []
        if self.at is not None:
            bounds.append(Condition("request_id < %s", (self.at,)))
        if self.floor is not None:
            bounds.append(Condition("request_id >= %s", (self.floor,)))
        if self.rare is not None:
            # All of them, sorted by the database: the index is of sizes, not of ids.
            bounds.append(
                Condition(
                    "request_id = ANY(ARRAY(SELECT request_id FROM ("
                    f"SELECT request_id FROM usage_request WHERE {self.rare.sql} LIMIT {MAX_RARE_CALLS}) AS rare"
                    f" WHERE {_joined(bounds)} ORDER BY request_id DESC LIMIT {self.size}))",
                    (*self.rare.values, *(value for bound in bounds for value in bound.values)),
                )
            )
        wanted -= len(self.found)
        started = time.monotonic()
        filters_in_slice = (
            " AND ".join(condition.in_slice or condition.sql for condition in self.filters_in_slice) or "TRUE"
        )
        query = f"""
            WITH slice AS MATERIALIZED (
                SELECT {SLICE_COLUMNS} FROM usage_request WHERE {_joined(bounds)}
                ORDER BY request_id DESC LIMIT {self.size}
            )
            SELECT ARRAY(SELECT request_id FROM slice WHERE {filters_in_slice}
                         ORDER BY request_id DESC LIMIT {wanted}),
                   (SELECT request_id FROM slice ORDER BY request_id LIMIT 1), (SELECT count(*) FROM slice)
        """
        values = [value for condition in (*bounds, *self.filters_in_slice) for value in condition.values]
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            found, last, seen = cursor.fetchone()
        self.found += found
        if len(found) == wanted:
            self.at = found[-1]
        elif seen < self.size:
            self.is_done = True
        else:
            self.at = last
            is_quick = time.monotonic() - started < SLICE_SECONDS
            self.size = min(self.size * 2, MAX_SLICE) if is_quick else max(self.size // 2, FIRST_SLICE)


def read_filters(query: Mapping[str, str], now: datetime, *, with_messages: bool = False) -> Filters:
    """What a page's address asks for; `faults` are what could not be read, and is not filtered by.

    `with_messages`: whether the reader may see the texts of errors, and so search them.
    """
    faults: list[str] = []
    read: dict[str, Any] = {
        name: query.get(name, "").replace("\0", "")[:200].strip()
        for name in ("q", "outcome", "status", "stream", "caller")
    }
    for name in NAMES:
        text = query.get(name, "").replace("\0", "")[:200]
        read[name] = "" if text == NO_NAME else text or None
    if read["outcome"] not in ("", ANY_FAILURE, *Outcome.values):
        faults.append(f"{read['outcome'][:40]!r} is no outcome.")
        read["outcome"] = ""
    if read["status"] not in ("", NO_STATUS) and not (read["status"].isascii() and read["status"].isdigit()):
        faults.append(f"{read['status'][:40]!r} is no status.")
        read["status"] = ""
    if read["caller"]:
        address = plain_address(read["caller"])
        if address is None:
            faults.append(f"{read['caller'][:40]!r} is no address.")
        read["caller"] = address or ""
    if read["stream"] not in ("", "yes", "no"):
        read["stream"] = ""
    for name in ("cost", "slower"):
        text = query.get(name, "").strip()
        try:
            is_number = not text or (Decimal(text).is_finite() and 0 <= Decimal(text) < 10**9)
        except InvalidOperation:
            is_number = False
        if not is_number:
            faults.append(f"{text[:40]!r} is no number to compare with.")
        read[name] = text if is_number else ""
    try:
        if query.get("range"):
            named = read_range(query, now)
            read |= {"since": named.start}
        else:
            read |= {name: read_moment(query.get(key, ""), now) if query.get(key) else None
                     for name, key in (("since", "from"), ("until", "to"))}  # fmt: skip
    except ValueError as fault:
        faults.append(str(fault))
    return Filters(**read, faults=tuple(faults), with_messages=with_messages)


def find(filters: Filters, before: UUID | None = None, wanted: int = PAGE_SIZE, patience: float = PAGE_SECONDS) -> Page:
    """The newest calls that fulfil the filters, and are older than `before`."""
    if filters.q and before is None and (calls := find_by_id(filters.q)):
        return Page(calls)
    scans = _plan(filters, before)
    deadline = time.monotonic() + patience
    for scan in scans:
        # Each scan gets a step; then the least advanced goes on, until all have found enough or time is up.
        scan.step(wanted + 1)
    while time.monotonic() < deadline:
        behind = [scan for scan in scans if not scan.is_done and len(scan.found) <= wanted]
        if not behind or _have_enough(scans, wanted):
            break
        max(behind, key=lambda scan: scan.at or UUID(int=0)).step(wanted + 1)
    return _merge(scans, wanted)


def find_all(filters: Filters, batch: int = 1000) -> Iterator[list[Request]]:
    """Every call that fulfils the filters, newest first, batch by batch; for exports."""
    before = None
    while True:
        with limit_query_time():
            page = find(filters, before, batch, patience=BATCH_SECONDS)
        yield page.calls
        if page.before is None:
            return
        before = page.before


def find_by_id(text: str) -> list[Request]:
    """The calls with this whole id, whichever of the four it is; in the order of looking."""
    try:
        if call := Request.objects.filter(pk=UUID(text)).first():
            return [call]
    except ValueError:
        pass
    for column in ID_COLUMNS:
        # Said twice: so the planner sees that the index, which leaves out empty ones, will do.
        calls = Request.objects.filter(**{column: text}).exclude(**{column: ""}).order_by("-request_id")[:PAGE_SIZE]
        if found := list(calls):
            return found
    return []


def _plan(filters: Filters, before: UUID | None) -> list[Scan]:
    floor = first_id(filters.since) if filters.since else None
    until = first_id(filters.until) if filters.until else None
    at = min(filter(None, (before, until)), default=None)
    conditions = _conditions(filters)
    if not filters.q:
        rare = _if_rare(conditions)
        index_condition = (
            next((condition for condition in conditions if condition.has_index), None) if rare is None else None
        )
        return [
            Scan(
                index_condition,
                [condition for condition in conditions if condition is not index_condition],
                at,
                floor,
                rare,
            )
        ]
    pattern = f"%{_escaped(filters.q)}%"
    names = [
        UNKNOWN if name == UNKNOWN_MODEL else Condition(f"{column} = %s", (name,))
        for dimension, column in ((Dimension.KEY, "key_name"), (Dimension.MODEL, NAMED_MODEL_SQL))
        for name in _names_like(dimension, filters.q)
    ]
    # The totals do not know the names of models that upstream has never answered for; the rows of failures do.
    texts = ["error_code ILIKE %s", "unknown_model AND model ILIKE %s"]
    texts += ["error_message ILIKE %s"] if filters.with_messages else []
    text = Condition(f"({' OR '.join(texts)})", (pattern,) * len(texts))
    return [
        *(Scan(name, conditions, at, floor) for name in names),
        Scan(FAILED, [text, *conditions], at, floor),
    ]


def _conditions(filters: Filters) -> list[Condition]:
    """Those with an index first, the narrowest, by experience, at the front."""
    found: list[Condition] = []
    if filters.model == UNKNOWN_MODEL:
        found.append(UNKNOWN)
    if filters.code == OTHER_CODE:
        found += [FAILED, Condition("other_code")]
    elif filters.code is not None:
        found.append(Condition("outcome <> 'success' AND error_code = %s", (filters.code,), has_index=True))
    if filters.status == NO_STATUS:
        found += [FAILED, Condition("status IS NULL")]
    elif filters.status:
        status = min(int(filters.status[:5]), 999)
        is_failure = status >= 300
        words = "status >= 300 AND status = %s" if is_failure else "status = %s"
        found.append(Condition(words, (status,), has_index=is_failure))
    if filters.outcome in (ANY_FAILURE, *FAILURES):
        found.append(FAILED)
    if filters.outcome in Outcome.values:
        found.append(Condition("outcome = %s", (filters.outcome,)))
    for name, column in (("model", NAMED_MODEL_SQL), ("key", "key_name"), ("route", "route")):
        value = getattr(filters, name)
        if value is not None and (name, value) != ("model", UNKNOWN_MODEL):
            found.append(Condition(f"{column} = %s", (value,), has_index=True, in_slice=f"{IN_SLICE[name]} = %s"))
    if filters.stream:
        found.append(Condition("stream" if filters.stream == "yes" else "NOT stream"))
    if filters.caller:
        forms = [filters.caller, mapped_address(filters.caller)]  # older rows may have the second
        found.append(Condition("client_address = ANY(%s::inet[])", (forms,)))
    if filters.cost:
        found.append(Condition("cost > %s", (Decimal(filters.cost),), is_threshold=True))
    if filters.slower:
        found.append(Condition("duration_ms > %s", (float(filters.slower) * 1000,), is_threshold=True))
    return found


def _if_rare(conditions: Sequence[Condition]) -> Condition | None:
    """A threshold that few calls are beyond, if there is one."""
    for condition in conditions:
        if condition.is_threshold:
            with connection.cursor() as cursor:
                beyond = f"SELECT FROM usage_request WHERE {condition.sql} LIMIT {MAX_RARE_CALLS}"
                cursor.execute(f"SELECT count(*) FROM ({beyond}) AS beyond", condition.values)
                (count,) = cursor.fetchone()
            if count < MAX_RARE_CALLS:
                return condition
    return None


def _names_like(dimension: Dimension, text: str) -> list[str]:
    """The names of keys or models that have the text in them; the totals know them all."""
    names = UsageTotal.objects.filter(span=Span.DAY, dimension=dimension, value__icontains=text).order_by("value")
    return list(names.values_list("value", flat=True).distinct()[:MAX_NAMES])


def names_of(dimensions: Iterable[Dimension]) -> dict[str, list[str]]:
    """The keys, models or routes that calls have had, to choose from; at most `MAX_CHOICES` of each."""
    found: dict[str, list[str]] = {dimension: [] for dimension in dimensions}
    names = UsageTotal.objects.filter(span=Span.DAY, dimension__in=list(found)).order_by("dimension", "value")
    for dimension, value in names.values_list("dimension", "value").distinct():
        if len(found[dimension]) < MAX_CHOICES:
            found[dimension].append(value)
    return found


def _have_enough(scans: Sequence[Scan], wanted: int) -> bool:
    return len(_ids_where_all_have_looked(scans, wanted)) > wanted


def _ids_where_all_have_looked(scans: Sequence[Scan], wanted: int) -> list[UUID]:
    """What has been found where every scan has looked, newest first."""
    border = _common_position(scans)
    found = {request_id for scan in scans for request_id in scan.found if border is None or request_id >= border}
    return sorted(found, reverse=True)[: wanted + 1]


def _common_position(scans: Sequence[Scan]) -> UUID | None:
    """Down to here every scan has looked; None: everywhere."""
    return max((scan.at for scan in scans if not scan.is_done and scan.at is not None), default=None)


def _merge(scans: Sequence[Scan], wanted: int) -> Page:
    found = _ids_where_all_have_looked(scans, wanted)
    by_id = Request.objects.in_bulk(found[:wanted])
    calls = [by_id[request_id] for request_id in found[:wanted] if request_id in by_id]
    if len(found) > wanted:
        return Page(calls, before=found[wanted - 1], is_full=True)
    border = _common_position(scans)
    if border is None:
        return Page(calls)
    return Page(calls, before=border, searched_to=datetime.fromtimestamp((border.int >> 80) / 1000, UTC))


def _joined(conditions: Sequence[Condition]) -> str:
    return " AND ".join(condition.sql for condition in conditions) or "TRUE"


def _escaped(text: str) -> str:
    """For LIKE."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
