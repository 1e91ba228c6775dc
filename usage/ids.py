"""Owns what a request id says of time: it is a UUIDv7 (RFC 9562, 5.7), whose first 48 bits are Unix milliseconds.

No Django here: gunicorn's master process imports this, too.
"""

from __future__ import annotations

import time
from datetime import datetime
from uuid import UUID

from uuid_utils import uuid7


def first_id(moment: datetime) -> UUID:
    """The lowest UUIDv7 of a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def seconds_ahead() -> float:
    """How far this process's new ids are ahead of its clock.

    A new id is never lower than the last: after a clock was ahead and went back, ids stay in the future until time has
    caught up, or until the process starts again.
    """
    return uuid7().timestamp / 1000 - time.time()
