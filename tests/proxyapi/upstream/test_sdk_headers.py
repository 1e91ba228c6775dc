"""The headers and the base URL of the official SDK, with which the simple API calls upstream."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from pytest_django.fixtures import Settings

from proxyapi.upstream import client
from tests.simulator.server import Simulator
from tests.support.calls.account_calls import CHAT, OWN
from tests.support.servers.gateway import Gateway

FRAMING = {"host", "content-length", "accept-encoding", "via"}  # of the gateway's own request


@pytest.fixture
def _asked_anew() -> Iterator[None]:
    client.sdk_client.cache_clear()
    yield
    client.sdk_client.cache_clear()


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
    client.sdk_client.cache_clear()
    for name in ("OPENAI_CUSTOM_HEADERS", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "x-leaked: leaked")
    assert client.sdk_client() == before


@pytest.mark.usefixtures("_asked_anew")
def test_an_sdk_that_does_not_load_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "openai.py").write_text("raise ImportError('a broken installation')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
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
