"""Reads the keys from the database, and keeps a copy in `DATA_DIR/keyring.json` for when it is unavailable.

A record is one key as JSON: it has the digests of the key's texts and its upstream key, encrypted, but no text of a
key. Keys that are off or revoked have no record.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings
from django.db import connection, connections

from proxyapi.models import AccessKey
from proxyapi.private_file import write_private

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
    """All keys in force. `marker` tells two states of the table apart; `loaded_at` is Unix time."""

    marker: str
    loaded_at: float
    records: list[Record]
    version: int = VERSION


def marker() -> str:
    """Returns a text that changes whenever the table of keys does. Raises `django.db.Error`."""
    with connection.cursor() as cursor:
        cursor.execute(MARKER)
        return " ".join(map(str, cursor.fetchone()))


def load(marker: str) -> Snapshot:
    """Reads all keys in force. `marker` must have been read before: keys that change in between change the next marker.

    Raises:
        django.db.Error: the keys cannot be read.
    """
    rows = AccessKey.objects.filter(active=True, revoked_at=None).values(*FIELDS)
    return Snapshot(marker, time.time(), [{name: _plain(value) for name, value in row.items()} for row in rows])


def leave_pool() -> None:
    """Gives this thread a connection outside of the pool, which waits longer and longer after an outage.

    A server that vanished without closing the connection is given up after ten seconds.
    """
    own = connections["default"].copy()
    options = own.settings_dict["OPTIONS"]
    options.pop("pool", None)
    options.update(tcp_user_timeout=10_000, keepalives_idle=5, keepalives_interval=5, keepalives_count=1)
    connections["default"] = own


def write(snapshot: Snapshot) -> None:
    """Writes the copy of the keys to the disk. Raises OSError."""
    write_private(_path(), orjson.dumps(asdict(snapshot)).decode())


def read() -> Snapshot | None:
    """Reads the copy of the keys from the disk; None if there is none, or it cannot be read."""
    try:
        snapshot = Snapshot(**orjson.loads(_path().read_bytes()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        logger.warning("%s cannot be read: %s", _path(), type(error).__name__)
        return None
    return snapshot if snapshot.version == VERSION else None


def _path() -> Path:
    """Returns the path of the copy."""
    return Path(settings.DATA_DIR) / "keyring.json"


def _plain(value: object) -> object:
    """Returns a value of a row as JSON can hold it: a time as Unix time, dollars as text."""
    if isinstance(value, datetime):
        return value.timestamp()
    return str(value) if isinstance(value, Decimal) else value
