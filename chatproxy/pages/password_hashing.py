"""Owns where passwords are hashed: in one thread of the process, with a lower priority than its calls have.

A hash takes a tenth of a second and 16 MiB by design (scrypt). One at a time bounds the memory, and the priority leaves
the processor to the event loop where both share a core: hashlib releases the interpreter's lock meanwhile.
"""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.contrib.auth.hashers import BasePasswordHasher, PBKDF2PasswordHasher, ScryptPasswordHasher

# About a tenth of a core that is wanted by others, and all of one that is idle; see sched(7).
NICENESS = 10


def lower_priority() -> None:
    """Lowers the priority of the calling thread. Other systems than Linux have no priority of one thread."""
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


@lru_cache(maxsize=1)
def hashing_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="password-hash", initializer=lower_priority)


if TYPE_CHECKING:
    Base = BasePasswordHasher
else:
    Base = object


class InHashingThread(Base):
    """Mixin of a password hasher; the caller waits."""

    def encode(self, *arguments: Any, **options: Any) -> str:
        encoded: str = hashing_thread().submit(super().encode, *arguments, **options).result()
        return encoded


class Scrypt(InHashingThread, ScryptPasswordHasher):
    """Django's, of the same name in the database."""


class PBKDF2(InHashingThread, PBKDF2PasswordHasher):
    """Django's, for passwords that were hashed before Scrypt was the first."""
