"""Which pg_dump and pg_restore are run, what they are told, and what is said when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from chatproxy.postgres import client_programs
from chatproxy.postgres.binaries import PACKAGE
from chatproxy.postgres.client_programs import HEAD_LINES, ClientProgram, ClientProgramError
from tests.support.servers.databases import empty_database

BUNDLED = PACKAGE / "pginstall" / "bin" / "pg_dump"
SCHEMA = "public"


def stand_in(directory: Path, script: str, name: str = "pg_dump") -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, the only one in PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def parameters(url: str) -> dict[str, str]:
    return {name: str(value) for name, value in conninfo_to_dict(url).items()}


def says(version: str) -> str:
    return f"echo 'pg_dump (PostgreSQL) {version}'"


def test_of_a_server_of_ones_own_it_is_that_in_path(in_path: Path) -> None:
    path = stand_in(in_path, says("17.2 (Debian 17.2-1)"))
    assert ClientProgram.find_pg_dump(17, is_bundled=False) == (path, 17)


def test_of_the_bundled_server_it_is_the_bundled_one(in_path: Path) -> None:
    stand_in(in_path, says("99.1"))
    assert ClientProgram.find_pg_dump(14, is_bundled=True).path == BUNDLED


@pytest.mark.parametrize("script", [says("13.5"), "exit 1", "echo nonsense", None])
def test_the_bundled_one_is_taken_where_path_has_none_that_is_new_enough(in_path: Path, script: str | None) -> None:
    if script:
        stand_in(in_path, script)
    assert ClientProgram.find_pg_dump(15, is_bundled=False).path == BUNDLED


def test_if_none_is_new_enough_the_line_says_which_there_are(in_path: Path) -> None:
    path = stand_in(in_path, says("15.7"))
    with pytest.raises(ClientProgramError) as refused:
        ClientProgram.find_pg_dump(99, is_bundled=False)
    assert f"pg_dump of PostgreSQL 99 or later is needed in PATH; {path} is of 15, {BUNDLED} is of" in str(
        refused.value
    )


def test_if_there_is_none_the_line_says_so(in_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_programs, "PACKAGE", in_path)
    with pytest.raises(ClientProgramError, match="is needed in PATH; there is none"):
        ClientProgram.find_pg_dump(15, is_bundled=False)


def test_an_older_server_needs_psql_beside_a_new_pg_restore(in_path: Path) -> None:
    """From 17 on pg_restore sets a parameter that such a server does not know."""
    path = stand_in(in_path, says("18.1"), "pg_restore")
    assert ClientProgram.find_pg_restore(17, 15, is_bundled=False) == (path, 18)
    with pytest.raises(ClientProgramError, match="psql is needed to restore into PostgreSQL 15, and is missing"):
        ClientProgram.find_pg_restore(15, 18, is_bundled=False)
    stand_in(in_path, "exit 1", "psql")
    assert ClientProgram.find_pg_restore(15, 18, is_bundled=False) == (path, 18)
    stand_in(in_path, says("16.4"), "pg_restore")
    assert ClientProgram.find_pg_restore(15, 16, is_bundled=False) == (path, 16)
    assert ClientProgram.find_pg_restore(15, 18, is_bundled=False).path == BUNDLED.with_name("pg_restore")


def test_a_password_is_no_argument(in_path: Path) -> None:
    path = stand_in(in_path, 'echo "$PGPASSWORD"; for one; do echo "$one"; done')
    database = {"host": "a host", "password": "very secret", "sslmode": "require"}
    password, *arguments = (
        b"".join(ClientProgram(path, 18).dump(database, 'a"b', 10**6, "writer")).decode().splitlines()
    )
    assert password == "very secret"
    assert not any("very secret" in argument for argument in arguments)
    assert {"--role=writer", '"a""b"', "--dbname=host='a host' sslmode=require"} <= set(arguments)


def test_a_failure_is_one_line(in_path: Path) -> None:
    path = stand_in(
        in_path, "echo 'pg_dump: warning: w'; echo 'pg_dump: error: it broke' >&2; echo 'HINT: h' >&2; exit 1"
    )
    with pytest.raises(ClientProgramError, match=r"^pg_dump failed: it broke$"):
        list(ClientProgram(path, 18).dump({}, SCHEMA, 10, None))


def test_a_program_that_cannot_be_run_is_one_line(in_path: Path) -> None:
    with pytest.raises(ClientProgramError, match="cannot be run: No such"):
        list(ClientProgram(in_path / "none", 18).dump({}, SCHEMA, 10, None))


def test_a_dump_that_is_left_ends_pg_dump(in_path: Path) -> None:
    path = stand_in(in_path, f"echo $$ > {in_path}/pid; echo first; exec /bin/sleep 1000")
    dump = ClientProgram(path, 18).dump({}, SCHEMA, 6, None)
    assert next(dump) == b"first\n"
    dump.close()  # type: ignore[attr-defined]  # a generator
    assert not Path(f"/proc/{(in_path / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize(("major", "refusal"), [(18, "pg_restore"), (16, "psql")])
def test_a_restore_that_fails_changes_nothing(gateway_database: str, major: int, refusal: str) -> None:
    """Neither by pg_restore alone nor by the script that an older server gets."""
    with empty_database(gateway_database) as old, empty_database(gateway_database) as new:
        with psycopg.connect(old, autocommit=True) as database:
            database.execute("CREATE TABLE one (n int); CREATE TABLE two (n int); INSERT INTO two VALUES (7)")
            dump = list(ClientProgram.find_pg_dump(18, is_bundled=True).dump(parameters(old), SCHEMA, 1000, None))
        pg_restore = ClientProgram.find_pg_restore(18, 18, is_bundled=True)
        with psycopg.connect(new, autocommit=True) as database:
            database.execute("CREATE TABLE two (n int)")
            with pytest.raises(ClientProgramError, match=rf"^{refusal} failed: [^\n]*already exists"):
                pg_restore.restore(parameters(new), major, SCHEMA, dump, None)
            assert database.execute("SELECT to_regclass('one')").fetchall() == [(None,)]
            database.execute("DROP TABLE two")
            with pytest.raises(ClientProgramError, match=r"^pg_restore failed: "):
                pg_restore.restore(parameters(new), major, SCHEMA, [b"".join(dump)[:-40]], None)
            assert database.execute("SELECT to_regclass('one')").fetchall() == [(None,)]
            pg_restore.restore(parameters(new), major, SCHEMA, dump, None)
            assert database.execute("SELECT n FROM two").fetchall() == [(7,)]


def test_a_fault_of_the_archive_ends_both_programs(gateway_database: str) -> None:
    def broken() -> Iterator[bytes]:
        yield b"PGDMP"
        raise OSError("the disk broke")

    pg_restore = ClientProgram.find_pg_restore(15, 18, is_bundled=True)
    with empty_database(gateway_database) as new, pytest.raises(OSError, match="the disk broke"):
        pg_restore.restore(parameters(new), 15, SCHEMA, broken(), None)


@pytest.mark.parametrize("head", ["", "SET lock_timeout = 0;\n"])
def test_a_script_has_no_parameter_that_an_older_server_does_not_know(in_path: Path, head: str) -> None:
    """But data that look like it stay."""
    lines = head + "SET transaction_timeout = 0;\n" + "-- more\n" * HEAD_LINES + "SET transaction_timeout = 0;\n"
    (in_path / "script").write_text(lines)
    path = stand_in(in_path, f"/bin/cat > /dev/null; /bin/cat {in_path}/script", "pg_restore")
    stand_in(in_path, f"/bin/cat > {in_path}/executed", "psql")
    ClientProgram(path, 18).restore({}, 16, SCHEMA, [b"dump"], None)
    assert (in_path / "executed").read_text() == head + lines.removeprefix(head).partition("\n")[2]
