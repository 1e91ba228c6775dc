"""Request ids and their times. An id is a UUIDv7 (RFC 9562, 5.7), whose first 48 bits are Unix time in milliseconds.

The module does not use Django, since gunicorn's master process imports it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils import uuid7


def first_id(moment: datetime) -> UUID:
    """Returns the lowest UUIDv7 of the time `moment`; all ids that were made before this time are lower."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def time_of(request_id: UUID) -> datetime:
    """Returns the time at which a UUIDv7 was made, in UTC, to the millisecond."""
    return datetime.fromtimestamp((request_id.int >> 80) / 1000, UTC)


def started_at(request_id: str) -> datetime:
    """Returns the time at which a call began, in UTC, to the millisecond, read from its request id.

    Returns the start of 1970 for a text that is not a UUID.
    """
    try:
        return time_of(UUID(request_id))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def seconds_ahead() -> float:
    """Returns by how many seconds the time in this process's new request ids is ahead of the clock; normally about 0.

    The ids run ahead when the clock is set back, because a new id is never lower than the last one. This ends when the
    clock has caught up, or the process starts again.
    """
    return uuid7().timestamp / 1000 - time.time()
