"""Fills an empty database with millions of calls, with their sums and digests, and with the bodies of the newest.

The calls of the last seven days (UTC), and of today, are made up here, and written by the code that writes real calls
(`usage.journal_shipping.rows`). PostgreSQL copies that week into each of the weeks before
(`bench.ledger.filling.copied_weeks`). So millions of rows take only minutes, and `ledger verify` finds no fault in
them.

As in real ledgers, a few keys make most of the calls, each key prefers one model and one route, most calls are made in
working hours, and two in a hundred fail. Each key has a team, an owner, and two tags; nine of ten calls have an end
user of their key, and one of ten has one more tag.
"""

from __future__ import annotations

import math
import multiprocessing
import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, islice
from typing import Any
from uuid import UUID

from bench.ledger.shipper import MODELS, ROUTES, records

HOUR, WEEK = timedelta(hours=1), timedelta(days=7)
POOL = 20_000  # distinct calls; each becomes many rows, with another time, id and key in each
MODEL_COUNT = 40
PREFERENCE = 0.8  # of a key's calls go to the model that it prefers
ZIPF = 1.2  # the n-th key makes n ** -1.2 times as many calls as the first
WORKING_HOURS = range(7, 19)  # UTC
WEEKEND, NIGHT = 0.4, 0.2  # the calls in an hour, where an hour of work has 1
RESPONSE_ROUTES = ("/openai2", "/v1/responses")  # upstream stores what they make
BATCH_SIZE = 10_000  # large, since calls of the same hours add to the same sums
RARE_KEY, RARE_MODEL, RARE_ID = "team-rare", "gpt-4.5-preview-2025-02-27", "needle-in-the-hay"
RARE_AGES = (0.5, 0.8)  # of the two rare calls, where the ledger's age is 1
TEAMS, OWNERS, PROJECTS, BATCHES = 50, 100, 100, 97  # with the three environments, there are 200 tags
ENVIRONMENTS = ("production", "staging", "test")
HAVE_END_USER, HAVE_BATCH = 0.9, 0.1  # of the calls


def fill(count: int, *, weeks: int = 52, keys: int = 2000, bodies: int = 200_000, end_users: int = 16_000) -> None:
    """Writes `count` made-up calls and all sums of them into a database, which must have the tables and no rows.

    The calls are of today and of the `weeks` before, by keys with the names `team-0`, `team-1`, … Two of the calls are
    rare ones, for which the pages search (`RARE_KEY`). About the newest `bodies` calls have bodies: if they are
    more than those since a week ago, by whole weeks. `end_users` is about the number of end users who have calls; with
    0, calls have no tags either.

    Raises:
        django.db.Error: the database fails.
    """
    from bench.ledger.filling.bulk_loading import close_connections
    from bench.ledger.filling.copied_weeks import copy_back
    from usage.upkeep.months import make_months

    chance = random.Random(1)
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    last_week = today - WEEK
    for week in range(weeks + 1):
        make_months(today - week * WEEK)
    of_a_week = int((count - len(RARE_AGES)) / (weeks + (now - today) / WEEK))
    moments = _moments(last_week, today, of_a_week, chance)
    moments += _moments(today, now, count - len(RARE_AGES) - of_a_week * weeks, chance)
    maker = _CallMaker(keys, end_users, chance)
    without_bodies = len(moments) - bodies
    calls = [(moment, nth >= without_bodies) for nth, moment in enumerate(moments)]
    close_connections()
    half = len(calls) // 2
    _write_at_once(maker, (calls[:half], calls[half:]))
    copy_back(last_week, weeks - 1, weeks_with_bodies=max(0, round(-without_bodies / of_a_week)))
    _write(maker.rare_call(now - age * (WEEK * weeks)) for age in RARE_AGES)


def _write_at_once(maker: _CallMaker, parts: Iterable[Sequence[tuple[datetime, bool]]]) -> None:
    """Writes the calls of each part in a process of its own, since Python takes half of the time, and one core.

    A part has the times of its calls, each with whether that call has bodies. Raises SystemExit if a process fails.
    """
    context = multiprocessing.get_context("fork")  # Django is loaded already
    writers = [context.Process(target=_write_part, args=(maker, nth, part)) for nth, part in enumerate(parts)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    if any(writer.exitcode for writer in writers):
        raise SystemExit("calls could not be written")


def _write_part(maker: _CallMaker, number: int, part: Iterable[tuple[datetime, bool]]) -> None:
    maker.seed(f"part {number}")  # else each process would draw the same ids
    _write(maker.call(moment, has_bodies=has_bodies) for moment, has_bodies in part)


class _CallMaker:
    """Maker of made-up calls' rows: each is one of `POOL` priced calls, with an id, a time and a key of its own."""

    def __init__(self, keys: int, end_users: int, chance: random.Random) -> None:
        self._chance = chance
        self._keys = range(keys)
        self._shares = list(accumulate((key + 1) ** -ZIPF for key in self._keys))
        self._has_labels = end_users > 0
        self._end_users = [max(1, round(end_users * (key + 1) ** -ZIPF / self._shares[-1])) for key in self._keys]
        self._pool = list(_pool(chance))

    def seed(self, text: str) -> None:
        self._chance.seed(text)

    def call(self, moment: datetime, *, has_bodies: bool) -> Any:
        chance = self._chance
        (key,) = chance.choices(self._keys, cum_weights=self._shares)
        model = key % MODEL_COUNT if chance.random() < PREFERENCE else chance.randrange(MODEL_COUNT)
        route = ROUTES[key % len(ROUTES)]
        row = self._pool[chance.randrange(POOL // MODEL_COUNT) * MODEL_COUNT + model]
        made = {
            **row,
            "request_id": _id(moment, chance),
            "started_at": moment,
            "key_name": f"team-{key}",
            **self._labels(key),
            "route": route,
            "upstream_request_id": f"req_{chance.getrandbits(128):032x}",
        }
        if row["response_id"]:
            unique = f"{chance.getrandbits(128):032x}"
            made["response_id"] = f"chatcmpl-{unique}"
            if route in RESPONSE_ROUTES:
                made["response_id"] = f"resp_{unique}"
                made |= {"objects": [made["response_id"], f"msg_{unique}"], "objects_last": False}
        if not has_bodies:
            made |= {"request_body": "", "response_body": ""}
        return made

    def _labels(self, key: int) -> Any:
        """Returns what a call of the key is for: its team, owner, end user and tags."""
        labels: dict[str, Any] = {"team": f"group-{key % TEAMS}", "owner": f"owner-{key % OWNERS}"}
        if not self._has_labels:
            return labels
        chance = self._chance
        tags = [f"project=p{key % PROJECTS}", f"env={ENVIRONMENTS[key % len(ENVIRONMENTS)]}"]
        if chance.random() < HAVE_BATCH:
            tags.append(f"batch-{chance.randrange(BATCHES)}")
        has_end_user = chance.random() < HAVE_END_USER
        user = f"user-{key}-{chance.randrange(self._end_users[key])}" if has_end_user else ""
        return labels | {"end_user": user, "tags": tags}

    def rare_call(self, moment: datetime) -> Any:
        names = {"key_name": RARE_KEY, "request_model": RARE_MODEL, "response_model": RARE_MODEL}
        return {**self.call(moment, has_bodies=False), **names, "incoming_request_id": RARE_ID}


def _moments(start: datetime, end: datetime, count: int, chance: random.Random) -> list[datetime]:
    """Returns the times of `count` calls from `start` until `end`, in order: most of them in working hours."""
    hours = [start + number * HOUR for number in range(math.ceil((end - start) / HOUR))]
    ends = {hour: min(hour + HOUR, end) for hour in hours}
    weights = [_busyness(hour) * ((ends[hour] - hour) / HOUR) for hour in hours]
    drawn = chance.choices(hours, weights, k=count) if count else []
    return sorted(hour + chance.random() * (ends[hour] - hour) for hour in drawn)


def _busyness(hour: datetime) -> float:
    return (1 if hour.hour in WORKING_HOURS else NIGHT) * (1 if hour.weekday() < 5 else WEEKEND)


def _pool(chance: random.Random) -> Iterator[Any]:
    """Yields made-up calls as priced rows of the ledger; the n-th has the model number n modulo `MODEL_COUNT`."""
    from usage.money.row_pricing import Pricer

    pricer = Pricer()
    models = _models()
    errors = (
        ("upstream_error", 429, "rate_limit_exceeded", "Rate limit reached for requests per min (RPM): Limit 500."),
        ("upstream_error", 500, "server_error", "The server had an error while processing your request."),
        ("timeout", 504, "upstream_timeout", "Upstream took longer than REQUEST_TIMEOUT."),
        ("rejected", 400, "invalid_type", "Invalid 'messages': expected a non-empty array."),
        ("client_cancelled", None, "", ""),
    )
    for number in range(POOL):
        _, row = records(str(UUID(int=number)), datetime.now(UTC), chance)
        row["request_model"] = models[number % MODEL_COUNT]
        row["response_model"] = row["response_model"] and row["request_model"]
        (priced,) = pricer.priced([row])
        if row["outcome"] != "success":
            outcome, status, code, message = chance.choice(errors)
            priced |= {"outcome": outcome, "status": status, "error_code": code, "error_message": message}
        if number % 999 == 0:
            priced |= {"duration_ms": 120_000.0 + number, "cost": "1.5"}
        yield priced


def _models() -> Sequence[str]:
    """Returns the names of `MODEL_COUNT` models: first those of `bench.ledger.shipper`, then others with a price."""
    from usage.prices.price_lookup import listed_models

    others = sorted(name for name in listed_models() if name.startswith("gpt-") and name != RARE_MODEL)
    return list(dict.fromkeys((*MODELS, *others)))[:MODEL_COUNT]


def _write(rows: Iterable[Any]) -> None:
    """Writes the rows of calls into the ledger, with bodies, digests and sums, as the shipper writes them."""
    from usage.journal_shipping.rows import write_rows

    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH_SIZE)):
        write_rows(batch)


def _id(moment: datetime, chance: random.Random) -> str:
    """Makes a version 7 UUID for the time `moment`, with random bits from the generator `chance`."""
    return str(UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | chance.getrandbits(62)))
