"""One database has one set of secrets: a server with others, or without any, does not start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.start.first_start import GENERATORS
from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import PATIENCE, Gateway, launch_gateway, run_gateway

UNSET = " "  # as in a shell that exports an empty variable
GENERATED: dict[str, str] = dict.fromkeys(GENERATORS, UNSET)
KEY = "a-key-secret-of-mine-0123456789-abcdefghijklmnopqrstuvwxyz"
OTHER_KEY = "another-key-secret-of-mine-9876543210-zyxwvutsrqponmlkji"
BOTH_WAYS_OUT = ("/secrets.env from a backup", "copy it from the host", "--new-secrets", "stops working")


@pytest.fixture
def database(gateway_database: str) -> Iterator[str]:
    with new_database(gateway_database) as url:
        yield url


class Host:
    """A host with its own DATA_DIR; its servers generate the secrets that are not set."""

    def __init__(self, upstream: str, database_url: str, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.secrets = data_dir / setting_reader.SECRETS_FILE
        self._start = (upstream, database_url, data_dir)
        data_dir.mkdir(exist_ok=True)

    def run(self, *options: str, **settings: str) -> Any:
        return run_gateway(*self._start, options=options, **{**GENERATED, **settings})

    def refusal(self, **settings: str) -> str:
        """Starts a server that must be refused, and generates nothing; returns the one line that it prints."""
        before = self.secrets.read_bytes() if self.secrets.exists() else b""
        gateway = launch_gateway(*self._start, **{**GENERATED, **settings})
        try:
            assert gateway.process.wait(PATIENCE) == 1
        finally:
            gateway.stop()
        assert (self.secrets.read_bytes() if self.secrets.exists() else b"") == before
        printed = gateway.log
        assert printed.startswith("chatproxy: ")
        assert printed.count("\n") == 1
        assert all(words in printed for words in BOTH_WAYS_OUT)
        return printed


@pytest.fixture
def host(simulator: Simulator, database: str, tmp_path: Path) -> Host:
    return Host(simulator.base_url, database, tmp_path / "first")


@pytest.fixture
def second(simulator: Simulator, database: str, tmp_path: Path) -> Host:
    return Host(simulator.base_url, database, tmp_path / "second")


def is_known(gateway: Gateway, key: str) -> bool:
    return gateway.ask(key).status_code == 400


def test_lost_secrets_are_not_made_anew(host: Host) -> None:
    with host.run() as gateway:
        key = gateway.make_key("ada")
    kept = host.secrets.read_text()
    host.secrets.unlink()
    line = host.refusal()
    assert "missing here (DJANGO_SECRET_KEY, SECURITY_KEY, ACCESS_TOKEN)" in line
    assert str(host.secrets) in line

    host.secrets.write_text(kept)  # one way out
    with host.run() as gateway:
        assert is_known(gateway, key)
        assert "changed since" not in gateway.log

    host.secrets.unlink()
    with host.run("--new-secrets") as gateway:  # the other
        assert not is_known(gateway, key)
        assert is_known(gateway, gateway.make_key("bob"))
        assert "ADMIN_PASSWORD" not in host.secrets.read_text()  # the account is there, and has its own
    with host.run() as gateway:
        assert "changed since" not in gateway.log


@pytest.mark.parametrize("name", ["DJANGO_SECRET_KEY", "SECURITY_KEY", "ACCESS_TOKEN"])
def test_one_lost_secret_is_not_made_anew(host: Host, name: str) -> None:
    with host.run():
        pass
    lines = host.secrets.read_text().splitlines(keepends=True)
    host.secrets.write_text("".join(line for line in lines if not line.startswith(name)))
    assert f"missing here ({name})" in host.refusal()


def test_a_second_host_gets_no_secrets_of_its_own(host: Host, second: Host) -> None:
    with host.run() as gateway:
        key = gateway.make_key("ada")
        second.refusal()
        second.secrets.write_text(host.secrets.read_text())
        with second.run() as other:
            assert is_known(other, key)


def test_another_key_secret_is_refused(host: Host) -> None:
    with host.run(KEY_ENCRYPTION_KEY=KEY) as gateway:
        key = gateway.make_key("ada")
    line = host.refusal(KEY_ENCRYPTION_KEY=OTHER_KEY)
    assert "is not the one that the keys in this database were made with" in line
    assert KEY not in line
    assert OTHER_KEY not in line
    host.refusal()  # what KEY_ENCRYPTION_KEY was, the generated DJANGO_SECRET_KEY is not
    with host.run(KEY_ENCRYPTION_KEY=KEY) as gateway:
        assert is_known(gateway, key)


@pytest.mark.parametrize("name", ["SECURITY_KEY", "ACCESS_TOKEN"])
def test_a_built_in_key_may_be_changed(host: Host, name: str) -> None:
    with host.run(**{name: "the-first-of-my-own-0123456789"}):
        pass
    with host.run(**{name: "the-second-of-my-own-9876543210"}) as gateway:
        gateway.wait_for_log(f"chatproxy: changed since the last start: {name}; other hosts")
        assert "of-my-own" not in gateway.log


def test_an_older_versions_database_with_keys_is_not_new(host: Host, database: str) -> None:
    with host.run() as gateway:
        gateway.make_key("ada")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DELETE FROM chatproxy_secretcanary")  # it knew of none
    host.secrets.unlink()
    host.refusal()


def test_a_lost_file_beside_the_bundled_database_is_noticed(simulator: Simulator, tmp_path: Path) -> None:
    host = Host(simulator.base_url, "", tmp_path)
    try:
        with host.run():
            pass
        host.secrets.unlink()
        host.refusal()
        assert not BundledPostgres(tmp_path).running
    finally:
        BundledPostgres(tmp_path).stop()
        BundledPostgres(tmp_path).delete()


def test_what_the_database_keeps_of_a_secret_is_no_secret(host: Host, database: str) -> None:
    with host.run():
        pass
    with psycopg.connect(database) as connection:
        kept = connection.execute("SELECT name, canary FROM chatproxy_secretcanary").fetchall()
    secrets = setting_reader.read_file(host.secrets, set(GENERATORS)).values()
    assert len(kept) == 4
    assert not [canary for _, canary in kept for secret in secrets if canary in secret or secret in canary]
