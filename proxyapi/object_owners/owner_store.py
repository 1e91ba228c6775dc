"""Records the owners of objects stored upstream (responses, files, threads): the key that has created an object.

An owner is recorded before the object's id leaves, as a symbolic link in `DATA_DIR/owners`: a link is made by a single
system call, is never half written, and is seen by every worker of this host at once. Once the call's row is in the
database, `usage.journal_shipping.stored_object_rows` has the owner too, and the link is removed. An object that is in
neither place was not created through this gateway.

An owner never changes, so a worker keeps the owners that it has read in memory.
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
from usage.journal_shipping.stored_object_rows import makers

logger = logging.getLogger(__name__)

DATABASE_TIMEOUT_SECONDS = 2.0
SWEEP_SECONDS = 60.0
MIN_LINK_AGE_SECONDS = 120.0  # younger links stay: their rows may still be on the way
BATCH = 1000  # links, for each query of a sweep
LINKS_PER_TURN = 200  # that are read before other tasks of the event loop run; takes about 2 ms
MAX_CACHED = 5_000  # owners in memory, about 1 MB
# For this long an id without an owner is not looked up again: nobody can name an object before it is created.
UNKNOWN_SECONDS = 60.0
FOLDER_MODE = 0o700

_owners: dict[str, str] = {}
_unknown_until: dict[str, float] = {}


def record_owner(object_id: str, key_name: str) -> None:
    """Records on this host's disk and in memory that the key `key_name` has created a stored object.

    An object that has an owner already keeps this owner. Takes some 40 µs, and raises nothing. If the disk is full,
    only this process knows the owner at first. About a second later the call's row brings the owner into the database.
    """
    if object_id in _owners:
        return
    link, target = _link(object_id), f"{quote(object_id, safe='')}/{key_name}"
    try:
        try:
            os.symlink(target, link)  # `Path.symlink_to` takes 50 % longer
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
    _cache_owner(object_id, key_name)


async def owners_of(needed: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
    """Returns the names of the keys that created these objects, as a dict by object id.

    Objects that no key of this gateway has created are left out.

    Raises:
        DatabaseUnavailable: only the database can know the owner of an object in `needed`, and it is unavailable.
    """
    known: dict[str, str] = {}
    needed_unknown = await _read_owners(needed, known)
    now = time.monotonic()
    others_unknown = [one for one in await _read_owners(others, known) if _unknown_until.get(one, 0) < now]
    if not needed_unknown and not others_unknown:
        return known
    asked = {*needed_unknown, *others_unknown}
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
            found = await in_own_thread(lambda: _makers(asked))
    except (TimeoutError, DatabaseError) as error:
        if needed_unknown:
            raise DatabaseUnavailable from error
        return known
    for object_id, owner in found.items():
        _cache_owner(object_id, owner)
    if len(_unknown_until) > MAX_CACHED:
        _unknown_until.clear()
    _unknown_until.update(dict.fromkeys(set(others_unknown) - found.keys(), now + UNKNOWN_SECONDS))
    return known | found


async def sweep_forever() -> None:
    """Keeps up the symbolic links that record the owners of stored objects, until it is cancelled.

    First, the folders of the links are made readable for this user only. Then, once a minute, needless links are
    deleted: those whose owners the database has as well.
    """
    await _maintain(close_folders)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        await _maintain(sweep)


async def _maintain(work: Callable[[], None]) -> None:
    """Runs `work`, a piece of maintenance of the recorded owners, in a thread; logs an error instead of raising it."""
    try:
        await in_own_thread(work)
    except DatabaseError as error:
        logger.info("the owners of stored objects wait for the database: %s", type(error).__name__)
    except Exception:  # the border: if this task ended, links would accumulate until the next start
        logger.exception("the links of stored objects' owners could not be kept up")


def sweep(now: float | None = None) -> None:
    """Deletes the symbolic links that are needless, because the database has the recorded owners as well.

    Each link records which key owns an object that upstream stores, until the row of the call that made the object is
    in the database. Links younger than `MIN_LINK_AGE_SECONDS` stay, because the rows of their calls may not be there
    yet.

    Raises:
        django.db.Error: the database cannot be read.
    """
    now = time.time() if now is None else now
    batch: dict[str, Path] = {}
    for link in _folder().glob("*/*"):
        with suppress(OSError):  # another worker has removed it
            if now - link.lstat().st_mtime > MIN_LINK_AGE_SECONDS:
                batch[_read_target(link)[0]] = link
        if len(batch) == BATCH:
            _remove(batch)
            batch = {}
    _remove(batch)


def close_folders() -> None:
    """Lets only this user read the folders in which the owners of stored objects are recorded.

    Older versions created them with the rights that the umask left, so that other users of the host could read them.
    """
    for folder in (_folder(), *_folder().glob("*/")):
        with suppress(OSError):
            folder.chmod(FOLDER_MODE)


def _make_folder(folder: Path) -> None:
    """Creates a folder that only this user may read, under any umask. Does nothing if the folder exists."""
    with suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE, parents=True)
        folder.chmod(FOLDER_MODE)


def _remove(links: dict[str, Path]) -> None:
    """Deletes the symbolic links of those objects whose owners the database has; `links` has the paths by object id."""
    for object_id in _makers(links) if links else ():
        links[object_id].unlink(missing_ok=True)


def _makers(object_ids: Collection[str]) -> dict[str, str]:
    """Reads from the database which keys created these objects; returns the keys' names by object id.

    Objects whose owner the database does not have are left out. Must run in a thread of its own, because it closes the
    thread's database connection.
    """
    try:
        return makers(object_ids)
    finally:
        connection.close()


async def _read_owners(object_ids: Collection[str], known: dict[str, str]) -> list[str]:
    """Looks up the owners of objects in memory and on this host's disk.

    Adds each owner that is found to `known`, by the object's id. Returns the ids of which no owner was found. Lets the
    event loop run after every `LINKS_PER_TURN` ids, because each may be read from the disk, and a request may name
    thousands.
    """
    unknown: list[str] = []
    for number, object_id in enumerate(object_ids, 1):
        if not _read_owner(object_id, known):
            unknown.append(object_id)
        if number % LINKS_PER_TURN == 0:
            await asyncio.sleep(0)
    return unknown


def _read_owner(object_id: str, known: dict[str, str]) -> bool:
    """Looks up the owner of one object in memory and on this host's disk; returns whether it was found there.

    Adds the owner to `known`, by the object's id.
    """
    owner = _owners.get(object_id)
    if owner is None:
        try:
            linked_id, owner = _read_target(_link(object_id))
        except OSError:
            return False
        if linked_id != object_id:
            return False
        _cache_owner(object_id, owner)
    known[object_id] = owner
    return True


def _cache_owner(object_id: str, owner: str) -> None:
    """Stores the owner of an object in this process's memory; if that is full, forgets all others first."""
    if len(_owners) >= MAX_CACHED:
        _owners.clear()
    _owners[object_id] = owner
    _unknown_until.pop(object_id, None)


def _read_target(link: str | Path) -> tuple[str, str]:
    """Reads the symbolic link that records the owner of an object; returns the object's id and the owner's name.

    Raises:
        OSError: there is no such link.
    """
    quoted_id, _, owner = os.readlink(link).partition("/")
    return unquote(quoted_id), owner


def _link(object_id: str) -> str:
    """Returns the path of the symbolic link for an object's owner; its name is a hash of the object's id."""
    name = hashlib.blake2b(object_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{settings.DATA_DIR}/owners/{name[:2]}/{name[2:]}"


def _folder() -> Path:
    """Returns the folder of the links that record the owners of objects, `DATA_DIR/owners`."""
    folder: Path = settings.DATA_DIR / "owners"
    return folder
