"""Gateways that are each other's upstream: a call that comes back is refused, and gateways in a row are no ring."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from proxyapi.exceptions import LoopDetected
from proxyapi.upstream import self_calls
from tests.simulator.server import Simulator
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import UPSTREAM_KEY, Gateway, free_port, run_gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SHARED_SECRET = "copied-with-an-env-file-Jx93kQm2VbT7wZr5LpY8-uHs4NdG6tReA1"


def security_key(number: int) -> str:
    return f"security-key-of-gateway-{number}-4be07c"


def run_gateways(
    stack: ExitStack, upstream: str | None, count: int, database: str, directories: pytest.TempPathFactory
) -> list[Gateway]:
    """Starts gateways in a row, each with the next one as its upstream; the last one has the first one or `upstream`.

    Each has the next one's security key, and a database of its own. All were set up with the same secret.
    """
    ports = [free_port() for _ in range(count)]
    gateways = []
    for number, port in enumerate(ports):
        following = (number + 1) % count
        is_last = following == 0 and upstream is not None
        settings = {
            "PORT": str(port),
            "SECURITY_KEY": security_key(number),
            "OPENAI_API_KEY": UPSTREAM_KEY if is_last else security_key(following),
            "DJANGO_SECRET_KEY": SHARED_SECRET,
        }
        url = upstream if is_last and upstream else f"http://127.0.0.1:{ports[following]}/v1"
        own = stack.enter_context(new_database(database))
        gateways.append(stack.enter_context(run_gateway(url, own, directories.mktemp("ring"), **settings)))
    return gateways


@pytest.fixture(scope="module", params=[2, 3])
def ring(
    request: pytest.FixtureRequest, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Gateway]]:
    with ExitStack() as stack:
        yield run_gateways(stack, None, request.param, gateway_database, tmp_path_factory)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/chat/completions", CHAT),
        ("POST", "/v1/chat/completions", {**CHAT, "stream": True}),
        ("POST", "/v1/responses", {"model": "gpt-4o-mini", "input": "hi"}),
        ("GET", "/v1/models", None),
        ("POST", "/openai", CHAT),
        ("POST", "/openai2", {"model": "gpt-4o-mini", "input": "hi"}),
    ],
)
def test_a_call_that_comes_back_is_refused(ring: list[Gateway], method: str, path: str, body: Any) -> None:
    first = ring[0]
    headers = {"Authorization": f"Bearer {security_key(0)}", "Via": "1.1 proxy.example, 2 chatproxy-other"}
    before = [gateway.count() for gateway in ring]

    answer = first.http.request(method, path, headers=headers, json=body)

    assert answer.status_code == 508
    error = answer.json()["error"]
    assert error["code"] == "loop_detected"
    assert "came back" in error["message"]
    assert "OPENAI_BASE_URL" in error["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert first.row(answer)["outcome"] == "upstream_error"
    assert first.row(answer)["error_code"] == "loop_detected"
    for gateway, count in zip(ring, before, strict=True):
        laps = 2 if gateway is first else 1  # the call went round once
        rows = gateway.rows(at_least=count + laps)
        assert len(rows) == count + laps
        assert all(row["status"] == 508 for row in rows)
    assert [row["outcome"] for row in first.rows()[-2:]] == ["upstream_error", "rejected"]
    first.wait_for_log("This call came back to the gateway")


def test_a_form_that_comes_back_is_refused(ring: list[Gateway]) -> None:
    sound = {"file": ("a.wav", b"RIFF" * 1000, "audio/wav")}
    headers = {"Authorization": f"Bearer {security_key(0)}"}

    answer = ring[0].http.post("/v1/audio/transcriptions", headers=headers, files=sound, data={"model": "whisper-1"})

    assert answer.status_code == 508
    assert answer.json()["error"]["code"] == "loop_detected"


def test_gateways_in_a_row_are_no_ring(
    simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with ExitStack() as stack:
        row = run_gateways(stack, simulator.base_url, 2, gateway_database, tmp_path_factory)
        headers = {"Authorization": f"Bearer {security_key(0)}", "Via": "1.1 proxy.example, 1.1 other (x)"}
        for path in ("/v1/chat/completions", "/openai"):
            assert row[0].http.post(path, headers=headers, json=CHAT).status_code == 200
            via = (simulator.last.header("via") or "").split(", ")
            assert len(set(via)) == len(via) == 2  # the gateways, and no proxy of the caller's
            assert all(map(self_calls.GATEWAY.fullmatch, via))


@pytest.mark.parametrize(
    ("base_url", "has_entry"),
    [
        ("https://api.openai.com/v1", False),
        ("https://API.OpenAI.com/v1", False),
        ("https://eu.api.openai.com/v1", False),
        ("https://team.openai.azure.com/openai/v1", False),
        ("https://team.cognitiveservices.azure.com/openai/v1", False),
        ("https://team.services.ai.azure.com/openai/v1", False),
        ("https://cognitiveservices.azure.com.example/v1", True),
        ("https://team.ai.azure.com/v1", True),
        ("https://openai.com.example/v1", True),
        ("https://notopenai.com/v1", True),
        ("https://team.westeurope.cloudapp.azure.com/v1", True),
        ("http://10.0.0.7:3002/v1", True),
    ],
)
def test_openai_is_told_of_no_gateway(settings: Settings, base_url: str, has_entry: bool) -> None:
    settings.OPENAI_BASE_URL = base_url
    theirs = "1.1 chatproxy-0123456789abcdef"
    assert bool(self_calls.own_entry()) is has_entry
    assert self_calls.gateways_passed(f"1.1 proxy.example, {theirs}") == (theirs if has_entry else "")


@pytest.mark.parametrize(
    ("via", "comes_back"),
    [
        ("{own}", True),
        ("1.1 proxy.example:80,{own}", True),
        ("{other}, {own}, 2 cdn (a comment, with a comma)", True),
        (" ,,\t{own}\t,", True),
        ("{other}", False),
        ("{own}0", False),
        ("1.1 {own}", False),
        ("1.1 chatproxy", False),
        (", " * 5000, False),
        ("", False),
    ],
)
def test_a_gateway_finds_its_own_name(settings: Settings, via: str, comes_back: bool) -> None:
    settings.OPENAI_BASE_URL = "http://10.0.0.7:3002/v1"
    value = via.format(own=self_calls.own_entry(), other="1.1 chatproxy-0123456789abcdef")
    if comes_back:
        with pytest.raises(LoopDetected, match="came back"):
            self_calls.check("sk-upstream", value)
    else:
        self_calls.check("sk-upstream", value)


def test_an_entry_tells_neither_the_secret_nor_the_address(settings: Settings) -> None:
    names = set()
    for host in ("10.0.0.7", "10.0.0.8", "gateway.example"):
        settings.OPENAI_BASE_URL = f"http://{host}:3002/v1"
        names.add(self_calls.own_entry())
        assert self_calls.GATEWAY.fullmatch(self_calls.own_entry())
    assert len(names) == 3
