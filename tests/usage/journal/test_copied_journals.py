"""A copy of the journals is taken while they are written and shipped, and lacks no record that is in no table yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from usage.journal.segments import copy_all
from usage.journal.undelivered import DEAD_LETTERS, RETRIED, append, begin_retry

CHUNK = 4


def copied(found: Iterator[tuple[str, Iterator[bytes]]]) -> dict[str, bytes]:
    return {name: b"".join(chunks) for name, chunks in found}


def write(directory: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (directory / name.replace("_", ".")).write_bytes(content)


def test_it_works(tmp_path: Path) -> None:
    write(tmp_path, a_00000001_journal=b"one\ntwo\n", b_00000001_journal=b"", damaged_log=b"x\n", a_lock=b"")
    (tmp_path / ".a.00000002.new").write_bytes(b"not named yet")
    assert copied(copy_all(tmp_path, CHUNK)) == {
        "a.00000001.journal": b"one\ntwo\n",
        "b.00000001.journal": b"",
        "damaged.log": b"x\n",
    }


def test_there_may_be_no_journal(tmp_path: Path) -> None:
    assert copied(copy_all(tmp_path / "none", CHUNK)) == {}


def test_a_chunk_is_no_longer_than_wanted(tmp_path: Path) -> None:
    write(tmp_path, a_00000001_journal=b"0123456789")
    [(_, chunks)] = ((name, list(chunks)) for name, chunks in copy_all(tmp_path, CHUNK))
    assert chunks == [b"0123", b"4567", b"89"]


def test_what_is_written_during_the_copy_does_not_make_it_endless(tmp_path: Path) -> None:
    write(tmp_path, a_00000001_journal=b"one\n")
    [(_, chunks)] = ((name, grown(tmp_path / name, chunks)) for name, chunks in copy_all(tmp_path, CHUNK))
    assert chunks == b"one\n"


def grown(path: Path, chunks: Iterator[bytes]) -> bytes:
    content = b""
    for chunk in chunks:
        content += chunk
        with path.open("ab") as file:
            file.write(b"more\n")
    return content


def test_the_successor_of_a_segment_that_vanishes_is_copied(tmp_path: Path) -> None:
    """It alone has the begin records of the calls in flight."""
    write(tmp_path, a_00000001_journal=b"a\n", b_00000001_journal=b"delivered\n")
    copy = copy_all(tmp_path, CHUNK)
    name, chunks = next(copy)
    assert (name, b"".join(chunks)) == ("a.00000001.journal", b"a\n")
    write(tmp_path, b_00000002_journal=b"begin\n")
    (tmp_path / "b.00000001.journal").unlink()
    assert copied(copy) == {"b.00000002.journal": b"begin\n"}


def test_a_record_that_is_dead_lettered_during_the_copy_is_in_it(tmp_path: Path) -> None:
    write(tmp_path, a_00000001_journal=b"a\n", b_00000001_journal=b"poison\n", deadletter_log=b"old\n")
    copy = copy_all(tmp_path, CHUNK)
    next(copy)
    append(tmp_path / DEAD_LETTERS, [b"poison"])
    (tmp_path / "b.00000001.journal").unlink()
    assert copied(copy) == {DEAD_LETTERS: b"old\npoison\n"}


def test_dead_letters_that_a_replay_takes_during_the_copy_are_in_it(tmp_path: Path) -> None:
    write(tmp_path, damaged_log=b"x\n", deadletter_log=b"letter\n")
    copy = copy_all(tmp_path, CHUNK)
    assert next(copy)[0] == "damaged.log"
    begin_retry(tmp_path)
    assert copied(copy) == {RETRIED: b"letter\n"}


def test_a_letter_that_a_replay_returns_during_the_copy_is_in_it(tmp_path: Path) -> None:
    write(tmp_path, damaged_log=b"x\n", deadletter_log=b"new\n", deadletter_retried=b"old\n")
    copy = copy_all(tmp_path, CHUNK)
    name, chunks = next(copy)
    found = {name: b"".join(chunks)}
    append(tmp_path / DEAD_LETTERS, [b"old"])
    (tmp_path / RETRIED).unlink()
    found |= copied(copy)
    assert found == {RETRIED: b"old\n", DEAD_LETTERS: b"new\nold\n", "damaged.log": b"x\n"}
