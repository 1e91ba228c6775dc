"""Behind a PgBouncer in transaction mode everything works, and nobody leaves anything on a shared connection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any
from uuid import uuid4

import httpx2
import psycopg
import pytest
from django.core.management import find_commands, load_command_class

from chatproxy.configuration import setting_reader
from tests.simulator.server import Simulator
from tests.support.callers.all_pages import REFUSED, fill, paths_of_pages
from tests.support.ledger.published_list import published
from tests.support.polling import wait_until
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ACCESS_TOKEN, ADMIN_PASSWORD, SECURITY_KEY, Gateway, run_gateway
from tests.support.servers.pgbouncer import run_pgbouncer
from tests.support.servers.readiness import wait_until_ok
from tests.support.upstreams.fixed import run_fixed_upstream

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
CONNECTIONS = 40  # looked at; they come in turns
PAUSE_SECONDS = 0.02  # between two calls of others; without it, they would take most of the time of both cores
# What a session keeps: whoever gets the connection next would find it, or miss his own.
LEFT = """
SELECT 'prepared statement ' || name FROM pg_prepared_statements
UNION ALL SELECT 'cursor ' || name FROM pg_cursors
UNION ALL SELECT 'channel ' || channel FROM pg_listening_channels() AS channel
UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'lock ' || objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
UNION ALL SELECT 'setting ' || name FROM pg_settings WHERE source = 'session' AND name NOT IN ({known})
"""
KNOWN = (
    # PgBouncer itself sets them for each client.
    *("application_name", "client_encoding", "DateStyle", "IntervalStyle", "standard_conforming_strings", "TimeZone"),
    # PostgreSQL sets them for each transaction, whatever was set in the last one.
    *("transaction_isolation", "transaction_read_only"),
)


@pytest.fixture(scope="module")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("pooled")
    (directory / "data").mkdir()
    with (
        new_database(gateway_database) as database,
        run_pgbouncer(database, directory) as pooled,
        run_gateway(
            _simulator.base_url,
            pooled,
            directory / "data",
            ADMIN_PASSWORD=ADMIN_PASSWORD,
            BACKGROUND_POLL_SECONDS="0.2",
            RETENTION_DAYS="0",  # the command prunes, at a moment that the test knows
        ) as gateway,
    ):
        yield gateway


@contextmanager
def others_at_work(gateway: Gateway) -> Iterator[None]:
    """Calls go on meanwhile, some with a budget: they take the pooler's connections in turns."""
    text = gateway.make_key(f"busy {uuid4()}", "--budget-day", "100")
    is_over = Event()

    def call(key: str) -> int:
        calls = 0
        with httpx2.Client(base_url=gateway.url, timeout=60) as http:
            while not is_over.wait(PAUSE_SECONDS):
                answer = http.post("/openai", json=CHAT, headers={"Authorization": f"Bearer {key}"})
                assert answer.status_code == 200, answer.text
                calls += 1
        return calls

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(call, key) for key in (text, SECURITY_KEY)]
        try:
            yield
        finally:
            is_over.set()
        assert all(one.result() for one in running)


def what_is_left(url: str) -> set[str]:
    """What stays on the connections of the pooler, at rest."""
    query = LEFT.format(known=", ".join(f"'{name}'" for name in KNOWN))
    found: set[str] = set()
    backends: set[int] = set()
    with psycopg.connect(url, autocommit=True, prepare_threshold=None) as connection:
        for _ in range(CONNECTIONS):
            rows = connection.execute(f"SELECT pg_backend_pid(), ARRAY({query})".encode()).fetchall()
            [(pid, left)] = rows
            backends.add(pid)
            found.update(left)
    assert len(backends) > 1  # else the pooler has never lent another one
    return found


@pytest.fixture
def nothing_is_left(gateway: Gateway) -> Iterator[None]:
    yield
    assert what_is_left(gateway.variables["DATABASE_URL"]) == set()


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> httpx2.Client:
    return gateway.sign_in()


@pytest.mark.usefixtures("nothing_is_left")
def test_every_page_of_the_admin(gateway: Gateway, admin: httpx2.Client) -> None:
    ids = fill(gateway, admin)
    paths = [path for path in paths_of_pages(ids) if not path.endswith("/logout/")]
    with others_at_work(gateway):
        statuses = {path: admin.get(path).status_code for path in paths}
    assert [path for path, status in statuses.items() if status != 200 and not REFUSED.fullmatch(path)] == []
    assert not [path for path, status in statuses.items() if status >= 500]
    for kind in ("csv", "json"):
        exported = admin.get(f"/admin/usage/request/export.{kind}").text
        assert exported.count(ids["usage/request"]) == 1


# Each action of each command, and words of its output.
COMMANDS: dict[str, tuple[list[str], str]] = {
    "keys create": (["keys", "create", "made behind a pooler"], "^cp-"),
    "keys list": (["keys", "list"], "made behind a pooler"),
    "keys show": (["keys", "show", "made behind a pooler"], "made behind a pooler"),
    "keys rotate": (["keys", "rotate", "made behind a pooler"], "^cp-"),
    "teams create": (["teams", "create", "a team behind a pooler"], ""),
    "teams list": (["teams", "list"], "a team behind a pooler"),
    "teams show": (["teams", "show", "a team behind a pooler"], "a team behind a pooler"),
    "keys move": (["keys", "move", "made behind a pooler", "--team", "a team behind a pooler"], ""),
    "keys revoke": (["keys", "revoke", "made behind a pooler"], ""),
    "ledger status": (["ledger", "status"], "dead letters"),
    "ledger sum": (["ledger", "sum"], ""),
    "ledger reprice": (["ledger", "reprice", "--since", "2020-01-01", "--all"], ""),
    "ledger deadletter": (["ledger", "deadletter"], ""),
    "ledger replay": (["ledger", "replay"], ""),
    "ledger prune": (["ledger", "prune", "--yes"], "pruned 20 rows"),
    "ledger verify": (["ledger", "verify"], ""),
    "prices update": (["prices", "update"], "genai-prices"),
    "prices status": (["prices", "status"], "genai-prices"),
    "doctor": (["doctor"], "^ok"),
    "migrate": (["migrate"], ""),
}
MAKE_OLD_CALLS = """
from datetime import UTC, datetime, timedelta
from tests.support.ledger.ledgers import call
from usage.money.row_pricing import Pricer
from usage.journal_shipping.rows import write_rows
moment = datetime.now(UTC) - timedelta(days=500)
write_rows(Pricer().priced([call(moment + timedelta(minutes=number)) for number in range(20)]))
"""


def actions() -> Iterator[str]:
    """`command action` of all commands of ours; `serve` and `ship` run in every test here."""
    for app in ("chatproxy", "proxyapi", "usage"):
        for name in find_commands(str(setting_reader.BASE_DIR / app / "management")):
            parser: Any = load_command_class(app, name).create_parser("manage.py", name)
            choices = [action.choices for action in parser._actions if action.dest == "action"]
            yield from (f"{name} {choice}" for choice in choices[0]) if choices else [name]


def test_the_table_has_every_command() -> None:
    assert {*COMMANDS, "backup", "import litellm", "restore", "serve", "ship"} == set(actions())


@pytest.mark.usefixtures("nothing_is_left")
def test_a_dump_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    """It would leave a search path in the pooler's connections with which no table is found."""
    done = gateway.manage("backup", str(tmp_path / "backup.tar"))
    assert done.returncode == 1
    assert "connection pooler" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("nothing_is_left")
def test_every_command(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the table, while calls go on; `verify` comes last, and finds the sums right."""
    monkeypatch.setitem(gateway.variables, "RETENTION_DAYS", "365")
    gateway.row(gateway.post("/openai", CHAT))
    made = gateway.manage("shell", "-v", "0", "-c", MAKE_OLD_CALLS)
    assert made.returncode == 0, made.stderr
    with others_at_work(gateway), run_fixed_upstream() as list_of_prices:
        list_of_prices.body = json.dumps(published()).encode()
        monkeypatch.setitem(gateway.variables, "PRICES_URL", list_of_prices.base_url)
        for name, (arguments, words) in COMMANDS.items():
            done = gateway.manage(*arguments)
            said = done.stdout + done.stderr
            assert done.returncode == 0, f"{name}: {said}"
            assert re.search(words, said, re.MULTILINE), f"{name}: {said}"
    for arguments in (
        ["makemigrations", "--check"],
        ["showmigrations"],
        ["check", "--database", "default"],
    ):
        done = gateway.manage(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
    assert gateway.count("WHERE started_at < now() - interval '400 days'") == 0


@pytest.mark.usefixtures("nothing_is_left")
def test_background_responses_and_budgets(gateway: Gateway) -> None:
    text = gateway.make_key("of little means", "--budget-total", "0.0001")
    refused = gateway.http.post(
        "/openai", json={**CHAT, "model": "o1-pro"}, headers={"Authorization": f"Bearer {text}"}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    asked = {"model": "gpt-4o", "input": "Say hi.", "background": True}
    made = [gateway.post("/openai2", asked).json()["id"] for _ in range(3)]
    for response_id in made:
        rows = gateway.rows("WHERE response_id = %s AND cost > 0", [response_id], at_least=1)
        assert len(rows) == 1
    with psycopg.connect(gateway.variables["DATABASE_URL"], autocommit=True, prepare_threshold=None) as connection:
        held = "SELECT count(*) FROM usage_hold WHERE key_name = 'of little means'"
        wait_until(lambda: connection.execute(held).fetchone() == (0,))


@pytest.mark.usefixtures("nothing_is_left")
def test_the_pages_without_a_login(gateway: Gateway) -> None:
    for path in ("/readyz", "/usage", "/log", "/log_errors", "/metrics", "/health", "/health2"):
        headers = {"Authorization": f"Bearer {SECURITY_KEY if path == '/usage' else ACCESS_TOKEN}"}
        answer = gateway.http.get(path, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
    wait_until_ok(gateway)
