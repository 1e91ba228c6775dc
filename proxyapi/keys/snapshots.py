"""Reads keys and teams from the database, and keeps a copy in `DATA_DIR/keyring.json` for outages of the database.

A record is one key or one team as JSON. It has the digests of the key's secrets, but no secret, and the upstream key is
encrypted. Keys that are switched off or revoked have no record. Archived teams have one, so that calls of their keys
get the right error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import orjson
from django.conf import settings
from django.db import Error, connection, connections

from proxyapi.keys.callers import Record
from proxyapi.keys.private_file import write_private
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from usage.ledger import ledger

logger = logging.getLogger(__name__)

_SHARED_FIELDS = (
    "name", "tags", "allowed_models", "allowed_routes", "requests_per_minute", "tokens_per_minute", "parallel_calls",
    "budget_day", "budget_month", "budget_total", "log_bodies", "sealed_upstream_key", "created_at",
)  # fmt: skip
FIELDS = (
    *_SHARED_FIELDS, "team_id", "owner", "expires_at", "shared_objects", "max_output_tokens", "min_output_tokens",
    "digest", "previous_digest", "previous_valid_until",
)  # fmt: skip
TEAM_FIELDS = (*_SHARED_FIELDS, "id", "active")
# Every write of a row changes its xmin, whichever program writes. The highest `changed_at` would not do: a transaction
# that began earlier may commit later, with a lower time.
MARKER = " UNION ALL ".join(
    f"SELECT count(*), coalesce(sum(hashtextextended(id || ' ' || xmin, 0)), 0) FROM {table}"  # noqa: S608  (ours)
    for table in ("proxyapi_accesskey", "proxyapi_team")
)
VERSION = 1


@dataclass(frozen=True)
class Snapshot:
    """All access keys in use (not switched off, not revoked) and all teams, as they were in the database.

    `loaded_at` is the Unix time at which they were read. `marker` is a text that changes with every change in the
    tables of keys and teams.
    """

    marker: str
    loaded_at: float
    records: list[Record]
    version: int = VERSION
    teams: list[Record] = field(default_factory=list)  # older versions wrote the copy without them


def marker() -> str:
    """Returns a text that changes with every change of an access key or a team; cheaper than reading all of them.

    Raises:
        django.db.Error: the database cannot be read.
    """
    with connection.cursor() as cursor:
        cursor.execute(MARKER)
        return " ".join(str(number) for row in cursor.fetchall() for number in row)


def load(marker: str) -> Snapshot:
    """Reads all access keys in use (not switched off, not revoked) and all teams from the database.

    `marker` is what the function `marker` returned just before; it is stored in the snapshot.

    Raises:
        django.db.Error: the keys cannot be read.
    """
    # A key that changes after the marker was read is noticed by the next one. Keys are read first: so the teams of all
    # of them are among those that are read after them.
    keys = _records(AccessKey.objects.filter(active=True, revoked_at=None).values(*FIELDS))
    return Snapshot(marker, time.time(), keys, teams=_records(Team.objects.values(*TEAM_FIELDS)))


def read_prices(snapshot: Snapshot) -> None:
    """Reads the administrator's prices and the price list into memory, if a key or team in `snapshot` has a budget.

    Does nothing if they were read in the last half minute. An error of the database is ignored.
    """
    if _is_any_budgeted(snapshot):
        try:
            # needed to know beforehand what a call of such a key can cost
            ledger.refresh_prices()
        # the keys are read from the same database every second, and an error in that is reported
        except Error:
            connections.close_all()


def load_price_list(snapshot: Snapshot | None) -> None:
    """Loads the list of published prices into memory in advance, if a key or team in `snapshot` has a budget.

    Call this when the keys were read from the disk. When they were read from the database, `read_prices` loads the
    list.
    """
    if _is_any_budgeted(snapshot):
        ledger.load_price_list()


def _is_any_budgeted(snapshot: Snapshot | None) -> bool:
    records = [*snapshot.records, *snapshot.teams] if snapshot else []
    return any(record[f"budget_{span}"] is not None for record in records for span in ("day", "month", "total"))


def leave_pool() -> None:
    """Gives this thread a database connection of its own, outside of the connection pool.

    The connection fails after ten seconds if the database server vanishes.
    """
    # After an outage, the pool waits longer and longer before it connects again.
    own = connections["default"].copy()
    options = own.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options.update(tcp_user_timeout=10_000, keepalives_idle=5, keepalives_interval=5, keepalives_count=1)
    connections["default"] = own


def write(snapshot: Snapshot) -> None:
    """Writes the access keys to `DATA_DIR/keyring.json`, for workers that start while the database is away.

    The file has digests of the keys' secrets, and upstream keys encrypted. If there are teams, first makes the empty
    file `teams_file`, a mark that there are teams, which is never deleted.

    Raises:
        OSError: a file cannot be written.
    """
    if snapshot.teams and not teams_file().exists():
        write_private(teams_file(), "")
    write_private(keyring_file(), orjson.dumps(asdict(snapshot)).decode())


def read() -> Snapshot | None:
    """Reads the access keys from `DATA_DIR/keyring.json`; returns None if there is no usable file.

    A file without teams is not usable if there are teams: it was written by an earlier release, and its keys would be
    accepted without the limits of their teams.
    """
    try:
        stored = orjson.loads(keyring_file().read_bytes())
        snapshot = Snapshot(**stored)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read: %s", keyring_file(), type(error).__name__)
        return None
    if "teams" not in stored and teams_file().exists():
        logger.warning("%s was written by an older version, without teams, and is not used", keyring_file())
        return None
    return snapshot if snapshot.version == VERSION else None


def keyring_file() -> Path:
    """Returns the path of the copy of the access keys: `DATA_DIR/keyring.json`."""
    return Path(settings.DATA_DIR) / "keyring.json"


def teams_file() -> Path:
    """Returns the path of an empty file that exists if there are teams: `DATA_DIR/keyring.has_teams`.

    With this file, `read` recognises a copy of the keys that an earlier release wrote without teams. As teams are never
    deleted, the file stays.
    """
    return Path(settings.DATA_DIR) / "keyring.has_teams"


def _records(rows: Iterable[Record]) -> list[Record]:
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: object) -> object:
    """Converts a value from a database table to one for JSON: a time to Unix time, dollars to text; others stay."""
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value) if isinstance(value, Decimal) else value
