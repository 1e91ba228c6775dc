"""What a request says that its call is for: which header or field counts, and what is left of odd ones."""

from __future__ import annotations

from typing import Any

import pytest

from proxyapi.bodies.labels import END_USER, NO_LABELS, SESSION, TAGS, Labels, add_tags, read_labels


def read(head: dict[str, object], metadata_tags: tuple[str, ...] = (), **members: Any) -> Labels:
    return read_labels(head, {name: [value] for name, value in members.items()}, metadata_tags)


def test_it_works() -> None:
    head: dict[str, object] = {END_USER: "ada", SESSION: "talk 1", TAGS: "project=x, night"}
    assert read(head) == Labels("ada", "talk 1", "", ("project=x", "night"))
    assert read({}) is NO_LABELS
    assert read({}, model="gpt-4o", messages=[]) is NO_LABELS


@pytest.mark.parametrize(
    ("members", "end_user"),
    [
        ({"user": "u"}, "u"),
        ({"user": "u", "safety_identifier": "s"}, "s"),
        ({"user": "u", "safety_identifier": ""}, "u"),
        ({"user": 5, "safety_identifier": None}, ""),
        ({"user": ["u"]}, ""),
    ],
)
def test_a_header_has_precedence_over_fields(members: dict[str, Any], end_user: str) -> None:
    assert read({}, **members).end_user == end_user
    assert read({END_USER: "header"}, **members).end_user == "header"


@pytest.mark.parametrize(
    ("members", "session", "continued"),
    [
        ({"conversation": "conv_1"}, "conv_1", ""),
        ({"conversation": {"id": "conv_1"}}, "conv_1", ""),
        ({"conversation": {"id": 1}}, "", ""),
        ({"metadata": {"session_id": "s"}, "conversation": "conv_1"}, "s", ""),
        ({"metadata": "s"}, "", ""),
        ({"previous_response_id": "resp_1"}, "", "resp_1"),
        ({"previous_response_id": "resp_1", "metadata": {"session_id": "s"}}, "s", ""),
    ],
)
def test_a_session_comes_from_the_first_field_that_has_one(
    members: dict[str, Any], session: str, continued: str
) -> None:
    found = read({}, **members)
    assert (found.session, found.previous_response_id) == (session, continued)
    found = read({SESSION: "header"}, **members)
    assert (found.session, found.previous_response_id) == ("header", "")


def test_of_a_field_given_twice_the_last_one_counts() -> None:
    assert read_labels({}, {"user": ["first", "last"]}, ()).end_user == "last"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("a", ("a",)),
        (" a , b = c ,, =, x=", ("a", "b=c", "=", "x=")),
        ("a=b=c", ("a=b=c",)),
        (",", ()),
        ("größe=ü".encode().decode("latin-1"), ("größe=ü",)),
        ("\xff", ("\ufffd",)),
    ],
)
def test_tags_of_a_header(text: str, tags: tuple[str, ...]) -> None:
    assert read({TAGS: text}).tags == tags


def test_tags_of_metadata_are_those_of_the_setting() -> None:
    metadata = {"project": "x", "feature": " search ", "secret": "s", "count": 5}
    assert read({TAGS: "a"}, ("feature", "project", "count", "none"), metadata=metadata).tags == (
        "a", "feature=search", "project=x",
    )  # fmt: skip
    assert read({}, metadata=metadata).tags == ()


@pytest.mark.parametrize(
    ("own", "others", "tags"),
    [
        (["a"], ["a", "b"], ["a", "b"]),
        (["project=x"], ["project=y", "project"], ["project=x", "project"]),
        ([], ["project=y", "project=z", "project=y"], ["project=y"]),
    ],
)
def test_a_tag_of_the_key_is_not_changed_by_the_call(own: list[str], others: list[str], tags: list[str]) -> None:
    assert add_tags(own, others) == tags
