"""What is no backup, or no place for one, is refused with words; and what fails leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

from chatproxy.postgres.bundled import BundledPostgres
from tests.support.polling import wait_until
from tests.support.servers.backups import Place
from tests.support.servers.environments import variables
from tests.support.servers.gateway import PATIENCE


def file_size_limit(kib: int) -> tuple[str, ...]:
    """Returns a launcher of commands that cannot write a larger file, as if the disk were full."""
    return ("bash", "-c", f'ulimit -f {kib}; exec "$@"', "limit")


def test_a_place_that_is_not_empty_is_refused(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run():
        old.backup(path, "--with-secrets")
    assert "is not empty (journal, " in old.refusal(path)
    used = Place(old.upstream, tmp_path / "new", old.database_url)
    assert "the database has been used by a server already" in used.refusal(path)
    assert not list(used.data_dir.iterdir())
    unused = new("other", empty=True)
    unused.data_dir.mkdir()
    unused.secrets.write_text("SECURITY_KEY=of-somebody-else\n")
    assert "is not empty (secrets.env)" in unused.refusal(path)


@pytest.mark.parametrize("bundled", [False, True])
def test_what_is_cut_or_foreign_is_refused_before_anything_is_written(
    new: Callable[..., Place], tmp_path: Path, bundled: bool
) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run():
        old.backup(path)
    whole, place = path.read_bytes(), new("new", bundled=bundled, empty=True)
    for content, said in ((whole[: len(whole) // 2], "is cut off"), (b"foreign" * 1000, "is no backup of chatproxy")):
        path.write_bytes(content)
        assert f"{path} {said}" in place.refusal(path)
        assert not place.data_dir.exists()
    assert f"{path}-none: No such file" in place.refusal(Path(f"{path}-none"))


def test_a_backup_of_a_newer_version_is_refused(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run() as gateway:
        with psycopg.connect(old.url, autocommit=True) as database:
            database.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('usage', '9999_newer', now())")
        old.backup(path)
        assert gateway.http.get("/healthz").status_code == 200
    place = new("new", empty=True)
    assert "whose tables this version" in place.refusal(path)
    assert not place.data_dir.exists()


def test_a_backup_without_a_server_says_so(new: Callable[..., Place], tmp_path: Path) -> None:
    done = new("old", bundled=True).manage("backup", str(tmp_path / "backup.tar"))
    assert done.returncode == 1
    assert done.stderr.startswith(b"CommandError: the database cannot be reached; is the server running? (")
    assert list(tmp_path.glob("*backup*")) == []


def test_a_file_that_cannot_be_made_is_refused_with_words(new: Callable[..., Place], tmp_path: Path) -> None:
    place = new("old")
    said = {
        name: place.manage("backup", str(tmp_path / name)).stderr.decode()
        for name in (".", "none/backup.tar", "/dev/null")
    }
    assert said["."] == f"CommandError: {tmp_path} is a directory; name a file in it\n"
    assert said["/dev/null"] == "CommandError: /dev/null is no file; `-` is the standard output\n"
    assert said["none/backup.tar"] == f"CommandError: there is no directory {tmp_path}/none; create it\n"


def test_a_full_disk_leaves_nothing_behind(new: Callable[..., Place], tmp_path: Path) -> None:
    old, directory = new("old"), tmp_path / "backups"
    directory.mkdir()
    limit = file_size_limit(kib=16)
    with old.run():
        done = old.manage("backup", str(directory / "backup.tar"), launcher=limit)
        assert done.returncode == 1
        said = f"CommandError: the backup has failed: {directory}/backup.tar: File too large\n"
        assert done.stderr.decode() == said
        assert list(directory.iterdir()) == []
        (directory / "backup.tar").write_bytes(b"of yesterday")
        assert old.manage("backup", str(directory / "backup.tar"), launcher=limit).returncode == 1
        assert [path.read_bytes() for path in directory.iterdir()] == [b"of yesterday"]
        old.backup(directory / "backup.tar")
        assert len(list(directory.iterdir())) == 1


OBEYING = """
import os, signal, sys
signal.signal(int(sys.argv[1]), signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_backup_that_is_ended_leaves_nothing_behind(
    new: Callable[..., Place], tmp_path: Path, number: signal.Signals
) -> None:
    place, directory, dumping = new("old"), tmp_path / "backups", tmp_path / "dumping"
    directory.mkdir()
    pg_dump = tmp_path / "pg_dump"
    pg_dump.write_text(
        f"#!/bin/sh\ntest $1 = --version && echo '(PostgreSQL) 99' && exit\ntouch {dumping}\nsleep 1000\n"
    )
    pg_dump.chmod(0o755)
    # A shell lets the processes that it starts in the background ignore SIGINT, perhaps also these tests.
    command = subprocess.Popen(
        [sys.executable, "-c", OBEYING, str(number.value), "manage.py", "backup", str(directory / "backup.tar")],
        cwd=settings.BASE_DIR,
        env=variables(place.data_dir, DATABASE_URL=place.url, PATH=f"{tmp_path}:{os.environ['PATH']}"),
        start_new_session=True,
    )
    wait_until(dumping.exists)
    os.killpg(command.pid, number)
    assert command.wait(PATIENCE) == 1
    assert list(directory.iterdir()) == []


def test_a_restore_that_fails_leaves_nothing_behind(new: Callable[..., Place], tmp_path: Path) -> None:
    """And can be tried again in the same place."""
    old, path, place = new("old"), tmp_path / "backup.tar", new("new", empty=True)
    with old.run() as gateway:
        key = gateway.make_key("ada")
        old.backup(path, "--with-secrets")
    with psycopg.connect(place.url, autocommit=True) as database:
        database.execute("CREATE TABLE usage_request (of_somebody_else int)")
        assert "pg_restore failed: could not execute query: ERROR:  relation" in place.refusal(path)
        assert list(place.data_dir.iterdir()) == []
        assert database.execute("SELECT to_regclass('django_migrations')").fetchall() == [(None,)]
        database.execute("DROP TABLE usage_request")
    place.restore(path)
    with place.run() as gateway:
        gateway.wait_until_known(key)


def test_a_restore_that_fails_leaves_no_bundled_database_behind(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path, place = new("old"), tmp_path / "backup.tar", new("new", bundled=True)
    with old.run():
        (old.data_dir / "prices.json").write_bytes(bytes(40 * 1024 * 1024))
        old.backup(path)
    done = place.manage("restore", str(path), launcher=file_size_limit(kib=32 * 1024))  # more than a file of PostgreSQL
    assert done.stderr.decode().endswith(": File too large\n")
    assert list(place.data_dir.iterdir()) == []
    assert not BundledPostgres(place.data_dir).cluster.exists()
    restored = place.manage("restore", str(path))
    assert restored.returncode == 0, restored.stderr
