"""Request ids and time: an id is a UUIDv7 (RFC 9562, 5.7), whose first 48 bits are milliseconds of Unix time.

No Django here: gunicorn's master process imports this, too.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils import uuid7


def first_id(moment: datetime) -> UUID:
    """Returns the lowest UUIDv7 that can be made at a point in time; every id that was made before it is lower."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def time_of(request_id: UUID) -> datetime:
    """Returns the time at which a UUIDv7 was made, in UTC, to the millisecond."""
    return datetime.fromtimestamp((request_id.int >> 80) / 1000, UTC)


def started_at(request_id: str) -> datetime:
    """Returns the time at which the call with the given request id began, in UTC, to the millisecond.

    Returns the start of 1970 if the text is not a UUID.
    """
    try:
        return time_of(UUID(request_id))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def seconds_ahead() -> float:
    """Returns by how many seconds the request ids that this process makes are ahead of its clock.

    A new id is never lower than the last one. So after the clock was set back, ids have times in the future until the
    clock has caught up, or until the process starts again.
    """
    return uuid7().timestamp / 1000 - time.time()
