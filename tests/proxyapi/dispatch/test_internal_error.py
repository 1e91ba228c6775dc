"""A fault of ours becomes a 500 in OpenAI's shape: no traceback, no detail, no hang, and the log has it all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import httpx2
import openai
import pytest
import uvicorn

from chatproxy.http.protocol import Protocol
from proxyapi.dispatch.asgi_handler import CallHandler
from proxyapi.pages.index import IndexView, LivenessView
from tests.support.polling import PATIENCE


@pytest.fixture
def url() -> Iterator[str]:
    """The call handler of this process, whose views a test can break, under a real server."""
    server = uvicorn.Server(
        uvicorn.Config(CallHandler(), port=0, http=Protocol, lifespan="off", ws="none", log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("the detail")

    monkeypatch.setattr(IndexView, "get", fail)


@pytest.mark.usefixtures("broken")
def test_a_fault_of_ours_is_500(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = httpx2.get(url, timeout=PATIENCE)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert error["request_id"] == answer.headers["x-proxy-request-id"]
    assert "the detail" not in answer.text
    assert "the detail" in caplog.text


@pytest.mark.usefixtures("broken")
def test_the_sdk_knows_it_and_the_server_goes_on(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="sk-any", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError):
            client.get("/", cast_to=object)
        assert client.get("/healthz", cast_to=object)


def test_a_fault_outside_the_view_is_500_too(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the detail")

    monkeypatch.setattr(LivenessView, "dispatch", fail)
    answer = httpx2.get(f"{url}/healthz", timeout=PATIENCE)

    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
