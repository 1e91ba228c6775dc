"""A backup that is made while the server serves, and what a server that is restored from it knows."""

from __future__ import annotations

import os
import signal
import stat
import tarfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.chaos.processes import send
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import ask
from tests.support.ledger.ledgers import call as make_row
from tests.support.ledger.ledgers import end, leave
from tests.support.polling import wait_until
from tests.support.servers.backups import Place
from tests.support.servers.gateway import Gateway
from tests.support.servers.processes import shipper_of
from usage.journal.segments import writers

CALL = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "größe 🙂"}]}
HELD = {"model": "fault:gate-stream", "input": "hi", "stream": True}
CALLERS = 4


def call(gateway: Gateway, key: str) -> str:
    answer = ask(gateway, key, "/v1/chat/completions", CALL)
    assert answer.status_code == 200, answer.text
    return str(answer.headers["x-proxy-request-id"])


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
        old.backup(path, "--with-secrets")
        simulator.release(1)
        answer = stream.result()
        in_flight = answer.headers["x-proxy-request-id"]
        send(signal.SIGCONT, [shipper])
        wait_until(lambda: old.rows().keys() >= {*in_journal, in_flight})
        before = old.rows()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as tar:  # in the order of time
        assert [name.partition("/")[0] for name in tar.getnames()][-2:] == ["database", "end"]

    restored = new("new", bundled=bundled, empty=True)
    restored.restore(path)
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
        gateway.row(call(gateway, key))
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
            old.backup(path, "--with-secrets")
        finally:
            stopping.set()
        for caller in callers:
            caller.result()
        wait_until(lambda: old.rows().keys() >= {*answered})
        all_rows = old.rows()
    assert len(answered) > len(before)

    restored = new("new", empty=True)
    restored.restore(path)
    with restored.run() as gateway:
        wait_until(lambda: len(writers(restored.data_dir / "journal")) == 1)  # only the new worker's is left
        assert before <= restored.rows().keys() <= all_rows.keys()
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
        old.backup(path)
    restored = new("new", empty=True)
    restored.data_dir.mkdir()
    restored.secrets.write_text(old.secrets.read_text())
    restored.restore(path)
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
    restored = new("new", empty=True)
    done = restored.manage("restore", str(tmp_path / "backup.tar"))
    assert done.returncode == 0
    assert b"before the start: this database has secrets that are missing here" in done.stderr


def test_what_was_pruned_is_not_shipped_again(new: Callable[..., Place], tmp_path: Path) -> None:
    """A backup may have the journal of a host that was away while the rows of its calls were deleted."""
    old, path = new("old"), tmp_path / "backup.tar"
    now = datetime.now(UTC)
    pruned, kept = make_row(now - timedelta(days=70)), make_row(now - timedelta(days=2))
    late = make_row(now - timedelta(days=1))
    with old.run() as gateway:
        leave(old.data_dir / "journal", end(pruned), end(kept))
        wait_until(lambda: old.rows().keys() == {pruned["request_id"], kept["request_id"]})
        assert gateway.manage("ledger", "prune", "--yes").returncode == 0
        assert old.rows().keys() == {pruned["request_id"], kept["request_id"]}  # not yet
        gateway.variables["RETENTION_DAYS"] = "10"
        assert gateway.manage("ledger", "prune", "--yes").stdout == "pruned 1 row and 0 bodies\n"
        sums = sums_of(old)
    leave(old.data_dir / "journal", end(pruned), end(kept), end(late))
    old.backup(path, "--with-secrets")

    restored = new("new", empty=True)
    restored.restore(path)
    with restored.run(RETENTION_DAYS="10") as gateway:
        wait_until(lambda: restored.rows().keys() == {kept["request_id"], late["request_id"]})
        assert sums_of(restored) == sums + 1
        assert pruned["request_id"] in (restored.data_dir / "journal" / "pruned.log").read_text()
        assert_whole(gateway)


def sums_of(place: Place) -> int:
    """Returns how many calls the sums of days count."""
    with psycopg.connect(place.url, autocommit=True) as database:
        [(calls,)] = database.execute("SELECT sum(calls) FROM usage_usageday").fetchall()
    return int(calls)
