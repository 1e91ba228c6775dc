"""Fills an empty database with millions of calls of the last 30 days, through COPY, and with all sums of them.

The rows are in the order of time. They have twenty keys that each prefer certain models and routes, and two failures in
a hundred calls. They have no digests: `ledger verify` would report that, but the pages, which are what is measured, do
not read them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from bench.ledger.shipper import records

DAYS = 30
POOL = 20_000  # distinct calls; each becomes many rows, with another time and another id in each
BODIES_OF_LAST = timedelta(hours=3)  # older bodies would only fill the disk: no page reads them
RARE_KEY, RARE_MODEL = "team-rare", "gpt-4.5-preview-2025-02-27"


def fill(count: int) -> None:
    """Writes `count` made-up calls and their sums into a database, which must have the tables and no rows.

    The indexes of `usage.page_data.search` should be created afterwards, because with them COPY takes much longer.
    Raises `django.db.Error` if the database fails.
    """
    from django.db import connection

    from usage.journal_shipping.rows import COLUMNS
    from usage.models import Span
    from usage.sums.adding_up import Rollup
    from usage.sums.totals_reader import MINUTES_KEPT

    chance = random.Random(1)
    pool = list(_pool(chance))
    end = datetime.now(UTC)
    start = end - timedelta(days=DAYS)
    hours = DAYS * 24
    began = time.perf_counter()
    copying = f"COPY usage_request ({', '.join(COLUMNS)}, digest) FROM STDIN"
    made = 0
    for hour in range(hours):
        first = start + timedelta(hours=hour)
        wanted = count * (hour + 1) // hours - made
        rollup = Rollup()
        rows: list[Any] = []
        for number in range(wanted):
            moment = first + timedelta(hours=1) * (number / wanted)
            row = {**pool[chance.randrange(POOL)], "started_at": moment, "request_id": _id(moment, chance)}
            if made + number in (count // 2, count // 5):  # two rare rows, for which the pages search
                row |= {"key_name": RARE_KEY, "response_model": RARE_MODEL, "incoming_request_id": "needle-in-the-hay"}
            rows.append(row)
        made += wanted
        # Sums by minute exist only for the recent past. Calls of older hours are counted in the hour's first minute.
        has_minutes = first > end - MINUTES_KEPT
        summed: list[Any] = [{**row, "needs_price": row["cost"] is None} for row in rows]
        if not has_minutes:
            summed = [{**row, "started_at": first.replace(minute=0)} for row in summed]
        rollup.add(summed)
        with connection.cursor() as cursor:
            with cursor.copy(copying) as copy:
                for row in rows:
                    copy.write_row([*(_value(row[name]) for name in COLUMNS), ""])
            rollup.write_hours(cursor)
            rollup.write_totals(cursor, set(Span) if has_minutes else {Span.HOUR, Span.DAY})
            rollup.write_failures(cursor)
            if first > end - BODIES_OF_LAST:
                with cursor.copy("COPY usage_requestbody (request_id, request_body, response_body) FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row([row["request_id"], row["request_body"], row["response_body"]])
        if hour % 72 == 71:
            print(f"{made:>12,} rows, {made / (time.perf_counter() - began):,.0f} a second", flush=True)


def _pool(chance: random.Random) -> Iterator[Any]:
    """Yields made-up calls as priced rows of the ledger, of which all rows of the benchmark are copies.

    Each copy gets a time and an id of its own.
    """
    from usage.journal_shipping.stubs import FIELDS
    from usage.money.row_pricing import Pricer

    pricer = Pricer()
    defaults = {name: None if field.null else field.get_default() for name, field in FIELDS.items()}
    errors = (
        ("upstream_error", 429, "rate_limit_exceeded", "Rate limit reached for requests per min (RPM): Limit 500."),
        ("upstream_error", 500, "server_error", "The server had an error while processing your request."),
        ("timeout", 504, "upstream_timeout", "Upstream took longer than REQUEST_TIMEOUT."),
        ("rejected", 400, "invalid_type", "Invalid 'messages': expected a non-empty array."),
        ("client_cancelled", None, "", ""),
    )
    for number in range(POOL):
        _, row = records(str(UUID(int=number)), datetime.now(UTC), chance)
        row = {**defaults, **pricer.priced([row])[0]}
        if row["outcome"] != "success":
            outcome, status, code, message = chance.choice(errors)
            row |= {"outcome": outcome, "status": status, "error_code": code, "error_message": message}
        if number % 1000 == 0:
            row |= {"duration_ms": 120_000.0 + number, "cost": "1.5"}
        row["cost"] = None if row["cost"] is None else Decimal(row["cost"])
        row["usage"], row["price"] = _json(row["usage"]), _json(row["price"])
        yield row


def _json(value: Any) -> Any:
    """Converts a value to PostgreSQL's JSONB; None stays None."""
    from psycopg.types.json import Jsonb

    return None if value is None else Jsonb(value)


def _value(value: Any) -> Any:
    """Converts a field's value for COPY: an outcome to its text; everything else stays unchanged."""
    return str(value) if value.__class__.__name__ == "Outcome" else value


def _id(moment: datetime, chance: random.Random) -> UUID:
    """Makes a version 7 UUID for the time `moment`, with random bits from the generator `chance`."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | chance.getrandbits(62))
