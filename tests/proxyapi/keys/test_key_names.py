"""What a key may be called: one name in one form, and no two keys whose names read the same."""

from __future__ import annotations

import unicodedata
from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from proxyapi.key_names import check_name, comparable, normalised
from proxyapi.models import AccessKey

WIDE_DEFAULT = "\uff44efault"
ADD = "/admin/proxyapi/accesskey/add/"
migration = import_module("proxyapi.migrations.0002_comparable_name")


@pytest.mark.parametrize(
    "name",
    [
        "default", "DEFAULT", " default ", WIDE_DEFAULT, "\uff24\uff25\uff26\uff21\uff35\uff2c\uff34",
        "\U0001d41default",
        "access  token", "ACCESS TOKEN", "access\u00a0token", "access\u3000token",
        "de\u034ffault", "default\ufe0f", "de\U000e0100fault", "de\u115ffault", "d\u2800efault", "de\u200bfault",
        "\u202edefault", "de\u00adfault", "default\u2028", "default\t", "default\0",
    ],
)  # fmt: skip
def test_no_spelling_of_a_reserved_name_is_a_name(name: str) -> None:
    for spelling in (name, normalised(name)):
        with pytest.raises(ValidationError):
            check_name(spelling)


@pytest.mark.parametrize("name", ["\u3164", "\ufe0f\ufe0f", "\u2800", "\u115f"])
def test_a_name_can_be_seen(name: str) -> None:
    with pytest.raises(ValidationError):
        check_name(name)


@pytest.mark.parametrize(
    "name", ["team a", "\u00dcberall", "\u2764\ufe0f team", "\u65e5\u672c", "a/b.c-d_e", "x" * 200]
)
def test_other_names_are_names(name: str) -> None:
    check_name(name)


@given(st.text(max_size=40))
def test_a_form_is_its_own_form(name: str) -> None:
    assert normalised(normalised(name)) == normalised(name)
    assert comparable(comparable(name)) == comparable(name)
    assert comparable(name) == comparable(normalised(name)) == comparable(unicodedata.normalize("NFD", name))


@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    .map(normalised)
    .filter(lambda name: len(name) <= 200)
)
def test_a_comparable_name_fits_its_column(name: str) -> None:
    assert len(comparable(name)) <= 600


@pytest.mark.django_db
def test_a_name_is_kept_in_its_compatible_form() -> None:
    key, _ = AccessKey.objects.issue("\uff34eam \uff21")
    key.refresh_from_db()

    assert (key.name, key.comparable_name) == ("Team A", "team a")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["team a", "TEAM A", "\uff34eam a", "team  a", "team a\ufe0f"])
def test_a_name_that_reads_the_same_is_taken(admin: Client, name: str) -> None:
    AccessKey.objects.issue("Team A")
    with pytest.raises(ValidationError, match="already exists"):
        AccessKey.objects.issue(name)
    with pytest.raises(CommandError, match="already exists"):
        call_command("keys", "create", name)
    answer = admin.post(ADD, {"name": name, "log_bodies": "inherit"})

    assert "already exists" in answer.content.decode()
    assert AccessKey.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("name", [WIDE_DEFAULT, "access\u3000token", "de\ufe0ffault"])
def test_a_reserved_name_is_refused_everywhere(admin: Client, name: str) -> None:
    with pytest.raises(CommandError, match="name"):
        call_command("keys", "create", name)
    assert admin.post(ADD, {"name": name, "log_bodies": "inherit"}).status_code == 200
    assert not AccessKey.objects.exists()


@pytest.mark.django_db
def test_a_long_name_is_measured_as_it_is_kept(admin: Client) -> None:
    name = "\ufdfa" * 200  # 18 letters each in the compatible form

    assert "at most 200 characters" in admin.post(ADD, {"name": name, "log_bodies": "inherit"}).content.decode()


@pytest.mark.django_db
def test_a_command_finds_a_key_in_another_form() -> None:
    AccessKey.objects.issue("team a")
    call_command("keys", "revoke", "\uff54eam a")

    assert AccessKey.objects.get().state() == "revoked"


@pytest.mark.django_db
def test_keys_of_before_whose_names_read_the_same_stay() -> None:
    """As the version before made them: with no comparable name."""
    for number, name in enumerate(("Team A", "team a", WIDE_DEFAULT, "other")):
        key, _ = AccessKey.objects.issue(f"number {number}")
        AccessKey.objects.filter(pk=key.pk).update(name=name, comparable_name=None)
    migration.fill(apps, SimpleNamespace(connection=connection))
    found = dict(AccessKey.objects.values_list("name", "comparable_name"))

    assert found == {"Team A": "team a", "team a": None, WIDE_DEFAULT: "default", "other": "other"}
    with pytest.raises(ValidationError, match="already exists"):
        AccessKey.objects.issue("TEAM A")


@pytest.mark.django_db
def test_a_key_that_the_version_before_makes_meanwhile_has_its_name() -> None:
    AccessKey.objects.issue("Team A")
    AccessKey.objects.update(comparable_name=None)

    with pytest.raises(ValidationError, match="already exists"):
        AccessKey.objects.issue("team a")
    key = AccessKey.objects.get()
    key.note = "changed"
    key.full_clean()
    key.save()
    assert AccessKey.objects.get().note == "changed"
