"""The published holes of other LLM gateways, tried here: each case says where it was found.

Those that need a test of their own kind are elsewhere: owners of objects in `test_owner_store`, rights of staff in
`test_permissions` and the admin's tests, secrets in `test_secrets`, redirects of upstream in `test_upstream_errors`.

Over 300 lines, since it is one list of cases, each with its source.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from chatproxy.configuration import setting_reader
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.callers.wire import connect, json_call
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, UPSTREAM_KEY, Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
V1 = "/v1/chat/completions"
LIMITED_LOOK = pytest.mark.parametrize("path", [V1, "/v1/models", "/openai", "/openai2", "/embeddings", "/usage"])
BEARER = {"authorization": f"Bearer {SECURITY_KEY}"}


@pytest.fixture
def canary() -> Iterator[socket.socket]:
    """A listener that nobody may connect to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


# Keys: what decides whether somebody is let in

NO_KEYS = {
    "CVE-2026-42208, CVE-2025-45809, CVE-2024-5225 LiteLLM: SQL in a key": "x' OR 1=1 --",
    "the same, another dialect": "x'); SELECT pg_sleep(60); --",
    "CVE-2026-25591 new-api: wildcards of LIKE": "%%%%%%%%%%%%",
    "CVE-2026-41432 new-api: an empty secret signs everything": "",
    "bifrost 2904: a key that does not look like one of ours is not checked": "sk-anything",
    "bifrost 4365: the prefix alone lets in": "cp-",
    "free-one-api 146, one-api: a default token": "12345678",
    "LiteLLM's documented master key": "sk-1234",
    "GHSA-69x8-hrgq-fjj8 LiteLLM: None, null and undefined": "None",
}


@LIMITED_LOOK
@pytest.mark.parametrize("key", NO_KEYS.values(), ids=NO_KEYS)
def test_what_is_no_key_lets_nobody_in(gateway: Gateway, simulator: Simulator, path: str, key: str) -> None:
    headers = {"authorization": f"Bearer {key}".rstrip(), "x-security-key": key}
    method = "GET" if path in {"/v1/models", "/usage"} else "POST"
    answer = gateway.http.request(
        method, path, headers=headers, params={"security_key": key}, json=None if method == "GET" else CHAT
    )

    assert answer.status_code == (401 if path.startswith("/v1") else 403)
    assert answer.json()["error"]["code"] == "invalid_key"
    assert simulator.requests == []
    assert gateway.count(f"WHERE request_id = '{answer.headers['x-proxy-request-id']}'") == 0


@pytest.mark.parametrize("cut", [20, -1], ids=["the first 20 characters", "all but the last"])
def test_a_key_is_looked_up_whole(gateway: Gateway, cut: int) -> None:
    """CVE-2026-35030, LiteLLM: an identity was cached by the first 20 characters of its token."""
    key = make_key(gateway, f"whole-{cut}")
    similar = key[:cut] + "x" * (len(key) - len(key[:cut]))

    known = gateway.http.get("/v1/models", headers={"authorization": f"Bearer {key}"})
    unknown = gateway.http.get("/v1/models", headers={"authorization": f"Bearer {similar}"})

    assert [known.status_code, unknown.status_code] == [200, 401]


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "AuThOrIzAtIoN"])
@pytest.mark.parametrize(("value", "status"), [(f"Bearer {SECURITY_KEY}", 200), ("Bearer wrong", 401), ("wrong", 401)])
def test_the_case_of_a_headers_name_changes_nothing(gateway: Gateway, name: str, value: str, status: int) -> None:
    with connect(gateway) as wire:
        wire.send(f"GET /v1/models HTTP/1.1\r\nHost: gateway\r\n{name}: {value}\r\n\r\n".encode())

        assert wire.read_answer().status == status


# Routes: what decides which of them a request is

MISLEADING = {
    "CVE-2026-49468 LiteLLM, CVE-2026-48710 Starlette: a path in Host": "Host: localhost:4000/healthz#@evil.example",
    "the same with a query": "Host: /healthz?",
    "X-Original-URL": "X-Original-URL: /healthz",
    "X-Rewrite-URL": "X-Rewrite-URL: /healthz",
    "X-Forwarded-Prefix": "X-Forwarded-Prefix: /healthz",
    "X-Forwarded-Host": "X-Forwarded-Host: localhost/healthz?",
    "X-Forwarded-For: somebody near": "X-Forwarded-For: 127.0.0.1",
    "X-HTTP-Method-Override": "X-HTTP-Method-Override: OPTIONS",
    "CVE-2022-39267: X-Requested-With decides": "X-Requested-With: XMLHttpRequest",
    "a CORS preflight that is none": "Access-Control-Request-Method: GET",
    "CVE-2025-29927 Next.js: a header of the framework's own": "x-middleware-subrequest: middleware",
}


@pytest.mark.parametrize("header", MISLEADING.values(), ids=MISLEADING)
@pytest.mark.parametrize("path", ["/v1/models", "/usage", "/log", "/metrics", "/debug/runtime", "/admin/usage/"])
def test_no_header_makes_another_route_of_a_request(
    gateway: Gateway, simulator: Simulator, path: str, header: str
) -> None:
    host = "" if header.startswith("Host:") else "Host: localhost\r\n"
    with connect(gateway) as wire:
        wire.send(f"GET {path} HTTP/1.1\r\n{host}{header}\r\n\r\n".encode())
        answer = wire.read_answer()

    expected = {"/v1/models": {400, 401}, "/admin/usage/": {302, 400}}.get(path, {400, 403})
    assert answer.status in expected
    assert "/admin/login/" in answer.headers.get("location", "/admin/login/")
    assert simulator.requests == []


@pytest.mark.parametrize(
    "target",
    [
        *(
            "/healthz/../log",
            "/static/../log",
            "/static/..%2flog",
            "/docs/..;/log",
            "//log",
            "/./log",
            "/log/.",
            "/LOG",
        ),
        *("/%6cog", "/log;.css", "/log%2f", "/log%00", "/log?x=/healthz", "/healthz%2f..%2flog", "http://x/log"),
        *("/v1/../log", "/v1/%2e%2e/log", "/v1/..%2flog", "/v1//models", "/v1/models/", "//v1/models", "/V1/models"),
        *(
            "/admin/../log",
            "/static/../admin/usage/",
            "/static/%2e%2e/admin/usage/",
            "/admin//usage/",
            "/.well-known/x",
        ),
    ],
)
def test_no_spelling_of_a_path_gets_a_stranger_in(gateway: Gateway, simulator: Simulator, target: str) -> None:
    with connect(gateway) as wire:
        wire.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = wire.read_answer()

    assert answer.status in {301, 302, 400, 401, 403, 404}
    assert re.fullmatch(r"/admin/.*|", answer.headers.get("location", ""))
    assert simulator.requests == []


@pytest.mark.parametrize(
    "path",
    [
        # LiteLLM: CVE-2026-35029, -47101, -47102, -42203, -42271, -40217, -12773, -12799, CVE-2025-0628, CVE-2024-5710
        *("/config/update", "/key/generate", "/key/update", "/key/block", "/user/new", "/user/update", "/user/info"),
        *("/team/new", "/model/info", "/model/new", "/global/spend/logs", "/prompts/test", "/mcp-rest/test/connection"),
        *("/guardrails/test_custom_code", "/ui_view_users", "/callbacks", "/get/config/callbacks", "/credentials"),
        # Bifrost issues 937, 518, 5760; one-api; new-api: CVE-2026-30886, CVE-2026-41432; Portkey 1718
        *(
            "/api/config",
            "/api/governance/virtual-keys",
            "/api/mcp/client",
            "/api/user/login",
            "/api/token/",
            "/api/option/",
        ),
        *("/v1/videos/task_1/content", "/api/stripe/webhook", "/v1/proxy/chat/completions", "/workspace/config"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_key_reaches_no_management(gateway: Gateway, simulator: Simulator, method: str, path: str) -> None:
    """Keys, users and settings are in the admin only, behind its login; the API has no route that changes them."""
    answer = gateway.http.request(method, path, headers=BEARER, json={} if method == "POST" else None)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
    assert simulator.requests == []


def test_every_page_of_the_admin_asks_for_a_login(client: Client, db: None) -> None:
    """Bifrost issue 937: only the root page was behind the login."""
    patterns = [pattern for pattern in django_admin.site.get_urls() if isinstance(pattern, URLPattern)]
    paths = {f"/admin/{pattern.pattern}" for pattern in patterns}
    paths |= {
        f"/admin/{model._meta.app_label}/{model._meta.model_name}/{pattern.pattern}".replace("<path:object_id>", "1")
        for model, options in django_admin.site._registry.items()
        for pattern in options.get_urls()
        if isinstance(pattern, URLPattern) and not re.search(r"<(?!path:object_id)", str(pattern.pattern))
    }
    open_to_all = {"/admin/login/", "/admin/jsi18n/", "/admin/logout/"}
    assert len(paths) > 30

    for path in sorted(path for path in paths - open_to_all if "<" not in path and "(" not in path):
        answer = client.get(path)
        assert answer.status_code == 302, path
        assert answer["Location"].startswith("/admin/login/"), path


def test_a_stored_password_is_no_password(client: Client, db: None) -> None:
    """GHSA-69x8-hrgq-fjj8, LiteLLM: the hash of a password let its reader in."""
    user = User.objects.create_superuser("root", password="a password of some length")

    assert not client.login(username="root", password=user.password)
    assert not client.login(username="root", password="123456")  # one-api's first password
    assert client.login(username="root", password="a password of some length")


# Upstream: who decides where a call goes

HOST_HEADERS = {
    "CVE-2025-66405, issue 1718 Portkey": "x-portkey-custom-host",
    "Portkey 1596": "x-portkey-azure-resource-name",
    "Helicone": "helicone-target-url",
    "Bifrost": "x-bf-base-url",
    "Forwarded host": "x-forwarded-host",
    "another base": "openai-base-url",
    "issue 1507 Portkey": "x-portkey-forward-headers",
}
HOST_MEMBERS = {
    "CVE-2024-6587 LiteLLM": "api_base",
    "the same": "base_url",
    "its other names": "litellm_params",
    "custom_llm_provider": "custom_llm_provider",
    "callbacks": "success_callback",
    "extra_headers": "extra_headers",
    "new-api": "webhook_url",
}


@pytest.mark.parametrize("name", HOST_HEADERS.values(), ids=HOST_HEADERS)
@pytest.mark.parametrize("path", [V1, "/openai"])
def test_no_header_names_another_upstream(
    gateway: Gateway, simulator: Simulator, canary: socket.socket, path: str, name: str
) -> None:
    answer = gateway.http.post(path, json=CHAT, headers={**BEARER, name: f"{url_of(canary)}#"})

    assert answer.status_code == 200
    assert simulator.last.path == V1


@pytest.mark.parametrize("name", HOST_MEMBERS.values(), ids=HOST_MEMBERS)
@pytest.mark.parametrize("path", [V1, "/openai"])
def test_no_member_of_a_body_names_another_upstream(
    gateway: Gateway, simulator: Simulator, canary: socket.socket, path: str, name: str
) -> None:
    url = url_of(canary)
    gateway.http.post(path, json={**CHAT, name: url, "provider": {"base_url": url}}, headers=BEARER)

    assert simulator.last.path == V1
    assert simulator.last.json[name] == url


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", "[::ffff:127.0.0.1]", "2130706433"])  # noqa: S104  (addresses to fetch from)
@pytest.mark.parametrize("path", [V1, "/openai"])
def test_no_url_of_a_caller_is_fetched(
    gateway: Gateway, simulator: Simulator, canary: socket.socket, path: str, host: str
) -> None:
    """CVE-2025-59146, CVE-2025-62155, CVE-2026-42339, new-api: pictures were fetched by the gateway."""
    url = url_of(canary).replace("127.0.0.1", host)
    picture = {"type": "image_url", "image_url": {"url": f"{url}/a.png"}}
    answer = gateway.http.post(
        path, json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": [picture]}]}, headers=BEARER
    )

    assert answer.status_code in {200, 400}  # what the simulator says of it
    assert simulator.last.json["messages"][0]["content"] == [picture]


def test_a_target_that_is_a_url_goes_to_upstream_all_the_same(
    gateway: Gateway, simulator: Simulator, canary: socket.socket
) -> None:
    with connect(gateway) as wire:
        wire.send(json_call(f"{url_of(canary)}{V1}", CHAT))

        assert wire.read_answer().status == 200
    assert simulator.last.path == V1


# Bodies: what is done with what a caller sends

TEMPLATES = {
    "CVE-2026-42203, CVE-2024-2952 LiteLLM: a template": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "another engine's": "${7*7} #{7*7} <%= 7*7 %> {% debug %}",
    "CVE-2024-4264, -4889, -5751, -6825 LiteLLM: code": "__import__('os').system('id')",
    "CVE-2024-10188 LiteLLM: a literal that is evaluated": "(" * 2000 + ")" * 2000,
    "CVE-2026-42271 LiteLLM: a command": "$(touch /tmp/x); `id` | id",
}


@pytest.mark.parametrize("text", TEMPLATES.values(), ids=TEMPLATES)
@pytest.mark.parametrize("path", [V1, "/openai"])
def test_text_is_neither_rendered_nor_evaluated(gateway: Gateway, simulator: Simulator, path: str, text: str) -> None:
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": text}],
        **dict.fromkeys(("chat_template", "post_call_rules", "callbacks", "command", "tools_config"), text),
    }
    gateway.http.post(path, json=body, headers=BEARER)

    assert simulator.last.json == body


@pytest.mark.parametrize("path", ["/openai/audio/transcriptions", "/v1/audio/transcriptions"])
@pytest.mark.parametrize("is_absolute", [True, False], ids=["absolute", "relative"])
def test_a_file_name_names_no_file_of_ours(
    gateway: Gateway, simulator: Simulator, tmp_path: Path, path: str, is_absolute: bool
) -> None:
    """CVE-2024-4888, LiteLLM: the file that an upload was named after was written over, then deleted."""
    kept = tmp_path / "kept.mp3"
    kept.write_bytes(b"ours")
    name = str(kept) if is_absolute else f"../../../../../../../..{kept}"
    answer = gateway.http.post(
        path, files={"file": (name, b"theirs", "audio/mpeg")}, data={"model": "whisper-1"}, headers=BEARER
    )

    assert answer.status_code == 200
    assert kept.read_bytes() == b"ours"
    assert simulator.last.files[0].data == b"theirs"


@pytest.mark.parametrize("path", ["/openai/audio/transcriptions", "/v1/audio/transcriptions"])
@pytest.mark.parametrize(
    ("boundary", "body"),
    [
        ("b", b"--b" + b"-" * 1_000_000),
        ("b", b"\r\n--b" * 100_000),
        ("-" * 60, b"-" * 1_000_000),
        ("x" * 50_000, b"--x"),
        ("b", b"--b\r\n" + b"\r" * 1_000_000),
    ],
    ids=["dashes at the end", "only boundaries", "a boundary of dashes", "a long boundary", "carriage returns"],
)
def test_a_boundary_costs_no_time(gateway: Gateway, path: str, boundary: str, body: bytes) -> None:
    """CVE-2024-8984, LiteLLM: characters behind a boundary kept its form's parser busy, for a stranger as well."""
    for key, statuses in ((SECURITY_KEY, {400, 413, 415}), ("wrong", {400, 401, 403, 413, 415})):
        headers = {"authorization": f"Bearer {key}", "content-type": f"multipart/form-data; boundary={boundary}"}
        answer = gateway.http.post(path, content=body, headers=headers)

        assert answer.status_code in statuses


# Pages: what is told to whom


@pytest.mark.parametrize("path", ["/health", "/health2", "/log", "/log_errors", "/metrics", "/debug/runtime", "/usage"])
@pytest.mark.parametrize("query", ["", "?access_token=", "?access_token=null", "?token=x", "?api_key=sk-1234"])
def test_a_page_about_the_server_needs_its_token(gateway: Gateway, simulator: Simulator, path: str, query: str) -> None:
    """LiteLLM issue 24530: /metrics was open; CVE-2025-11203: /health showed keys."""
    answer = gateway.http.get(path + query)

    assert answer.status_code == 403
    assert simulator.requests == []


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/readyz", "/docs", "/openapi.json", "/metrics", "/debug/runtime", "/log", "/usage"]
)
def test_no_page_shows_a_key_or_a_part_of_one(gateway: Gateway, path: str) -> None:
    """CVE-2024-9606, LiteLLM: five characters of a key were hidden, the rest was logged. CVE-2025-0330: in an error."""
    answer = gateway.http.get(path, params={"access_token": ACCESS_TOKEN})

    assert answer.status_code in {200, 429}
    for secret in (UPSTREAM_KEY, SECURITY_KEY, ACCESS_TOKEN):
        assert secret[5:] not in answer.text
        assert secret[5:] not in gateway.log


# What runs here


@pytest.mark.parametrize(
    "path", sorted((setting_reader.BASE_DIR / "requirements").glob("*.txt")), ids=lambda path: path.stem
)
def test_every_package_is_pinned_by_its_hash(path: Path) -> None:
    """LiteLLM 1.82.7 and 1.82.8 on the package index were an attacker's."""
    text = path.read_text()
    packages = re.findall(r"^[A-Za-z0-9].*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)

    assert packages
    assert [package for package in packages if "==" not in package or "--hash=sha256:" not in package] == []
