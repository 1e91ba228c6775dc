"""What the management API does with keys and teams: rights, rules, secrets, lists, and the audit log."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from proxyapi import sealing
from proxyapi.exceptions import AlreadyExists, BadRequest, InvalidBearer, NotFound, NotPermitted, ProxyError
from proxyapi.management.api_actions import ACTIONS, perform
from proxyapi.models import AccessKey, ApiToken
from proxyapi.team_models import Team, TeamMember
from tests.support.callers.api_tokens import make_token
from tests.support.callers.roles import EVERYBODY, SUPERUSER, have_groups, person, staff

pytestmark = pytest.mark.django_db


@pytest.fixture
def token() -> ApiToken:
    return make_token(person(SUPERUSER))[0]


def ask(token: ApiToken, table: str, action: str, row: str = "", /, **sent: Any) -> dict[str, Any]:
    query: Mapping[str, str] = sent.pop("query", {})
    return perform(token, table, action, name=row, sent=sent, query=query)


def refusal(token: ApiToken, table: str, action: str, row: str = "", /, **sent: Any) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        ask(token, table, action, row, **sent)
    return caught.value


def test_it_works(token: ApiToken) -> None:
    team = ask(token, "teams", "create", name="team a", budget_month="200")
    made = ask(
        token, "keys", "create", name="ada", team="team a", budget_month=20.5, allowed_models=["gpt-4o*"],
        upstream_key="sk-of-its-own",
    )  # fmt: skip
    key = AccessKey.objects.select_related("team").get()

    assert (team["object"], team["name"], team["state"]) == ("team", "team a", "active")
    assert (made["object"], made["team"], made["state"]) == ("key", "team a", "active")
    assert made["budget_month"] == "20.5000"
    assert key.digest == sealing.digest(made["key"])
    assert (str(key.team), key.budget_month, key.allowed_models) == ("team a", Decimal("20.5"), ["gpt-4o*"])
    assert made["own_upstream_key"]
    assert sealing.unseal(key.sealed_upstream_key) == "sk-of-its-own"
    shown = ask(token, "keys", "read", "ada")
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert "sk-of-its-own" not in str(shown)


def test_a_change_leaves_what_is_not_sent_and_null_empties(token: ApiToken) -> None:
    ask(token, "keys", "create", name="ada", owner="Ada", budget_day=1, tags=["a"], upstream_key="sk-of-its-own")
    changed = ask(
        token, "keys", "change", "ada", name="ada", budget_day=None, tags=None, log_bodies="none", upstream_key=None
    )

    assert (changed["owner"], changed["budget_day"], changed["tags"], changed["log_bodies"]) == (
        "Ada",
        None,
        [],
        "none",
    )
    assert not changed["own_upstream_key"]
    assert not AccessKey.objects.get().sealed_upstream_key


@pytest.mark.parametrize(
    ("sent", "param", "code"),
    [
        ({"budget_mnth": 1}, "budget_mnth", "unknown_parameter"),
        ({"state": "active"}, "state", "unknown_parameter"),
        ({"digest": "a"}, "digest", "unknown_parameter"),
        ({"budget_month": -1}, "budget_month", "invalid_value"),
        ({"budget_month": "much"}, "budget_month", "invalid_value"),
        ({"requests_per_minute": 0}, "requests_per_minute", "invalid_value"),
        ({"requests_per_minute": 10**30}, "requests_per_minute", "invalid_value"),
        ({"tags": [["a"]]}, "tags", "invalid_value"),
        ({"tags": ["\x01closed=x"]}, "tags", "invalid_value"),
        ({"allowed_routes": ["openai"]}, "allowed_routes", "invalid_value"),
        ({"expires_at": "soon"}, "expires_at", "invalid_value"),
        ({"log_bodies": "some"}, "log_bodies", "invalid_value"),
        ({"team": "nobody's"}, "team", "invalid_value"),
        ({"team": "gone"}, "team", "invalid_value"),
        ({"team": 7}, "team", "invalid_value"),
        ({"team": "a\x00"}, "team", "invalid_value"),
        ({"owner_user": "nobody"}, "owner_user", "invalid_value"),
        ({"owner_user": "a\x00"}, "owner_user", "invalid_value"),
        ({"note": "\ud800"}, "note", "invalid_value"),
        ({"upstream_key": "with space"}, "upstream_key", "invalid_value"),
        ({"name": "another"}, "name", "invalid_value"),
        ({"name": None}, "name", "invalid_value"),
    ],
)
def test_what_is_wrong_is_refused_with_its_field(token: ApiToken, sent: dict[str, Any], param: str, code: str) -> None:
    Team.objects.found("gone", active=False)
    AccessKey.objects.issue("ada")
    error = refusal(token, "keys", "change", "ada", **sent)

    assert isinstance(error, BadRequest)
    assert (error.param, error.code) == (param, code)


@pytest.mark.parametrize("name", ["default", "a\u200bb", "a\x00"])
def test_a_new_name_follows_the_rules(token: ApiToken, name: str) -> None:
    error = refusal(token, "keys", "create", name=name)

    assert (error.status_code, error.param, error.code) == (400, "name", "invalid_value")
    assert refusal(token, "keys", "create", note="x").code == "missing_required_parameter"
    assert not AccessKey.objects.exists()


@pytest.mark.parametrize("table", ["keys", "teams"])
def test_a_name_that_is_taken_is_a_conflict(token: ApiToken, table: str) -> None:
    ask(token, table, "create", name="team a")
    for name in ("team a", "Team  A"):
        error = refusal(token, table, "create", name=name)
        assert isinstance(error, AlreadyExists)
        assert (error.status_code, error.code) == (409, "already_exists")


@pytest.mark.parametrize("action", ["read", "change"])
@pytest.mark.parametrize("name", ["nobody", "a\x00b", "\ud800"])
def test_what_is_not_there_is_not_found(token: ApiToken, action: str, name: str) -> None:
    assert isinstance(refusal(token, "keys", action, name), NotFound)
    assert isinstance(refusal(token, "teams", action, name), NotFound)


def test_a_key_is_rotated_and_revoked(token: ApiToken) -> None:
    first = ask(token, "keys", "create", name="ada")["key"]
    rotated = ask(token, "keys", "rotate", "ada", grace_seconds=3600)
    key = AccessKey.objects.get()
    assert key.digest == sealing.digest(rotated["key"])
    assert key.previous_digest == sealing.digest(first)
    assert rotated["previous_valid_until"] is not None
    for grace in (-1, "1h", True, 10**8, 10**30):
        assert refusal(token, "keys", "rotate", "ada", grace_seconds=grace).status_code == 400

    assert [ask(token, "keys", "revoke", "ada")["state"] for _ in range(2)] == ["revoked"] * 2
    assert LogEntry.objects.filter(change_message__startswith="Revoked.").count() == 1
    assert refusal(token, "keys", "rotate", "ada").status_code == 400
    assert refusal(token, "keys", "change", "ada", active=True).param == "active"
    assert refusal(token, "keys", "revoke", "ada", force=True).code == "unknown_parameter"


def test_a_team_is_archived_and_restored(token: ApiToken) -> None:
    team = Team.objects.found("team a")
    TeamMember.objects.create(team=team, user=person(SUPERUSER, "ada"))

    assert ask(token, "teams", "archive", "team a")["state"] == "archived"
    restored = ask(token, "teams", "restore", "team a")
    assert (restored["state"], restored["members"]) == ("active", [{"user": "ada", "role": "member"}])


def test_the_account_of_an_owner_becomes_the_owner(token: ApiToken) -> None:
    person(SUPERUSER, "ada")
    made = ask(token, "keys", "create", name="a key", owner="Bob", owner_user="ada")

    assert (made["owner"], made["owner_user"]) == ("ada", "ada")


def test_a_list_is_walked_by_its_names(token: ApiToken) -> None:
    team = Team.objects.found("team a")
    for number in range(5):
        AccessKey.objects.issue(f"key {number}", team=team if number else None)
    found, query = [], {"limit": "2"}
    while True:
        page = ask(token, "keys", "list", query=query)
        found += [key["name"] for key in page["data"]]
        assert (page["object"], page["last_id"]) == ("list", found[-1])
        if not page["has_more"]:
            break
        query["after"] = page["last_id"]

    assert found == [f"key {number}" for number in range(5)]
    assert len(ask(token, "keys", "list", query={"team": "team a"})["data"]) == 4
    assert ask(token, "keys", "list", query={"team": "no team"})["data"] == []


@pytest.mark.parametrize(
    "query",
    [
        *({"limit": limit} for limit in ("0", "101", "x", "٣", "9" * 5000, "000000001000", f"000000001{'9' * 5000}")),
        {"after": "\x00"},
        {"page": "2"},
    ],
)
def test_a_list_with_a_wrong_parameter_is_refused(token: ApiToken, query: dict[str, str]) -> None:
    assert refusal(token, "keys", "list", query=query).param == next(iter(query))


def test_each_change_is_in_the_audit_log_with_its_token(token: ApiToken) -> None:
    ask(token, "keys", "create", name="ada", budget_month=20, upstream_key="sk-of-its-own")
    ask(token, "keys", "change", "ada", budget_month=30, log_bodies="none", tags=["x"], upstream_key="sk-another-one")
    ask(token, "keys", "change", "ada", budget_month="30.0")  # changes nothing
    told = list(LogEntry.objects.order_by("pk").values_list("change_message", "object_repr", "user"))

    end = "By the API token “a script”."
    assert [words for words, *_ in told] == [
        f"Added with name “ada”; budget per month 20.0000; upstream key (not shown). {end}",
        f"Changed tags: added “x”; budget per month from 20.0000 to 30.0000;"
        f" store prompts and answers from “server default” to “none”; upstream key (not shown). {end}",
    ]
    assert {row[1:] for row in told} == {("ada", token.user.pk)}


# Who may do what

NEEDED = {"view": "read", "add": "write", "change": "write"}


@pytest.mark.parametrize("table", ["keys", "teams"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_scope_is_needed_besides_the_right(table: str, action: str) -> None:
    verb = NEEDED[ACTIONS[action][0]]
    others = [scope for scope in ("keys:read", "keys:write", "teams:read", "teams:write") if scope != f"{table}:{verb}"]
    token, _ = make_token(person(SUPERUSER), *others)

    assert refusal(token, table, action, "nobody").code == "missing_scope"


@pytest.mark.parametrize("role", EVERYBODY)
def test_a_token_can_do_what_the_role_of_its_user_can(role: str) -> None:
    have_groups()
    token, _ = make_token(person(role))
    may = role in ("key manager", "admin", SUPERUSER)
    for table in ("keys", "teams"):
        if may:
            ask(token, table, "create", name="one")
            assert len(ask(token, table, "list")["data"]) == 1
        for action in () if may else ("list", "create", "read", "change"):
            error = refusal(token, table, action, "one")
            assert isinstance(error, NotPermitted)
            assert error.code == "permission_denied"


def test_rights_are_those_of_the_table_and_of_this_moment() -> None:
    user = staff("a reader", "proxyapi.change_accesskey")
    token, _ = make_token(user)
    AccessKey.objects.issue("ada")
    assert ask(token, "keys", "change", "ada", note="x")["note"] == "x"
    assert ask(token, "keys", "read", "ada")["note"] == "x"
    assert refusal(token, "keys", "create", name="bob").code == "permission_denied"
    assert refusal(token, "teams", "list").code == "permission_denied"

    user.user_permissions.clear()
    assert refusal(token, "keys", "read", "ada").code == "permission_denied"


def test_a_token_that_has_ended_is_refused() -> None:
    user = person(SUPERUSER)
    token, text = make_token(user)
    assert ApiToken.objects.find_valid(text) == token
    assert ApiToken.objects.get().last_used_at is not None

    def is_refused() -> bool:
        assert isinstance(refusal(token, "keys", "list"), InvalidBearer)
        return ApiToken.objects.find_valid(text) is None

    for name in ("is_active", "is_staff"):
        type(user).objects.filter(pk=user.pk).update(**{name: False})
        assert is_refused()
        type(user).objects.filter(pk=user.pk).update(**{name: True})
    ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert is_refused()
    ApiToken.objects.update(expires_at=None)
    ask(token, "keys", "list")
    token.revoke()
    assert is_refused()


def test_a_made_up_token_causes_no_query(django_assert_num_queries: Any) -> None:
    _, text = make_token(person(SUPERUSER))
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    with django_assert_num_queries(0):
        for made_up in ("", "cpt-", wrong, text + "\n", "cp-" + "a" * 43, "é" * 47):
            assert ApiToken.objects.find_valid(made_up) is None
