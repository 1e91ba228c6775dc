"""Claims let only those people in about whom nothing is uncertain."""

from __future__ import annotations

from typing import Any

import pytest

from chatproxy.sign_in.claims import MAX_VALUES, ClaimFault, ClaimRules, read_person

ISSUER = "https://accounts.example.com"
RULES = ClaimRules(ISSUER, ("example.com",), "groups", {"llm-admins": "admin", "staff": "viewer"}, "teams")
TOKEN = {"iss": ISSUER, "sub": "1", "email": "Ada@Example.com", "email_verified": True, "name": "Ada"}


def test_it_works() -> None:
    claims = {"groups": ["staff", "others"], "teams": ["research", "search:lead", "search"]}
    person = read_person({**TOKEN, **claims}, {"sub": "1"}, RULES)

    assert (person.subject, person.email, person.name) == ("1", "ada@example.com", "Ada")
    assert person.groups == frozenset({"viewer"})
    assert person.teams == {"research": False, "search": True}


@pytest.mark.parametrize(
    "userinfo", [{"email": "ada@example.com"}, {"email": "new@example.com", "email_verified": True}, {"name": "Ada"}]
)
def test_one_document_has_the_address_and_that_it_is_verified(userinfo: dict[str, object]) -> None:
    person = read_person(TOKEN, {"sub": "1", **userinfo}, RULES)
    assert person.email == userinfo.get("email", "ada@example.com")


def test_a_claim_that_no_setting_names_changes_nothing() -> None:
    rules = ClaimRules(ISSUER, ("example.com",))
    person = read_person({**TOKEN, "groups": ["llm-admins"]}, None, rules)

    assert (person.groups, person.teams) == (None, None)


def test_a_missing_claim_takes_roles_and_teams_away() -> None:
    person = read_person(TOKEN, None, RULES)
    assert (person.groups, person.teams) == (frozenset(), {})


def test_one_text_is_a_list_of_one() -> None:
    assert read_person({**TOKEN, "groups": "llm-admins"}, None, RULES).groups == frozenset({"admin"})


@pytest.mark.parametrize(
    ("changes", "userinfo", "words"),
    [
        ({"iss": "https://evil.example.com"}, None, "another issuer"),
        ({"iss": None}, None, "another issuer"),
        ({"sub": ""}, None, "who you are"),
        ({"sub": 7}, None, "who you are"),
        ({}, {"sub": "2"}, "who you are"),
        ({}, {"email": "ada@example.com"}, "who you are"),
        ({}, [], "not send what was expected"),
        ({"email": None}, None, "not send an e-mail"),
        ({"email": "ada"}, None, "not send an e-mail"),
        ({"email": "ada@example.com@evil.org"}, None, "not send an e-mail"),
        ({"email": "ada@example.com\u202e"}, None, "not send an e-mail"),
        ({"email": "ada@evil.org"}, None, "your domain"),
        ({"email": "ada@example.com.evil.org"}, None, "your domain"),
        ({"email": "ada@sub.example.com"}, None, "your domain"),
        ({"email_verified": False}, None, "not verified"),
        ({"email_verified": "true"}, None, "not verified"),
        ({"email_verified": None}, None, "not verified"),
        ({}, {"sub": "1", "email_verified": False}, "not verified"),
        ({}, {"sub": "1", "email": "eve@example.com"}, "not verified"),
        ({"email": None}, {"sub": "1", "email": "eve@example.com"}, "not verified"),
        ({"email_verified": False}, {"sub": "1", "email": "eve@example.com", "email_verified": True}, "not verified"),
        ({"groups": {"admin": True}}, None, "no list of texts"),
        ({"groups": [1]}, None, "no list of texts"),
        ({"groups": None}, None, "no list of texts"),
        ({"teams": ["x"] * (MAX_VALUES + 1)}, None, "no list of texts"),
    ],
)  # fmt: skip
def test_what_is_uncertain_is_refused(changes: dict[str, Any], userinfo: Any, words: str) -> None:
    with pytest.raises(ClaimFault, match=words):
        read_person({**TOKEN, **changes}, userinfo, RULES)


def test_a_token_that_is_no_object_is_refused() -> None:
    with pytest.raises(ClaimFault):
        read_person(None, None, RULES)
