"""The headers and the base URL of the official SDK, with which the simple API calls upstream."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from openai import AsyncOpenAI
from pytest_django.fixtures import Settings

from proxyapi.upstream import client
from proxyapi.upstream.client import SDKClient
from proxyapi.upstream.passed_headers import Headers
from tests.simulator.server import Simulator
from tests.support.calls.account_calls import CHAT, OWN
from tests.support.servers.gateway import Gateway

FRAMING = {"host", "content-length", "accept-encoding", "via"}  # of the gateway's own request


@pytest.fixture
def _asked_anew(settings: Settings, tmp_path: Path) -> Iterator[None]:
    """No answer of the SDK is known, neither in memory nor in DATA_DIR."""
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    client.sdk_client.cache_clear()
    yield
    client.sdk_client.cache_clear()


@pytest.fixture
def asked(_asked_anew: None, monkeypatch: pytest.MonkeyPatch) -> list[SDKClient]:
    """The answers of the SDK until now, which has been replaced: to ask it takes half a second of CPU."""
    answers: list[SDKClient] = []

    def ask() -> SDKClient:
        answers.append(SDKClient("http://127.0.0.1:1/v1/", Headers({"User-Agent": "of the SDK"})))
        return answers[-1]

    monkeypatch.setattr(client, "_ask_sdk", ask)
    return answers


@pytest.fixture
def break_sdk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on, a process that is started cannot load the SDK."""

    def break_it() -> None:
        (tmp_path / "openai.py").write_text("raise ImportError('a broken installation')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return break_it


async def test_upstream_gets_the_headers_of_the_sdk(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/openai", {**CHAT, **OWN}).status_code == 200

    async with AsyncOpenAI(
        api_key=OWN["openai_api_key"], project=OWN["project"], organization=OWN["organization"]
    ) as sdk:
        expected = {**sdk.default_headers, **sdk.auth_headers}
    sent = {name.lower(): value for name, value in simulator.last.headers if name.lower() not in FRAMING}
    assert sent == {name.lower(): value for name, value in expected.items()}


@pytest.mark.usefixtures("_asked_anew")
@pytest.mark.parametrize("given", ["http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1/", "http://127.0.0.1:1"])
def test_the_base_url_is_as_the_sdk_has_it(settings: Settings, given: str) -> None:
    settings.OPENAI_BASE_URL = given
    assert client.sdk_client().base_url == str(AsyncOpenAI(api_key="any", base_url=given).base_url)


@pytest.mark.usefixtures("_asked_anew")
def test_no_variable_adds_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    before = client.sdk_client()
    forget()
    for name in ("OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "x-leaked: leaked")
    assert client.sdk_client() == before


def forget() -> None:
    client.sdk_client.cache_clear()
    kept_file().unlink()


def kept_file() -> Path:
    return Path(django_settings.DATA_DIR) / client.SDK_FILE


@pytest.mark.usefixtures("_asked_anew")
def test_the_answer_is_kept_for_the_next_process(break_sdk: Callable[[], None]) -> None:
    before = client.sdk_client()
    assert kept_file().stat().st_mode & 0o777 == 0o600
    client.sdk_client.cache_clear()
    break_sdk()
    assert client.sdk_client() == before


@pytest.mark.parametrize("name", ["address", "question", "openai", "httpx2", "python", "system"])
def test_another_version_of_anything_asks_again(asked: list[SDKClient], name: str) -> None:
    before = client.sdk_client()
    kept = json.loads(kept_file().read_bytes())
    assert kept["versions"].keys() == {"address", "question", "openai", "httpx2", "python", "system"}
    kept["versions"][name] += "1"
    kept["headers"]["User-Agent"] = "of that version"
    kept_file().write_text(json.dumps(kept))
    client.sdk_client.cache_clear()
    assert client.sdk_client() == before
    assert len(asked) == 2
    assert "of that version" not in kept_file().read_text()


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "{}", '{"versions": {}}'])
def test_a_damaged_file_asks_again(asked: list[SDKClient], damage: str) -> None:
    before = client.sdk_client()
    kept_file().write_text(damage)
    client.sdk_client.cache_clear()
    assert client.sdk_client() == before
    assert len(asked) == 2


@pytest.mark.usefixtures("_asked_anew")
def test_an_answer_that_cannot_be_kept_is_used() -> None:
    kept_file().mkdir()
    assert client.sdk_client().headers["X-Stainless-Lang"] == "python"


@pytest.mark.usefixtures("_asked_anew")
def test_an_sdk_that_does_not_load_is_an_error(
    break_sdk: Callable[[], None], capfd: pytest.CaptureFixture[str]
) -> None:
    break_sdk()
    with pytest.raises(subprocess.CalledProcessError):
        client.sdk_client()
    assert "a broken installation" in capfd.readouterr().err


@pytest.mark.usefixtures("_asked_anew")
def test_an_sdk_that_hangs_does_not_hold_up_the_start_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openai.py").write_text("import signal; signal.pause()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(client, "SDK_SECONDS", 0.5)
    with pytest.raises(subprocess.TimeoutExpired):
        client.sdk_client()
