"""Django's debug pages: for a client on this machine only, and without a secret even there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.test.client import RequestFactory
from django.urls import path

from chatproxy.configuration import setting_reader
from chatproxy.page_protection.debug_pages import SHOWN_SETTINGS, is_local
from chatproxy.urls import urlpatterns as own_patterns
from tests.support.servers.gateway import ACCESS_TOKEN, SECURITY_KEY, free_port, run_gateway
from usage.ip_addresses import is_loopback

PLANTED = "Pl4nted-Secr3t"
STRANGERS: dict[str, dict[str, str]] = {
    "another address": {"REMOTE_ADDR": "192.0.2.1"},
    "a mapped address": {"REMOTE_ADDR": "::ffff:192.0.2.1"},
    "no address": {"REMOTE_ADDR": ""},
    "an unknown host": {"HTTP_HOST": "evil.example"},
    "a known host, not this machine": {"HTTP_HOST": "ai.example.com"},
    "a host like this machine": {"HTTP_HOST": "localhost.evil.example"},
    "two hosts": {"HTTP_HOST": "localhost@evil.example"},
    "a proxy": {"HTTP_X_FORWARDED_FOR": "192.0.2.1"},
    "another proxy": {"HTTP_FORWARDED": "for=192.0.2.1"},
    "a third proxy": {"HTTP_VIA": "1.1 proxy"},
}
LOCALS: dict[str, dict[str, str]] = {
    "IPv4": {"HTTP_HOST": "127.0.0.1:3002"},
    "IPv6": {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:3002"},
    "by name": {"HTTP_HOST": "localhost"},
}
POSTS = ("/broken/", "/suspicious/")
PATHS = {"/nowhere/": 404, "/my-usage/nowhere": 404, "/broken/": 500, "/suspicious/": 400}


def broken(request: HttpRequest) -> HttpResponse:
    secret = PLANTED  # a variable of a frame
    try:
        raise KeyError(request.GET["key"])
    except KeyError as cause:
        raise RuntimeError(f"failed with '{secret} of a call' and {SECURITY_KEY}") from cause


def suspicious(request: HttpRequest) -> HttpResponse:
    from django.core.exceptions import SuspiciousOperation  # a view of this test only

    raise SuspiciousOperation(f"not '{PLANTED}, that'")


urlpatterns = [*own_patterns, path("broken/", broken), path("suspicious/", suspicious)]


@pytest.fixture
def debugging() -> Iterator[Client]:
    with override_settings(
        DEBUG=True,
        ROOT_URLCONF=__name__,
        ALLOWED_HOSTS=["localhost", "127.0.0.1", "[::1]", "ai.example.com"],
        REDIS_URL=f"redis://:{PLANTED}@h",
        NEW_SETTING_OF_A_LIBRARY={"dsn": f"https://{PLANTED}@h"},
    ):
        yield Client(raise_request_exception=False)


def ask(client: Client, path: str, **meta: str) -> tuple[int, str]:
    """Requests a page: by POST, since a debug page shows forms, or by GET if the path is unknown."""
    cookie = f"chatproxy_session={PLANTED}"
    secrets = {"HTTP_COOKIE": cookie, "HTTP_X_SECURITY_KEY": PLANTED, "HTTP_AUTHORIZATION": PLANTED}
    address = f"{path}?key={PLANTED}&security_key={SECURITY_KEY}"
    headers: Any = {**LOCALS["IPv4"], **secrets, **meta}
    answer = client.post(address, {"field": PLANTED}, **headers) if path in POSTS else client.get(address, **headers)
    return answer.status_code, answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("local", LOCALS)
def test_it_works(debugging: Client, path: str, local: str) -> None:
    status, text = ask(debugging, path, **LOCALS[local])

    assert status == PATHS[path]
    assert "DEBUG = True" in text
    assert "<title>" in text


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_gets_a_plain_answer(debugging: Client, path: str, stranger: str) -> None:
    status, text = ask(debugging, path, **STRANGERS[stranger])

    assert status in {PATHS[path], 400}
    assert text in {"Bad Request", "Not Found", "Internal Server Error"}


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/broken/", "/suspicious/"])
@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_no_page_has_a_secret(debugging: Client, path: str, accept: str) -> None:
    _, text = ask(debugging, path, HTTP_ACCEPT=accept)

    assert "Traceback" in text
    for secret in (PLANTED, SECURITY_KEY, ACCESS_TOKEN, django_settings.SECRET_KEY):
        assert secret not in text
    assert "INSTALLED_APPS" in text
    assert "NEW_SETTING_OF_A_LIBRARY" in text


def test_no_setting_on_the_list_is_a_secret() -> None:
    hidden = {
        *setting_reader.SECRETS,
        *setting_reader.URLS_WITH_PASSWORDS,
        "SECRET_KEY",
        "KEY_SECRET",
        "DATABASES",
        "CACHES",
    }
    assert not SHOWN_SETTINGS & hidden


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("::", False),
        ("0", False),
        ("", False),
        ("127.0.0.1.evil.example", False),
    ],
)
def test_what_a_loopback_address_is(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_request_without_a_host_is_not_local() -> None:
    request = RequestFactory().get("/")
    request.META.pop("HTTP_HOST", None)
    assert not is_local(request)


def test_make_dev_shows_a_stranger_nothing(gateway_database: str, tmp_path: Path) -> None:
    """A server that is started as `make dev` does it shows its debug pages to this machine only."""
    with run_gateway(
        "http://127.0.0.1:9/v1",
        gateway_database,
        tmp_path,
        options=("--reload",),
        DEBUG="true",
        REDIS_URL=f"redis://:{PLANTED}@127.0.0.1:{free_port()}/0",
    ) as gateway:
        stranger = gateway.http.get("/admin/", headers={"host": "evil"})
        local = gateway.http.get("/admin/nowhere/")
        log = gateway.log

    assert (stranger.status_code, stranger.text) == (400, "This Host is not one of ALLOWED_HOSTS.\n")
    assert stranger.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in stranger.headers["content-security-policy"]
    assert local.status_code in {302, 404}
    assert PLANTED not in stranger.text + local.text + log
