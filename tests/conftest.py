"""Owns the environment of all tests: a throw-away PostgreSQL and DATA_DIR, and nothing of the developer's.

It is set here, at the import, because Django's settings are read right after. Each process of pytest-xdist imports
this anew: its DATA_DIR, PostgreSQL, simulator and servers are its own.
"""

import asyncio
import gc
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import django
import psycopg
import pytest
import uvloop
from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, settings

from chatproxy.configuration import setting_reader
from chatproxy.postgres.bundled import DATABASE, BundledPostgres
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator, run_simulator
from tests.support.moved_clock import ProcessClock, PutClock, Traveller
from tests.support.needs import MARK, mark_tests_that_need_a_server
from tests.support.polling import PATIENCE, TIMES_OF_PAGES
from tests.support.servers.clusters import give_cluster
from tests.support.servers.databases import TEMPLATE, make_template, url_of
from tests.support.servers.gateway import ACCESS_TOKEN, ADMIN_PASSWORD, SECURITY_KEY, Gateway, run_gateway
from tests.support.shared_setup import share_setup

GC_YOUNG_THRESHOLD = 10_000  # as `chatproxy.processes.lifespan`, which cannot be imported before the environment is set
BORDER_SECONDS = 30.0  # before the end of an hour; longer than most tests take

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it is ignored, and the servers of the tests would inherit it
for name in [name for name in os.environ if name.startswith("OPENAI_")]:
    del os.environ[name]  # the SDK reads them by itself
for name in {setting.name for setting in setting_reader.SETTINGS} | setting_reader.FILE_NAMES:
    os.environ.pop(name, None)
os.environ[setting_reader.NO_ENV_FILES] = "1"
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="chatproxy-tests-")
os.environ["SECURITY_KEY"] = SECURITY_KEY
os.environ["ACCESS_TOKEN"] = ACCESS_TOKEN
os.environ["INVALID_KEYS_PER_MINUTE"] = "1000000"  # tests of refusals follow one another quickly
os.environ["DJANGO_SECRET_KEY"] = "test-secret-of-sessions-and-keys-0123456789-abcdefghij"

# Examples are not timed: their time is that of everything else that runs on the machine.
settings.register_profile("tests", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("tests"), max_examples=10)  # `make check`
settings.load_profile("tests")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: one of them always waits for a process to start or for time to pass.

    Tests that start nothing do not wait, so that `make check` has one for each core.
    """
    cores = os.cpu_count() or 1
    return cores if config.option.markexpr == f"not {MARK}" else cores + 1


def pytest_configure(config: pytest.Config) -> None:
    """pytest-django sets Django up by itself only when its own options name the settings.

    A process that only distributes tests must not: those that run them would inherit the name, and pytest-django
    would read their settings before this file has set their environment.
    """
    config.addinivalue_line("markers", f"{MARK}: needs a server, a database or another process; set by itself")
    # A run that is terminated unwinds, and takes its servers along.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    distributes = config.getoption("dist", "no") != "no" and not config.option.collectonly
    distributes = distributes and not hasattr(config, "workerinput")
    if not distributes:
        os.environ["DJANGO_SETTINGS_MODULE"] = "chatproxy.settings"
        django.setup()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collects no garbage meanwhile, nor looks again at what was collected: that takes a quarter of the time.

    Later, garbage is collected as rarely as in a worker. A test of pages then spends half as much CPU on it.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(GC_YOUNG_THRESHOLD)
        gc.enable()


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_tests_that_need_a_server(items)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the server runs on: its transports differ from asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["DATA_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _within_one_hour(request: pytest.FixtureRequest) -> None:
    """Lets no test that needs a server or a database begin shortly before the end of an hour, a day, a month or a year.

    What the test has written would belong to the day before, when it asks what was spent today.
    """
    left = 3600 - time.time() % 3600
    if left < BORDER_SECONDS and request.node.get_closest_marker(MARK):
        time.sleep(left)  # until the hour has changed: it is the clock itself that is waited for


@pytest.fixture
def put_clock(time_machine: Traveller) -> PutClock:
    """Puts the clock of this process ahead of the true time, or behind it."""
    return ProcessClock(time_machine).put


@pytest.fixture(scope="session", autouse=True)
def _shared_setup() -> Iterator[None]:
    with share_setup():
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient_pages() -> Iterator[None]:
    """Lets pages in this process wait long for the database, and read on for long (`TIMES_OF_PAGES`).

    On a busy machine their own time may be over before the database is asked, or before they have read enough calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in TIMES_OF_PAGES:
            patch.setattr(name, PATIENCE)
        yield


@pytest.fixture
def admin(db: None) -> Client:
    """Somebody who is signed in and may do everything."""
    from django.contrib.auth.models import User  # models can be imported once Django is set up

    client = Client()
    client.force_login(User.objects.create_superuser("root", password=None))
    return client


@pytest.fixture
def impatient_shipper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipper looks, and tries again, at once."""
    from usage.journal_shipping import delivery, shipper  # as above

    monkeypatch.setattr(delivery, "FIRST_BACKOFF", 0.001)
    monkeypatch.setattr(delivery, "LONGEST_BACKOFF", 0.01)
    monkeypatch.setattr(shipper, "IDLE_SECONDS", 0.005)


@pytest.fixture(scope="session")
def _postgres() -> Iterator[BundledPostgres]:
    postgres = give_cluster(Path(os.environ["DATA_DIR"]))
    try:
        postgres.start()
        with psycopg.connect(url_of(postgres.url, "postgres"), autocommit=True) as server:
            server.execute("ALTER SYSTEM SET fsync = off")  # nothing in it outlives the tests
            server.execute("SELECT pg_reload_conf()")
            make_template(server, DATABASE)  # before a server of a test connects to it
        yield postgres
    finally:
        postgres.stop()
        postgres.delete()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(_postgres: BundledPostgres) -> None:
    """pytest-django asks for this before it makes its test database: a copy of one that was migrated."""
    connection.settings_dict["TEST"]["TEMPLATE"] = TEMPLATE


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    with run_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(_simulator: Simulator) -> Simulator:
    """The simulated OpenAI; it remembers only what this test has sent."""
    _simulator.clear()
    return _simulator


@pytest.fixture(scope="session")
def gateway_database(_postgres: BundledPostgres) -> str:
    """The URL of a migrated database without calls, for the servers that tests start."""
    return _postgres.url


@pytest.fixture(scope="session")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The server that most tests share: one worker, the usual settings."""
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def open_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Every family open, and room for large files."""
    with run_gateway(
        _simulator.base_url,
        gateway_database,
        tmp_path_factory.mktemp("open"),
        V1_ROUTES="all",
        MAX_UPLOAD_BYTES=str(300 * 1024 * 1024),
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def strict_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Little time, small files: with what a form has beside its file, 1 MiB and 64 KiB."""
    with run_gateway(
        _simulator.base_url,
        gateway_database,
        tmp_path_factory.mktemp("strict"),
        REQUEST_TIMEOUT="3",
        MAX_UPLOAD_BYTES=str(64 * 1024),
        MAX_BODY_BYTES=str(64 * 1024),
    ) as gateway:
        yield gateway


@pytest.fixture
def call_id(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^\x21-\x7e]", "_", str(request.node.name))[-100:]


@pytest.fixture
def start_gateway(_simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts a server of the test's own, with settings of its own."""
    with ExitStack() as running:

        def start(**settings: str) -> Gateway:
            upstream = settings.pop("OPENAI_BASE_URL", _simulator.base_url)
            return running.enter_context(run_gateway(upstream, gateway_database, tmp_path, **settings))

        yield start


@pytest.fixture
def outage(_simulator: Simulator, tmp_path: Path) -> Iterator[tuple[Gateway, Postgres]]:
    """A server whose database is its own, to be stopped."""
    postgres = Postgres(tmp_path / "postgres", give_cluster)
    try:
        (tmp_path / "data").mkdir()
        data_dir = tmp_path / "data"
        with run_gateway(_simulator.base_url, postgres.url, data_dir, ADMIN_PASSWORD=ADMIN_PASSWORD) as gateway:
            yield gateway, postgres
    finally:
        postgres.delete()
