"""The root path: where it comes from, whom the gateway believes, and that it is a plain path of this host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chatproxy.urls
import proxyapi.urls
from chatproxy.entry import DJANGO_FOLDERS
from chatproxy.http.connections import Connections
from chatproxy.root_path import MAX_LENGTH, OWN_NAMES, RootPath, django_scope, normal_root_path, own_cookies_last
from proxyapi.call.caller_connection import root_path_of
from tests.simulator.server import Simulator
from tests.support.callers.asgi import Asgi
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, Gateway, run_gateway

PLAIN = {
    "/ai": "/ai",
    "/ai/": "/ai",
    "/": "",
    "/apps/chat-proxy_1.0~a": "/apps/chat-proxy_1.0~a",
    "/user/me@example.com/proxy/3002": "/user/me@example.com/proxy/3002",
    "/.well/..known": "/.well/..known",
    "/openai-proxy": "/openai-proxy",
    "/ai/v1": "/ai/v1",
}
# What would lead elsewhere, means something to a browser, a proxy, a cookie or a shell, or can be read in two ways.
NOT_PLAIN = (
    "//evil.example", "///", "//", "/ai//b", "/ai//", "ai", "evil.example/ai", "https://evil.example", "https:/evil",
    "http://", "/\\evil.example", "\\\\evil.example", "/ai\\", "/ai\r\nSet-Cookie: a=b", "/ai\nx", "/ai\n", "/ai\x00",
    "/ai\t", "/..", "/ai/../b", "/.", "/./ai", "/ai/..", "/ai/.../b", "/a b", " /ai", "/ai;Domain=evil", "/ai,/b",
    "/ai, /b", "/ai?x", "/ai#x", "/ai%2f", "/%2e%2e", '/ai"', "/ai'", "/<script>", "/ai&b", "/$HOME", "/`id`", "/größe",
    "/ai:80", "/" + "a" * MAX_LENGTH,
    "/v1", "/v1/", "/openai", "/openai/proxy", "/admin", "/static/ai", "/my-usage", "/docs",
)  # fmt: skip
# The path as a client asked for it or as a proxy left it of that; the gateway's own path.
PATHS = {
    "/ai/v1/models": "/v1/models",
    "/v1/models": "/v1/models",
    "/ai": "/",
    "/ai/": "/",
    "/": "/",
    "/ai/admin/": "/admin/",
    "/ai/ai/x": "/ai/x",
    "/ai//v1/models": "//v1/models",
    "/aix/v1": "/aix/v1",
    "/AI/v1": "/AI/v1",
    "/x/ai/v1": "/x/ai/v1",
    "//ai/v1": "//ai/v1",
}


@pytest.mark.parametrize(("text", "path"), PLAIN.items())
def test_it_works(text: str, path: str) -> None:
    assert normal_root_path(text) == path


@pytest.mark.parametrize("text", NOT_PLAIN)
def test_what_is_no_plain_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="for example /ai"):
        normal_root_path(text)


@given(st.one_of(st.text(), st.lists(st.sampled_from(["/", "\\", ".", "ai", ":", "@", "%", " ", ";"])).map("".join)))
def test_whatever_is_accepted_stays_on_this_host(text: str) -> None:
    try:
        path = normal_root_path(text)
    except ValueError:
        return
    assert path == "" or re.fullmatch(r"/[\w.~@+/-]+", path, re.ASCII)
    assert not path.startswith(("//", "/\\"))
    assert not {".", ".."} & set(path.split("/"))
    assert str(httpx2.URL(f"https://host{path}/admin/")) == f"https://host{path}/admin/"


def test_the_gateways_own_names_are_those_of_its_routes() -> None:
    routes: list[Any] = [*proxyapi.urls.urlpatterns, *chatproxy.urls.urlpatterns]
    firsts = {re.sub(r"^\^|\(\?P<.*", "", str(route.pattern)).split("/")[0] for route in routes}
    assert firsts - {""} | {folder.strip("/") for folder in DJANGO_FOLDERS} == OWN_NAMES


@pytest.mark.parametrize(("asked", "path"), PATHS.items())
def test_the_path_is_taken_off_where_it_is_there(asked: str, path: str) -> None:
    scope = RootPath("/ai").strip(Asgi("GET", asked).scope)
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == (path, path.encode(), "")
    assert root_path_of(scope) == "/ai"
    seen = django_scope(scope)
    assert (seen["path"], seen["raw_path"], seen["root_path"]) == (f"/ai{path}", f"/ai{path}".encode(), "/ai")


def test_a_path_that_is_spelled_otherwise_is_another() -> None:
    """Both forms of the path are shortened, or neither: else two parts of the server would see different requests."""
    request = Asgi("GET", "/ai/v1")
    scope = RootPath("/ai").strip(cast(Any, {**request.scope, "raw_path": b"/%61i/v1"}))
    assert (scope["path"], scope["raw_path"]) == ("/ai/v1", b"/%61i/v1")


def forwarded(prefix: str, *, configured: str | None = None, is_trusted: bool = True) -> str:
    request = Asgi("GET", "/", headers={"x-forwarded-prefix": prefix})
    request.is_trusted_proxy = is_trusted
    return root_path_of(RootPath(configured).strip(request.scope))


def test_who_is_believed() -> None:
    assert forwarded("/ai") == "/ai"
    assert forwarded("/ai/") == "/ai"
    assert forwarded("/ai", is_trusted=False) == ""
    assert forwarded("/ai", configured="/other") == "/other"
    assert forwarded("/ai", configured="") == ""
    assert forwarded("") == ""


@pytest.mark.parametrize("prefix", [text for text in NOT_PLAIN if text.isascii()])
def test_a_header_that_names_no_plain_path_is_ignored_with_words(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    assert forwarded(prefix) == ""
    assert "X-Forwarded-Prefix of a trusted proxy was ignored" in caplog.text


def test_two_headers_are_none() -> None:
    request = Asgi("GET", "/")
    request.is_trusted_proxy = True
    headers = [(b"x-forwarded-prefix", b"/a"), (b"x-forwarded-prefix", b"/b")]
    assert root_path_of(RootPath(None).strip(cast(Any, {**request.scope, "headers": headers}))) == ""


def test_a_proxy_is_trusted_by_its_own_address_alone() -> None:
    connections = Connections(trusted_proxies=["10.1.0.0/16", "127.0.0.1", "2001:db8::7"])
    trusted = ("10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::ffff:127.0.0.1", "2001:db8::7")
    assert [connections.trusts(address) for address in trusted] == [True] * len(trusted)
    others = ("10.2.0.1", "127.0.0.2", "2001:db8::8", "::1", "64:ff9b::127.0.0.1", "", "unix:", "10.1.2.3:80")
    assert [connections.trusts(address) for address in others] == [False] * len(others)
    assert not Connections().trusts("127.0.0.1")


@pytest.mark.parametrize(
    ("header", "reversed_header"),
    [(b"a=1", b"a=1"), (b"a=1; b=2; a=3", b"a=3; b=2; a=1"), (b"a=1;b=2", b"b=2; a=1"), (b"", b""), (b";", b"; ")],
)
def test_the_cookie_of_the_longest_path_comes_last(header: bytes, reversed_header: bytes) -> None:
    assert own_cookies_last(header) == reversed_header


@pytest.fixture(scope="module")
def trusting(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Starts a server that trusts every client on this machine as a proxy."""
    folder = tmp_path_factory.mktemp("trusting")
    with run_gateway(_simulator.base_url, gateway_database, folder, TRUSTED_PROXIES="127.0.0.1") as gateway:
        yield gateway


@contextmanager
def visitor(url: str, prefix: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=url, timeout=PATIENCE, headers={"x-forwarded-prefix": prefix}) as http:
        yield http


PAGES = ("/", "/docs", "/openapi.json", "/admin", "/admin/", "/admin/login/", "/my-usage/")


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "https://evil.example", "/\\evil.example", "/..", "/ai;Domain=evil"]
)
def test_a_forged_path_is_in_no_answer(prefix: str, trusting: Gateway) -> None:
    with visitor(trusting.url, prefix) as http:
        for page in PAGES:
            answer = http.get(page)
            assert answer.status_code in {200, 301, 302}
            seen = f"{answer.text} {answer.headers}"
            assert not re.search(r"evil|/\.\.", seen), page


def test_an_untrusted_client_changes_nothing(gateway: Gateway) -> None:
    with visitor(gateway.url, "/ai") as http:
        for page in PAGES:
            answer = http.get(page)
            assert answer.status_code in {200, 301, 302}
            assert "/ai/" not in f"{answer.text} {answer.headers}", page
        assert http.get("/ai/openapi.json").status_code == 404


def test_a_trusted_proxy_may_name_the_path_at_each_request(trusting: Gateway) -> None:
    for root_path in ("/ai", "/team/b", ""):
        with visitor(trusting.url, root_path) as http:
            assert f'href="{root_path}/admin/"' in http.get("/").text
            answer = http.get("/admin/")
            assert answer.headers["location"] == f"{root_path}/admin/login/?next={root_path}/admin/"
            assert f"path={root_path}/;" in http.get("/admin/login/").headers["set-cookie"].lower() + ";"


def test_the_hint_of_the_right_base_url_has_the_path_in_it(trusting: Gateway) -> None:
    for root_path in ("/ai", ""):
        with visitor(trusting.url, root_path) as http:
            for asked in ("/v1/v1/models", "/chat/completions"):
                key = {"authorization": f"Bearer {SECURITY_KEY}"}
                words = http.get(f"{root_path}{asked}", headers=key).json()["error"]["message"]
                assert f"Did you mean {root_path}/v1/{asked.removeprefix('/v1/v1').lstrip('/')}?" in words


def test_an_object_of_another_key_is_not_found_under_the_path_either(trusting: Gateway) -> None:
    """The code that decides about permissions sees the path without the root path."""
    other = trusting.make_key("other", "--route", "/v1/responses*", "--route", "/openai")
    with visitor(trusting.url, "/ai") as http:
        made = http.post(
            "/ai/v1/responses",
            json={"model": "gpt-4o-mini", "input": "hi"},
            headers={"authorization": f"Bearer {SECURITY_KEY}"},
        )
        assert made.status_code == 200, made.text
        assert trusting.row(made)["route"] == "/v1/responses"
        path = f"/ai/v1/responses/{made.json()['id']}"
        assert http.get(path, headers={"authorization": f"Bearer {SECURITY_KEY}"}).status_code == 200
        assert http.get(path, headers={"authorization": f"Bearer {other}"}).status_code == 404
        closed = http.get("/ai/v1/models", headers={"authorization": f"Bearer {other}"})
        assert (closed.status_code, closed.json()["error"]["code"]) == (403, "route_not_allowed")
