"""The settings for nginx in docs/deploy.md, run as written: TLS, streams by event, the admin, also under a path."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import openai
import pytest

from tests.support.callers.all_pages import hidden_fields
from tests.support.documentation import blocks_in, section
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import ADMIN_PASSWORD, PATIENCE, SECURITY_KEY, Gateway, free_port, run_gateway
from tests.support.servers.nginx import run_nginx
from tests.support.servers.throw_away_ca import make_server
from tests.support.upstreams.held import LAST, HeldUpstream, events, held_upstream

NAME = "ai.example.com"
WHOLE, UNDER_PATH = blocks_in(section("## Behind a TLS proxy"), "nginx")
SLASH = {"as written": "", "with a slash": "/"}
SHARED_LINES = re.compile(r"proxy_(?!pass|set_header X-Forwarded-Prefix)\w+ [^;]*;")
CHUNK = (
    b'data: {"id":"c","object":"chat.completion.chunk",'
    b'"choices":[{"index":0,"delta":{"content":"%d"},"finish_reason":%s}]}\n\n'
)


def setting(name: str) -> str:
    """The value of a setting in the page's lines for `.env`."""
    found = re.search(rf"^{name}=(.+)$", section("## Behind a TLS proxy"), re.MULTILINE)
    assert found is not None
    return found[1]


def test_both_locations_have_the_same_lines() -> None:
    assert SHARED_LINES.findall(WHOLE) == SHARED_LINES.findall(UNDER_PATH) != []


def test_the_gateway_alone_refuses_large_bodies() -> None:
    """It takes forms of 800 MiB, and its refusals are errors that clients can read; those of nginx are HTML."""
    assert re.findall(r"client_max_body_size (\w+);", WHOLE) == ["0"]


class Proxied:
    def __init__(self, gateway: Gateway, upstream: HeldUpstream, url: str, base: str, trusted: Path) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.base = base  # what a person or a client is told
        self._url = url  # where that is in this test
        self._context = ssl.create_default_context(cafile=str(trusted))

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        """A client to which the host's name leads to nginx; it checks the certificate, by that name."""

        def redirect(request: httpx2.Request) -> None:
            port = int(self._url.rpartition(":")[2])
            request.extensions = {**request.extensions, "sni_hostname": NAME}
            request.url = request.url.copy_with(host="127.0.0.1", port=port)

        hooks = {"request": [redirect]}
        with httpx2.Client(verify=self._context, timeout=PATIENCE, event_hooks=hooks, headers={"host": NAME}) as client:
            yield client


@pytest.fixture(scope="module", params=["a host", "a path, as written", "a path, with a slash"])
def proxied(
    request: pytest.FixtureRequest, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    (directory / "data").mkdir()
    place, _, style = request.param.partition(", ")
    settings = {name: setting(name) for name in ("TRUSTED_PROXIES", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS")}
    server, root_path = WHOLE, ""
    if place == "a path":
        settings["ROOT_PATH"] = root_path = setting("ROOT_PATH")
        location = UNDER_PATH.replace("127.0.0.1:3002;", f"127.0.0.1:3002{SLASH[style]};")
        server = re.sub(r"(?ms)^    location / \{.*?^    \}\n", lambda _: location, WHOLE)
        assert re.findall("location .* {", server) == ["location /ai/ {"]
    trusted, _context = make_server(directory, NAME)
    with (
        held_upstream() as upstream,
        new_database(gateway_database) as url,
        run_gateway(upstream.url, url, directory / "data", ADMIN_PASSWORD=ADMIN_PASSWORD, **settings) as gateway,
    ):
        server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
        server = server.replace("http://127.0.0.1:3002", gateway.url)
        server = re.sub(r"/etc/ssl/\w+/ai\.example\.com\.(pem|key)", str(directory / f"{NAME}.pem"), server)
        with run_nginx(server, directory, f"https://127.0.0.1:{port}{root_path}/healthz"):
            yield Proxied(gateway, upstream, f"https://127.0.0.1:{port}", f"https://{NAME}{root_path}", trusted)


def test_a_stream_arrives_event_by_event(proxied: Proxied) -> None:
    pieces = [CHUNK % (number, b'"stop"' if number == 2 else b"null") for number in range(3)]
    proxied.upstream.start([*events(*pieces, b"data: [DONE]\n\n"), LAST])
    with (
        proxied.client() as http,
        openai.OpenAI(base_url=f"{proxied.base}/v1", api_key=SECURITY_KEY, max_retries=0, http_client=http) as client,
    ):
        proxied.upstream.release()  # the head
        proxied.upstream.release()
        stream = client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        for number in range(3):
            assert next(stream).choices[0].delta.content == str(number)  # the next is with upstream still
            proxied.upstream.release()
        proxied.upstream.release()
        assert list(stream) == []
    row = proxied.gateway.rows("WHERE stream", at_least=1)[-1]
    assert (row["outcome"], str(row["client_address"])) == ("success", "127.0.0.1")


def test_the_admin_is_entered(proxied: Proxied) -> None:
    """With the cookies and the origin that a browser would send."""
    with proxied.client() as browser:
        door = browser.get(f"{proxied.base}/admin/login/")
        assert all("; Secure" in cookie for cookie in door.headers.get_list("set-cookie"))
        form = {"username": "admin", "password": ADMIN_PASSWORD, **hidden_fields(door.text)}
        cookies = {"cookie": "; ".join(cookie.partition(";")[0] for cookie in door.headers.get_list("set-cookie"))}
        headers = {**cookies, "origin": f"https://{NAME}"}
        answer = browser.post(f"{proxied.base}/admin/login/", data=form, headers=headers)
        while answer.status_code == 503:  # on a busy machine a password takes longer than a page may wait
            answer = browser.post(f"{proxied.base}/admin/login/", data=form, headers=headers)
        assert answer.status_code == 302
        assert f"https://{NAME}{answer.headers['location']}" == f"{proxied.base}/admin/"


def test_what_a_client_says_of_itself_is_not_believed(proxied: Proxied) -> None:
    """The proxy clears or replaces what it is trusted with, or the setting says it."""
    with proxied.client() as http:
        page = http.get(f"{proxied.base}/", headers={"x-forwarded-prefix": "/made-up"})
        assert page.status_code == 200
        assert "made-up" not in page.text
        assert (
            http.get(f"{proxied.base}/made-up/healthz", headers={"x-forwarded-prefix": "/made-up"}).status_code == 404
        )
