"""Filters of the list of requests and of the page Usage get a name, for oneself or for all, and are found again."""

from __future__ import annotations

from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.callers.roles import browser_of, have_groups, person
from tests.support.ledger.pages import HOSTILE, REQUESTS, make_call, make_failure
from usage.admin_pages.saved_views import views
from usage.models import SavedView

pytestmark = pytest.mark.django_db
USAGE = "/admin/usage/report/"
SAVE, DELETE = "/admin/usage/views/save/", "/admin/usage/views/delete/"


def save(client: Client, name: str = "mine", page: str = "requests", query: str = "key=a", **fields: str) -> str:
    answer = client.post(SAVE, {"name": name, "page": page, "query": query, **fields})
    assert answer.status_code == 302
    return str(answer["Location"])


def names(client: Client, path: str = REQUESTS) -> list[str]:
    return [view.name for view, *_ in client.get(path).context["saved_views"]]


@pytest.fixture
def two() -> tuple[Client, Client]:
    have_groups()
    return browser_of(person("viewer", "ada")), browser_of(person("viewer", "bob"))


def test_it_works(admin: Client) -> None:
    wanted = make_failure(key_name="a")
    make_call(key_name="a")
    make_failure(key_name="b")
    page = admin.get(REQUESTS, {"key": "a", "outcome": "failed", "range": "day"})
    where = save(admin, "Failures of a", query=page.context["saved_query"])
    [(view, address, is_own, is_now)] = admin.get(where).context["saved_views"]

    assert (view.name, address, is_own, is_now, view.is_shared) == ("Failures of a", where, True, True, False)
    assert parse_qs(urlsplit(address).query) == {"key": ["a"], "outcome": ["failed"], "range": ["day"]}
    assert [str(call.pk) for call in admin.get(address).context["calls"]] == [wanted]
    found = admin.get("/admin/search/", {"s": "failures", "extended": "1"}).content.decode()
    assert "Failures of a" in found
    assert names(admin, USAGE) == []
    admin.post(DELETE, {"view": view.pk})
    assert names(admin) == []


def test_of_the_page_usage(admin: Client) -> None:
    query = admin.get(USAGE, {"range": "last_month", "by": "team", "then": "model"}).context["saved_query"]
    where = save(admin, "Teams", "usage", query)

    assert where.startswith(USAGE)
    assert names(admin, USAGE) == ["Teams"]
    assert names(admin) == []
    answer = admin.get(where)
    assert (answer.context["choice"].groups, answer.context["choice"].days.name) == (("team", "model"), "last_month")


def test_only_what_is_shared_is_seen_by_others(two: tuple[Client, Client]) -> None:
    ada, bob = two
    save(ada, "hers")
    save(ada, "for all", shared="on")

    assert names(ada) == ["for all", "hers"]
    assert names(bob) == ["for all"]
    page = bob.get(REQUESTS).content.decode()
    assert "ada" in page
    assert "Delete the view" not in page
    search = bob.get("/admin/search/", {"s": "hers", "extended": "1"}).content.decode()
    assert "Saved view" not in search


def test_words_that_were_searched_for_are_only_for_those_who_see_bodies(two: tuple[Client, Client]) -> None:
    ada, _ = two
    analyst = browser_of(person("analyst", "eve"))
    for name, query in {"words": "text=layoffs", "both": "key=a&text=layoffs", "key": "key=text%3D1"}.items():
        save(analyst, name, query=query, shared="on")

    assert names(analyst) == names(browser_of(person("analyst", "zoe"))) == ["both", "key", "words"]
    assert names(ada) == ["key"]
    found = [ada.get("/admin/search/", {"s": name, "extended": "1"}).content.decode() for name in ("words", "both")]
    assert "layoffs" not in "".join([*found, ada.get(REQUESTS).content.decode()])


def test_own_views_come_before_any_number_of_others(
    two: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = two
    monkeypatch.setattr(views, "MAX_VIEWS", 2)
    for client in (ada, browser_of(person("viewer", "eve"))):
        for number in range(2):
            save(client, f"a {number}", shared="on")
    save(bob, "my own")

    assert names(bob)[0] == "my own"
    assert len(names(bob)) == 4


def test_nobody_deletes_or_replaces_what_is_not_theirs(two: tuple[Client, Client], admin: Client) -> None:
    ada, bob = two
    save(ada, "hers")
    save(ada, "for all", shared="on")
    for view in SavedView.objects.all():
        bob.post(DELETE, {"view": view.pk})
    save(bob, "for all", query="key=b")
    assert sorted(SavedView.objects.values_list("user__username", "name", "query")) == [
        ("ada", "for all", "key=a"), ("ada", "hers", "key=a"), ("bob", "for all", "key=b"),
    ]  # fmt: skip

    for view in SavedView.objects.filter(user__username="ada"):
        admin.post(DELETE, {"view": view.pk})
    assert list(SavedView.objects.filter(user__username="ada").values_list("name", flat=True)) == ["hers"]


def test_a_name_is_of_one_view(admin: Client) -> None:
    save(admin, query="key=a")
    save(admin, query="key=b", shared="on")
    save(admin, "mine", "usage", "by=team")

    assert sorted(SavedView.objects.values_list("page", "is_shared")) == [("requests", True), ("usage", False)]
    assert SavedView.objects.get(page="requests").query == "key=b"


@pytest.mark.parametrize("fields", [{"name": ""}, {"name": " \0"}, {"page": "errors"}, {"page": ""}], ids=str)
def test_what_is_no_view_is_not_saved(admin: Client, fields: dict[str, str]) -> None:
    save(admin, **fields)

    assert not SavedView.objects.exists()


@pytest.mark.parametrize("view", ["", "x", "-1", "0", "9" * 30, "²"])
def test_what_is_no_view_is_not_deleted(admin: Client, view: str) -> None:
    save(admin)
    assert admin.post(DELETE, {"view": view}).status_code == 302

    assert SavedView.objects.count() == 1


@pytest.mark.parametrize(
    "query", ["//evil.example/", "\r\nx: y", "next=https://evil.example", "key=\0", "x" * 10_000, f"q={HOSTILE}"]
)
def test_only_filters_are_kept(admin: Client, query: str) -> None:
    where = save(admin, HOSTILE, query=query)

    assert where.startswith(REQUESTS)
    assert "evil" not in where
    assert "\n" not in where
    assert "<script>alert(1)" not in admin.get(REQUESTS).content.decode()


def test_there_is_an_end(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_VIEWS", 3)
    for number in range(5):
        save(admin, f"view {number}")
    assert SavedView.objects.count() == 3
    save(admin, "view 0", query="key=z")

    assert SavedView.objects.get(name="view 0").query == "key=z"


def test_filters_that_are_too_long_are_not_saved_and_that_is_said(admin: Client) -> None:
    query = urlencode(dict.fromkeys(("key", "model"), "\N{GRINNING FACE}" * 200))
    page = admin.get(save(admin, query=query)).content.decode()

    assert not SavedView.objects.exists()
    assert f"too long to be saved: {len(query)} characters; {views.MAX_QUERY} at most" in page
    assert "Delete a view" not in page


def test_a_person_who_goes_takes_their_views_along(two: tuple[Client, Client]) -> None:
    save(two[0], shared="on")
    User.objects.get(username="ada").delete()

    assert names(two[1]) == []
