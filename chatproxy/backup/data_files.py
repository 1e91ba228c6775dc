"""The files of `DATA_DIR` in a backup: the journal, owners of new objects, prices, and on request the secrets.

All other files in `DATA_DIR` are created again by a start, or belong to the database, of which the backup has a dump.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from itertools import groupby
from pathlib import Path

import orjson

from chatproxy.backup.archive import PART_BYTES, BadArchive
from chatproxy.configuration.setting_reader import SECRETS_FILE
from proxyapi.keys.private_file import private_file
from usage.journal.segments import copy_all
from usage.prices.genai_price_list import FILE_NAME as PRICES_FILE

JOURNAL, OWNERS = "journal", "owners"
JOURNAL_FILE = re.compile(r"journal/([\w-]+(?:\.\d+)?\.(?:journal|log|retried))")
OWNER_LINK = re.compile(r"[0-9a-f]{2}/[0-9a-f]+")


def read_data_files(data_dir: Path, *, with_secrets: bool) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Yields each file in `data_dir` that belongs in a backup: its name, and its content in chunks.

    The symbolic links that record the owners of new objects are yielded as one JSON file (`OWNERS`). `secrets.env` is
    included only if `with_secrets` is true.
    """
    # Before the journal, whose records have the owners, too: a link is removed when its record is in the database.
    # all links that record the owners of new objects, as one file
    links = {str(path.relative_to(data_dir / OWNERS)): target for path, target in _links(data_dir / OWNERS)}
    yield OWNERS, _chunks(orjson.dumps(links))
    for name, chunks in copy_all(data_dir / JOURNAL, PART_BYTES):
        yield f"{JOURNAL}/{name}", chunks
    for name in [PRICES_FILE, *([SECRETS_FILE] if with_secrets else [])]:
        with suppress(FileNotFoundError):
            yield name, _chunks((data_dir / name).read_bytes())


def write_data_files(parts: Iterable[tuple[str, bytes]], data_dir: Path, undo: ExitStack, *, has_secrets: bool) -> None:
    """Writes those parts of a backup that are files of `data_dir` to this directory; skips others, such as the dump.

    `parts` are pairs of a part's name and a chunk of its content; all chunks of a part follow each other. For each new
    file and directory, a function that deletes it is added to `undo`, the steps to run if the restore fails.
    `has_secrets` says whether the backup's manifest announces secrets; others would replace those in `data_dir`.

    Raises:
        BadArchive: a file of the journal, or a link that records an owner, has an impossible name; the links are
            malformed; or there are secrets that the manifest does not announce.
        OSError: a file cannot be written.
    """
    for name, group in groupby(parts, lambda part: part[0]):
        contents = (content for _, content in group)
        if name == OWNERS:
            _make_links(_parse_links(b"".join(contents)), data_dir / OWNERS, undo)
        elif name == SECRETS_FILE and not has_secrets:
            raise BadArchive("has secrets, and its manifest says that it has none")
        elif JOURNAL_FILE.fullmatch(name) or name in {PRICES_FILE, SECRETS_FILE}:
            _write(data_dir / name, contents, undo)
        elif name.startswith(JOURNAL):
            raise BadArchive(f"has a file of the journal with an unknown name, {name!r}")


def _chunks(content: bytes) -> Iterator[bytes]:
    return (content[start : start + PART_BYTES] for start in range(0, len(content), PART_BYTES))


def _write(path: Path, contents: Iterable[bytes], undo: ExitStack) -> None:
    _make_directory(path.parent, undo)
    with private_file(path) as file:
        for content in contents:
            file.write(content)
    undo.callback(path.unlink, missing_ok=True)


def _links(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yields the path and the target of each symbolic link that records the owner of a stored object."""
    for path in folder.glob("*/*"):
        with suppress(OSError):  # removed in the meantime
            yield path, os.readlink(path)


def _parse_links(content: bytes) -> dict[str, str]:
    """Parses the JSON object with the links that record owners: the name and the target of each.

    Raises:
        BadArchive: `content` is no such object.
    """
    try:
        links = orjson.loads(content)
    except orjson.JSONDecodeError:
        links = None
    if not isinstance(links, dict) or not all(isinstance(to, str) and "\0" not in to for to in links.values()):
        raise BadArchive("has owners of objects that cannot be read")
    return links


def _make_links(links: dict[str, str], folder: Path, undo: ExitStack) -> None:
    for name, target in links.items():
        if not OWNER_LINK.fullmatch(name):
            raise BadArchive(f"has a link with an unknown name, {name!r}")
        path = folder / name
        _make_directory(folder, undo)
        _make_directory(path.parent, undo)
        path.symlink_to(target)
        undo.callback(path.unlink, missing_ok=True)


def _make_directory(path: Path, undo: ExitStack) -> None:
    """Creates a directory that only its owner may read, unless it exists.

    If it was created, a function that removes it is added to `undo`, the steps to run if the restore fails.
    """
    if not path.is_dir():
        path.mkdir(mode=0o700)
        undo.callback(path.rmdir)
