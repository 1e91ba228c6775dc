"""A running gateway for tests: a real `manage.py serve` on a free port."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import psycopg
from psycopg.rows import dict_row

from chatproxy.configuration import setting_reader
from tests.chaos.processes import is_alive, send
from tests.support import polling
from tests.support.servers.environments import sdk_answers

SECURITY_KEY = "test-security-key-5f0e9a71"
ACCESS_TOKEN = "test-access-token-c83d2b46"
UPSTREAM_KEY = "sk-test-upstream"
ADMIN_PASSWORD = "test-admin-password"
PATIENCE = polling.PATIENCE


class Gateway:
    """A running server of the gateway. `url` is its address, `http` a client for it, `log` its output until now."""

    def __init__(
        self, url: str, database_url: str, process: subprocess.Popen[str], checkout: Path = setting_reader.BASE_DIR
    ) -> None:
        self.url = url
        self.checkout = checkout
        self.process = process
        self.http = httpx2.Client(base_url=url, timeout=PATIENCE)
        self._clients: list[httpx2.Client | openai.OpenAI] = [self.http]  # closed with the server
        self._database_url = database_url
        self.variables: dict[str, str] = {}  # the environment that it was started with
        self._lines: list[str] = []
        self._printed = threading.Condition()  # notified of each line, and of the end
        self._has_ended = False
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    @property
    def worker_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.log)]

    def sdk(self, path: str = "", **options: Any) -> openai.OpenAI:
        """Returns a client of the official SDK for the gateway.

        Its settings are the SDK's own, but it never retries, and it has a shorter timeout. `path` is the part of the
        base URL behind the gateway's address.
        """
        client = openai.OpenAI(
            base_url=self.url + path, api_key=SECURITY_KEY, **{"max_retries": 0, "timeout": PATIENCE, **options}
        )
        self._clients.append(client)
        return client

    def post(self, path: str, body: dict[str, Any], **options: Any) -> httpx2.Response:
        """Makes a POST call of the simple API with the JSON `body`, adds the security key, and returns the answer."""
        return self.http.post(path, json={"security_key": SECURITY_KEY, **body}, **options)

    def get(self, path: str, **query: str) -> httpx2.Response:
        return self.http.get(path, params={"security_key": SECURITY_KEY, **query})

    def manage(self, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command of `manage.py` with the server's environment, and with the text `said` as standard input."""
        return subprocess.run(
            [python_of(self.checkout), "manage.py", *arguments],
            cwd=self.checkout,
            env=self.variables,
            input=said,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 2,
            check=False,
        )

    def make_key(self, name: str, *options: str, said: str = "") -> str:
        """Creates an access key by `manage.py keys`, waits until every worker knows it, and returns the key's text."""
        made = self.manage("keys", "create", name, *options, said=said)
        assert made.returncode == 0, made.stderr
        text = made.stdout.strip()
        self.wait_until_known(text)
        return text

    @contextmanager
    def only(self, pid: int) -> Iterator[None]:
        """Sends new connections to one worker (`pid`) until the block ends, by freezing all others.

        A connection for this worker must be accepted before the block ends.
        """
        others = [other for other in self.worker_pids if other != pid and is_alive(other)]
        send(signal.SIGSTOP, others)
        try:
            yield
        finally:
            send(signal.SIGCONT, others)

    def wait_until_known(self, text: str, *, known: bool = True) -> None:
        """Waits until each worker accepts the access key `text` or, with `known=False`, no longer accepts it.

        The workers are asked by calls that do not reach upstream.
        """
        for pid in filter(is_alive, self.worker_pids):
            with httpx2.Client(base_url=self.url, timeout=PATIENCE) as http:
                with self.only(pid):
                    http.get("/healthz").raise_for_status()
                polling.wait_until(
                    lambda http=http: (self.ask(text, http).status_code != 403) == known,  # type: ignore[misc]
                    PATIENCE,
                    lambda: f"the key is {'not accepted' if known else 'still accepted'}",
                )

    def ask(self, text: str, http: httpx2.Client | None = None) -> httpx2.Response:
        """Tries the key `text` with a call that does not reach upstream: status 400 if the key is valid, 403 if not."""
        return (http or self.http).post("/openai", json={"timeout": "x"}, headers={"Authorization": f"Bearer {text}"})

    def sign_in(self) -> httpx2.Client:
        """Returns a browser that is signed in to the admin; the server must have been started with `ADMIN_PASSWORD`."""
        browser = httpx2.Client(base_url=self.url, timeout=PATIENCE, follow_redirects=True)
        self._clients.append(browser)
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get("/admin/login/").text)
        assert token is not None
        form = {"username": "admin", "password": ADMIN_PASSWORD, "csrfmiddlewaretoken": token[1]}
        while (answer := browser.post("/admin/login/?next=/admin/", data=form)).status_code == 503:
            pass  # on a busy machine a password takes longer than a page may wait
        assert answer.url.path == "/admin/", (answer.status_code, answer.text[-500:])
        return browser

    def row(self, answer: httpx2.Response | str) -> dict[str, Any]:
        """Waits until a call's row is in the ledger, and returns it; `answer` is the call's answer or request id."""
        request_id = answer if isinstance(answer, str) else answer.headers["x-proxy-request-id"]
        return self.rows("WHERE request_id = %s", [request_id], at_least=1)[0]

    def rows(self, where: str = "", values: list[Any] | None = None, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Waits until the ledger has `at_least` rows of calls, and returns them, oldest first.

        `where` is an SQL clause that selects rows, with the parameters `values`.
        """
        query = f"SELECT * FROM usage_request {where} ORDER BY request_id"  # noqa: S608  (the test's own text)
        with psycopg.connect(
            self._database_url, autocommit=True, row_factory=dict_row, prepare_threshold=None
        ) as connection:
            rows: list[dict[str, Any]] = []

            def look() -> bool:
                rows[:] = connection.execute(query, values).fetchall()
                return len(rows) >= at_least

            polling.wait_until(look, PATIENCE, lambda: f"{len(rows)} rows where at least {at_least} were expected")
            return rows

    def count(self, where: str = "") -> int:
        """Returns how many rows of calls the ledger has now; `where` is an SQL clause that selects some."""
        query = f"SELECT count(*) FROM usage_request {where}"  # noqa: S608  (the test's own text)
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            ((count,),) = connection.execute(query).fetchall()
        return int(count)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stops the server and returns its exit code."""
        for client in self._clients:
            client.close()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def wait_for_log(self, pattern: str) -> re.Match[str]:
        """Waits until the server's output has a match of `pattern`, and returns the first match."""
        with self._printed:
            self._printed.wait_for(lambda: re.search(pattern, self.log) or self._has_ended, PATIENCE)
        match = re.search(pattern, self.log)
        assert match, f"{pattern!r} is not in the log:\n{self.log}"
        return match

    def wait_until_up(self) -> None:
        """Waits until a worker of the server answers; before that, connections only wait in the queue of the port."""
        self.http.get("/healthz").raise_for_status()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._printed:
                self._lines.append(line)
                self._printed.notify_all()
        with self._printed:
            self._has_ended = True
            self._printed.notify_all()


@contextmanager
def run_gateway(
    upstream: str,
    database_url: str,
    data_dir: Path,
    checkout: Path = setting_reader.BASE_DIR,
    launcher: Sequence[str] = (),
    /,
    *,
    options: Sequence[str] = (),
    **settings: str,
) -> Iterator[Gateway]:
    """Runs a server of the gateway with its own `data_dir`, yields it, and stops it when the block ends.

    `settings` are environment variables in addition to the usual ones of the tests. `checkout` is the directory of the
    code to run: this one, or another version for comparison. `options` are those of `manage.py serve`; `launcher` is a
    command that executes the one that follows it, such as `nice`.
    """
    gateway = launch_gateway(upstream, database_url, data_dir, checkout, launcher, options=options, **settings)
    try:
        gateway.wait_for_log("(?s)" + ".*".join(["Booting worker"] * int(settings.get("WEB_CONCURRENCY", "1"))))
        gateway.wait_until_up()
        sdk_answers.learn(upstream, data_dir)
        yield gateway
    finally:
        gateway.stop()


def launch_gateway(
    upstream: str,
    database_url: str,
    data_dir: Path,
    checkout: Path = setting_reader.BASE_DIR,
    launcher: Sequence[str] = (),
    /,
    *,
    options: Sequence[str] = (),
    **settings: str,
) -> Gateway:
    """Starts a server like `run_gateway` and returns it at once; the caller must stop it. Leaves out empty settings."""
    sdk_answers.give(upstream, data_dir)
    if data_dir.is_dir():
        data_dir.chmod(0o700)  # of one that is open, the server would warn
    port = int(settings.get("PORT") or free_port())
    variables = {
        "SECURITY_KEY": SECURITY_KEY,
        "ACCESS_TOKEN": ACCESS_TOKEN,
        "OPENAI_API_KEY": UPSTREAM_KEY,
        "OPENAI_BASE_URL": upstream,
        "DATABASE_URL": database_url,
        "DATA_DIR": str(data_dir),
        "PORT": str(port),
        "INVALID_KEYS_PER_MINUTE": "1000000",  # as in tests/conftest.py
        "BACKGROUND_POLL_SECONDS": "0",  # its calls would be counted by tests that count upstream's requests
        "PYTHONUNBUFFERED": "1",
        setting_reader.NO_ENV_FILES: "1",
        **settings,
    }
    variables = {**os.environ, **{name: value for name, value in variables.items() if value}}
    process = subprocess.Popen(
        [*launcher, python_of(checkout), "manage.py", "serve", *options],
        cwd=checkout,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    gateway = Gateway(f"http://127.0.0.1:{port}", database_url, process, checkout)
    gateway.variables = variables
    return gateway


def python_of(checkout: Path) -> str:
    """Returns the path of the Python that runs a checkout of the code: its `.venv`'s, or else the running one."""
    own = checkout / ".venv" / "bin" / "python"
    return str(own) if checkout != setting_reader.BASE_DIR and own.exists() else sys.executable


_kept: list[socket.socket] = []  # bound to the ports that were given away, without listening


def free_port() -> int:
    """Returns the number of a free port that the server can use, and that no other program can take meanwhile."""
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", 0))
    _kept.append(probe)
    return int(probe.getsockname()[1])
