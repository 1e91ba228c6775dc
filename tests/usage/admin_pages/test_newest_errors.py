"""The newest errors on a dashboard: the list says of how many failed calls it shows the newest."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.support.ledger.pages import DASHBOARD, make_failure, text_of
from usage.page_data.dashboard import dashboard_content as dashboard_module

pytestmark = pytest.mark.django_db


def test_the_newest_errors_say_how_many_there_are_in_all(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard_module, "MAX_NEWEST_ERRORS", 2)
    for _ in range(3):
        make_failure(0)

    assert "Newest errors 2 of 3" in text_of(admin.get(DASHBOARD).content.decode())
