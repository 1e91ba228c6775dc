"""A lasting refusal of the database ends the start at once, with the reason; a passing one is waited for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration.database_settings import database_settings
from chatproxy.postgres.database_refusals import is_lasting, reason_of
from chatproxy.start import startup
from tests.simulator.server import Simulator
from tests.support.servers.gateway import PATIENCE, launch_gateway

PASSWORD = "the-right-password-7391"
TCP = 'connection failed: connection to server at "10.1.2.3", port 5432 failed: '
HINT = "\n\tIs the server running on that host and accepting TCP/IP connections?"
NO_ENTRY = 'FATAL:  no pg_hba.conf entry for host "10.9.8.7", user "u", database "d", '
# Words of servers that are not here, of two attempts each where libpq makes two.
LASTING = {
    "PgBouncer's user": TCP + 'FATAL:  no such user: "u"',
    "PgBouncer's database": TCP + "FATAL:  no such database: d",
    "PgBouncer's password": TCP + "FATAL:  SASL authentication failed",
    "PgBouncer's option": TCP + "FATAL:  unsupported startup parameter: options",
    "Supavisor's user": TCP + "FATAL:  Tenant or user not found",
    "with TLS and without": f"{TCP}{NO_ENTRY}SSL encryption\nconnection to server at “x”, port 1 failed: {NO_ENTRY}no",
    "no TLS": TCP + "server does not support SSL, but SSL was required",
    "a certificate": TCP + "SSL error: certificate verify failed",
    "an option of libpq": 'connection is bad: invalid sslmode value: "on"',
    "two hosts": f"{TCP}FATAL:  no such user: u\nMultiple connection attempts failed. All failures were:\n"
    f"- host: 'a': {TCP}FATAL:  no such user: u\n- host: 'b': {TCP}FATAL:  database \"d\" does not exist",
}
PASSING = {
    "no server": TCP + "Connection refused" + HINT,
    "no socket": 'connection is bad: connection to server on socket "/s" failed: No such file or directory' + HINT,
    "no name": "failed to resolve host 'db': [Errno -2] Name or service not known",
    "a start": TCP + "FATAL:  the database system is starting up",
    "a recovery": TCP + "FATAL:  the database system is in recovery mode",
    "too many": TCP + "FATAL:  sorry, too many clients already",
    "a role's limit": TCP + 'FATAL:  too many connections for role "u"',
    "PgBouncer's server": TCP + "FATAL:  server login has been failing, try again later (server_login_retry)",
    "a time-out": "connection timeout expired",
    "only one of two hosts": f"{TCP}FATAL:  no such user: u\nMultiple connection attempts failed. All failures were:\n"
    f"- host: 'a': {TCP}Connection refused{HINT}\n- host: 'b': {TCP}FATAL:  no such user: u",
    "another language": TCP + "FATAL:  Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen",
    "nothing": "",
}


@pytest.fixture(scope="module")
def picky(gateway_database: str) -> Iterator[str]:
    """Yields the URL of a server with a role `picky` that needs its password, and two that are not admitted."""
    with psycopg.connect(gateway_database, autocommit=True) as server:
        hba = Path(str(server.execute("SHOW hba_file").fetchall()[0][0]))
        before = hba.read_text()
        hba.write_text("local all picky scram-sha-256\nlocal all banned reject\n" + before)
        server.execute("SELECT pg_reload_conf()")
        server.execute(f"CREATE ROLE picky LOGIN PASSWORD '{PASSWORD}'")
        server.execute("CREATE ROLE banned LOGIN")
        server.execute("CREATE ROLE barred NOLOGIN")
    try:
        yield gateway_database
    finally:
        with psycopg.connect(gateway_database, autocommit=True) as server:
            hba.write_text(before)
            server.execute("SELECT pg_reload_conf()")
            server.execute("DROP ROLE picky, banned, barred")


def as_user(url: str, user: str) -> str:
    """Returns the URL with other credentials: `user:password`."""
    return re.sub(r"//[^/]*/", f"//{user}@/", url, count=1)


REFUSED: dict[str, tuple[Callable[[str], str], str]] = {
    "a wrong password": (lambda url: as_user(url, "picky:wrong"), "password authentication failed"),
    "no password": (lambda url: as_user(url, "picky"), "no password supplied"),
    "no such role": (lambda url: as_user(url, "nobody"), 'role "nobody" does not exist'),
    "a role that may not": (lambda url: as_user(url, "barred"), "not permitted to log in"),
    "a rejected role": (lambda url: as_user(url, "banned"), "pg_hba.conf rejects connection"),
    "no such database": (lambda url: re.sub(r"(//[^/]*/)[^?]*", r"\1nowhere", url), 'database "nowhere" does not'),
    "an option's value": (lambda url: url + "&sslmode=requre", 'invalid sslmode value: "requre"'),
    "an option's number": (lambda url: url + "&connect_timeout=soon", "connect_timeout"),
    "an unknown parameter": (lambda url: url + "&options=-c%20nowhere%3D1", "unrecognized configuration parameter"),
    "a parameter's value": (lambda url: url + "&options=-c%20work_mem%3Dx", "invalid value for parameter"),
    "a role to take": (lambda url: url + "&assume_role=nowhere", 'role "nowhere" does not exist'),
    "a replication connection": (lambda url: url + "&replication=true", "cannot execute SQL commands in WAL sender"),
    "a service": (lambda url: url + "&service=nowhere", 'definition of service "nowhere" not found'),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_waiting_does_not_mend_ends_the_start(picky: str, simulator: Simulator, tmp_path: Path, name: str) -> None:
    change, words = REFUSED[name]
    gateway = launch_gateway(simulator.base_url, change(picky), tmp_path)
    code = gateway.process.wait(PATIENCE)
    gateway.stop()

    assert code == 1
    [line] = gateway.log.splitlines()
    assert line.startswith("chatproxy: the database refuses: ")
    assert words in line
    assert line.endswith("; correct DATABASE_URL, or the database")
    assert "wrong;" not in line.replace("wrong password", "")


@pytest.mark.parametrize(
    "url", ["postgresql://", "postgresql://u@h", "postgresql://u@h/", "postgresql://h:5432/?sslmode=on"]
)
def test_a_url_without_a_name_is_one_line(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL names no database; postgresql://"):
        database_settings(url)


@pytest.mark.parametrize("words", LASTING.values(), ids=LASTING)
def test_words_of_other_servers_are_known(words: str) -> None:
    error = psycopg.OperationalError(words)

    assert is_lasting(error)
    assert reason_of(error)
    assert "10.1.2.3" not in reason_of(error)
    assert not reason_of(error).startswith(("FATAL", "connection"))


@pytest.mark.parametrize("words", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_waited_for(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """The start waits until its time is over, and then gives the reason without libpq's advice."""
    said: list[str] = []

    def fail() -> psycopg.Connection[Any]:
        raise psycopg.OperationalError(words)

    monkeypatch.setattr(startup, "connect", fail)
    monkeypatch.setattr(startup, "DATABASE_SECONDS", 0.1)
    output = type("Output", (), {"write": staticmethod(said.append)})
    with pytest.raises(startup.StartError, match=r"^the database cannot be reached: \S") as caught:
        startup.wait_for_database(output(), lambda probe: probe.execute("SELECT 1"))

    assert len(said) == 1
    assert not is_lasting(psycopg.OperationalError(words))
    assert "\n" not in str(caught.value)
    assert "Is the server running" not in str(caught.value)
