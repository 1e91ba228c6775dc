"""Three callers of one server on which every family of routes is open: two keys, and the built-in key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import httpx2
import pytest

from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

CALL = {"model": "gpt-4o-mini", "input": "hi"}
CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
JSON = {"content-type": "application/json"}
FILE = {"file": ("a.txt", b"hello", "text/plain")}


@pytest.fixture(scope="module")
def server(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("owners")
    before = os.umask(0)  # of the server, too
    try:
        with run_gateway(_simulator.base_url, gateway_database, folder, V1_ROUTES="all") as gateway:
            yield gateway
    finally:
        os.umask(before)


def client(server: Gateway, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


@pytest.fixture(scope="module")
def alice(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"alice {uuid4()}")) as http:
        yield http


@pytest.fixture(scope="module")
def bob(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"bob {uuid4()}")) as http:
        yield http


@pytest.fixture(scope="module")
def default(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, SECURITY_KEY) as http:
        yield http


def made(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def upload(http: httpx2.Client, purpose: str = "assistants") -> str:
    return made(http.post("/v1/files", data={"purpose": purpose}, files=FILE))


def assert_not_there(answer: httpx2.Response, simulator: Simulator, heard: int) -> None:
    assert answer.status_code == 404, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert len(simulator.requests) == heard
