"""No regular expression that searches texts of callers or of upstream takes longer than the length of the text.

While one searches, its whole process stands still: nobody else can use Python.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pkgutil import walk_packages

import pytest

import proxyapi
import usage
from chatproxy.configuration.setting_reader import BASE_DIR
from tests.support.growth import wait_until_linear
from tests.support.inputs.hostile_texts import hostile_texts
from usage.kept_bodies.redaction import redact

LENGTH = 8000  # characters; the square of it takes a third of a second at least
SHORT = {  # searched only in short texts
    "usage.kept_bodies.error_messages._QUOTED",  # `MAX_CHARACTERS` of a message
    "usage.kept_bodies.error_messages._WITH_DIGIT",
}
SOURCES = "\n".join(path.read_text() for name in ("proxyapi", "usage") for path in (BASE_DIR / name).rglob("*.py"))
SEARCHED = set(re.findall(r"\b(\w+)\.(?:search|finditer|findall|sub|subn|split)\b", SOURCES))


def patterns() -> Iterator[tuple[str, re.Pattern[str] | re.Pattern[bytes]]]:
    """Yields the names and patterns of all modules, alone and in tuples, except those used only from a given place."""
    for package in (proxyapi, usage):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in module.name or ".management.commands" in module.name:
                continue
            for name, value in vars(import_module(module.name)).items():
                for pattern in patterns_in(value):
                    if pattern is not value or name in SEARCHED:
                        yield f"{module.name}.{name}", pattern


def patterns_in(value: object) -> Iterator[re.Pattern[str] | re.Pattern[bytes]]:
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from patterns_in(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from patterns_in(one)


def search(pattern: re.Pattern[str] | re.Pattern[bytes], text: Callable[[int], str], length: int) -> None:
    if isinstance(pattern.pattern, bytes):
        pattern.sub(b"", text(length).encode())
    else:
        pattern.sub("", text(length))


def redaction(beginning: str, text: Callable[[int], str], secret: str, length: int) -> None:
    redact(beginning + text(length), (secret,))


@pytest.mark.parametrize(("name", "pattern"), [found for found in patterns() if found[0] not in SHORT])
def test_a_search_takes_no_longer_than_its_text(name: str, pattern: re.Pattern[str] | re.Pattern[bytes]) -> None:
    for text in hostile_texts():
        wait_until_linear(partial(search, pattern, text), LENGTH)


def test_a_search_that_takes_the_square_of_its_text_is_found() -> None:
    with pytest.raises(AssertionError, match="s of CPU"):
        wait_until_linear(lambda length: re.search("a*b", "a" * length), LENGTH, patience=2)


@pytest.mark.parametrize("secret", ["sk-proj-abcdefgh", "cp-" + "a" * 43, "\xa7nr" * 6])
def test_a_redaction_takes_no_longer_than_its_text(secret: str) -> None:
    """These texts also have what a search looks for before it tries its regular expressions."""
    in_base64 = " ".join(b64encode(bytes(before) + secret.encode()).decode() for before in range(3))
    beginning = f"{in_base64} {secret.encode().hex()} {secret} api_key bearer basic "
    for text in hostile_texts():
        wait_until_linear(partial(redaction, beginning, text, secret), LENGTH)
