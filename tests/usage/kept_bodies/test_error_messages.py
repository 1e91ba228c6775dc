"""Messages of errors that differ only in numbers, ids, names and long quotations are one group; others are not."""

from __future__ import annotations

import pytest

from tests.support.growth import wait_until_linear
from usage.kept_bodies.error_messages import GROUP_CHARACTERS, group_of, pattern_of, split_group, with_group

NAMES = ("gpt-4o", "gpt-4o-mini")


@pytest.mark.parametrize(
    ("one", "pattern"),
    [
        ("Limit 30000, Requested 512.", "Limit #, Requested #."),
        ("Please try again in 1.5s or 20ms.", "Please try again in # or #."),
        ("No such file: file-abcDEFgh", "No such file: #"),
        ("org-AbCdEfGh has no quota", "# has no quota"),
        ("req_0123456789abcdef failed", "# failed"),
        ("Item 018f2c5e-0000-7000-8000-000000000000 not found", "Item # not found"),
        ("Invalid 'messages[12].content[3]'", "Invalid 'messages[#].content[#]'"),
        ("The model `gpt-4o-mini` or gpt-4o is overloaded", "The model # or # is overloaded"),
        ("Unsupported parameter: 'temperature'", "Unsupported parameter: 'temperature'"),
        (f'Cannot read "{"my secret plan " * 4}"', "Cannot read #"),
        ("Invalid value: 'Erika Mustermann'. Use: 'low'", "Invalid value: #. Use: 'low'"),
        ('"Erika" is no value of `size`', "# is no value of `size`"),
        ("two\n  lines", "two lines"),
        ("", ""),
        ("größe 7", "größe #"),
    ],
)
def test_the_pattern_of_a_message(one: str, pattern: str) -> None:
    assert pattern_of(one, NAMES) == pattern


def test_a_short_name_is_taken_out_where_it_is_a_word() -> None:
    assert pattern_of("the model e is overloaded, e-mail us", ("e",)) == "the model # is overloaded, e-mail us"


def test_groups() -> None:
    assert group_of("Limit 1, used 2") == group_of("limit 30000, used 0.5")
    assert group_of("Limit 1 of tokens") != group_of("Limit 1 of requests")
    assert group_of("") == group_of("  ") == ""
    assert len(group_of("x")) == GROUP_CHARACTERS
    assert group_of("\ud800 lone")


def test_parameters_are_groups_of_their_own() -> None:
    message = "Invalid value. Try another one."
    groups = [group_of(message, parameter=name) for name in ("", "model", "temperature", "tools[0].type")]
    assert len(set(groups)) == 4
    assert group_of(message, parameter="tools[7].type") == groups[-1]  # numbers tell nothing apart
    assert group_of("", parameter="model") not in ("", *groups)
    two = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    assert group_of(two, parameter="max_tokens") != group_of(two, parameter="max_completion_tokens")


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ("The model `gpt-x` does not support 'temperature'.", "temperature"),
        ("Invalid 'messages[3].content': too long", "messages[3].content"),
        ("max_tokens is too large: 5", "max_tokens"),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_tokens"),
        ("Some text", ""),
    ],
)
def test_a_parameter_that_the_message_names_leaves_its_group(message: str, parameter: str) -> None:
    """So the groups, and their marks, are those from before the parameter was stored."""
    assert group_of(message, parameter=parameter) == group_of(message)


@pytest.mark.parametrize("code", ["", "rate_limit_exceeded", "c#", "a#b", "a #0123456789abc", "x#0123456789ab"])
@pytest.mark.parametrize("group", ["", group_of("x")])
def test_a_code_with_its_group_is_read_again(code: str, group: str) -> None:
    assert split_group(with_group(code, group)) == (code, group)


@pytest.mark.parametrize("piece", ["'", '"', "1.", "a-", "org-", "#", " ", "`'\""])
def test_a_hostile_message_takes_no_longer_than_its_length(piece: str) -> None:
    wait_until_linear(lambda length: pattern_of(piece * length, NAMES), 100_000)
