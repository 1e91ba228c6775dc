"""`manage.py keys show`: what an administrator sees of one key, for people and as JSON, without the secret."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone

from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from usage.models import Hold, UsageDay

pytestmark = pytest.mark.django_db

NO_COUNTS = {"unpriced_calls": 0, "input_tokens": 0, "output_tokens": 0}


def show(*words: str) -> str:
    out = StringIO()
    call_command("keys", "show", *words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_it_works() -> None:
    today = timezone.now().date()
    team = Team.objects.found("team a")
    ada = User.objects.create_user("ada")
    fields = {"team": team, "owner_user": ada, "budget_month": Decimal(25), "allowed_models": ["gpt-4o*", "gpt-5"]}
    key, text = AccessKey.objects.issue("a key", upstream_key="sk-of-the-key", **fields)
    UsageDay.objects.create(day=today, key_name="a key", cost=Decimal("1.25"), calls=3, **NO_COUNTS)
    Hold.objects.create(
        request_id="01934c5e-0000-7000-8000-000000000001", key_name="a key", day=today, dollars=Decimal("0.5")
    )

    found = json.loads(show("a key", "--json"))
    [listed] = json.loads(_listed())
    assert {name: found[name] for name in listed} == listed
    assert (found["owner_user"], found["revoked_at"], found["own_upstream_key"]) == ("ada", None, True)
    assert [Decimal(found[f"spent_{span}"]) for span in ("day", "month", "total")] == [Decimal("1.25")] * 3
    assert (Decimal(found["reserved"]), found["last_used_on"]) == (Decimal("0.5"), today.isoformat())

    lines = show("a key").splitlines()
    assert {"name: a key", "state: active", "team: team a", "allowed_models: gpt-4o*, gpt-5"} <= {*lines}
    assert len(lines) == len(found)
    assert not {text, key.digest, "sk-of-the-key"} & {word for line in lines for word in line.split(": ")}


def test_what_is_reserved_for_calls_of_another_day_is_not_taken_off() -> None:
    """A background response of last month may wait for its usage, while other calls are made."""
    today = timezone.now().date()
    AccessKey.objects.issue("a key")
    UsageDay.objects.create(day=today, key_name="a key", cost=Decimal("1.25"), calls=3, **NO_COUNTS)
    before = today.replace(day=1) - timedelta(days=1)
    UsageDay.objects.create(day=before, key_name="a key", cost=Decimal(2), calls=1, **NO_COUNTS)
    Hold.objects.create(
        request_id="01934c5e-0000-7000-8000-000000000001", key_name="a key", day=before, dollars=Decimal("0.5")
    )

    found = json.loads(show("a key", "--json"))
    spent = [Decimal(found[name]) for name in ("spent_day", "spent_month", "spent_total", "reserved")]
    assert spent == [Decimal("1.25"), Decimal("1.25"), Decimal("3.25"), Decimal("0.5")]


def _listed() -> str:
    out = StringIO()
    call_command("keys", "list", "--json", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", "there is no key 'nobody'"),
        ("A Key", "there is no key 'A Key'"),
        ("default", "it is the built-in key, which stands in SECURITY_KEY and has no limits"),
    ],
)
def test_an_unknown_name_is_told(name: str, words: str) -> None:
    AccessKey.objects.issue("a key")
    with pytest.raises(CommandError) as refused:
        show(name)
    assert words in str(refused.value)


def test_of_two_names_that_look_the_same_the_one_given_is_shown() -> None:
    """No two keys have one name; an older version has perhaps made two that differ in case."""
    AccessKey.objects.issue("Team A", note="the first")
    second, _ = AccessKey.objects.issue("other", note="the second")
    AccessKey.objects.filter(pk=second.pk).update(name="team a", comparable_name=None)

    assert "note: the first\n" in show("Team A")
    assert "note: the second\n" in show("team a")
    assert "note: the first\n" in show("\uff34eam A")  # stored as `Team A`


def test_a_text_cannot_make_up_a_fact() -> None:
    AccessKey.objects.issue("a key", note="a\nstate: revoked\x1b[2J")
    lines = show("a key").splitlines()

    assert [line for line in lines if line.startswith("state: ")] == ["state: active"]
    assert "note: a\\nstate: revoked<U+001B>[2J" in lines
