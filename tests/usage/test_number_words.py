"""Numbers stand beside the form of a noun that fits them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatproxy.configuration.setting_reader import BASE_DIR
from usage.number_words import counted

# A number that a program fills in, and right behind it the plural of a noun that is counted in messages.
FIXED_PLURAL = re.compile(
    r"[^{]\}\s(faults|records|rows|bodies|hours|dead letters|keys|teams|channels|requests|tokens)\b"
)
PEOPLE_READ = ("usage/management", "proxyapi/management/commands", "proxyapi/limits/limiter.py", "proxyapi/pages")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 calls"), (1, "1 call"), (2, "2 calls"), (1234, "1,234 calls"), (-1, "-1 calls")]
)
def test_it_works(number: int, text: str) -> None:
    assert counted(number, "call") == text


def test_a_noun_may_have_a_plural_of_its_own() -> None:
    assert [counted(number, "body", "bodies") for number in (1, 2)] == ["1 body", "2 bodies"]


@pytest.mark.parametrize("place", PEOPLE_READ)
def test_no_message_has_a_plural_for_every_number(place: str) -> None:
    files = [path] if (path := Path(BASE_DIR, place)).is_file() else sorted(path.rglob("*.py"))
    assert files
    found = [f"{file}: {match[0]}" for file in files for match in FIXED_PLURAL.finditer(file.read_text())]
    assert found == []
