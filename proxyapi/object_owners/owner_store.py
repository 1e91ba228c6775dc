"""Records the owners of objects stored upstream (responses, files, threads). An owner is the key that created one.

Before the caller gets an object's id, its owner is recorded as a symbolic link in `DATA_DIR/owners`: a link is made by
a single system call, is never half written, and is seen by every worker of this host at once. Once the call's row is in
the database, the owner is there too (`usage.journal_shipping.stored_object_rows`), and the link is removed. An object
that is in neither place was not created through this gateway.

An owner never changes, so a worker caches owners in memory. An id that upstream gives to a second key, too, keeps its
owner; that the second key was given it is recorded in the same way, under another name (`given_name`).
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

from proxyapi.database_threads import in_own_thread
from proxyapi.exceptions import DatabaseUnavailable
from usage.journal_shipping.stored_object_rows import given_name, makers

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
    """Records, on this host's disk and in memory, that the key `key_name` owns an object, since it has created it.

    An object is something that upstream stores, such as a file or a response. If another key owns it already, the owner
    stays, and it is only recorded that upstream has given the same id to `key_name`. Raises nothing, even if the disk
    is full.
    """
    known: dict[str, str] = {}
    if _link_owner(object_id, key_name) or not _read_owner(object_id, known):
        return
    if known[object_id] != key_name:
        _link_owner(given_name(object_id, key_name), key_name)


def _link_owner(object_id: str, key_name: str) -> bool:
    """Makes the link that records the owner of an object, unless an owner is known; returns whether it was made."""
    if object_id in _owners:
        return False
    # This takes some 40 µs. If the disk is full, only this process knows the owner at first: about a second later the
    # call's row brings the owner into the database.
    link, target = _link(object_id), f"{quote(object_id, safe='')}/{key_name}"
    try:
        try:
            os.symlink(target, link)  # `Path.symlink_to` takes 50 % longer
        except FileNotFoundError:
            _make_folder(Path(link).parent.parent)
            _make_folder(Path(link).parent)
            os.symlink(target, link)
    except FileExistsError:
        return False
    except OSError as error:
        logger.warning("an owner could not be remembered: %s", error.strerror)
    except ValueError:
        logger.warning("an owner could not be remembered: the id is no name for a file")
        return False
    _cache_owner(object_id, key_name)
    return True


async def owners_of(needed: Collection[str], others: Collection[str] = ()) -> dict[str, str]:
    """Returns which keys have created the objects in `needed` and `others`, as a dict from object id to the key's name.

    Objects without a known owner are left out. Owners that this host does not know are read from the database. For an
    object in `others`, an unknown owner is read at most once a minute, and an error of the database is ignored.

    Raises:
        DatabaseUnavailable: the database must be asked for the owner of an object in `needed`, and is unavailable.
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


async def given_to(key_name: str, object_ids: Collection[str]) -> dict[str, str]:
    """Returns those of the ids that upstream has given to the key, as a dict from object id to the key's name.

    To be called for ids whose owner seems to be another key, which is seldom. The database is asked for all ids that
    this host has not recorded as given to the key; an error of the database is ignored.
    """
    names = {object_id: given_name(object_id, key_name) for object_id in object_ids}
    known: dict[str, str] = {}
    unknown = set(await _read_owners(names.values(), known))
    # The database knows the owner, too: a link of this host may be of a key that was given the id later.
    asked = {*unknown, *(object_id for object_id, name in names.items() if name in unknown)}
    if asked:
        with suppress(TimeoutError, DatabaseError):
            async with asyncio.timeout(DATABASE_TIMEOUT_SECONDS):
                known |= await in_own_thread(lambda: _makers(asked))
    return {one: key_name for one, name in names.items() if key_name in (known.get(name), known.get(one))}


async def sweep_forever() -> None:
    """Deletes needless links in `DATA_DIR/owners` once a minute (see `sweep`), until cancelled.

    First makes the folders of the links readable for the gateway's system user only.
    """
    await _maintain(close_folders)
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        # needless links: their owners are in the database as well
        await _maintain(sweep)


async def _maintain(work: Callable[[], None]) -> None:
    """Runs `work`, a function that maintains the links to owners, in a thread of its own; logs the errors of `work`."""
    try:
        await in_own_thread(work)
    except DatabaseError as error:
        logger.info("the owners of stored objects wait for the database: %s", type(error).__name__)
    except Exception:  # the border: if this task ended, links would accumulate until the next start
        logger.exception("the links of stored objects' owners could not be kept up")


def sweep(now: float | None = None) -> None:
    """Deletes those symbolic links in `DATA_DIR/owners` that are not needed any more.

    Each link records the owner of a stored object until the owner is in the database. Links younger than
    `MIN_LINK_AGE_SECONDS` always stay.

    Raises:
        django.db.Error: the database cannot be read.
    """
    # A link records which key owns an object until the row of the call that made it is in the database.
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
    """Makes the folders that record the owners of stored objects readable for the gateway's system user only."""
    # Older versions created them with the rights that the umask left: other users of the host could read them.
    for folder in (_folder(), *_folder().glob("*/")):
        with suppress(OSError):
            folder.chmod(FOLDER_MODE)


def _make_folder(folder: Path) -> None:
    """Creates a folder that only the gateway's system user may read, whatever the umask is; keeps an existing one."""
    with suppress(FileExistsError):
        folder.mkdir(FOLDER_MODE, parents=True)
        folder.chmod(FOLDER_MODE)


def _remove(links: dict[str, Path]) -> None:
    """Deletes the symbolic links of those objects whose owners are in the database by now; keeps the other links.

    `links` maps the id of each object to the path of the link that records the object's owner.

    Raises:
        django.db.Error: the database cannot be read.
    """
    for object_id in _makers(links) if links else ():
        links[object_id].unlink(missing_ok=True)


def _makers(object_ids: Collection[str]) -> dict[str, str]:
    """Reads from the database which keys have created the given objects; returns a dict from object id to key name.

    Objects without an owner in the database are left out. Call this in a thread of its own: it closes the thread's
    database connection.
    """
    try:
        return makers(object_ids)
    finally:
        # the connection of this thread
        connection.close()


async def _read_owners(object_ids: Collection[str], known: dict[str, str]) -> list[str]:
    """Looks up the owners of objects in memory and on this host's disk; returns the ids without a known owner.

    Adds each owner that was found to the dict `known`, which maps object ids to names of keys.
    """
    unknown: list[str] = []
    for number, object_id in enumerate(object_ids, 1):
        if not _read_owner(object_id, known):
            unknown.append(object_id)
        if number % LINKS_PER_TURN == 0:
            # each id may be read from the disk, and a request may name thousands
            await asyncio.sleep(0)
    return unknown


def _read_owner(object_id: str, known: dict[str, str]) -> bool:
    """Looks up the owner of one object in memory and on this host's disk; returns whether the owner was found.

    Adds the owner to the dict `known`, which maps object ids to names of keys.
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
    """Stores the owner of an object in the cache of this process; if the cache is full, empties it first.

    Also forgets that the owner of this object was unknown.
    """
    if len(_owners) >= MAX_CACHED:
        _owners.clear()
    _owners[object_id] = owner
    _unknown_until.pop(object_id, None)


def _read_target(link: str | Path) -> tuple[str, str]:
    """Reads a symbolic link that records an owner; returns the object's id and the owner's name.

    Raises:
        OSError: there is no such link.
    """
    quoted_id, _, owner = os.readlink(link).partition("/")
    return unquote(quoted_id), owner


def _link(object_id: str) -> str:
    """Returns the path of the symbolic link that records the owner of an object."""
    name = hashlib.blake2b(object_id.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return f"{settings.DATA_DIR}/owners/{name[:2]}/{name[2:]}"


def _folder() -> Path:
    """Returns the folder of the links that record the owners of objects: `DATA_DIR/owners`."""
    folder: Path = settings.DATA_DIR / "owners"
    return folder
