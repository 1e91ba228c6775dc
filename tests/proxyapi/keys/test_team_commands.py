"""Teams on the command line: `manage.py teams` makes, lists and shows them, `manage.py keys` puts keys into them."""

from __future__ import annotations

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from proxyapi.models import AccessKey
from proxyapi.team_models import Team, TeamMember

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out, stderr=StringIO())
    return out.getvalue()


def test_it_works() -> None:
    limits = ("--budget-month", "25", "--parallel-calls", "3", "--model", "gpt-4o*", "--tag", "project=x")
    made = json.loads(run("teams", "create", "team a", *limits, "--self-service", "--json"))
    team = Team.objects.get()
    TeamMember.objects.create(team=team, user=User.objects.create_user("ada"), role="lead")
    run("keys", "create", "a key", "--team", "team a")

    assert (made["name"], made["state"], made["budget_month"]) == ("team a", "active", "25")
    assert (team.budget_month, team.parallel_calls, team.self_service) == (Decimal(25), 3, True)
    (listed,) = json.loads(run("teams", "list", "--json"))
    assert (listed["members"], listed["keys"]) == (["ada (lead)"], ["a key"])
    assert run("teams", "list").splitlines()[1].split() == [
        "active",
        str(listed["created_at"])[:10],
        "1",
        "1",
        "team",
        "a",
    ]
    assert "allowed_models: gpt-4o*\n" in run("teams", "show", "team a")
    assert json.loads(run("keys", "list", "--json"))[0]["team"] == "team a"


def test_a_key_moves_and_the_audit_log_says_from_where() -> None:
    Team.objects.found("team a")
    Team.objects.found("team b")
    run("keys", "create", "a key", "--team", "team a")
    run("keys", "move", "a key", "--team", "team b")
    run("keys", "move", "a key", "--no-team")
    words = [entry.change_message.partition(", with")[0] for entry in LogEntry.objects.order_by("pk")]

    assert AccessKey.objects.get().team is None
    assert words == ["Created", "Moved from team 'team a' to team 'team b'", "Moved from team 'team b' to no team"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("teams", "create", "default"), "built-in key"),
        (("teams", "create", "b", "--route", "v1"), "A route starts with"),
        (("teams", "show", "nobody"), "there is no team 'nobody'"),
        (("keys", "create", "b", "--team", "nobody"), "there is no team 'nobody'"),
        (("keys", "move", "nobody", "--no-team"), "there is no key 'nobody'"),
    ],
)
def test_a_fault_is_told(words: tuple[str, ...], error: str) -> None:
    with pytest.raises(CommandError, match=error):
        run(*words)
    assert not AccessKey.objects.exists()
