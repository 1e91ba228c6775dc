"""What differs from one answer to the next: ids and the time. `freeze` makes them repeat themselves.

It is this process that is frozen, from outside the exchange: nothing of it is in a request or an answer, so a
gateway in between cannot tell.
"""

import secrets
import time
from random import Random

_FROZEN_AT = 1_760_000_000


class Chance:
    def __init__(self) -> None:
        self._frozen: Random | None = None

    def freeze(self, seed: str) -> None:
        """Makes ids and times repeat themselves from now on.

        After each such call with the same `seed`, the same requests in the same order get answers with the same bytes.
        """
        self._frozen = Random(seed)

    def thaw(self) -> None:
        self._frozen = None

    def token(self, size: int) -> str:
        """Returns `size` random bytes as hexadecimal digits; while frozen, they follow from the seed."""
        return self._frozen.randbytes(size).hex() if self._frozen else secrets.token_hex(size)

    def now(self) -> int:
        """Returns the current Unix time in whole seconds; while frozen, always the same one."""
        return _FROZEN_AT if self._frozen else int(time.time())

    def milliseconds_since(self, started: float) -> int:
        """Returns the milliseconds since `started`, a reading of `time.monotonic()`; at least 1."""
        return 1 if self._frozen else int((time.monotonic() - started) * 1000) + 1


chance = Chance()
