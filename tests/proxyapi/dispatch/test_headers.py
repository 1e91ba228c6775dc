"""Which headers pass in which direction, the ids of a call, and CORS.

Over 300 lines, since the headers of both directions and both APIs are compared on one server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

import pytest
from openai.types.chat import ChatCompletion

from proxyapi.pages.page_headers import PAGE_HEADERS
from proxyapi.upstream.passed_headers import INERT
from tests.simulator.server import Simulator
from tests.support.calls.answers_by_kind import ANSWERS, CHAT, ask
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway

ORIGIN = {"origin": "https://app.example"}
ROUTES = {
    "/": {"GET"},
    "/healthz": {"GET"},
    "/readyz": {"GET"},
    "/health": {"GET"},
    "/health2": {"GET"},
    "/log": {"GET"},
    "/log_errors": {"GET"},
    "/debug/runtime": {"GET"},
    "/openai": {"POST"},
    "/openai2": {"POST"},
    "/openai2/compact": {"POST"},
    "/openai2/input_tokens": {"POST"},
    "/openai2/resp_1": {"GET", "DELETE"},
    "/openai2/resp_1/cancel": {"POST"},
    "/openai2/resp_1/input_items": {"GET"},
    "/chatgpt": {"POST"},
    "/openai/audio/transcriptions": {"POST"},
    "/embeddings": {"POST"},
}


class CookieUpstream(BaseHTTPRequestHandler):
    """An upstream whose cookies are valid for plain HTTP, unlike the simulator's."""

    protocol_version = "HTTP/1.1"
    seen: list[str | None]

    def do_POST(self) -> None:
        self.seen.append(self.headers["cookie"])
        self.rfile.read(int(self.headers["content-length"]))
        body = b'{"object": "chat.completion"}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("set-cookie", "session=of-the-first-caller; Path=/; Max-Age=3600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def cookie_upstream() -> Iterator[tuple[str, list[str | None]]]:
    """The URL of an upstream that sets cookies, and the cookies it was sent."""
    seen: list[str | None] = []
    handler = type("Handler", (CookieUpstream,), {"seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
        server.shutdown()
        thread.join()


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = ask(gateway, "call", **{"x-request-id": "mine-1"})

    assert UUID(answer.headers["x-proxy-request-id"]).version == 7
    assert answer.headers["x-incoming-request-id"] == "mine-1"
    assert answer.headers["x-request-id"].startswith("req_")
    row = gateway.row(answer)
    assert str(row["request_id"]) == answer.headers["x-proxy-request-id"]
    assert row["incoming_request_id"] == "mine-1"
    assert row["upstream_request_id"] == answer.headers["x-request-id"]


# --- ids


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_answer_has_an_id_of_its_own(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    first, second = ask(gateway, kind), ask(gateway, kind)

    ids = [UUID(answer.headers["x-proxy-request-id"]) for answer in (first, second)]
    assert [one.version for one in ids] == [7, 7]
    assert ids[0] < ids[1]
    assert "x-incoming-request-id" not in first.headers


@pytest.mark.parametrize("kind", ["cut", "not-found", "method", "no-key", "bad-json", "bad-field"])
def test_an_error_of_ours_has_the_id_in_its_body_too(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    answer = ask(gateway, kind)

    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["request_id"] == answer.headers["x-proxy-request-id"]
    assert set(answer.json()["error"]) == {"message", "type", "param", "code", "request_id"}


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("name", ["X-Request-Id", "X-Client-Request-Id"])
def test_a_callers_id_comes_back_on_every_answer(gateway: Gateway, simulator: Simulator, kind: str, name: str) -> None:
    assert ask(gateway, kind, **{name: "mine 2"}).headers["x-incoming-request-id"] == "mine 2"


@pytest.mark.parametrize("given", ["a", "x" * 128, "~!@#$%^&*()_+ {}|:<>?", '"; DROP TABLE', "<b>bold</b>"])
def test_a_callers_id_is_kept_as_it_is(gateway: Gateway, simulator: Simulator, given: str) -> None:
    answer = ask(gateway, "call", **{"x-client-request-id": given})

    assert answer.headers["x-incoming-request-id"] == given
    assert gateway.row(answer)["incoming_request_id"] == given


@pytest.mark.parametrize("given", [b"x" * 129, "é".encode(), b"a\tb", b"", b"\xff"], ids=repr)
def test_a_callers_id_that_is_none_is_dropped(gateway: Gateway, simulator: Simulator, given: bytes) -> None:
    headers = [(b"x-request-id", given), (b"x-security-key", SECURITY_KEY.encode())]
    answer = gateway.http.post("/openai", json=CHAT, headers=headers)

    assert answer.status_code == 200
    assert "x-incoming-request-id" not in answer.headers
    assert gateway.row(answer)["incoming_request_id"] == ""


def test_a_good_id_stands_in_for_a_bad_one(gateway: Gateway, simulator: Simulator) -> None:
    both = {"x-request-id": "first", "x-client-request-id": "second"}
    assert ask(gateway, "call", **both).headers["x-incoming-request-id"] == "first"
    both["x-request-id"] = "x" * 129
    assert ask(gateway, "call", **both).headers["x-incoming-request-id"] == "second"


def test_the_sdks_request_id_is_upstreams(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client:
        completion = client.post("/openai", cast_to=ChatCompletion, body=CHAT)

    assert completion._request_id is not None
    [row] = gateway.rows("WHERE response_id = %s", [completion.id], at_least=1)
    assert row["upstream_request_id"] == completion._request_id


# --- upstream's headers


def test_exactly_the_safe_headers_pass(gateway: Gateway, simulator: Simulator) -> None:
    answer = ask(gateway, "call")

    ours = {name.decode() for name, _ in INERT} | {"date", "content-length", "x-proxy-request-id", "vary"}
    theirs = set(answer.headers) - ours
    limits = {f"x-ratelimit-{what}-{of}" for what in ("limit", "remaining", "reset") for of in ("requests", "tokens")}
    named = {"openai-organization", "openai-processing-ms", "openai-project", "openai-version"}
    assert theirs == {"content-type", "x-request-id", *named, *limits}
    assert answer.headers["openai-organization"] == "org-simulated"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert answer.headers["x-ratelimit-reset-requests"] == "8.64s"
    assert answer.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("kind", ["call", "upstream-error", "index", "not-found"])
@pytest.mark.parametrize(
    "name",
    [
        "set-cookie", "server", "cf-ray", "cf-cache-status", "alt-svc", "location",
        "transfer-encoding", "x-powered-by",
    ],
)  # fmt: skip
def test_an_unsafe_header_does_not_pass(gateway: Gateway, simulator: Simulator, kind: str, name: str) -> None:
    ours = {header.lower() for header in PAGE_HEADERS} if kind == "index" else set()
    assert name in ours or name not in ask(gateway, kind).headers


def test_a_stream_says_that_it_is_not_to_be_cached(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/openai2", {"model": "gpt-4o", "input": "hi", "stream": True})

    assert answer.headers["cache-control"] == "no-cache, must-revalidate"
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["openai-version"] == "2020-10-01"
    assert not {"set-cookie", "server", "cf-ray", "alt-svc"} & set(answer.headers)


@pytest.mark.parametrize("status", [200, 500])
def test_a_compressed_answer_is_unpacked(gateway: Gateway, simulator: Simulator, status: int) -> None:
    simulator.fail_next(f"gzip+status-{status}" if status != 200 else "gzip")
    headers = {"accept-encoding": "gzip, br, zstd"}
    answer = gateway.post("/openai", CHAT, headers=headers)

    assert answer.status_code == status
    assert "content-encoding" not in answer.headers
    assert answer.headers["content-length"] == str(len(answer.content))
    assert set(answer.json()) & {"choices", "error"}
    assert simulator.last.header("accept-encoding") == "identity"
    assert gateway.row(answer)["response_bytes"] == len(answer.content)


def test_upstreams_cookies_are_not_kept(
    start_gateway: Callable[..., Gateway], cookie_upstream: tuple[str, list[str | None]]
) -> None:
    url, seen = cookie_upstream
    gateway = start_gateway(OPENAI_BASE_URL=url)
    for _ in range(2):
        answer = gateway.post("/openai", CHAT)
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers

    assert seen == [None, None]


@pytest.mark.parametrize(
    "name",
    ["x-request-id", "x-client-request-id", "x-forwarded-for", "forwarded", "origin", "referer", "accept-language"],
)
def test_a_callers_header_stays_here(gateway: Gateway, simulator: Simulator, name: str) -> None:
    ask(gateway, "call", **{name: "callers-own"})

    assert "callers-own" not in str(simulator.last.headers)


# --- CORS


@pytest.mark.parametrize("origin", ["https://app.example", "http://localhost:5173", "null"])
@pytest.mark.parametrize("path", [*ROUTES, "/nowhere", "/openapi.json", "/docs"])
def test_a_preflight_is_granted(gateway: Gateway, simulator: Simulator, path: str, origin: str) -> None:
    for method in ROUTES.get(path, {"GET"}):
        headers = {
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": "authorization, content-type, x-security-key, x-stainless-lang",
        }
        answer = gateway.http.options(path, headers=headers)

        assert answer.status_code in {200, 204}
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        allowed = {name.strip() for name in answer.headers["access-control-allow-headers"].lower().split(",")}
        assert {"*", "authorization"} <= allowed  # the asterisk does not stand for Authorization (Fetch standard)
        assert method in answer.headers["access-control-allow-methods"].split(", ")
    assert simulator.requests == []


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere"])
def test_a_preflight_has_an_id(gateway: Gateway, simulator: Simulator, path: str) -> None:
    headers = {**ORIGIN, "access-control-request-method": "POST", "x-request-id": "mine"}
    answer = gateway.http.options(path, headers=headers)

    assert UUID(answer.headers["x-proxy-request-id"]).version == 7
    assert answer.headers["x-incoming-request-id"] == "mine"


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_answer_may_be_read_from_every_origin(gateway: Gateway, simulator: Simulator, kind: str) -> None:
    answer = ask(gateway, kind, **ORIGIN)

    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-expose-headers"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


def test_a_stream_may_be_read_from_every_origin(gateway: Gateway, simulator: Simulator) -> None:
    body = {"model": "gpt-4o", "input": "hi", "stream": True}
    answer = gateway.post("/openai2", body, headers=ORIGIN)

    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
    assert answer.headers.get_list("access-control-expose-headers") == ["*"]


@pytest.mark.parametrize("path", ["/admin", "/admin/", "/admin/login/", "/admin/usage/request/"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_the_admin_is_outside_cors(gateway: Gateway, simulator: Simulator, path: str, method: str) -> None:
    headers = {**ORIGIN, "access-control-request-method": "POST"}
    answer = gateway.http.request(method, path, headers=headers)

    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("path", ["/administrator", "/adminx", "/docsx", "/openapi.jsonx"])
def test_only_the_admins_own_paths_are_the_admins(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.http.get(path, headers=ORIGIN)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", ROUTES)
def test_plain_options_says_what_a_route_allows(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.http.options(path)

    assert answer.status_code in {200, 204}
    assert answer.content == b""
    assert ROUTES[path] <= set(answer.headers["allow"].split(", "))
    assert simulator.requests == []


def test_options_needs_no_key_and_takes_no_turn(gateway: Gateway, simulator: Simulator) -> None:
    for _ in range(3):
        assert gateway.http.options("/health", params={"access_token": ACCESS_TOKEN}).status_code == 204
    assert simulator.requests == []


def test_a_method_that_nobody_knows_is_refused_in_json(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.http.request("TRACE", "/openai")

    assert answer.status_code == 405
    assert json.loads(answer.content)["error"]["code"] == "method_not_allowed"
