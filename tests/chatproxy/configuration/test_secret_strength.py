"""Which secrets of a person's choice are refused as too short or easily guessed."""

import random
from base64 import urlsafe_b64encode
from collections.abc import Callable

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration import setting_parsers, setting_reader
from chatproxy.configuration.secret_strength import MIN_CHOICES, MIN_LENGTH, count_choices, is_easily_guessed

NAMES = ("SECURITY_KEY", "ACCESS_TOKEN")
WEAK = [
    "a" * 20,
    "ab" * 20,
    "12345678901234567890",
    "98765432109876543210",
    "abcdefghijklmnopqrstuvwxyz",
    "passwordpasswordpassword",
    "PasswordPASSWORDpassword",
    "password1234567890123",
    "changemechangemechangeme",
    "xxxxxxxxxx-yyyyyyyyyy-zzzzzzzzzz",
    "0000000000000000000000001",
]
LONG = "q8Zr-x0Kd.w7Lm_c3Vb~"
SEEDED = random.Random(20)
GENERATED: dict[str, Callable[[], str]] = {
    "hex": lambda: SEEDED.randbytes(10).hex(),
    "url-safe": lambda: urlsafe_b64encode(SEEDED.randbytes(15)).decode(),
    "digits": lambda: str(SEEDED.randrange(10**19, 10**20)),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", WEAK)
def test_an_easily_guessed_secret_is_refused_without_its_value(name: str, value: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        setting_reader.read({name: value})
    line = str(caught.value)
    assert line.startswith(f"{name} is easily guessed; at least 20 random printable ASCII characters")
    assert value[:6] not in line


REACHABLE = ({"HOST": "::"}, {"HOST": "192.0.2.1"}, {"HOST": "gateway.example"}, {"TRUSTED_PROXIES": "127.0.0.1"})
ON_LOOPBACK: tuple[dict[str, str], ...] = ({}, {"HOST": "127.0.0.1"}, {"HOST": "::1"}, {"HOST": "localhost"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("others", "length"),
    [
        *((others, length) for others in ON_LOOPBACK for length in (1, 8, 15)),
        *((others, length) for others in REACHABLE for length in (1, 16, 19)),
    ],
)
def test_a_short_secret_is_refused_without_its_value(name: str, others: dict[str, str], length: int) -> None:
    value = LONG[:length]
    with pytest.raises(ImproperlyConfigured) as caught:
        setting_reader.read({name: value, **others})
    line = str(caught.value)
    assert line.startswith(f"{name} is too short; at least 20 random printable ASCII characters")
    assert length < 6 or value[:6] not in line


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("others", ON_LOOPBACK)
def test_where_only_this_machine_reaches_the_server_a_shorter_one_is_taken(name: str, others: dict[str, str]) -> None:
    values = setting_reader.read({name: LONG[:16], **others})
    assert values[name] == LONG[:16]
    assert setting_reader.short_secrets(values) == [name]
    assert setting_reader.short_secrets(setting_reader.read({name: LONG[:20], **REACHABLE[0]})) == []


@pytest.mark.parametrize("make", GENERATED.values(), ids=GENERATED.keys())
def test_random_text_of_twenty_characters_is_accepted(make: Callable[[], str]) -> None:
    for _ in range(500):
        assert setting_parsers.strong_secret(make()) is not None


def test_choices_are_single_characters_runs_and_repetitions() -> None:
    assert count_choices("") == 0
    assert count_choices("qzm") == 3
    assert count_choices("abcd") == 1
    assert count_choices("qzmqzmqzm") == 4
    assert count_choices("qz111111") == 3


def test_a_long_secret_is_judged_quickly_by_its_beginning() -> None:
    assert is_easily_guessed("ab" * 60_000)
    assert not is_easily_guessed("q8Zr-x0Kd.w7Lm_c3Vb~" + "a" * 60_000)
    assert MIN_CHOICES < MIN_LENGTH
