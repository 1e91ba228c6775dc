"""Reads the keys from the database, and keeps a copy in `DATA_DIR/keyring.json` for when it is unavailable.

A record is one key as JSON. It has the digests of the key's secrets, but no secret, and the upstream key is encrypted.
Keys that are off or revoked have no record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import Error, connection, connections

from proxyapi.keys.private_file import write_private
from proxyapi.models import AccessKey
from usage.ledger import ledger

logger = logging.getLogger(__name__)

FIELDS = (
    "name", "tags", "expires_at", "allowed_models", "allowed_routes", "shared_objects", "requests_per_minute",
    "tokens_per_minute", "parallel_calls", "budget_day", "budget_month", "budget_total", "max_output_tokens",
    "min_output_tokens", "log_bodies", "sealed_upstream_key", "digest", "previous_digest", "previous_valid_until",
)  # fmt: skip
# Every write of a row changes its xmin, whichever program writes. The highest `changed_at` would not do: a transaction
# that began earlier may commit later, with a lower time.
MARKER = "SELECT count(*), coalesce(sum(hashtextextended(id || ' ' || xmin, 0)), 0) FROM proxyapi_accesskey"
VERSION = 1

Record = dict[str, Any]


@dataclass(frozen=True)
class Snapshot:
    """All access keys that are neither off nor revoked, as the database had them at one time (`loaded_at`, Unix time).

    `marker` is a text that identifies this state of the table of keys: any change of the table gives another marker.
    """

    marker: str
    loaded_at: float
    records: list[Record]
    version: int = VERSION


def marker() -> str:
    """Returns a text that changes with every change in the table of access keys: the cheap way to notice one.

    Raises:
        django.db.Error: the database cannot be read.
    """
    with connection.cursor() as cursor:
        cursor.execute(MARKER)
        return " ".join(map(str, cursor.fetchone()))


def load(marker: str) -> Snapshot:
    """Reads from the database all access keys that are neither off nor revoked, as a `Snapshot`.

    `marker` is a text that the function `marker` has returned before this call. A key that changes in between is then
    noticed, because it changes the next marker.

    Raises:
        django.db.Error: the keys cannot be read.
    """
    rows = AccessKey.objects.filter(active=True, revoked_at=None).values(*FIELDS)
    return Snapshot(marker, time.time(), [{name: _plain(value) for name, value in row.items()} for row in rows])


def read_prices(records: Iterable[Record]) -> None:
    """Reads the administrator's model prices from the database, if one of the keys in `records` has a budget.

    The prices are stored in `ledger`. The gateway needs them to know beforehand what a call of such a key can cost.
    Prices that were read lately are not read again. An error of the database is ignored here: the keys are read from
    the same database every second, and an error in this is reported.
    """
    if any(record[f"budget_{span}"] is not None for record in records for span in ("day", "month", "total")):
        try:
            ledger.refresh_prices()
        except Error:
            connections.close_all()


def leave_pool() -> None:
    """Gives the current thread a database connection of its own, outside of the connection pool.

    After an outage, the pool waits longer and longer before it connects again; a thread with its own connection need
    not. If the database server vanishes without closing the thread's own connection, this connection fails after ten
    seconds.
    """
    own = connections["default"].copy()
    options = own.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options.update(tcp_user_timeout=10_000, keepalives_idle=5, keepalives_interval=5, keepalives_count=1)
    connections["default"] = own


def write(snapshot: Snapshot) -> None:
    """Writes the access keys to `DATA_DIR/keyring.json`, for workers that start while the database is away.

    The file has digests of the keys' secrets, not the secrets.

    Raises:
        OSError: the file cannot be written.
    """
    write_private(keyring_file(), orjson.dumps(asdict(snapshot)).decode())


def read() -> Snapshot | None:
    """Reads the access keys from `DATA_DIR/keyring.json`.

    Returns None if there is no such file, or if it cannot be read or was written by another version.
    """
    try:
        snapshot = Snapshot(**orjson.loads(keyring_file().read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read: %s", keyring_file(), type(error).__name__)
        return None
    return snapshot if snapshot.version == VERSION else None


def keyring_file() -> Path:
    """Returns the path of the file to which the access keys are copied: `DATA_DIR/keyring.json`."""
    return Path(settings.DATA_DIR) / "keyring.json"


def _plain(value: object) -> object:
    """Converts a value from the table of access keys for JSON: a time to Unix time, dollars to text."""
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value) if isinstance(value, Decimal) else value
