"""The filters of the list of requests suggest names while one is typed, where there are too many for a list."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.support.ledger.pages import REQUESTS, make_call
from usage.admin_pages import requests
from usage.page_data import filters

pytestmark = pytest.mark.django_db


def test_of_very_many_names_some_are_suggested(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "MAX_CHOICES", 2)
    for name in ("team-1", "team-2", "another"):
        make_call(key_name=name)

    text = admin.get(REQUESTS, {"key": "team-1"}).content.decode()
    assert (
        '<input name="key" value="team-1" list="names-of-key" data-names="/admin/usage/request/names.json?of=key"'
        in text
    )
    assert '<select name="model">' in text
    assert '<option value="team-2">' not in text
    assert 'name="key" value=""' in admin.get(REQUESTS).content.decode()
    assert 'name="key" value="(none)"' in admin.get(REQUESTS, {"key": "(none)"}).content.decode()

    for asked, names in (("EAM", ["team-1", "team-2"]), ("", ["another", "team-1", "team-2"]), ("_", [])):
        assert admin.get(f"{REQUESTS}names.json", {"of": "key", "q": asked}).json() == {"names": names}
    monkeypatch.setattr(requests, "MAX_SUGGESTIONS", 1)
    assert admin.get(f"{REQUESTS}names.json", {"of": "key", "q": "team"}).json() == {"names": ["team-1"]}


def test_names_are_suggested_of_what_has_a_list_and_to_those_who_see_it(admin: Client, client: Client) -> None:
    assert admin.get(f"{REQUESTS}names.json", {"of": "outcome"}).status_code == 404
    assert client.get(f"{REQUESTS}names.json", {"of": "key"}).status_code == 302
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(f"{REQUESTS}names.json", {"of": "key"}).status_code == 403
