"""Puts calls into the ledger for tests, and reads the ledger's rows and sums."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from usage.call_record import COUNTS
from usage.journal.records import frame
from usage.journal.undelivered import DEAD_LETTERS
from usage.journal.writer import Journal
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.shipper import Shipper, adopt_dead
from usage.models import (
    ErrorTotal,
    LabelTotal,
    Request,
    TeamDay,
    UsageBreakdown,
    UsageDay,
    UsageHour,
    UsagePeak,
    UsageTotal,
)
from usage.sums.histogram import added, bucket, unpack
from usage.sums.sum_tables import COST_PARTS, DAY_SUMS, HISTOGRAMS, HOUR_SUMS, MAXES, PACKED, HistogramName
from usage.upkeep.verify import find_faults

# The tables of sums.
SUMS: tuple[Any, ...] = (UsageHour, UsageDay, TeamDay, UsagePeak, UsageTotal, UsageBreakdown, LabelTotal, ErrorTotal)
Row = Any  # tests also make rows that no call would leave
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
MODELS = {"gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-4.1": "gpt-4.1-2025-04-14", "nobody-knows": ""}


def call_id(moment: datetime = NOON, number: int | None = None) -> str:
    """Makes the id of a call that began at `moment`: a UUID of version 7. Its other bits are `number`, or random."""
    tail = random.getrandbits(62) if number is None else number
    return str(UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | tail))


def call(moment: datetime = NOON, **columns: Any) -> Row:
    """Makes the row of a successful call, as the gateway writes it to the journal; `columns` replace its values.

    If they have only the model that answered, the request has named this model, too. The journal's records have further
    fields, which the journal adds.
    """
    answered = columns.get("response_model")
    return {
        "request_id": columns.pop("request_id") if "request_id" in columns else call_id(moment),
        "key_name": "default",
        "method": "POST",
        "route": "/openai",
        "request_model": answered if isinstance(answered, str) and answered else "gpt-4o-mini",
        "response_model": "gpt-4o-mini-2024-07-18",
        "started_at": moment,
        "status": 200,
        "outcome": "success",
        "duration_ms": 812.345,
        "upstream_ms": 800.25,
        "overhead_ms": 12.095,
        "request_bytes": 321,
        "response_bytes": 4321,
        "input_tokens": 1000,
        "cached_tokens": 200,
        "output_tokens": 500,
        "usage": {"prompt_tokens": 1000, "completion_tokens": 500},
        "usage_source": "exact",
        **columns,
    }


def random_call(chance: random.Random, moment: datetime = NOON) -> Row:
    """Makes the row of a call with random values, which `chance` chooses.

    The price, the bodies, and each of the numbers that upstream reports, may be missing.
    """
    asked, answered = chance.choice(list(MODELS.items()))
    counts = {name: chance.choice([None, 0, chance.randrange(10**6)]) for name in ("input_tokens", "output_tokens")}
    row = call(
        moment,
        key_name=chance.choice(["default", "größe", "a' b"]),
        route=chance.choice(["/openai", "/v1/chat/completions"]),
        request_model=asked,
        response_model=answered,
        outcome=chance.choice(["success", "success", "upstream_error", "timeout"]),
        stream=chance.random() < 0.5,
        status=chance.choice([200, 502, None]),
        duration_ms=round(chance.lognormvariate(5, 3), 3),
        upstream_ms=chance.choice([None, round(chance.lognormvariate(5, 3), 3)]),
        overhead_ms=chance.choice([None, round(chance.random(), 3)]),
        cached_tokens=None,
        client_address=chance.choice([None, "127.0.0.1", "::1"]),
        team=chance.choice(["", "red", "größe"]),
        owner=chance.choice(["", "Ada", "a' b"]),
        end_user=chance.choice(["", "user-1", "user-2", '"']),
        session=chance.choice(["", "talk 1"]),
        tags=chance.choice([[], ["a", "b c", '"'], ["project=x", "a"], ["project=x", "project=y"]]),
        user_agent=chance.choice(["", "curl/8 (ä)"]),
        **counts,
    )
    if chance.random() < 0.5:
        row |= {"request_body": '{"messages": []}', "response_body": "ü" * chance.randrange(100)}
    return row


def end(row: Row) -> Row:
    return {"kind": "end", **row}


def begin(row: Row) -> Row:
    names = ("request_id", "key_name", "method", "route", "request_model", "started_at", "request_bytes")
    return {"kind": "begin", **{name: row[name] for name in names}}


def leave(directory: Path, *records: Row | bytes, writer: str = "") -> Path:
    """Writes the given records to a journal file, as a process that has died leaves it; returns the file's path.

    A record given as bytes is written unchanged. The file appears as a whole, since a running shipper may read it at
    once.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    path = directory / f"{writer or call_id()}.00000001.journal"
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_bytes(b"".join(record if isinstance(record, bytes) else frame(record) for record in records))
    return unfinished.rename(path)


def ship(directory: Path, *records: Row | bytes) -> Delivery:
    """Writes records into the database's tables, through the journal of a dead process; returns the `Delivery` used.

    Without records, ships the journals that are in the directory already.
    """
    if records:
        leave(directory, *records)
    delivery = Delivery(directory)
    adopt_dead(directory, delivery)
    return delivery


def write(journal: Journal, rows: Iterable[Row]) -> None:
    """Writes to the journal that calls have begun and ended, one for each of `rows`, as a process does."""
    for row in rows:
        facts = begin(row)
        del facts["kind"]
        journal.begin(row["request_id"], facts)
        journal.end(row["request_id"], row)


def stored(*ids: str) -> list[Request]:
    found = {str(request.request_id): request for request in Request.objects.filter(pk__in=ids)}
    return [found[request_id] for request_id in ids]


def sums_of(rows: Sequence[Request]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Adds up the rows of calls, in groups by hour and by day, and returns both.

    The sums are computed here in the simplest way, to compare the ledger's sums with them.
    """
    hours: dict[Any, Any] = defaultdict(list)
    days: dict[Any, Any] = defaultdict(list)
    for row in rows:
        moment = row.started_at.astimezone(UTC)
        model = "(unknown model)" if row.unknown_model else row.response_model or row.request_model
        hours[moment.replace(minute=0, second=0, microsecond=0), row.key_name, model, row.route, row.outcome].append(
            row
        )
        days[moment.date(), row.key_name].append(row)
    return (
        _without_zeros({key: _hour(rows) for key, rows in hours.items()}),
        _without_zeros({key: _sums(rows, DAY_SUMS) for key, rows in days.items()}),
    )


def stored_sums() -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Reads the sums by hour and by day from the ledger's tables, in the form of `sums_of`.

    Groups whose sums are all zero are left out.
    """
    hours = {
        (hour.hour, hour.key_name, hour.model, hour.route, hour.outcome): {
            **{name: _plain(getattr(hour, name)) for name in ("calls", "unpriced_calls", *HOUR_SUMS)},
            **{f"max_{name}": getattr(hour, f"max_{name}") for name in MAXES},
            **{name: _trimmed(histogram_of_hour(hour, name)) for name in HISTOGRAMS},
        }
        for hour in UsageHour.objects.all()
    }
    days = {
        (day.day, day.key_name): {name: _plain(getattr(day, name)) for name in ("calls", "unpriced_calls", *DAY_SUMS)}
        for day in UsageDay.objects.all()
    }
    return _without_zeros(hours), _without_zeros(days)


def histogram_of_hour(hour: UsageHour, name: HistogramName) -> list[int]:
    """Returns one of the latency histograms in an hour's sums; it is the sum of two columns."""
    return added(getattr(hour, f"{name}_histogram"), unpack(getattr(hour, PACKED[name])))


def _without_zeros(groups: dict[Any, Any]) -> dict[Any, Any]:
    """Returns the given groups of sums without those groups whose sums are all zero.

    A group has such sums if all of its calls have been subtracted again.
    """
    names = ("calls", "unpriced_calls", *DAY_SUMS, *HOUR_SUMS)
    return {key: sums for key, sums in groups.items() if any(sums.get(name) for name in names)}


def assert_sums_are_right() -> None:
    """Asserts that the ledger's sums are right, by adding up all rows again and by the ledger's own check."""
    assert stored_sums() == sums_of(list(Request.objects.all()))
    assert list(find_faults(Path("/nonexistent"))) == []


def _hour(rows: Sequence[Request]) -> dict[str, Any]:
    sums = _sums(rows, HOUR_SUMS)
    calls = [row for row in rows if not row.by_gateway]
    for name in MAXES:
        sums[f"max_{name}"] = max((getattr(row, name) or 0 for row in (rows if name in COUNTS else calls)), default=0)
    for column in HISTOGRAMS:
        latencies = [getattr(row, column) for row in calls if getattr(row, column) is not None]
        buckets = list(map(bucket, latencies))
        sums[column] = [buckets.count(number) for number in range(max(buckets, default=-1) + 1)]
    return sums


def _sums(rows: Sequence[Request], names: Sequence[str]) -> dict[str, Any]:
    calls = [row for row in rows if not row.by_gateway]
    used = {*COUNTS, "cost"}  # a look of the gateway's own is no call, but has these
    sums = {
        name: _plain(sum(getattr(row, name) or 0 for row in (rows if name in used else calls)))
        for name in names
        if name not in COST_PARTS
    }
    for name, kind in COST_PARTS.items():
        sums[name] = _plain(sum(row.cost or 0 for row in rows if row.cost_kind == kind))
    unpriced = sum(row.cost is None and row.price is None for row in rows)
    return {"calls": len(calls), "unpriced_calls": unpriced, **sums}


def _plain(value: Any) -> Any:
    """Converts a sum for comparison: rounds a float, because its last digits depend on the order of adding."""
    return round(value, 4) if isinstance(value, float) else Decimal(value) if isinstance(value, Decimal) else value


def _trimmed(histogram: list[int]) -> list[int]:
    while histogram and histogram[-1] == 0:
        histogram = histogram[:-1]
    return histogram


@contextmanager
def shipping(directory: Path) -> Iterator[tuple[Journal, Shipper]]:
    """Runs a journal, as a worker does, and a shipper that writes it to the database; yields both to the block."""
    journal = Journal(directory, reserve_bytes=0)
    journal.open()
    shipper = Shipper(directory)
    shipper.start()
    try:
        yield journal, shipper
    finally:
        journal.close()
        shipper.stop(10)


def letters(directory: Path) -> list[dict[str, Any]]:
    """Returns the dead letters (rows that the database has refused) in a directory's file of them, as JSON objects."""
    path = directory / DEAD_LETTERS
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
