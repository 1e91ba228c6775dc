"""A page that cannot be shown says so in the looks of the others, with a way on, and nothing of what failed."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.test import Client

pytestmark = pytest.mark.django_db
ELSEWHERE = ('href="/admin/"', 'href="/my-usage/"', 'href="/"')


@pytest.fixture
def viewer() -> Client:
    """A browser of somebody who is signed in, but may do nothing."""
    client = Client(raise_request_exception=False)
    client.force_login(User.objects.create_user("viewer", is_staff=True))
    return client


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/admin/nothing-of-the-kind/", 404, "There is no such page"),
        ("/my-usage/nothing-of-the-kind", 404, "There is no such page"),
        ("/admin/usage/errors/", 403, "Your account may not do this"),
        ("/admin/usage/request/", 403, "Your account may not do this"),
    ],
)
def test_it_works(viewer: Client, path: str, status: int, words: str) -> None:
    answer = viewer.get(path)
    page = answer.content.decode()

    assert answer.status_code == status
    assert f"<h1>{words}</h1>" in page
    assert "usage/own.css" in page
    assert [link for link in ELSEWHERE if link not in page] == []


def test_an_address_that_filters_by_what_it_may_not_is_400(admin: Client) -> None:
    answer = admin.get("/admin/auth/user/?password__startswith=a")

    assert answer.status_code == 400
    assert "<h1>This address cannot be read</h1>" in answer.content.decode()


def test_a_fault_is_not_shown(viewer: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_request: HttpRequest) -> bool:
        raise ValueError("sk-secret-of-the-fault")

    monkeypatch.setattr("usage.admin_pages.dashboard.may_see", fail)
    answer = viewer.get("/admin/")

    assert answer.status_code == 500
    assert "<h1>This page has failed</h1>" in answer.content.decode()
    assert "sk-secret" not in answer.content.decode()
