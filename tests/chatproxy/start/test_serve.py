"""`manage.py serve` as a process: what it prints, which files and processes it leaves, and how it ends."""

import json
import os
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import httpx2
import psycopg
import pytest

from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import BundledPostgres
from chatproxy.start import startup
from tests.support.servers.clusters import give_cluster
from tests.support.servers.environments import sdk_answers, variables
from tests.support.servers.gateway import PATIENCE, Gateway, free_port

Start = Callable[..., Gateway]
CALLERS_KEY = "a-key-of-the-callers-0123456789"


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    postgres = BundledPostgres(tmp_path)
    postgres.stop()
    postgres.delete()


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Starts a server with the bundled PostgreSQL and only the given settings; its database is `new` or migrated."""
    started: list[Gateway] = []

    def start(*, new: bool = False, **settings: str) -> Gateway:
        if not new and not started:
            give_cluster(data_dir)
            sdk_answers.give(settings.get("OPENAI_BASE_URL", ""), data_dir)
        port = int(settings.setdefault("PORT", str(free_port())))
        process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=setting_reader.BASE_DIR,
            env=variables(data_dir, **settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        server = Gateway(f"http://127.0.0.1:{port}", BundledPostgres(data_dir).url, process)
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop(signal.SIGKILL)


def refusal(data_dir: Path, **settings: str) -> str:
    """Starts a server that must be refused; returns the one line that it prints."""
    done = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=setting_reader.BASE_DIR,
        env=variables(data_dir, **settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("chatproxy: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def up(server: Gateway) -> Gateway:
    server.wait_for_log("Booting worker")
    server.wait_until_up()
    return server


def gone(process: int) -> bool:
    """Whether the process of a pidfd ends in time."""
    with os.fdopen(process):
        return bool(select.select([process], [], [], PATIENCE)[0])


class HeldUpstream:
    """An upstream that holds its answer until it is told to send it."""

    ANSWER = json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-mini", "choices": []}
    ).encode()

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def take_call(self) -> None:
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(PATIENCE)
        assert self._connection.recv(65536)

    def answer(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._connection.sendall(head % len(self.ANSWER) + self.ANSWER)

    def close(self) -> None:
        self._connection.close()
        self._listener.close()


class CallInFlight:
    """A call that has reached upstream, and the thread that waits for its answer."""

    def __init__(self, start: Start) -> None:
        self.upstream = HeldUpstream()
        self.server = up(start(OPENAI_BASE_URL=self.upstream.url, OPENAI_API_KEY="sk-test", SECURITY_KEY=CALLERS_KEY))
        self.outcome: list[httpx2.Response | httpx2.HTTPError] = []
        self._thread = threading.Thread(target=self._call)
        self._thread.start()
        self.upstream.take_call()

    def _call(self) -> None:
        body = {
            "security_key": CALLERS_KEY,
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": "hello"}],
        }
        try:
            self.outcome.append(httpx2.post(f"{self.server.url}/openai", json=body, timeout=PATIENCE))
        except httpx2.HTTPError as error:
            self.outcome.append(error)

    def end(self) -> httpx2.Response | httpx2.HTTPError:
        self._thread.join(PATIENCE)
        return self.outcome[0]


@pytest.fixture
def call(start: Start) -> Iterator[CallInFlight]:
    held = CallInFlight(start)
    yield held
    held.upstream.close()


def test_the_first_start_says_everything_once_and_the_second_finds_it(start: Start, data_dir: Path) -> None:
    first = up(start(new=True))
    path = data_dir / setting_reader.SECRETS_FILE
    secrets = setting_reader.read_file(path, {"SECURITY_KEY", "ACCESS_TOKEN", "DJANGO_SECRET_KEY", "ADMIN_PASSWORD"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    printed = first.log  # its workers boot after the server has said all
    assert {name for name, value in secrets.items() if value in printed} == secrets.keys() - {"DJANGO_SECRET_KEY"}
    assert re.search(rf"URL +{first.url}\n", first.log)
    assert re.search(r"OpenAI key +not configured", first.log)
    with psycopg.connect(BundledPostgres(data_dir).url) as connection:
        assert connection.execute("SELECT username, is_superuser FROM auth_user").fetchall() == [("admin", True)]
    assert first.stop() == 0
    assert not BundledPostgres(data_dir).running

    written = path.read_text()
    second = up(start(OPENAI_API_KEY="sk-test"))
    assert path.read_text() == written
    printed = second.log
    assert [name for name, value in secrets.items() if value in printed] == []
    assert re.search(r"OpenAI key +configured\n", second.log)
    assert second.stop() == 0


def test_a_secret_of_the_environment_is_not_printed(start: Start) -> None:
    server = up(start(SECURITY_KEY=CALLERS_KEY, ADMIN_PASSWORD="a-password-of-mine", OPENAI_API_KEY="sk-of-mine"))
    assert re.search(r"password +as set in ADMIN_PASSWORD\n", server.log)
    assert "of-mine" not in server.log
    assert CALLERS_KEY not in server.log


def test_the_log_is_json_without_keys_of_queries_and_nothing_is_printed_twice(start: Start) -> None:
    server = up(start())
    server.http.get("/openai2/resp_1", params={"security_key": "in-a-query"})
    assert server.stop() == 0
    assert "in-a-query" not in server.log
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    messages = [line["message"] for line in lines]
    assert len(messages) == len(set(messages))
    assert messages[0].startswith("Starting gunicorn")
    plain = [line for line in server.log.splitlines() if line and line[0] not in " {"]
    assert len(plain) == 1
    assert plain[0].startswith("chatproxy ")


def test_a_port_in_use_is_one_line(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port} is in use" in refusal(data_dir, PORT=str(port))
    assert list(data_dir.iterdir()) == []


def test_an_address_of_another_machine_is_one_line(data_dir: Path) -> None:
    assert "HOST 192.0.2.1" in refusal(data_dir, HOST="192.0.2.1")


def test_a_data_dir_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root may write anywhere else
    assert f"DATA_DIR {tmp_path}/file/below cannot be written" in refusal(tmp_path / "file" / "below")


def test_a_second_server_on_one_data_dir_is_one_line(start: Start, data_dir: Path) -> None:
    server = up(start())
    assert f"another chatproxy runs on {data_dir}" in refusal(data_dir, PORT=str(free_port()))
    assert server.http.get("/healthz").status_code == 200
    assert BundledPostgres(data_dir).running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_drains_calls_in_flight(call: CallInFlight, data_dir: Path, number: signal.Signals) -> None:
    """The signal goes to all processes; `tests/chatproxy/processes/test_drain.py` sends it to the master alone."""
    worker = os.pidfd_open(call.server.worker_pids[0])
    os.killpg(call.server.process.pid, number)
    call.server.wait_for_log("draining")
    call.upstream.answer()
    answer = call.end()
    assert isinstance(answer, httpx2.Response)
    assert answer.content == HeldUpstream.ANSWER
    assert call.server.process.wait(PATIENCE) == 0
    assert gone(worker)
    assert not BundledPostgres(data_dir).running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait(call: CallInFlight, data_dir: Path, number: signal.Signals) -> None:
    os.killpg(call.server.process.pid, number)
    call.server.wait_for_log("Handling signal: term")  # otherwise the two signals may become one in a busy master
    call.server.wait_for_log("draining")
    os.killpg(call.server.process.pid, number)
    assert call.server.process.wait(PATIENCE) == 0
    answer = call.end()
    assert not isinstance(answer, httpx2.Response) or answer.status_code >= 500
    assert not BundledPostgres(data_dir).running


def test_a_stop_while_starting_leaves_nothing(start: Start, data_dir: Path) -> None:
    server = start(new=True)
    deadline = threading.Event()
    while not BundledPostgres(data_dir).running:
        assert server.process.poll() is None
        deadline.wait(0.01)
    server.process.terminate()
    assert server.process.wait(PATIENCE) == 0
    assert not BundledPostgres(data_dir).running


def test_a_killed_master_does_not_stand_in_the_way(call: CallInFlight, start: Start, data_dir: Path) -> None:
    worker = os.pidfd_open(call.server.worker_pids[0])
    call.server.process.kill()
    call.server.process.wait(PATIENCE)
    again = up(start(PORT=call.server.url.rpartition(":")[2], SECURITY_KEY=CALLERS_KEY))
    call.upstream.answer()
    answer = call.end()
    assert isinstance(answer, httpx2.Response)
    assert answer.status_code == 200
    assert gone(worker)
    assert again.stop() == 0
    assert not BundledPostgres(data_dir).running


def test_a_database_that_never_comes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def refused() -> psycopg.Connection:
        raise psycopg.OperationalError("connection to server at 'h' failed: Connection refused\n\tIs it running?")

    monkeypatch.setattr(startup, "connect", refused)
    monkeypatch.setattr(startup, "DATABASE_SECONDS", 5)
    monkeypatch.setattr(startup, "time", SimpleNamespace(monotonic=count().__next__, sleep=lambda _: None))
    output = type("Output", (), {"write": staticmethod(said.append)})
    with pytest.raises(startup.StartError, match=r"^the database cannot be reached: Connection refused$"):
        startup.wait_for_database(output(), lambda probe: probe.execute("SELECT 1"))
    assert len(said) == 1
    assert "waiting for the database" in said[0]
