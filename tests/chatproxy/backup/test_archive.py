"""The form of a backup: what is written is read, and nothing else is taken for a backup."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tarfile
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest

from chatproxy.backup import data_files
from chatproxy.backup.archive import (
    END,
    FORMAT,
    MANIFEST,
    ArchiveWriter,
    BadArchive,
    Manifest,
    check_archive,
    read_parts,
)

FACTS = Manifest(
    version="1.2.3",
    made_at="2026-11-01T12:00:00+00:00",
    schema="public",
    dumped_by=18,
    migrations=["usage.0001_ledger"],
    has_secrets=False,
)


def archive(path: Path) -> bytes:
    with path.open("wb") as file:
        writer = ArchiveWriter(file, FACTS)
        writer.add("journal/a.journal", [b"one\n", b"two\n"])
        writer.add("journal/empty.journal", [])
        writer.add("database", [b"x" * 1000, b"y"])
        writer.close()
    return path.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    archive(path)
    assert check_archive(path) == FACTS
    assert list(read_parts(path)) == [
        (MANIFEST, orjson.dumps(dataclasses.asdict(FACTS), option=orjson.OPT_INDENT_2)),
        ("journal/a.journal", b"one\n"),
        ("journal/a.journal", b"two\n"),
        ("database", b"x" * 1000),
        ("database", b"y"),
    ]


def test_tar_reads_it_too(tmp_path: Path) -> None:
    archive(tmp_path / "backup")
    with tarfile.open(tmp_path / "backup") as tar:
        names = tar.getnames()
        assert all(member.mode == 0o600 for member in tar)
    assert names == [
        MANIFEST, "journal/a.journal/000001", "journal/a.journal/000002", "database/000001", "database/000002", END,
    ]  # fmt: skip


def test_what_was_cut_off_is_refused_wherever_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    whole = archive(path)
    end = whole.index(b"\0" * 2 * tarfile.BLOCKSIZE, whole.rindex(END.encode() + b"\0"))
    for size in {*range(0, end - tarfile.BLOCKSIZE, 61), *range(0, end - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)}:
        path.write_bytes(whole[:size])
        with pytest.raises(BadArchive):
            check_archive(path)


@pytest.mark.parametrize("part", [b"two\n", b"xyz", b"usage.0001_ledger", b"journal/a.journal/000002"])
def test_what_was_changed_is_refused(tmp_path: Path, part: bytes) -> None:
    path = tmp_path / "backup"
    whole = archive(path).replace(b"x\0", b"xyz\0") if part == b"xyz" else archive(path).replace(part, part.upper())
    path.write_bytes(whole)
    with pytest.raises(BadArchive):
        check_archive(path)


def other_tar(**contents: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PGDMP" + bytes(2000),
        b"a text, longer than a block of tar\n" * 100,
        other_tar(),
        other_tar(one=b"1"),
        other_tar(**{END: hashlib.sha256().hexdigest().encode()}),
        other_tar(**{MANIFEST: b"[]"}),
        other_tar(**{MANIFEST: b'{"format": 1}'}),
        other_tar(**{MANIFEST: b"no JSON"}),
        *(
            other_tar(**{MANIFEST: orjson.dumps({**dataclasses.asdict(FACTS), name: value})})
            for name, value in (
                ("migrations", [1]),
                ("migrations", "ab"),
                ("dumped_by", "18"),
                ("has_secrets", 1),
                ("schema", None),
                ("format", None),
                ("unheard_of", 1),
            )
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(BadArchive, match=r"^is [^\n]+$"):
        check_archive(path)


def test_a_backup_of_a_newer_format_is_refused_with_words(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with path.open("wb") as file:
        ArchiveWriter(file, dataclasses.replace(FACTS, format=FORMAT + 1)).close()
    with pytest.raises(BadArchive, match=f"has the format {FORMAT + 1}, and this version reads {FORMAT}"):
        check_archive(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("owners", b"no JSON"),
        ("owners", b"[]"),
        ("owners", b'{"aa/bb": 5}'),
        ("owners", b'{"aa/bb": "x\\u0000"}'),
        ("owners", b'{"../bb": "x"}'),
        ("owners", b'{"aa/../../bb": "x"}'),
        ("journal/../a.journal", b""),
        ("journal/a.env", b""),
        ("secrets.env", b"SECURITY_KEY=known"),  # the manifest announces none
    ],
)
def test_files_that_no_backup_has_are_refused_and_nothing_stays(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "secrets.env").write_text("SECURITY_KEY=own")

    with pytest.raises(BadArchive, match=r"^has [^\n]+$"), ExitStack() as undo:
        data_files.write_data_files([(name, content)], tmp_path, undo, has_secrets=False)

    assert [path.name for path in tmp_path.iterdir()] == ["secrets.env"]
    assert (tmp_path / "secrets.env").read_text() == "SECURITY_KEY=own"
