"""The address of a list filters by a few named columns only, so that nobody can guess what a list does not show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.db.models.constants import LOOKUP_SEP
from django.test import Client, RequestFactory
from django.urls import reverse

import chatproxy.urls  # noqa: F401  (registers the tables in the admin)
from proxyapi.models import AccessKey
from tests.support.callers.roles import browser_of, staff
from tests.support.ledger.pages import make_call
from usage.admin_pages.admin_base import GuardedAdmin
from usage.admin_pages.audit_words import SECRET_COLUMNS

pytestmark = pytest.mark.django_db
TABLES = dict(django_admin.site._registry)
LOOKUPS = ("", "exact", "startswith", "regex", "gt", "in", "isnull", "contains", "iexact", "lower__contains")
DEPTH = 2  # relations followed


def columns(model: type[Model], depth: int = DEPTH) -> Iterator[tuple[str, ...]]:
    """Yields the path of each column that a lookup can reach from this table, over relations in both directions."""
    for field in model._meta.get_fields(include_hidden=True):
        name = field.name
        yield (name,)
        if depth and isinstance(field.related_model, type):
            for rest in columns(field.related_model, depth - 1):
                yield (name, *rest)


@pytest.fixture
def request_of_root(rf: RequestFactory) -> Any:
    request = rf.get("/")
    request.user = User.objects.create_superuser("root", password=None)
    return request


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.label)
def test_every_lookup_is_refused_but_those_that_are_named(model: type[Model], request_of_root: Any) -> None:
    table = TABLES[model]
    assert isinstance(table, GuardedAdmin)
    asked = {LOOKUP_SEP.join(filter(None, (*path, lookup))) for path in columns(model) for lookup in LOOKUPS}
    allowed = {lookup for lookup in asked if table.lookup_allowed(lookup, "x", request_of_root)}

    assert len(asked) > 50
    assert allowed <= set(table.allowed_lookups)


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.label)
def test_no_table_searches_or_orders_by_a_secret(model: type[Model], request_of_root: Any) -> None:
    table: Any = TABLES[model]
    ordered = [getattr(getattr(table, str(name), None), "admin_order_field", name) for name in table.list_display]
    asked = [*table.allowed_lookups, *table.get_search_fields(request_of_root), *table.get_ordering(request_of_root)]
    asked += [
        *(model._meta.ordering or ()),
        *map(str, ordered),
        *map(str, table.list_editable),
        str(table.date_hierarchy),
    ]

    for name in asked:
        assert not set(re.split(rf"\W+|{LOOKUP_SEP}", str(name))) & SECRET_COLUMNS, name  # also those of an expression


@pytest.mark.parametrize("column", ["sealed_upstream_key", "digest", "previous_digest", "last_four", "id"])
@pytest.mark.parametrize("lookup", ["startswith", "regex", "gt", "exact", "isnull", "in", "icontains"])
def test_a_list_of_keys_is_no_oracle(column: str, lookup: str) -> None:
    AccessKey.objects.issue("owned", upstream_key="sk-of-its-own")
    client = browser_of(staff("key viewer", "proxyapi.view_accesskey"))

    assert client.get("/admin/proxyapi/accesskey/", {f"{column}__{lookup}": "a"}).status_code == 400


@pytest.mark.parametrize("query", ["password__startswith=a", "password=a", "logentry__user__password__regex=a",
    "groups__user__password__gt=a", "o=1.2.3.4.5.6.7", "q=scrypt"])  # fmt: skip
def test_a_list_of_users_is_no_oracle(query: str) -> None:
    User.objects.create_user("owned", password="a-pass-phrase-7")
    client = browser_of(staff("user viewer", "auth.view_user"))
    answer = client.get(f"/admin/auth/user/?{query}")

    if "=a" in query:
        assert answer.status_code == 400
    else:
        assert "owned" in answer.content.decode() or query == "q=scrypt"


def test_no_list_of_calls_is_narrowed_by_what_was_said() -> None:
    call = make_call(request_body="words of the prompt", response_body="words of the answer")
    client = browser_of(staff("viewer", "usage.view_request"))
    for name in ("body__request_body__contains", "body__response_body__icontains", "request_body", "usage__contains"):
        for path in ("/admin/usage/request/", "/admin/usage/errors/", "/admin/"):
            assert client.get(path, {name: "no such words"}).status_code == 200
        found = client.get("/admin/usage/request/", {name: "no such words"}).context["calls"]
        assert [str(one.pk) for one in found] == [call]


@pytest.mark.parametrize("model", TABLES, ids=lambda model: model._meta.label)
def test_each_filter_that_a_list_shows_works(admin: Client, model: type[Model]) -> None:
    AccessKey.objects.issue("team a")
    path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    answer = admin.get(path)
    shown = getattr(answer.context.get("cl"), "filter_specs", [])
    for spec in shown:
        for choice in spec.choices(answer.context["cl"]):
            assert admin.get(path + choice["query_string"]).status_code == 200, choice
