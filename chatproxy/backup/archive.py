"""The form of a backup: a tar archive of small parts, whose last member proves that the archive is complete.

The first member, `manifest.json`, describes the backup. Each following member is a part of a file, of at most
`PART_BYTES`: `database/000001`, `database/000002`, … are the database's dump in the custom format of pg_dump, and
`journal/<name>/000001`, … is a file of the journal. So an archive can be written and read in one pass, with little
memory, even through a pipe. The last member, `end`, is a digest of all others; an archive without it was cut off.
"""

from __future__ import annotations

import dataclasses
import hashlib
import tarfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

FORMAT = 1  # of the archives that this code writes; it reads no higher one
PART_BYTES = 16 * 1024 * 1024
MANIFEST, END = "manifest.json", "end"


class BadArchive(Exception):
    """Error: a file is no backup, or is incomplete. Its message is one line for a person."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The facts about a backup that a restore must know first.

    `made_at` is a time in ISO 8601, in UTC. `schema` is the dumped database schema, `dumped_by` the major version of
    pg_dump. `migrations` are the names (`app.name`) of the database's migrations.
    """

    version: str  # of chatproxy
    made_at: str
    schema: str
    dumped_by: int
    migrations: list[str]
    has_secrets: bool
    format: int = FORMAT

    @classmethod
    def parse(cls, content: bytes) -> Manifest:
        """Parses and returns the manifest of a backup, which is the first member of its archive.

        Raises:
            BadArchive: `content` is no manifest, or has a newer format than this version can read.
        """
        try:
            values = orjson.loads(content)
            found = values["format"]
            if found <= FORMAT:
                manifest = cls(**values)
                manifest._check_types()
                return manifest
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise BadArchive("is no backup of chatproxy") from None
        raise BadArchive(
            f"has the format {found}, and this version reads {FORMAT}; restore it with the version of then"
        )

    def _check_types(self) -> None:
        """Raises `TypeError` if a fact has a type that no backup of ours gives it."""
        texts = (self.version, self.made_at, self.schema, *self.migrations)
        is_ours = type(self.dumped_by) is int and type(self.has_secrets) is bool and isinstance(self.migrations, list)
        if not (is_ours and all(isinstance(text, str) for text in texts)):
            raise TypeError


class ArchiveWriter:
    """A writer of one backup's archive to a file: first the manifest, then the files that `add` is called with.

    The archive is complete, and counts as a backup, only once `close` has returned.
    """

    def __init__(self, file: BinaryIO, manifest: Manifest) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._add_member(MANIFEST, orjson.dumps(manifest, option=orjson.OPT_INDENT_2))

    def add(self, name: str, chunks: Iterable[bytes]) -> None:
        """Adds a file to the archive, one part for each chunk of its content; a chunk has at most `PART_BYTES`."""
        for number, chunk in enumerate(chunks, 1):
            self._add_member(f"{name}/{number:06}", chunk)

    def close(self) -> None:
        """Completes the archive by writing its last member, a digest of all others; leaves the file open."""
        self._add_member(END, self._digest.hexdigest().encode())
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _add_member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = len(content), 0o600, int(time.time())
        self._file.write(member.tobuf(tarfile.GNU_FORMAT))
        self._file.write(content)
        self._file.write(bytes(-len(content) % tarfile.BLOCKSIZE))
        _feed(self._digest, name, content)


def read_parts(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yields the parts of a backup's archive in order, each as its file's name and its content; the manifest first.

    A large file has several parts with the same name. An error may be raised after the last part was yielded, since
    damage may only show at the end of the archive.

    Raises:
        BadArchive: the file is no backup, is cut off, or was changed.
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with tarfile.open(path, "r|") as tar:
            for member in tar:
                content = _content_of(tar, member)
                if member.name == END:
                    if content != digest.hexdigest().encode():
                        raise BadArchive("is damaged: its content is not what was written")
                    return
                _feed(digest, member.name, content)
                yield member.name.rpartition("/")[0] or member.name, content
    except (tarfile.TarError, EOFError) as error:
        is_cut = "unexpected end" in str(error)
        raise BadArchive("is cut off" if is_cut else "is no backup of chatproxy") from None
    raise BadArchive("is cut off: its end is missing")


def check_archive(path: Path) -> Manifest:
    """Reads a whole archive, checks that it is undamaged, and returns its manifest.

    Raises:
        BadArchive: the file is no backup, or has an unknown format, is cut off, or was changed.
        OSError: the file cannot be read.
    """
    parts = read_parts(path)
    name, content = next(parts, ("", b""))  # an archive without members has the digest of nothing at its end
    if name != MANIFEST:
        raise BadArchive("is no backup of chatproxy")
    manifest = Manifest.parse(content)
    for _ in parts:
        pass
    return manifest


def _content_of(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member) if member.isreg() and member.size <= PART_BYTES else None
    if file is None:
        raise BadArchive("is no backup of chatproxy")
    return file.read()


def _feed(digest: hashlib._Hash, name: str, content: bytes) -> None:
    """Adds the name and content of an archive's member to the digest of all members."""
    digest.update(f"{name} {len(content)}\n".encode())
    digest.update(content)
