"""A backup that is made while the server serves, and what a server that is restored from it knows."""

from __future__ import annotations

import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psycopg
import pytest

from chatproxy.postgres.bundled import BundledPostgres
from tests.chaos.processes import send
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask
from tests.support.polling import wait_until
from tests.support.servers.backups import Place, new_place
from tests.support.servers.gateway import Gateway
from tests.support.servers.processes import shipper_of

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "größe 🙂"}]}
HELD = {"model": "fault:gate-stream", "input": "hi", "stream": True}
CALLERS = 4


@pytest.fixture
def new(simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places for servers; each has a database of its own or, if it is `bundled`, none yet."""
    with ExitStack() as undo:

        def make(name: str, *, bundled: bool = False) -> Place:
            server_url = "" if bundled else gateway_database
            return undo.enter_context(new_place(simulator.base_url, tmp_path / name, server_url))

        yield make


def call(gateway: Gateway, key: str) -> str:
    answer = ask(gateway, key, "/v1/chat/completions", CALL)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-proxy-request-id"])


def backup(place: Place, path: Path, *options: str) -> None:
    done = place.manage("backup", str(path), *options)
    assert done.returncode == 0, done.stderr
    assert b"the backup is whole" in done.stderr


def restore(place: Place, path: Path) -> None:
    done = place.manage("restore", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    assert b"restored the backup of 20" in done.stdout


def refusal(place: Place, path: Path) -> str:
    """Restores a backup that must be refused; returns the one line that is said."""
    done = place.manage("restore", str(path))
    assert done.returncode == 1, done.stdout
    said = done.stderr.decode()
    assert said.startswith("CommandError: ")
    assert said.count("\n") == 1
    return said


def file_size_limit(kib: int) -> tuple[str, ...]:
    """Returns a launcher of commands that cannot write a larger file, as if the disk were full."""
    return ("bash", "-c", f'ulimit -f {kib}; exec "$@"', "limit")


def assert_whole(gateway: Gateway) -> None:
    done = gateway.manage("ledger", "verify")
    assert (done.returncode, done.stdout) == (0, "the ledger is whole\n")


@pytest.mark.parametrize("bundled", [False, True])
def test_a_restored_server_goes_on_where_the_backup_was_made(
    new: Callable[..., Place], simulator: Simulator, tmp_path: Path, bundled: bool
) -> None:
    """With what was in the tables, with what was in the journal only, and with a call in flight."""
    old, path = new("old", bundled=bundled), tmp_path / "backup.tar"
    with old.run() as gateway, ThreadPoolExecutor() as pool:
        key = gateway.make_key("ada")
        in_tables = [call(gateway, key) for _ in range(3)]
        wait_until(lambda: old.rows().keys() >= {*in_tables})
        shipper = shipper_of(gateway)
        send(signal.SIGSTOP, [shipper])
        in_journal = [call(gateway, key) for _ in range(3)]
        stream = pool.submit(ask, gateway, key, "/v1/responses", HELD)
        simulator.wait_until(lambda: simulator.waiting == 1)
        backup(old, path, "--with-secrets")
        simulator.release(1)
        answer = stream.result()
        in_flight = answer.headers["x-proxy-request-id"]
        send(signal.SIGCONT, [shipper])
        wait_until(lambda: old.rows().keys() >= {*in_journal, in_flight})
        before = old.rows()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    restored = new("new", bundled=bundled)
    restore(restored, path)
    assert stat.S_IMODE(restored.secrets.stat().st_mode) == 0o600
    with restored.run() as gateway:
        wait_until(lambda: len(restored.rows()) >= len(before))
        rows = restored.rows()
        assert rows.keys() == before.keys()
        assert {one: rows[one] for one in (*in_tables, *in_journal)} == {
            one: before[one] for one in (*in_tables, *in_journal)
        }
        assert rows[in_flight]["outcome"] == "interrupted"
        gateway.wait_until_known(key)
        call(gateway, key)
        assert_whole(gateway)


def test_no_call_is_missing_that_was_answered_before_a_backup_under_load(
    new: Callable[..., Place], tmp_path: Path
) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    answered: list[str] = []
    stopping = threading.Event()
    with old.run(WEB_CONCURRENCY="2") as gateway, ThreadPoolExecutor() as pool:
        key = gateway.make_key("ada")

        def load() -> None:
            with httpx2.Client(base_url=gateway.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
                while not stopping.is_set():
                    answer = client.post("/v1/chat/completions", json=CALL)
                    answered.append(answer.headers["x-proxy-request-id"])

        callers = [pool.submit(load) for _ in range(CALLERS)]
        try:
            wait_until(lambda: len(answered) >= 50)
            before = set(answered)
            backup(old, path, "--with-secrets")
        finally:
            stopping.set()
        for caller in callers:
            caller.result()
        wait_until(lambda: old.rows().keys() >= {*answered})
        all_rows = old.rows()
    assert len(answered) > len(before)

    restored = new("new")
    restore(restored, path)
    with restored.run() as gateway:
        wait_until(lambda: restored.rows().keys() >= before)
        wait_until(lambda: not list((restored.data_dir / "journal").glob("*.00000001.journal"))[1:])
        assert restored.rows().keys() <= all_rows.keys()
        assert_whole(gateway)


def test_what_has_no_row_yet_is_copied_too(new: Callable[..., Place], tmp_path: Path) -> None:
    """The owners of objects whose calls have not ended, and the lines that could not be delivered."""
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run():
        owner = old.data_dir / "owners" / "ab" / "0123456789abcdef"
        owner.parent.mkdir(parents=True)
        owner.symlink_to("resp_1/ada")
        (old.data_dir / "journal" / "damaged.log").write_bytes(b"x\n")
        (old.data_dir / "prices.json").write_bytes(b"a list")
        backup(old, path)
    restored = new("new")
    restored.data_dir.mkdir()
    restored.secrets.write_text(old.secrets.read_text())
    restore(restored, path)
    assert os.readlink(restored.data_dir / "owners" / "ab" / "0123456789abcdef") == "resp_1/ada"
    assert (restored.data_dir / "journal" / "damaged.log").read_bytes() == b"x\n"
    assert (restored.data_dir / "prices.json").read_bytes() == b"a list"


def test_secrets_are_in_a_backup_only_if_wanted(new: Callable[..., Place], tmp_path: Path) -> None:
    old = new("old")
    with old.run():
        done = old.manage("backup", "-")
        assert b"without the secrets: keep a copy of secrets.env elsewhere" in done.stderr
        (tmp_path / "backup.tar").write_bytes(done.stdout)
        secrets = [line.partition("=")[2].encode() for line in old.secrets.read_text().splitlines()[1:]]
        assert not any(secret in done.stdout for secret in secrets)
        assert all(secret in old.manage("backup", "-", "--with-secrets").stdout for secret in secrets)
    restored = new("new")
    done = restored.manage("restore", str(tmp_path / "backup.tar"))
    assert done.returncode == 0
    assert b"before the start: this database has secrets that are missing here" in done.stderr


def test_a_place_that_is_not_empty_is_refused(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run():
        backup(old, path, "--with-secrets")
    assert "is not empty (journal, " in refusal(old, path)
    used = Place(old.upstream, tmp_path / "new", old.database_url)
    assert "the database has been used by a server already" in refusal(used, path)
    assert not list(used.data_dir.iterdir())
    unused = new("other")
    unused.data_dir.mkdir()
    unused.secrets.write_text("SECURITY_KEY=of-somebody-else\n")
    assert "is not empty (secrets.env)" in refusal(unused, path)


@pytest.mark.parametrize("bundled", [False, True])
def test_what_is_cut_or_foreign_is_refused_before_anything_is_written(
    new: Callable[..., Place], tmp_path: Path, bundled: bool
) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run():
        backup(old, path)
    whole, place = path.read_bytes(), new("new", bundled=bundled)
    for content, said in ((whole[: len(whole) // 2], "is cut off"), (b"foreign" * 1000, "is no backup of chatproxy")):
        path.write_bytes(content)
        assert f"{path} {said}" in refusal(place, path)
        assert not place.data_dir.exists()
    assert f"{path}-none: No such file" in refusal(place, Path(f"{path}-none"))


def test_a_backup_of_a_newer_version_is_refused(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path = new("old"), tmp_path / "backup.tar"
    with old.run() as gateway:
        with psycopg.connect(old.url, autocommit=True) as database:
            database.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('usage', '9999_newer', now())")
        backup(old, path)
        assert gateway.http.get("/healthz").status_code == 200
    place = new("new")
    assert "whose tables this version" in refusal(place, path)
    assert not place.data_dir.exists()


def test_a_backup_without_a_server_says_so(new: Callable[..., Place], tmp_path: Path) -> None:
    done = new("old", bundled=True).manage("backup", str(tmp_path / "backup.tar"))
    assert done.returncode == 1
    assert done.stderr.startswith(b"CommandError: the database cannot be reached; is the server running? (")
    assert list(tmp_path.glob("*backup*")) == []


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
        backup(old, directory / "backup.tar")
        assert len(list(directory.iterdir())) == 1


def test_a_restore_that_fails_leaves_nothing_behind(new: Callable[..., Place], tmp_path: Path) -> None:
    """And can be tried again in the same place."""
    old, path, place = new("old"), tmp_path / "backup.tar", new("new")
    with old.run() as gateway:
        key = gateway.make_key("ada")
        backup(old, path, "--with-secrets")
    with psycopg.connect(place.url, autocommit=True) as database:
        database.execute("CREATE TABLE usage_request (of_somebody_else int)")
        assert "pg_restore failed: could not execute query: ERROR:  relation" in refusal(place, path)
        assert list(place.data_dir.iterdir()) == []
        assert database.execute("SELECT to_regclass('django_migrations')").fetchall() == [(None,)]
        database.execute("DROP TABLE usage_request")
    restore(place, path)
    with place.run() as gateway:
        gateway.wait_until_known(key)


def test_a_restore_that_fails_leaves_no_bundled_database_behind(new: Callable[..., Place], tmp_path: Path) -> None:
    old, path, place = new("old"), tmp_path / "backup.tar", new("new", bundled=True)
    with old.run():
        (old.data_dir / "prices.json").write_bytes(bytes(40 * 1024 * 1024))
        backup(old, path)
    done = place.manage("restore", str(path), launcher=file_size_limit(kib=32 * 1024))  # more than a file of PostgreSQL
    assert done.stderr.decode().endswith(": File too large\n")
    assert list(place.data_dir.iterdir()) == []
    assert not BundledPostgres(place.data_dir).cluster.exists()
    restored = place.manage("restore", str(path))
    assert restored.returncode == 0, restored.stderr
