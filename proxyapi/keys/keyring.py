"""The access keys in the memory of this process: finds the caller to whom a key's secret belongs, without I/O.

Invariants: `find` does the same work for every secret; no attribute, file or log has the secret of a key. While the
database is away, the keys read last stay valid; a process that starts meanwhile reads `DATA_DIR/keyring.json`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from types import MappingProxyType

import psycopg
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connections

from proxyapi import sealing
from proxyapi.key_names import SECURITY_KEY_NAME
from proxyapi.keys import snapshots as key_snapshots
from proxyapi.keys.callers import Caller, Record, caller_of
from proxyapi.keys.snapshots import Snapshot

logger = logging.getLogger(__name__)

REFRESH_SECONDS = 1.0
STALE_SECONDS = 5.0  # after the last answer of the database, the keys count as stale
SILENCE_SECONDS = 10.0  # after the last answer of the database, the log says that it does not answer
START_SECONDS = 3.0  # that a worker's start waits for the database
STOP_SECONDS = 2.0


@dataclass(frozen=True)
class KeyInForce:
    """One valid secret of an access key: the caller to whom it belongs, and the Unix time at which it expires.

    `is_newest` is false for the old secret of a rotated key, which may be known to somebody who lost the right to the
    key.
    """

    caller: Caller | None
    valid_until: float
    is_newest: bool = True

    @property
    def ends_at(self) -> datetime | None:
        """The time (UTC) at which the secret expires; None if it never does."""
        return None if self.valid_until == inf else datetime.fromtimestamp(self.valid_until, UTC)


NOBODY = KeyInForce(None, -inf)


class Keyring:
    """The access keys in the memory of this process, found by the digests of their secrets.

    After `start`, a thread looks for changed keys in the database every second.
    """

    def __init__(self) -> None:
        self._entries: Mapping[str, KeyInForce] = MappingProxyType({})
        self._digests: Mapping[str, tuple[str, ...]] = MappingProxyType({})  # by the key's name
        self._snapshot: Snapshot | None = None
        self._confirmed_at = -inf  # `time.monotonic()`, so that a clock that is put back makes no stale keys look fresh
        self._unwritten = False
        self._started_at = -inf  # `time.monotonic()`
        self._fault = ""  # the newest logged error of reading the keys; empty if they were read since
        self._copy_fault = ""  # the same of writing the copy of the keys
        self._is_refused = False  # whether the newest question to the database has ended in an error
        self._is_silence_logged = False
        self._stopping = threading.Event()
        self._looked = threading.Event()
        self._thread: threading.Thread | None = None

    def find(self, text: str) -> Caller | None:
        """Returns the caller whose key has the secret `text`; None if no key has it, or the key is not valid now."""
        entry = self._entries.get(sealing.digest(text), NOBODY)
        return entry.caller if time.time() < entry.valid_until else None

    def in_force(self, name: str) -> dict[str, KeyInForce]:
        """Returns the valid secrets of the access key `name`, as a dict from each secret's digest to its `KeyInForce`.

        A rotated key has two of them while its old secret is still valid. The dict is empty for a key that is not
        valid.
        """
        now = time.time()
        found = ((digest, self._entries.get(digest, NOBODY)) for digest in self._digests.get(name, ()))
        return {digest: entry for digest, entry in found if now < entry.valid_until}

    def start(self) -> None:
        """Loads the keys from the copy on the disk, and starts the thread that then reads them from the database.

        Returns once the thread has asked the database, or after `START_SECONDS`. A damaged copy is logged and not used.
        If a key or team in the copy has a budget, the list of prices is loaded, too.
        """
        try:
            self._replace_keys(snapshot := key_snapshots.read())
            key_snapshots.load_price_list(snapshot)
        except (LookupError, TypeError, ValueError, ArithmeticError) as error:
            logger.warning("the copy of the keys on disk is damaged: %s", type(error).__name__)
            self._replace_keys(None)
        self._stopping.clear()
        self._looked.clear()
        self._started_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="keyring", daemon=True)
        self._thread.start()
        self._looked.wait(START_SECONDS)

    def stop(self) -> None:
        """Stops the thread that reads the keys; waits at most `STOP_SECONDS` for its end."""
        self._stopping.set()
        if self._thread is not None:
            # the database may hang
            self._thread.join(STOP_SECONDS)

    @property
    def loaded(self) -> bool:
        """True once the keys were read, from the database or the disk; before, only `SECURITY_KEY` is accepted."""
        return self._snapshot is not None

    @property
    def age(self) -> float:
        """The seconds since the database last confirmed the keys in memory; infinite if it never has."""
        return time.monotonic() - self._confirmed_at

    @property
    def state(self) -> str:
        """The state of the keys in memory, as a text for status pages: `loaded`, `stale since …` or `missing`.

        Stale means that the database has not confirmed the keys lately. Missing means that they were never read.
        """
        if self._snapshot is None:
            return "missing"
        if (age := self.age) < STALE_SECONDS:
            return "loaded"
        return f"stale since {datetime.fromtimestamp(time.time() - age, UTC):%Y-%m-%dT%H:%M:%SZ}"

    def _run(self) -> None:
        """Looks for changed keys in the database every `REFRESH_SECONDS` until `stop` is called; runs in a thread."""
        try:
            key_snapshots.leave_pool()
            while not self._stopping.is_set():
                self._refresh()
                self._looked.set()
                self._stopping.wait(REFRESH_SECONDS)
        finally:
            connections.close_all()

    def _refresh(self) -> None:
        """Reads the keys from the database if they have changed there, and writes a copy of them to the disk.

        Also reads the prices that are needed for budgets. After an error, the keys in memory stay valid; an error that
        repeats is logged once.
        """
        try:
            marker = key_snapshots.marker()
            if (snapshot := self._snapshot) is None or marker != snapshot.marker:
                snapshot = key_snapshots.load(marker)
            key_snapshots.read_prices(snapshot)  # first: a call may come as soon as its key is valid
            if snapshot is not self._snapshot:
                self._replace_keys(snapshot)
                self._unwritten = True
            self._confirmed_at = time.monotonic()
        except Exception as error:  # the border: the keys in memory stay valid, and a second later it is tried again
            connections.close_all()
            is_outage = isinstance(error, DatabaseError | psycopg.Error | OSError)
            if not (is_outage and self._is_silence_logged):  # such an error is how a hang ends that the log has told
                words = f"the keys cannot be refreshed, and those known stay in force: {type(error).__name__}"
                self._log_fault(words, None if is_outage else error)
            self._is_refused = True
            return
        # First, so that a copy that cannot be written does not hide that the keys are fresh again.
        self._log_fault("", None)
        self._is_silence_logged = self._is_refused = False
        self._write_copy()

    def _write_copy(self) -> None:
        """Writes the keys in memory to the disk, if they have changed since the last copy.

        Logs when that begins to fail, fails for another reason, or works again.
        """
        if not self._unwritten or self._snapshot is None:
            return
        fault, unexpected = "", None
        try:
            key_snapshots.write(self._snapshot)
            self._unwritten = False
        except OSError as error:
            fault = f"the keys cannot be written to DATA_DIR: {error.strerror}"
        except Exception as error:  # the border: the keys in memory are valid, and a second later it is tried again
            fault, unexpected = f"the keys cannot be written to DATA_DIR: {type(error).__name__}", error
        if fault and fault != self._copy_fault:
            logger.warning("%s", fault, exc_info=unexpected)
        elif not fault and self._copy_fault:
            logger.info("the keys are written to DATA_DIR again")
        self._copy_fault = fault

    def _log_fault(self, fault: str, unexpected: Exception | None) -> None:
        """Logs when reading the keys begins to fail, fails for another reason, or works again.

        `fault` describes the failure; it is empty after a success. `unexpected` is the exception if it is a mistake in
        the gateway's own code; its traceback is logged.
        """
        if fault and fault != self._fault:
            logger.warning("%s", fault, exc_info=unexpected)
        elif not fault and (self._fault or self._is_silence_logged):
            logger.info("the keys are fresh again")
        self._fault = fault

    def log_silence(self) -> None:
        """Logs a warning, once, when the database has not answered for `SILENCE_SECONDS`.

        Called each second by another thread, because a database that hangs raises no error in the thread that waits for
        it.
        """
        # The copy on disk may be days old at the start, when the database has not been asked yet.
        silent_since = max(self._confirmed_at, self._started_at)
        silent = SILENCE_SECONDS < time.monotonic() - silent_since < inf
        if silent and not self._is_refused and not self._is_silence_logged:
            self._is_silence_logged = True
            logger.warning("the keys cannot be refreshed, and those known stay in force: the database does not answer")

    def _replace_keys(self, snapshot: Snapshot | None) -> None:
        """Replaces all keys in memory by the keys of `snapshot`; if that is None, only `SECURITY_KEY` remains."""
        records = snapshot.records if snapshot else []
        entries = dict(_entries(records, snapshot.teams if snapshot else []))
        digests: dict[str, tuple[str, ...]] = {}
        for digest, entry in entries.items():
            if entry.caller is not None:
                digests[entry.caller.name] = (*digests.get(entry.caller.name, ()), digest)
        self._entries, self._digests = MappingProxyType(entries), MappingProxyType(digests)
        self._snapshot = snapshot
        self._confirmed_at = time.monotonic() - max(0.0, time.time() - snapshot.loaded_at) if snapshot else -inf


def _entries(records: Iterable[Record], teams: Iterable[Record]) -> Iterable[tuple[str, KeyInForce]]:
    """Yields a pair for each secret of the keys in `records`, and for `SECURITY_KEY`: the digest and the `KeyInForce`.

    A rotated key has two secrets. A key is left out, so that its calls are refused, if its upstream key cannot be
    decrypted, or if its team is not in `teams`.
    """
    team_by_id = {team["id"]: team for team in teams}
    for record in records:
        team_id = record.get("team_id")  # older versions wrote the copy without it
        try:
            caller = caller_of(record, None if team_id is None else team_by_id[team_id])
        except sealing.CannotUnseal:  # the gateway's own upstream key must not pay for its calls instead
            logger.error("the upstream key of key %r cannot be unsealed; the key is refused", record["name"])
            continue
        except KeyError:
            if team_id in team_by_id:
                raise
            logger.error("the team of key %r is not known; the key is refused", record["name"])
            continue
        until = inf if record["expires_at"] is None else record["expires_at"]
        yield record["digest"], KeyInForce(caller, until)
        if record["previous_digest"]:
            old_until = min(until, record["previous_valid_until"] or -inf)
            yield record["previous_digest"], KeyInForce(caller, old_until, is_newest=False)
    if settings.SECURITY_KEY:
        yield sealing.digest(settings.SECURITY_KEY), KeyInForce(Caller(SECURITY_KEY_NAME), inf)


keyring = Keyring()
