"""The bundled PostgreSQL: where its files are, who can open them, and how it survives accidents."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from django.db.utils import load_backend

from chatproxy.configuration.database_settings import database_settings
from chatproxy.configuration.setting_reader import BASE_DIR
from chatproxy.postgres import binaries
from chatproxy.postgres.binaries import PACKAGE, BundledPostgresError
from chatproxy.postgres.bundled import MAX_SOCKET_PATH, BundledPostgres

NOBODY = os.geteuid() or 65534


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[BundledPostgres]:
    postgres = BundledPostgres(tmp_path)
    yield postgres
    postgres.stop()
    postgres.delete()


def ask(postgres: BundledPostgres, query: LiteralString) -> object:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        return row[0] if row else None


def run(postgres: BundledPostgres, statement: LiteralString) -> None:
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(statement)


def server_pid(postgres: BundledPostgres) -> int:
    return int((postgres.cluster / "postmaster.pid").read_text().splitlines()[0])


def test_it_works(postgres: BundledPostgres) -> None:
    postgres.start()
    assert postgres.running
    run(postgres, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('größe')")
    postgres.stop()
    assert not postgres.running
    assert not (postgres.cluster / "postmaster.pid").exists()

    postgres.start()
    assert ask(postgres, "SELECT word FROM kept") == "größe"
    assert ask(postgres, "SHOW fsync") == "on"


def test_delete_leaves_nothing(postgres: BundledPostgres, tmp_path: Path) -> None:
    postgres.start()
    postgres.stop()
    postgres.delete()
    assert list(tmp_path.iterdir()) == []
    assert not postgres.cluster.exists()


def test_nobody_else_can_open_it_and_no_port_is(postgres: BundledPostgres, tmp_path: Path) -> None:
    before = {parent: parent.stat().st_mode for parent in tmp_path.parents}
    postgres.start()
    assert stat.S_IMODE(postgres.cluster.stat().st_mode) == 0o700
    assert postgres.cluster.stat().st_uid != 0
    assert ask(postgres, "SHOW listen_addresses") == ""
    assert {parent: parent.stat().st_mode for parent in tmp_path.parents} == before


def test_django_understands_its_url(postgres: BundledPostgres) -> None:
    postgres.start()
    config: dict[str, Any] = {
        **database_settings(postgres.url),
        "TIME_ZONE": None,
        "AUTOCOMMIT": True,
        "CONN_HEALTH_CHECKS": False,
    }
    connection = load_backend(config["ENGINE"]).DatabaseWrapper(config)
    parameters = connection.get_connection_params()
    assert (parameters["host"], parameters["dbname"]) == (config["HOST"], "chatproxy")
    with psycopg.connect(**parameters) as plain:
        assert plain.info.host == config["HOST"]


def test_ctrl_c_does_not_reach_it(postgres: BundledPostgres) -> None:
    postgres.start()
    assert os.getsid(server_pid(postgres)) == server_pid(postgres)


def test_rows_and_statements_stay_out_of_its_log(postgres: BundledPostgres) -> None:
    postgres.start()
    run(postgres, "CREATE TABLE kept (word text PRIMARY KEY); INSERT INTO kept VALUES ('a-secret')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        run(postgres, "INSERT INTO kept VALUES ('a-secret')")
    postgres.stop()
    log = "".join(path.read_text() for path in (postgres.cluster / "log").iterdir())
    assert "duplicate key" in log
    assert "a-secret" not in log


def test_a_server_left_by_a_killed_process_is_adopted(tmp_path: Path, postgres: BundledPostgres) -> None:
    start_and_die(tmp_path)
    left = server_pid(postgres)
    postgres.start()
    assert server_pid(postgres) == left
    assert ask(postgres, "SELECT 1") == 1


def test_a_killed_server_starts_again(postgres: BundledPostgres) -> None:
    postgres.start()
    run(postgres, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('committed')")
    killed = os.pidfd_open(server_pid(postgres))
    signal.pidfd_send_signal(killed, signal.SIGKILL)
    postgres.start()
    assert ask(postgres, "SELECT word FROM kept") == "committed"
    os.close(killed)


def test_a_pid_file_that_names_somebody_else_is_stale(postgres: BundledPostgres) -> None:
    postgres.start()
    postgres.stop()
    (postgres.cluster / "postmaster.pid").write_text(f"{os.getppid()}\n{postgres.cluster}\n")
    assert not postgres.running
    postgres.start()
    assert ask(postgres, "SELECT 1") == 1


def test_two_processes_do_not_share_it(tmp_path: Path, postgres: BundledPostgres) -> None:
    postgres.start()
    second = in_other_process(tmp_path, "postgres.start()")
    assert second.returncode == 1
    assert f"another chatproxy runs on {tmp_path}" in second.stderr.splitlines()[-1]
    assert ask(postgres, "SELECT 1") == 1


def test_another_major_version_is_one_line(postgres: BundledPostgres) -> None:
    postgres.start()
    postgres.stop()
    (postgres.cluster / "PG_VERSION").write_text("17\n")
    with pytest.raises(BundledPostgresError, match=r"^[^\n]*made by PostgreSQL 17, this is 18;[^\n]*$"):
        postgres.start()
    assert not postgres.running


def test_what_an_interrupted_start_left_is_made_anew(postgres: BundledPostgres) -> None:
    half = postgres.cluster.with_name(postgres.cluster.name + ".new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres.start()
    assert ask(postgres, "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.parametrize("name", ["x" * MAX_SOCKET_PATH, "a,b", "a'b c$(d)ü"])
def test_any_name_of_a_directory_will_do(home_of_nobody: Path, name: str) -> None:
    program = "postgres.start(); postgres.stop(); postgres.delete()"
    done = in_other_process(home_of_nobody / name, program, uid=NOBODY)
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_planted_socket_directory_is_refused(home_of_nobody: Path) -> None:
    program = "d = postgres._socket_dir; d.mkdir(); d.chmod(0o777)\ntry: postgres.start()\nfinally: d.rmdir()"
    done = in_other_process(home_of_nobody / ("x" * MAX_SOCKET_PATH), program, uid=NOBODY)
    assert "is not a directory of ours with mode 0700" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is somebody else at will")
def test_root_runs_an_ordinary_users_cluster_as_that_user(home_of_nobody: Path) -> None:
    done = in_other_process(home_of_nobody, "postgres.start(); postgres.stop()", uid=NOBODY)
    assert done.returncode == 0, done.stderr
    postgres = BundledPostgres(home_of_nobody)
    postgres.start()
    try:
        assert postgres.cluster == home_of_nobody / "postgres"
        assert Path(f"/proc/{server_pid(postgres)}").stat().st_uid == NOBODY
    finally:
        postgres.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server is run by somebody else")
def test_programs_in_a_closed_directory_are_copied_once(home_of_nobody: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, open_ = home_of_nobody / "closed", home_of_nobody / "open"
    closed.mkdir(mode=0o700)
    for package in (PACKAGE, PACKAGE.with_name(PACKAGE.name + ".libs")):
        shutil.copytree(package, closed / package.name)
    monkeypatch.setattr(binaries, "PACKAGE", closed / PACKAGE.name)
    monkeypatch.setattr(binaries, "ROOT_HOME", open_)
    nobody = binaries.Account(NOBODY, NOBODY)
    programs = binaries.Postgres.for_account(nobody).programs
    assert programs.is_relative_to(open_)
    assert binaries.Postgres.for_account(nobody).programs == programs
    assert len(list(open_.iterdir())) == 1
    binaries.Postgres.for_account(nobody).call("initdb", "--version", cwd=Path("/"))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.fixture
def home_of_nobody() -> Iterator[Path]:
    """Creates a directory that belongs to a user other than root, who can also reach it."""
    if os.geteuid() == 0 and not all(path.stat().st_mode & stat.S_IXOTH for path in PACKAGE.parents):
        pytest.skip("only root can reach this environment's programs")
    directory = Path(tempfile.mkdtemp(prefix="chatproxy-tests-"))
    os.chown(directory, NOBODY, -1)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def start_and_die(data_dir: Path) -> None:
    in_other_process(data_dir, "postgres.start(); os.kill(os.getpid(), 9)")


def in_other_process(data_dir: Path, code: str, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    # After all imports: the interpreter may be in a directory of root's.
    become = "" if uid in {None, os.geteuid()} else f"os.setgroups([]); os.setgid({uid}); os.setuid({uid})\n"
    program = (
        "import email.parser, os, psycopg, sys\nfrom pathlib import Path\n"
        "from chatproxy.postgres.bundled import BundledPostgres\n"
        f"{become}postgres = BundledPostgres(Path(sys.argv[1]))\n{code}\n"
    )
    command = [sys.executable, "-B", "-c", program, str(data_dir)]
    return subprocess.run(command, cwd=BASE_DIR, capture_output=True, text=True, check=False)
