"""Owns which key made an object stored upstream (a response, a file, a thread): only that key may see it.

It is remembered before its id leaves, as a symbolic link in `DATA_DIR/owners`: making one is a single system call,
its text is there whole or not at all, and every worker of this host sees it at once. When the call's row is in the
database, `usage.shipping.stored_objects` knows it, and the link goes. What neither knows was not made here.

An owner never changes, so what a worker has learned it keeps in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection

from proxyapi.exceptions import DatabaseUnavailable
from proxyapi.threads import in_own_thread
from usage.shipping.stored_objects import makers

logger = logging.getLogger(__name__)

DATABASE_PATIENCE = 2.0  # seconds
SWEEP_SECONDS = 60.0
SHIPPED_WITHIN = 120.0  # younger links are left alone
BATCH = 1000
RECALLED_AT_ONCE = 200  # ids; about 2 ms
MOST_KEPT = 5_000  # owners in memory, about 1 MB
# So long nobody asks again for the owner of an id that nobody has made. An object cannot be named before it is made.
UNKNOWN_SECONDS = 60.0
FOLDER_MODE = 0o700

_owners: dict[str, str] = {}
_unknown_until: dict[str, float] = {}


def remember(object_id: str, key_name: str) -> None:
    """Records a new object's owner before its id leaves; the first one stays. Some 40 µs.

    On a full disk the call's row alone will say it, in a second.
    """
    if object_id in _owners:
        return
    link, target = _link(object_id), f"{quote(object_id, safe='')}/{key_name}"
    try:
        try:
            os.symlink(target, link)  # not `Path`'s, which costs half as much again
        except FileNotFoundError:
            _make_folder(Path(link).parent.parent)
            _make_folder(Path(link).parent)
            os.symlink(target, link)
    except FileExistsError:
        return
    except OSError as error:
        logger.warning("an owner could not be remembered: %s", error.strerror)
    except ValueError:
        logger.warning("an owner could not be remembered: the id is no name for a file")
        return
    _keep(object_id, key_name)


async def owners_of(needed: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
    """The names of the keys that made these objects; an object that nobody here has made is left out.

    Raises:
        DatabaseUnavailable: only the database could tell of one that is `needed`, and it is away.
    """
    known: dict[str, str] = {}
    needed_unknown = await _recall_all(needed, known)
    now = time.monotonic()
    others_unknown = [one for one in await _recall_all(others, known) if _unknown_until.get(one, 0) < now]
    if not needed_unknown and not others_unknown:
        return known
    asked = {*needed_unknown, *others_unknown}
    try:
        async with asyncio.timeout(DATABASE_PATIENCE):
            found = await in_own_thread(lambda: _makers(asked))
    except (TimeoutError, DatabaseError) as error:
        if needed_unknown:
            raise DatabaseUnavailable from error
        return known
    for object_id, owner in found.items():
        _keep(object_id, owner)
    if len(_unknown_until) > MOST_KEPT:
        _unknown_until.clear()
    _unknown_until.update(dict.fromkeys(set(others_unknown) - found.keys(), now + UNKNOWN_SECONDS))
    return known | found


async def sweep_forever() -> None:
    """Runs beside the calls until it is cancelled: takes away the links that the database has made needless."""
    await _keep_up(close_folders)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await _keep_up(sweep)


async def _keep_up(work: Callable[[], None]) -> None:
    try:
        await in_own_thread(work)
    except DatabaseError as error:
        logger.info("the owners of stored objects wait for the database: %s", type(error).__name__)
    except Exception:  # the border: without the sweep the links would grow until the next start
        logger.exception("the links of stored objects' owners could not be kept up")


def sweep(now: float | None = None) -> None:
    """Raises `django.db.Error`."""
    now = time.time() if now is None else now
    batch: dict[str, Path] = {}
    for link in _folder().glob("*/*"):
        with suppress(OSError):  # another worker took it away
            if now - link.lstat().st_mtime > SHIPPED_WITHIN:
                batch[_read_target(link)[0]] = link
        if len(batch) == BATCH:
            _take_away(batch)
            batch = {}
    _take_away(batch)


def close_folders() -> None:
    """Takes away everybody else's rights to folders that were once made as the umask had it."""
    for folder in (_folder(), *_folder().glob("*/")):
        with suppress(OSError):
            folder.chmod(FOLDER_MODE)


def _make_folder(folder: Path) -> None:
    """A folder that only its owner may read, however the umask is."""
    with suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE, parents=True)
        folder.chmod(FOLDER_MODE)


def _take_away(links: dict[str, Path]) -> None:
    for object_id in _makers(links) if links else ():
        links[object_id].unlink(missing_ok=True)


def _makers(object_ids: Collection[str]) -> dict[str, str]:
    try:
        return makers(object_ids)
    finally:
        connection.close()


async def _recall_all(object_ids: Collection[str], known: dict[str, str]) -> list[str]:
    """Adds to `known` the owners that this host knows, and returns the ids of which it knows none.

    The event loop has its turns meanwhile: each id takes a look at the disk, and a request may name thousands.
    """
    unknown: list[str] = []
    for number, object_id in enumerate(object_ids, 1):
        if not _recall(object_id, known):
            unknown.append(object_id)
        if number % RECALLED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return unknown


def _recall(object_id: str, known: dict[str, str]) -> bool:
    """Whether this host knows the owner of the object, which is then in `known`."""
    owner = _owners.get(object_id)
    if owner is None:
        try:
            linked_id, owner = _read_target(_link(object_id))
        except OSError:
            return False
        if linked_id != object_id:
            return False
        _keep(object_id, owner)
    known[object_id] = owner
    return True


def _keep(object_id: str, owner: str) -> None:
    if len(_owners) >= MOST_KEPT:
        _owners.clear()
    _owners[object_id] = owner
    _unknown_until.pop(object_id, None)


def _read_target(link: str | Path) -> tuple[str, str]:
    """An object's id and its owner's name. Raises OSError."""
    quoted_id, _, owner = os.readlink(link).partition("/")
    return unquote(quoted_id), owner


def _link(object_id: str) -> str:
    name = hashlib.blake2b(object_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{settings.DATA_DIR}/owners/{name[:2]}/{name[2:]}"


def _folder() -> Path:
    folder: Path = settings.DATA_DIR / "owners"
    return folder
