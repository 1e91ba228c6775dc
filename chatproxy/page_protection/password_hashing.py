"""Hashes passwords in one thread of the process, with a lower priority than calls have.

A hash takes a tenth of a second and 16 MiB by design (scrypt). One hash at a time limits the memory. The low priority
leaves the processor to the event loop if both share a core; hashlib releases the interpreter's lock meanwhile.

Django stores the name of the hasher's algorithm with a password. These classes keep the usual names, so passwords work
without them, too.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache

from django.contrib.auth.hashers import PBKDF2PasswordHasher, ScryptPasswordHasher

# A thread of this niceness gets about a tenth of a core that others want too, and all of an idle one; see sched(7).
NICENESS = 10


def lower_priority() -> None:
    """Lowers the priority of this thread on Linux, so that password hashes do not slow down calls."""
    # Only Linux has a priority for each thread.
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@lru_cache(maxsize=1)
def hashing_thread() -> ThreadPoolExecutor:
    """Returns the executor of the one thread in which this process hashes passwords."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="password-hash", initializer=lower_priority)


class Scrypt(ScryptPasswordHasher):
    """Django's password hasher with scrypt, for new passwords; works in the process's one hashing thread."""

    def encode(self, password: str, salt: str, n: int | None = None, r: int | None = None, p: int | None = None) -> str:
        return hashing_thread().submit(super().encode, password, salt, n, r, p).result()


class PBKDF2(PBKDF2PasswordHasher):
    """Django's password hasher with PBKDF2, for old passwords; works in the process's one hashing thread."""

    def encode(self, password: str, salt: str, iterations: int | None = None) -> str:
        return hashing_thread().submit(super().encode, password, salt, iterations).result()
