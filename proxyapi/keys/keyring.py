"""Owns a process's keys in memory: whose a text is, without a query and without a wait.

Invariants: `find` takes the same work for every text; a text of a key is in no attribute, file or log. What the
database said last stays in force while it is away; a process that starts then takes what is in `DATA_DIR/keyring.json`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from math import inf
from types import MappingProxyType

from django.conf import settings
from django.db import connections

from proxyapi import sealing
from proxyapi.keys import snapshots as key_snapshots
from proxyapi.keys.snapshots import Record, Snapshot

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
STALE_SECONDS = 5.0  # without word from the database
START_SECONDS = 3.0  # that a start waits for the database
STOP_SECONDS = 2.0


BUILT_IN = "default"  # the name of SECURITY_KEY


@dataclass(frozen=True)
class Budgets:
    """Dollars; None: no limit."""

    day: Decimal | None = None
    month: Decimal | None = None
    total: Decimal | None = None

    @property
    def tightest(self) -> Decimal | None:
        """The smallest of them; None: there is none."""
        return min((dollars for dollars in (self.day, self.month, self.total) if dollars is not None), default=None)


UNLIMITED = Budgets()


@dataclass(frozen=True)
class Caller:
    """Who calls, and what its key may do. Empty tuples and None mean no limit; `log_bodies` may be `inherit`."""

    name: str
    allowed_models: tuple[str, ...] = ()
    allowed_routes: tuple[str, ...] = ()
    shared_objects: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    parallel_calls: int | None = None
    budgets: Budgets = UNLIMITED
    log_bodies: str = "inherit"
    tags: tuple[str, ...] = ()
    upstream_key: str | None = field(default=None, repr=False)

    @property
    def is_limited(self) -> bool:
        """Whether its calls are counted before they go on."""
        limits = (self.requests_per_minute, self.tokens_per_minute, self.parallel_calls)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Entry:
    """Whose a digest is, and until when (Unix time)."""

    caller: Caller | None
    valid_until: float

    @property
    def ends_at(self) -> datetime | None:
        """None: it has no end."""
        return None if self.valid_until == inf else datetime.fromtimestamp(self.valid_until, UTC)


NOBODY = Entry(None, -inf)


class Keyring:
    """`start` in each worker; one thread looks for changes every second, and nothing ends it."""

    def __init__(self) -> None:
        self._entries: Mapping[str, Entry] = MappingProxyType({})
        self._digests: Mapping[str, tuple[str, ...]] = MappingProxyType({})  # of each key's name
        self._snapshot: Snapshot | None = None
        self._confirmed_at = -inf
        self._unwritten = False
        self._fault = ""
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread: threading.Thread | None = None

    def find(self, text: str) -> Caller | None:
        """Whose key this is; None for one that is missing (an empty text), unknown, expired or revoked."""
        entry = self._entries.get(sealing.digest(text), NOBODY)
        return entry.caller if time.time() < entry.valid_until else None

    def named(self, name: str) -> dict[str, Entry]:
        """The texts of this key that are in force, by their digests: none, one, or after a rotation two."""
        now = time.time()
        found = ((digest, self._entries.get(digest, NOBODY)) for digest in self._digests.get(name, ()))
        return {digest: entry for digest, entry in found if now < entry.valid_until}

    def start(self) -> None:
        """Returns when the keys are there, or when the database has had `START_SECONDS` to say them."""
        try:
            self._take(key_snapshots.read())
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            logger.warning("the copy of the keys on disk is damaged: %s", type(error).__name__)
            self._take(None)
        self._stopping.clear()
        self._looked.clear()
        self._thread = threading.Thread(target=self._run, name="keyring", daemon=True)
        self._thread.start()
        self._looked.wait(START_SECONDS)

    def stop(self) -> None:
        """A database that hangs holds nobody up."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    @property
    def loaded(self) -> bool:
        """Whether there is any snapshot; without one only `SECURITY_KEY` is known."""
        return self._snapshot is not None

    @property
    def age(self) -> float:
        """Seconds since the database last said that the keys are these; infinite if it never has."""
        return time.time() - self._confirmed_at

    @property
    def state(self) -> str:
        """`loaded`, `stale since …` or `missing`."""
        if self._snapshot is None:
            return "missing"
        if self.age < STALE_SECONDS:
            return "loaded"
        return f"stale since {datetime.fromtimestamp(self._confirmed_at, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def _run(self) -> None:
        try:
            key_snapshots.leave_pool()
            while not self._stopping.is_set():
                self._look()
                self._looked.set()
                self._stopping.wait(REFRESH_SECONDS)
        finally:
            connections.close_all()

    def _look(self) -> None:
        try:
            marker = key_snapshots.marker()
            if self._snapshot is None or marker != self._snapshot.marker:
                self._take(key_snapshots.load(marker))
                self._unwritten = True
            self._confirmed_at = time.time()
            self._say("")
        except Exception as error:  # the border: the keys stay as they are, and it is tried again in a second
            connections.close_all()
            self._say(f"the keys cannot be refreshed, and those known stay in force: {type(error).__name__}")
            return
        if self._unwritten and self._snapshot is not None:
            try:
                key_snapshots.write(self._snapshot)
                self._unwritten = False
            except Exception as error:  # the border: the keys are in force, and written in a second
                reason = error.strerror if isinstance(error, OSError) else type(error).__name__
                self._say(f"the keys cannot be written to DATA_DIR: {reason}")

    def _say(self, fault: str) -> None:
        """Once when it begins, once when it is over."""
        if fault and fault != self._fault:
            logger.warning("%s", fault)
        elif self._fault and not fault:
            logger.info("the keys are fresh again")
        self._fault = fault

    def _take(self, snapshot: Snapshot | None) -> None:
        records = snapshot.records if snapshot else []
        entries = dict(_entries(records))
        digests: dict[str, tuple[str, ...]] = {}
        for digest, entry in entries.items():
            if entry.caller is not None:
                digests[entry.caller.name] = (*digests.get(entry.caller.name, ()), digest)
        self._entries, self._digests = MappingProxyType(entries), MappingProxyType(digests)
        self._snapshot = snapshot
        self._confirmed_at = snapshot.loaded_at if snapshot else -inf


def _entries(records: Iterable[Record]) -> Iterable[tuple[str, Entry]]:
    for record in records:
        try:
            caller = _caller(record)
        except sealing.CannotUnseal:  # not another account's, either
            logger.error("the upstream key of key %r cannot be unsealed; the key is refused", record["name"])
            continue
        until = inf if record["expires_at"] is None else record["expires_at"]
        yield record["digest"], Entry(caller, until)
        if record["previous_digest"]:
            yield record["previous_digest"], Entry(caller, min(until, record["previous_valid_until"] or -inf))
    if settings.SECURITY_KEY:
        yield sealing.digest(settings.SECURITY_KEY), Entry(Caller("default"), inf)


def _caller(record: Record) -> Caller:
    budgets = (record[f"budget_{span}"] for span in ("day", "month", "total"))
    return Caller(
        name=record["name"],
        allowed_models=tuple(record["allowed_models"]),
        allowed_routes=tuple(record["allowed_routes"]),
        shared_objects=tuple(record.get("shared_objects", ())),  # an older version wrote the copy on disk without it
        requests_per_minute=record["requests_per_minute"],
        tokens_per_minute=record["tokens_per_minute"],
        parallel_calls=record["parallel_calls"],
        budgets=Budgets(*(None if dollars is None else Decimal(dollars) for dollars in budgets)),
        log_bodies=record["log_bodies"],
        tags=tuple(record["tags"]),
        upstream_key=_unsealed(record["sealed_upstream_key"]),
    )


def _unsealed(sealed: str) -> str | None:
    return sealing.unseal(sealed) if sealed else None


keyring = Keyring()
