"""The lists of a key or a team (tags, models, routes, objects) on their pages: what is in a list stays whole."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.forms import Form, Textarea
from django.test import Client

from proxyapi.models import AccessKey
from proxyapi.pages.handover.model_list import ModelsWidget
from proxyapi.team_models import Team
from tests.support.callers.roles import SUPERUSER, browser_of, person

pytestmark = pytest.mark.django_db
LISTS = ("tags", "allowed_models", "allowed_routes", "shared_objects")
# Items that scripts may have written, which the form would read otherwise if somebody typed them.
ODD = ["/a,b", "/a, b", ",/a", "/a ,", "/Total;x", "/é"]


@pytest.fixture
def admin() -> Client:
    return browser_of(person(SUPERUSER))


def page_of(row: AccessKey | Team) -> str:
    return f"/admin/proxyapi/{row._meta.model_name}/{row.pk}/change/"


def sent_form(client: Client, row: AccessKey | Team, **changed: str) -> dict[str, str]:
    """Returns the fields of a row's form as a browser sends them: those that the page has, with `changed`."""
    form: Form = client.get(page_of(row)).context["adminform"].form
    fields: dict[str, str] = {}
    for bound in form:
        if bound.name in LISTS:
            text = str(bound.field.prepare_value(bound.value()) or "")
            fields |= {bound.html_name: text.replace("\n", "\r\n"), bound.html_initial_name: text}
        elif isinstance(bound.value(), bool):
            fields |= {bound.html_name: "on"} if bound.value() else {}
        elif not isinstance(bound.value(), list):
            fields[bound.html_name] = str(bound.value() or "")
    inline = {f"memberships-{name}_FORMS": "0" for name in ("TOTAL", "INITIAL")}
    return {**fields, **inline, **changed}


def lists_of(row: AccessKey | Team) -> dict[str, list[str]]:
    row.refresh_from_db()
    return {name: getattr(row, name) for name in LISTS if hasattr(row, name)}


@pytest.fixture(params=["key", "team"])
def row(request: pytest.FixtureRequest) -> AccessKey | Team:
    lists: dict[str, Any] = dict.fromkeys(("tags", "allowed_models", "allowed_routes"), ODD)
    lists["allowed_routes"] = [item for item in ODD if item.startswith("/")]
    if request.param == "team":
        return Team.objects.found("a", **lists)
    return AccessKey.objects.issue("a", **lists, shared_objects=ODD)[0]


def test_a_form_that_is_sent_as_it_is_changes_no_list(admin: Client, row: AccessKey | Team) -> None:
    before = lists_of(row)
    assert admin.post(page_of(row), sent_form(admin, row, note="new")).status_code == 302
    assert lists_of(row) == before
    assert row.note == "new"


def test_what_is_added_is_split_and_what_was_there_stays(admin: Client, row: AccessKey | Team) -> None:
    before = lists_of(row)
    fields = sent_form(admin, row)
    added = {name: f"{fields[name]}\r\n/new,/newer" for name in before}
    assert admin.post(page_of(row), fields | added).status_code == 302
    assert lists_of(row) == {name: [*items, "/new", "/newer"] for name, items in before.items()}


def test_the_list_of_models_has_a_filter(admin: Client, row: AccessKey | Team) -> None:
    page = admin.get(page_of(row)).content.decode()
    assert 'class="cp-models"' in page
    assert re.search(r'<script src="[^"]*proxyapi/forms[^"]*[.]js[?"]', page)


def test_a_model_is_on_one_line_of_the_text_area() -> None:
    widget = ModelsWidget(Textarea())
    for item in ("a,b", "a\u2028b", "a\u2029b"):
        assert item in widget.render("allowed_models", f"first\n{item}\nlast")


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("item", ["/a\nb", "/a\r", "/\x7f", "/a\x85b"])
def test_an_item_is_on_one_line(name: str, item: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AccessKey.objects.issue("a", upstream_key="", **{name: [item]})
    assert set(refused.value.message_dict) == {name}


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "٣", "-1", "x", "\x00", ""])
@pytest.mark.parametrize(
    ("address", "status"),
    [("proxyapi/accesskey/?team={}", 200), ("chatproxy/alertchannel/{}/test/", 404)],
)
def test_a_number_of_no_row_finds_none(admin: Client, address: str, status: int, number: str) -> None:
    assert admin.get(f"/admin/{address.format(quote(number) or '0')}").status_code == status


def test_a_new_name_of_an_account_is_the_new_owner_of_its_keys(admin: Client) -> None:
    user = User.objects.create_user("ann")
    key, _ = AccessKey.objects.issue("of ann", owner_user=user)
    other, _ = AccessKey.objects.issue("of somebody", owner="ann")
    page = f"/admin/auth/user/{user.pk}/change/"
    form = {"date_joined_0": "2026-11-01", "date_joined_1": "12:00", "is_active": "on"}
    assert admin.post(page, {"username": "ann-marie", **form}).status_code == 302
    key.refresh_from_db()
    other.refresh_from_db()
    assert (key.owner, other.owner) == ("ann-marie", "ann")
