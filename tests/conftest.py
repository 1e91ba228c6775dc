"""Owns the environment of all tests: a throw-away PostgreSQL and DATA_DIR, and nothing of the developer's.

It is set here, at the import, because Django's settings are read right after.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import django
import pytest
from hypothesis import settings

from chatproxy import environment
from chatproxy.bundled_postgres import BundledPostgres
from tests.gateway import Gateway, run_gateway
from tests.simulator.server import Simulator, run_simulator

for name in [name for name in os.environ if name.startswith("OPENAI_")]:
    del os.environ[name]  # the SDK reads them by itself
for setting in environment.SETTINGS:
    os.environ.pop(setting.name, None)
os.environ[environment.NO_ENV_FILES] = "1"
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="chatproxy-tests-")
os.environ["DJANGO_SETTINGS_MODULE"] = "chatproxy.settings"
os.environ["SECURITY_KEY"] = "test-security-key"
os.environ["ACCESS_TOKEN"] = "test-access-token"

settings.register_profile("chatproxy", deadline=None)  # it would measure how busy the machine is
settings.load_profile("chatproxy")

_postgres = BundledPostgres(Path(os.environ["DATA_DIR"]))


def pytest_configure() -> None:
    django.setup()  # pytest-django does it by itself only when its own options name the settings


def pytest_sessionstart(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        _postgres.start()


def pytest_unconfigure() -> None:
    _postgres.stop()
    _postgres.delete()
    shutil.rmtree(os.environ["DATA_DIR"], ignore_errors=True)


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
def gateway_database() -> str:
    """The URL of an empty database for the servers that tests start."""
    return _postgres.url


@pytest.fixture(scope="session")
def gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """The server that most tests share: one worker, the usual settings."""
    with run_gateway(_simulator.base_url, gateway_database, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def start_gateway(_simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts a server of the test's own, with settings of its own."""
    with ExitStack() as running:

        def start(**settings: str) -> Gateway:
            upstream = settings.pop("OPENAI_BASE_URL", _simulator.base_url)
            return running.enter_context(run_gateway(upstream, gateway_database, tmp_path, **settings))

        yield start
