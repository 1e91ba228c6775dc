"""The admin's search (Ctrl+K) answers with what the database has now."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.support.callers.roles import browser_of, staff

pytestmark = pytest.mark.django_db


def found(client: Client, term: str) -> str:
    return client.get("/admin/search/", {"s": term, "extended": "1"}).content.decode()


def test_what_has_changed_since_the_last_search_is_seen() -> None:
    user = staff("ada", "proxyapi.view_accesskey", "proxyapi.view_team")
    client = browser_of(user)
    team = Team.objects.found("blue team")
    AccessKey.objects.issue("blue one")
    page = found(client, "blue")
    assert "blue team" in page
    assert "blue one" in page

    AccessKey.objects.issue("blue two")
    team.delete()
    page = found(client, "blue")
    assert "blue two" in page
    assert "blue team" not in page

    user.user_permissions.remove(Permission.objects.get(codename="view_accesskey"))
    assert "blue one" not in found(client, "blue")
