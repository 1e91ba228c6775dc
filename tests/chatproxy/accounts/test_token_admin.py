"""API tokens in the admin: a person makes one for themselves, sees it once, and revokes it."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry

from proxyapi.models import ApiToken
from tests.support.callers.api_tokens import make_token
from tests.support.callers.roles import SUPERUSER, browser_of, have_groups, person

pytestmark = pytest.mark.django_db

TOKENS = "/admin/proxyapi/apitoken/"


def test_it_works() -> None:
    have_groups()
    user = person("admin")
    browser = browser_of(user)
    page = browser.post(f"{TOKENS}add/", {"name": "terraform", "scopes": ["keys:read", "keys:write"]})
    (text,) = set(re.findall(r"cpt-[\w-]{43}", page.content.decode()))
    token = ApiToken.objects.get()

    assert page.status_code == 200
    assert (token.user, token.scopes) == (user, ["keys:read", "keys:write"])
    assert ApiToken.objects.find_valid(text) == token
    for path in (TOKENS, f"{TOKENS}{token.pk}/change/", f"{TOKENS}{token.pk}/history/"):
        shown = browser.get(path).content.decode()
        assert "terraform" in shown
        assert text not in shown
        assert token.digest not in shown
    assert browser.post(f"{TOKENS}{token.pk}/revoke/").status_code == 302
    assert ApiToken.objects.find_valid(text) is None
    assert list(LogEntry.objects.order_by("pk").values_list("change_message", flat=True))[1:] == ["Revoked."]


def test_a_token_is_not_changed() -> None:
    user = person(SUPERUSER)
    token, _ = make_token(user, "keys:read")
    browser = browser_of(user)
    form = {"name": "another", "scopes": ["keys:write"], "user": "7", "digest": "0"}
    browser.post(f"{TOKENS}{token.pk}/change/", form)
    found = ApiToken.objects.get()

    assert (found.name, found.scopes, found.digest) == (token.name, ["keys:read"], token.digest)


@pytest.mark.parametrize("form", [{"name": "x"}, {"name": "x", "scopes": "all"}, {"scopes": "keys:read"}])
def test_a_token_has_a_name_and_known_scopes(form: dict[str, str]) -> None:
    answer = browser_of(person(SUPERUSER)).post(f"{TOKENS}add/", form)

    assert answer.status_code == 200
    assert not ApiToken.objects.exists()
