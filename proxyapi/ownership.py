"""Owns whose an object stored upstream is: what a key has made (response, chat completion, conversation) is its own.

It is remembered before its id leaves, as a symbolic link in `DATA_DIR/owners`: making one is a single system call,
its text is there whole or not at all, and every worker of this host sees it at once. When the call's row is in the
database, the row says it, and the link goes. What neither knows was not made here: `default` alone may see it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from proxyapi.exceptions import DatabaseUnavailable, NotFound
from proxyapi.keyring import BUILT_IN, Caller
from proxyapi.threads import in_own_thread
from usage.responses import makers

logger = logging.getLogger(__name__)

DATABASE_PATIENCE = 2.0  # seconds
SWEEP_SECONDS = 60.0
SHIPPED_WITHIN = 120.0  # younger links are left alone
FORGOTTEN_AFTER = 30 * 86400.0  # upstream keeps a response no longer
BATCH = 1000


def remember(object_id: str, key_name: str) -> None:
    """Before the id leaves. On a full disk the row alone will say it, in a second."""
    link = _link(object_id)
    try:
        try:
            link.symlink_to(f"{object_id}/{key_name}")
        except FileNotFoundError:
            link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            link.symlink_to(f"{object_id}/{key_name}")
    except FileExistsError:
        return
    except OSError as error:
        logger.warning("an owner could not be remembered: %s", error.strerror)
    except ValueError:
        logger.warning("an owner could not be remembered: the id is no name for a file")


async def check(object_id: str, caller: Caller, missing: NotFound) -> None:
    """Raises `missing` unless the object is the caller's.

    Raises:
        DatabaseUnavailable: only the database could tell, and it is away.
    """
    if object_id not in await theirs([object_id], caller):
        raise missing


async def theirs(object_ids: Collection[str], caller: Caller) -> set[str]:
    """Which of these objects the caller may see. Raises `DatabaseUnavailable`."""
    owners = {object_id: owner for object_id in object_ids if (owner := _remembered(object_id)) is not None}
    others = [object_id for object_id in object_ids if object_id not in owners]
    if others:
        try:
            async with asyncio.timeout(DATABASE_PATIENCE):
                owners |= await in_own_thread(lambda: _makers(others))
        except (TimeoutError, DatabaseError) as error:
            if caller.name != BUILT_IN:
                raise DatabaseUnavailable from error
    return {object_id for object_id in object_ids if owners.get(object_id, BUILT_IN) == caller.name}


async def sweep_forever() -> None:
    """Runs beside the calls until it is cancelled: takes away the links that the database has made needless."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await in_own_thread(sweep)
        except DatabaseError as error:
            logger.info("the owners of stored objects wait for the database: %s", type(error).__name__)


def sweep(now: float | None = None) -> None:
    """Raises `django.db.Error`."""
    now = time.time() if now is None else now
    batch: dict[str, Path] = {}
    for link in _folder().glob("*/*"):
        with suppress(OSError):  # another worker took it away
            age = now - link.lstat().st_mtime
            if age > FORGOTTEN_AFTER:
                link.unlink()
            elif age > SHIPPED_WITHIN:
                batch[str(link.readlink()).partition("/")[0]] = link
        if len(batch) == BATCH:
            _take_away(batch)
            batch = {}
    _take_away(batch)


def _take_away(links: dict[str, Path]) -> None:
    for object_id in _makers(links):
        links[object_id].unlink(missing_ok=True)


def _makers(object_ids: Iterable[str]) -> dict[str, str]:
    try:
        return makers(object_ids)
    finally:
        connection.close()


def _remembered(object_id: str) -> str | None:
    try:
        known_id, _, owner = str(_link(object_id).readlink()).partition("/")
    except OSError:
        return None
    return owner if known_id == object_id else None


def _link(object_id: str) -> Path:
    name = hashlib.blake2b(object_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return _folder() / name[:2] / name[2:]


def _folder() -> Path:
    folder: Path = settings.DATA_DIR / "owners"
    return folder
