"""No answer of the API runs in a browser: over every route, method and status, upstream's answers and ours."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import pytest

from proxyapi.pages.page_headers import CONTENT_SECURITY_POLICY as PAGE_POLICY
from proxyapi.upstream.passed_headers import INERT, pass_down
from tests.simulator.server import Simulator
from tests.support.callers.wire import connect
from tests.support.calls.answers_by_kind import ANSWERS, ask
from tests.support.calls.routes import METHODS, routes
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, Gateway, run_gateway

NOSNIFF, SANDBOX = (value.decode() for _, value in INERT)
PAGES = ("/", "/docs", "/log", "/log_errors")
AUTHORITIES = {"stranger": "", "key": SECURITY_KEY, "token": ACCESS_TOKEN}
# What browsers run, and what they might guess to be something they run.
TYPES = (
    "text/html",
    "text/html; charset=utf-7",
    "application/xhtml+xml",
    "image/svg+xml",
    "application/xml",
    "text/xml; charset=utf-8",
    "text/javascript",
    "application/pdf",
    "multipart/x-mixed-replace; boundary=x",
    "text/plain",
    "application/octet-stream",
    "",
)
STATUSES = (200, 201, 206, 400, 401, 404, 418, 429, 500, 503)
MESSAGES = [{"role": "user", "content": "hi"}]
SCRIPT = b"<html><script>alert(1)</script></html>"
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "simple": ("/openai", {"json": {"model": "m", "messages": MESSAGES}}),
    "simple, rewritten": ("/chatgpt", {"json": {"prompt": "hi"}}),
    "simple, form": ("/openai/audio/transcriptions", {"files": {"file": ("a.mp3", b"ID3")}}),
    "v1": ("/v1/chat/completions", {"json": {"model": "m", "messages": MESSAGES}}),
    "v1, form": ("/v1/audio/transcriptions", {"files": {"file": ("a.mp3", b"ID3")}, "data": {"model": "m"}}),
}


class ScriptUpstream(socketserver.ThreadingTCPServer):
    """Answers every call with a document that has a script in it, as the content type and status that are set."""

    daemon_threads = True
    content_type = ""
    status = 200


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, ScriptUpstream)
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(self.server.status)
        if self.server.content_type:
            self.send_header("content-type", self.server.content_type)
        for name in ("content-security-policy", "x-content-type-options"):
            self.send_header(name, "default-src *")
        self.send_header("content-length", str(len(SCRIPT)))
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(SCRIPT)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptUpstream]:
    with ScriptUpstream(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def scripted(
    upstream: ScriptUpstream, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway whose upstream answers documents with scripts."""
    url = f"http://127.0.0.1:{upstream.server_address[1]}/v1"
    with run_gateway(url, gateway_database, tmp_path_factory.mktemp("scripted")) as gateway:
        yield gateway


def assert_inert(answer: httpx2.Response, *policies: str) -> None:
    assert answer.headers.get_list("x-content-type-options") == [NOSNIFF], answer.request.url
    assert answer.headers.get_list("content-security-policy") == [*(policies or (SANDBOX,))], answer.request.url


def test_it_works(scripted: Gateway, upstream: ScriptUpstream) -> None:
    upstream.content_type, upstream.status = "text/html", 200
    answer = scripted.post("/openai", {"model": "m", "messages": MESSAGES})

    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "text/html", SCRIPT)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'"


@pytest.mark.parametrize("path", list(routes()))
def test_no_route_answers_without_them_whatever_the_method(gateway: Gateway, simulator: Simulator, path: str) -> None:
    for method in METHODS:
        for text in AUTHORITIES.values():
            headers = {"authorization": f"Bearer {text}"} if text else {}
            answer = gateway.http.request(method, path, headers=headers)
            is_page = path in PAGES and answer.status_code == 200
            assert_inert(answer, PAGE_POLICY if is_page else SANDBOX)


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("origin", ["", "https://app.example"])
def test_no_kind_of_answer_is_without_them(gateway: Gateway, simulator: Simulator, kind: str, origin: str) -> None:
    answer = ask(gateway, kind, **({"origin": origin} if origin else {}))

    assert_inert(answer, PAGE_POLICY if kind == "index" else SANDBOX)


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("kind", CALLS)
def test_upstreams_type_passes_unchanged_and_cannot_run(
    scripted: Gateway, upstream: ScriptUpstream, kind: str, content_type: str
) -> None:
    upstream.content_type = content_type
    path, options = CALLS[kind]
    for upstream.status in STATUSES:
        answer = scripted.http.post(path, headers={"authorization": f"Bearer {SECURITY_KEY}"}, **options)

        assert_inert(answer)
        if (kind, upstream.status) != ("simple, rewritten", 200):
            assert (answer.status_code, answer.content) == (upstream.status, SCRIPT)
            assert answer.headers.get("content-type", "") == content_type


@pytest.mark.parametrize("path", ["/openai2", "/v1/responses"])
def test_a_stream_has_them(gateway: Gateway, simulator: Simulator, path: str) -> None:
    answer = gateway.sdk().post(
        path, body={"model": "gpt-4o", "input": "hi", "stream": True}, cast_to=httpx2.Response, stream=False
    )

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert_inert(answer)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 400_000,
        b"POST /openai HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
        b"GET / HTTP/9.9\r\nhost: a\r\n\r\n",
    ],
    ids=["no-http", "bad-header", "large-head", "bad-length", "bad-version"],
)
def test_what_is_no_http_is_answered_with_them(gateway: Gateway, sent: bytes) -> None:
    with connect(gateway) as wire:
        wire.send(sent)
        answer = wire.read_answer()

    assert answer.status == 400
    assert ("x-content-type-options", NOSNIFF) in answer.pairs
    assert ("content-security-policy", SANDBOX) in answer.pairs


@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/nowhere", "/my-usage/", "/static/nowhere", "/static/usage/pages.css"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize("host", ["localhost", "evil.example"])
def test_djangos_answers_say_what_may_run(gateway: Gateway, path: str, method: str, host: str) -> None:
    answer = gateway.http.request(method, path, headers={"host": host})

    assert answer.headers.get_list("x-content-type-options") == [NOSNIFF]
    (policy,) = answer.headers.get_list("content-security-policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def test_upstreams_own_policy_never_passes() -> None:
    names = ("Content-Security-Policy", "content-security-policy-report-only", "X-Content-Type-Options")
    assert pass_down([(name, "default-src *") for name in names]) == {}
