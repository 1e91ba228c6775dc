"""`Allow` is that of the path, `HEAD` is answered where `GET` is, and upstream's `Allow`, `Location`, `Link` pass."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from proxyapi.routes import FAMILIES
from tests.support.callers.budgeted_keys import make_key
from tests.support.callers.wire import connect, head
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, run_gateway
from tests.support.upstreams.fixed import FixedUpstream, run_fixed_upstream

BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}
PATHS = [(path, methods) for family in FAMILIES for path, methods in family.paths.items()]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FixedUpstream]:
    with run_fixed_upstream() as server:
        yield server


@pytest.fixture(scope="module")
def server(
    upstream: FixedUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("methods")
    with run_gateway(
        upstream.base_url, gateway_database, folder, V1_ROUTES="all", SSE_KEEPALIVE_SECONDS="1"
    ) as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def _usual(upstream: FixedUpstream) -> None:
    upstream.reset()


def allowed(methods: tuple[str, ...]) -> str:
    return ", ".join([*(["GET", "HEAD"] if "GET" in methods else []), *(m for m in methods if m != "GET"), "OPTIONS"])


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH", "TRACE"])
def test_allow_is_that_of_the_path(server: Gateway, upstream: FixedUpstream, method: str) -> None:
    for path, methods in PATHS:
        answer = server.http.request(method, "/v1" + path.replace("{id}", "x_1"), headers=BEARER)
        assert answer.status_code == (204 if method == "OPTIONS" else 405)
        assert answer.headers["allow"] == allowed(methods), path
        if method != "OPTIONS":
            assert answer.json()["error"]["message"] == f"This method is not allowed here; allowed: {allowed(methods)}."
    assert upstream.asked == []


def test_a_path_that_is_not_known_may_have_any_method(server: Gateway) -> None:
    for path in ("/v1/images/unheard-of", "/v1/unheard-of"):
        assert server.http.options(path).headers["allow"] == "GET, HEAD, POST, DELETE, OPTIONS"


HEADERS = {"Allow": "GET, POST", "Location": "https://files.example/a?b=c", "Link": '</v1/files?after=x>; rel="next"'}


@pytest.mark.parametrize("status", [200, 201, 302, 307, 405, 429])
@pytest.mark.parametrize("path", ["/v1/files/x_1", "/v1/files/x_1/content", "/openai2/resp_1"])
def test_upstreams_headers_pass(server: Gateway, upstream: FixedUpstream, path: str, status: int) -> None:
    upstream.status, upstream.headers = status, HEADERS
    answer = server.http.get(path, headers=BEARER, follow_redirects=False)

    assert answer.status_code == status
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert len(upstream.asked) == 1


def heads(server: Gateway, path: str, key: str = SECURITY_KEY) -> tuple[httpx2.Response, httpx2.Response]:
    headers = {"authorization": f"Bearer {key}"}
    return server.http.head(path, headers=headers), server.http.get(path, headers=headers)


OWN = {"x-proxy-request-id", "date", "x-request-id"}


@pytest.mark.parametrize("path", [path for path, methods in PATHS if "GET" in methods])
def test_head_is_get_without_its_body(server: Gateway, upstream: FixedUpstream, path: str) -> None:
    """Upstream is asked with GET: not every server knows HEAD."""
    upstream.body = b'{"object": "list", "data": []}'
    with_head, with_get = heads(server, "/v1" + path.replace("{id}", "x_1"))

    assert (with_head.status_code, with_head.content) == (200, b"")
    assert {**with_head.headers, **dict.fromkeys(OWN)} == {**with_get.headers, **dict.fromkeys(OWN)}
    assert [method for method, *_ in upstream.asked] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/octet-stream", bytes(300_000)), ("audio/mpeg", b"x"), ("text/event-stream", b"data: {}\n\n"),
        ("application/json", b'{"a": 1}'), ("application/sdp", b""),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/files/x_1/content", "/v1/responses/x_1?stream=true", "/openai2/x_1?stream=true"])
def test_a_head_of_any_answer_leaves_the_connection_usable(
    server: Gateway, upstream: FixedUpstream, path: str, content_type: str, body: bytes
) -> None:
    upstream.content_type, upstream.body = content_type, body
    with connect(server) as wire:
        for _ in range(2):
            wire.send(head("HEAD", path))
            answer = wire.read_head()
            assert (answer.status, answer.headers["content-type"]) == (200, content_type)
        wire.send(head("GET", "/healthz"))
        assert wire.read_answer().status == 200
    row = server.row(answer.headers["x-proxy-request-id"])
    assert (row["method"], row["outcome"], row["status"], row["response_bytes"]) == ("HEAD", "success", 200, 0)


def test_a_head_of_a_stream_that_is_slow_has_no_comments(server: Gateway, upstream: FixedUpstream) -> None:
    upstream.delay = 2.5
    upstream.content_type, upstream.body = "text/event-stream", b"data: {}\n\n"
    with connect(server) as wire:
        wire.send(head("HEAD", "/v1/responses/x_1?stream=true") + head("GET", "/healthz"))
        assert wire.read_head().status == 200
        assert wire.read_answer().body.startswith(b'{"status": "ok"')


def test_a_head_of_a_list_says_as_much_as_its_key_may_see(server: Gateway, upstream: FixedUpstream) -> None:
    key = make_key(server, "methods")
    upstream.body = json.dumps({"object": "list", "data": [{"id": "x_1"}, {"id": "x_2"}]}).encode()
    with_head, with_get = heads(server, "/v1/files", key)

    assert with_head.headers["content-length"] == with_get.headers["content-length"] == str(len(with_get.content))
    assert with_get.json()["data"] == []


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/usage", "/log"])
def test_a_head_of_a_page_is_its_get(server: Gateway, path: str) -> None:
    answer = server.http.head(path, headers={"authorization": f"Bearer {ACCESS_TOKEN}"})

    assert (answer.status_code, answer.content) == (200, b"")


def test_a_head_of_health_makes_its_call(server: Gateway, upstream: FixedUpstream) -> None:
    upstream.body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "ok"}}]}).encode()
    answer = server.http.head("/health2", headers={"authorization": f"Bearer {ACCESS_TOKEN}"})

    assert (answer.status_code, answer.content) == (200, b"")
    assert len(upstream.asked) == 1
