"""A person sees and changes own keys only, and a lead those of the own team: no other key, sum or call by any address.

The table has each page and each form for each of six people, and the key of each of four owners.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from proxyapi.models import AccessKey
from proxyapi.pages import key_sessions, my_usage
from proxyapi.pages.key_sessions import COOKIE
from proxyapi.team_models import Team, TeamMember
from tests.support.callers.roles import browser_of
from tests.support.ledger.pages import make_failure

pytestmark = pytest.mark.django_db
SITE = "/my-usage/"
PEOPLE = ("member", "colleague", "lead", "stranger", "other lead", "nobody")
TEAM, OTHER = "research", "search"
# Whose key (its owner's name): who sees its sums, who its calls, who rotates, revokes it, sets its budget.
TABLE = {
    "member": ("member lead", "member", "member", "member lead", "lead"),
    "colleague": ("colleague lead", "colleague", "colleague", "colleague lead", "lead"),
    "lead": ("lead", "lead", "lead", "lead", "lead"),
    "stranger": ("stranger other lead", "stranger", "stranger", "stranger other lead", "other lead"),
}


@pytest.fixture
def people() -> dict[str, User]:
    """Makes two teams with their members and leads, a key for each member, and a failed call of each key."""
    found = {name: User.objects.create_user(name) for name in PEOPLE}
    members = {TEAM: (("member", "member"), ("colleague", "member"), ("lead", "lead")),
               OTHER: (("stranger", "member"), ("other lead", "lead"))}  # fmt: skip
    for team_name, roles in members.items():
        team = Team.objects.found(team_name, self_service=True, keys_per_member=2, member_key_budget_month=Decimal(20))
        for name, role in roles:
            TeamMember.objects.create(team=team, user=found[name], role=role)
            AccessKey.objects.issue(f"{name}s key", team=team, owner_user=found[name], budget_month=Decimal(10))
            make_failure(key_name=f"{name}s key", owner=name, error_message=f"words of {name}")
    return found


def allowed(people: dict[str, User], ask: Callable[[Client], bool]) -> str:
    return " ".join(name for name in PEOPLE if ask(browser_of(people[name])))


@pytest.mark.parametrize("owner", TABLE)
def test_who_sees_and_changes_whose_key(people: dict[str, User], owner: str) -> None:
    key = AccessKey.objects.get(name=f"{owner}s key")
    page = f"{SITE}keys/{key.pk}/"
    words = f"words of {owner}"

    def sees(client: Client) -> bool:
        answers = [client.get(page), client.get(f"{page}data")]
        assert {answer.status_code for answer in answers} in ({200}, {404}, {302})
        return answers[0].status_code == 200

    sums = allowed(people, sees)
    calls = allowed(
        people, lambda client: any(words in client.get(one).content.decode() for one in (page, f"{page}data"))
    )
    budgets = allowed(people, lambda client: client.post(f"{page}budget", {"budget_month": "3"}).status_code == 302)
    rotates = allowed(people, lambda client: client.post(f"{page}rotate").status_code == 200)
    revokes = allowed(people, lambda client: client.post(f"{page}revoke").status_code == 302)
    assert (sums, calls, rotates, revokes, budgets) == TABLE[owner]


def test_a_new_owner_does_not_see_the_calls_of_the_old_one(people: dict[str, User]) -> None:
    key = AccessKey.objects.get(name="members key")
    key.owner_user = people["colleague"]
    key.save(update_fields=["owner_user"])
    make_failure(key_name=key.name, owner="colleague", error_message="words of the new owner")
    client = browser_of(people["colleague"])
    for path in ("", "data"):
        page = client.get(f"{SITE}keys/{key.pk}/{path}").content.decode()
        assert ("words of member" in page, "words of the new owner" in page) == (False, True)


@pytest.mark.parametrize("cookie", ["", "left over", "valid"])
def test_a_person_signs_out_whatever_cookie_of_a_key_is_left(
    people: dict[str, User], monkeypatch: pytest.MonkeyPatch, cookie: str
) -> None:
    """The page of a person's own key belongs to the account, also beside a key's cookie; signing out ends both."""
    holder = SimpleNamespace(caller=SimpleNamespace(name="another key"))
    monkeypatch.setattr(
        key_sessions, "find_signed_in", lambda request: holder if request.COOKIES.get(COOKIE) == "valid" else None
    )
    client = browser_of(people["member"])
    client.cookies[COOKIE] = cookie

    assert client.post(f"{SITE}sign-out").status_code == 302
    assert not client.cookies[COOKIE].value
    assert "members key" not in client.get(SITE).content.decode()
    assert not client.session.keys()


def test_the_list_names_no_other_key_and_no_call_of_one(people: dict[str, User]) -> None:
    expected = {
        "member": {"member"}, "colleague": {"colleague"}, "lead": {"member", "colleague", "lead"},
        "stranger": {"stranger"}, "other lead": {"stranger", "other lead"}, "nobody": set(),
    }  # fmt: skip
    for name, user in people.items():
        page = browser_of(user).get(SITE).content.decode()
        assert {one for one in PEOPLE if f">{one}s key<" in page} == expected[name], name
        assert {one for one in PEOPLE if f"words of {one}" in page} == ({name} - {"nobody"}), name


@pytest.mark.parametrize(
    "path", ["", "usage/request/", "usage/request/export.csv", "usage/dashboard.json", "proxyapi/team/"]
)
def test_a_person_without_a_role_sees_only_my_usage(people: dict[str, User], path: str) -> None:
    for user in people.values():
        assert browser_of(user).get(f"/admin/{path}")["Location"].startswith("/admin/login/")


def test_a_member_makes_keys_within_what_the_team_allows(people: dict[str, User]) -> None:
    team, other = Team.objects.get(name=TEAM), Team.objects.get(name=OTHER)
    client = browser_of(people["member"])

    def make(name: str, **changes: object) -> tuple[int, str]:
        answer = client.post(f"{SITE}keys/make", {"team": team.pk, "name": name, "budget_month": "20", **changes})
        return answer.status_code, answer.content.decode()

    assert "at most $20.00" in make("dear", budget_month="20.01")[1]
    assert "at most $20.00" in make("endless", budget_month="")[1]
    assert make("elsewhere", team=other.pk)[0] == 400
    assert make("for another", owner=people["colleague"].pk)[0] == 400
    status, page = make("mine")
    key = AccessKey.objects.get(name="mine")
    assert (status, "cp-" in page, key.owner_user, key.owner, key.team) == (200, True, people["member"], "member", team)
    assert "as many as it allows" in make("one more")[1]
    assert not AccessKey.objects.filter(name__in=["dear", "endless", "elsewhere", "for another", "one more"]).exists()
    entry = LogEntry.objects.latest("pk")
    assert (entry.user, entry.change_message) == (
        people["member"], "Added in the team “research” for member, with budget per month 20.",
    )  # fmt: skip

    # A key that is revoked leaves no room for another budget in the same month.
    assert client.post(f"{SITE}keys/{key.pk}/revoke").status_code == 302
    assert "as many as it allows" in make("in its place")[1]
    AccessKey.objects.filter(name="mine").update(revoked_at="2026-01-01T00:00Z")
    assert make("a month later")[0] == 200

    Team.objects.update(self_service=False)
    AccessKey.objects.filter(name="a month later").update(revoked_at="2026-01-01T00:00Z")
    assert make("no more")[0] == 400


def test_a_lead_hands_keys_out_in_the_own_team_only(people: dict[str, User]) -> None:
    team, other = Team.objects.get(name=TEAM), Team.objects.get(name=OTHER)
    client = browser_of(people["lead"])
    warning = "You see the secret of a key that you make for somebody else"
    assert warning in client.get(SITE).content.decode()
    assert warning not in browser_of(people["member"]).get(SITE).content.decode()
    form = {"team": team.pk, "name": "for a member", "owner": people["member"].pk, "budget_month": "500"}
    assert "cp-" in client.post(f"{SITE}keys/make", form).content.decode()
    assert AccessKey.objects.get(name="for a member").owner_user == people["member"]

    for changes in ({"owner": people["stranger"].pk}, {"owner": people["nobody"].pk}, {"team": other.pk}):
        assert client.post(f"{SITE}keys/make", {**form, "name": "elsewhere", **changes}).status_code == 400
    assert not AccessKey.objects.filter(name="elsewhere").exists()


def test_who_is_not_signed_in_is_sent_to_the_login(people: dict[str, User]) -> None:
    key = AccessKey.objects.get(name="members key")
    for path in ("", "data"):
        assert Client().get(f"{SITE}keys/{key.pk}/{path}")["Location"].startswith("/admin/login/")
    for path in ("make", f"{key.pk}/rotate", f"{key.pk}/revoke", f"{key.pk}/budget"):
        assert Client().post(f"{SITE}keys/{path}")["Location"].startswith("/admin/login/")
    key.refresh_from_db()
    assert (key.revoked_at, key.budget_month) == (None, Decimal(10))


def test_every_page_of_a_person_is_in_this_table() -> None:
    names = {route.name for route in my_usage.urlpatterns}
    assert names == {
        "show", "data", "calls", "call", "export", "sign_in", "sign_out", "make", "key", "key_data", "key_calls",
        "key_call", "key_export", "rotate", "revoke", "set_budget",
    }  # fmt: skip


def test_the_name_of_an_account_becomes_the_owner() -> None:
    key, _ = AccessKey.objects.issue("a key", owner="Ada")
    key.owner_user = User.objects.create_user("ada@example.com")
    key.save(update_fields=["owner_user"])
    key.refresh_from_db()
    assert key.owner == "ada@example.com"
    key.owner_user.delete()
    key.refresh_from_db()
    assert key.owner == "ada@example.com"
    assert key.owner_user_id is None
