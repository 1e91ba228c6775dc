"""A made-up session cookie is detected without a query."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from chatproxy.page_protection.signed_sessions import RANDOM_CHARACTERS, SessionStore, signed

ADDRESSES = ["/admin/login/", "/admin/", "/admin/usage/call/", "/my-usage/", "/admin/nowhere/"]
MADE_UP = [
    "",
    "a" * 32,  # Django's own form
    "a" * 40,
    "a" * 41,
    "x" * RANDOM_CHARACTERS + "0123456789abcdef",
    signed("a" * RANDOM_CHARACTERS)[:-1],
    signed("a" * RANDOM_CHARACTERS)[:-1] + "x",
    signed("a" * RANDOM_CHARACTERS).upper(),
    signed("a" * (RANDOM_CHARACTERS - 1)),
    "é" * 40,
    "' OR 1=1--",
    "\x00" * 40,
]


@pytest.mark.django_db
@pytest.mark.parametrize("path", ADDRESSES)
@pytest.mark.parametrize("cookie", MADE_UP, ids=repr)
def test_a_made_up_cookie_asks_no_database(client: Client, path: str, cookie: str) -> None:
    client.cookies["chatproxy_session"] = cookie
    with CaptureQueriesContext(connection) as queries:
        client.get(path)
    assert [query["sql"] for query in queries] == []


@pytest.mark.django_db
def test_a_login_has_a_session(client: Client) -> None:
    client.force_login(User.objects.create_superuser("ada", password="a long password"))
    first = client.cookies["chatproxy_session"].value
    assert first == signed(first[:RANDOM_CHARACTERS])
    assert client.get("/admin/").status_code == 200

    client.cookies["chatproxy_session"] = first[:-1] + ("0" if first[-1] != "0" else "1")
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/admin/").status_code == 302
    assert len(queries) == 0

    client.cookies["chatproxy_session"] = signed("a" * RANDOM_CHARACTERS)  # one that is over
    assert client.get("/admin/").status_code == 302


@pytest.mark.django_db
def test_no_key_is_made_twice() -> None:
    store = SessionStore()
    assert len({store._get_new_session_key() for _ in range(100)}) == 100
