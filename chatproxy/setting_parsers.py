"""The parsers of settings: from the text of an environment variable to a typed value.

Each raises `ValueError("fault; what is allowed")` for a bad value; `chatproxy.environment` puts the variable's name in
front of the words.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from chatproxy.root_path import normal_root_path
from chatproxy.secret_strength import MIN_LENGTH, MIN_LENGTH_ON_LOOPBACK, is_easily_guessed
from proxyapi import routes

MAX_QUOTED_LENGTH = 15  # characters; a longer wrong value is not quoted in a message


def text(value: str) -> str:
    """Returns the setting `value` unchanged; raises `ValueError` if it contains control characters."""
    if not value.isprintable():
        raise ValueError("contains control characters; printable characters only")
    return value


def header_value(value: str) -> str:
    """Returns the setting `value` unchanged, if any HTTP header can carry it.

    Raises:
        ValueError: `value` contains spaces, control characters or non-ASCII characters.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("contains spaces or non-ASCII characters; printable ASCII only")
    return value


STRONG = f"at least {MIN_LENGTH} random printable ASCII characters, for example those of `openssl rand -hex 20`"
TOO_SHORT = f"is too short; {STRONG}"


def strong_secret(value: str) -> str:
    """Returns the secret `value` unchanged, if strangers cannot guess it over the network.

    `read` also refuses a secret of fewer than `MIN_LENGTH` characters if other machines can reach the server.

    Raises:
        ValueError: the secret is too short or easily guessed; the message does not contain it.
    """
    if len(header_value(value)) < MIN_LENGTH_ON_LOOPBACK:
        raise ValueError(TOO_SHORT)
    if is_easily_guessed(value):
        raise ValueError(f"is easily guessed; {STRONG}")
    return value


def django_secret(value: str) -> str:
    """Returns the secret key `value` unchanged, if Django's own checks (`manage.py check --deploy`) accept it.

    Raises:
        ValueError: the key is too short or easily guessed.
    """
    if len(value) < 50:
        raise ValueError("is too short; at least 50 characters")
    if len(set(value)) < 10 or value.startswith("django-insecure-"):
        raise ValueError("is easily guessed; at least 50 random characters")
    return text(value)


def key_secret(value: str) -> str:
    """Returns the secret `value` unchanged, if it is long enough to derive encryption keys from.

    Raises:
        ValueError: the secret is too short or easily guessed.
    """
    if len(value) < 32 or len(set(value)) < 10:
        raise ValueError("is too short or easily guessed; at least 32 random characters")
    return text(value)


def quoted(value: str) -> str:
    """Returns a wrong value of a setting, in quotes, for an error message.

    Of a long value only the length is returned, because a secret may have been put in the wrong place.
    """
    return repr(value) if len(value) <= MAX_QUOTED_LENGTH else f"a text of {len(value)} characters"


def switch(value: str) -> bool:
    """Returns the bool that a setting's text means: true, yes, on, 1 or their opposites, in upper or lower case.

    Raises:
        ValueError: `value` is none of these words.
    """
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError(f"{quoted(value)} is not a switch; true or false")
    return words[value.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    """Returns a parser that returns a setting's text unchanged, or raises `ValueError` if it is not among `choices`."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"{quoted(value)} is not one of the choices; {', '.join(choices)}")
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Returns a parser of whole numbers: it turns text into an int, or raises `ValueError` outside `low` to `high`."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"{quoted(value)} is out of range; a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Returns a parser of seconds: it turns text into a float, or raises `ValueError` outside `low` to `high`."""

    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
            raise ValueError(f"{quoted(value)} is out of range; seconds from {low:g} to {high:g}")
        return float(value)

    return parse


def comma_separated(value: str) -> list[str]:
    """Returns the items of a comma-separated setting; empty items are left out."""
    return [word.strip() for word in value.split(",") if word.strip()]


def origins(value: str) -> list[str]:
    """Returns the web origins (scheme, host and port) in a comma-separated setting.

    Raises:
        ValueError: an item is no origin.
    """
    for origin in comma_separated(value):
        if not re.match(r"https?://[^/]+$", origin):
            raise ValueError(f"{quoted(origin)} is not an origin; a comma-separated list of https://host[:port]")
    return comma_separated(value)


def networks(value: str) -> list[str]:
    """Returns the IP addresses and CIDR networks in a comma-separated setting.

    Raises:
        ValueError: an item is neither.
    """
    for network in comma_separated(value):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(
                f"{quoted(network)} is not a network; a comma-separated list of IP addresses or CIDR networks"
            ) from None
    return comma_separated(value)


def root_path(value: str) -> str:
    """Returns the setting `value`, a plain path of this host such as `/ai`, without a slash at its end.

    Raises:
        ValueError: `value` is no such path (`chatproxy.root_path`).
    """
    try:
        return normal_root_path(value)
    except ValueError as fault:
        raise ValueError(f"{quoted(value)} {fault}") from None


def route_families(value: str) -> list[str]:
    """Returns the names of route families (groups of routes of `/v1`, such as `files`) in a comma-separated setting.

    `default` and `all` stand for several families. Each family is returned once.

    Raises:
        ValueError: an item is no such name.
    """
    several = {"default": routes.DEFAULT, "all": routes.ALL}
    names = [name for word in comma_separated(value) for name in several.get(word, (word,))]
    for name in names:
        if name not in routes.ALL:
            allowed = ", ".join((*several, *routes.ALL))
            raise ValueError(f"{quoted(name)} is not a family of routes; a comma-separated list of {allowed}")
    return list(dict.fromkeys(names))
