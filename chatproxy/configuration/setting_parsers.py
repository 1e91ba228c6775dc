"""The parsers of settings: from the text of an environment variable to a typed value.

Each parser raises `ValueError("fault; what is allowed")` for a bad value; `chatproxy.configuration.setting_reader` adds
the variable's name to the message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from email.utils import parseaddr

from chatproxy.configuration.secret_strength import MIN_LENGTH, MIN_LENGTH_ON_LOOPBACK, is_easily_guessed
from chatproxy.root_path import normal_root_path
from proxyapi import routes

_HOST_NAME = re.compile(r"\*|\.?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\]")
MAX_TAG_NAME_LENGTH = 64  # characters of a key of OpenAI's `metadata` (OpenAI's reference)
MAX_QUOTED_LENGTH = 15  # characters; a longer wrong value is not quoted in a message


def text(value: str) -> str:
    """Checks a text setting, and returns it unchanged.

    Raises:
        ValueError: `value` contains control characters.
    """
    if not value.isprintable():
        raise ValueError("contains control characters; printable characters only")
    return value


def header_value(value: str) -> str:
    """Checks a setting that is sent as the value of an HTTP header, and returns it unchanged.

    Raises:
        ValueError: `value` contains spaces, control characters or non-ASCII characters.
    """
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("contains spaces or non-ASCII characters; printable ASCII only")
    return value


STRONG = f"at least {MIN_LENGTH} random printable ASCII characters, for example those of `openssl rand -hex 20`"
TOO_SHORT = f"is too short; {STRONG}"


def strong_secret(value: str) -> str:
    """Checks that a secret cannot be guessed over the network, and returns the secret unchanged.

    Raises:
        ValueError: the secret has fewer than `MIN_LENGTH_ON_LOOPBACK` characters, is easily guessed, or contains
            spaces, control characters or non-ASCII characters; the message does not contain it.
    """
    # `chatproxy.configuration.setting_reader.read` refuses fewer than `MIN_LENGTH` if other machines can reach the
    # server.
    if len(header_value(value)) < MIN_LENGTH_ON_LOOPBACK:
        raise ValueError(TOO_SHORT)
    if is_easily_guessed(value):
        raise ValueError(f"is easily guessed; {STRONG}")
    return value


def django_secret(value: str) -> str:
    """Checks Django's secret key, a little more strictly than `manage.py check --deploy`, and returns it unchanged.

    Raises:
        ValueError: the key is shorter than 50 characters, has fewer than 10 different ones, begins with
            `django-insecure-`, or contains control characters.
    """
    if len(value) < 50:
        raise ValueError("is too short; at least 50 characters")
    if len(set(value)) < 10 or value.startswith("django-insecure-"):
        raise ValueError("is easily guessed; at least 50 random characters")
    return text(value)


def key_secret(value: str) -> str:
    """Checks that a secret is long enough to derive encryption keys from, and returns the secret unchanged.

    Raises:
        ValueError: the secret is shorter than 32 characters, has fewer than ten different ones, or contains control
            characters.
    """
    if len(value) < 32 or len(set(value)) < 10:
        raise ValueError("is too short or easily guessed; at least 32 random characters")
    return text(value)


def quoted(value: str) -> str:
    """Puts a setting's wrong value in quotes, for an error message; of a long value, only says how long it is."""
    # Somebody may have put a secret in the wrong place.
    return repr(value) if len(value) <= MAX_QUOTED_LENGTH else f"a text of {len(value)} characters"


def switch(value: str) -> bool:
    """Parses a setting that is on or off to a bool, in any letter case.

    True is `true`, `yes`, `on` or `1`; False is `false`, `no`, `off` or `0`.

    Raises:
        ValueError: `value` is none of these words.
    """
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError(f"{quoted(value)} is not a switch; true or false")
    return words[value.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    """Returns a parser for a setting that must be one of `choices`.

    The parser returns the text unchanged, or raises `ValueError`.
    """

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"{quoted(value)} is not one of the choices; {', '.join(choices)}")
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Returns a parser for a setting that is a whole number from `low` to `high`.

    The parser returns an int, or raises `ValueError`.
    """

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"{quoted(value)} is out of range; a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """Returns a parser for a setting that is a number of seconds from `low` to `high`, with or without decimals.

    The parser returns a float, or raises `ValueError`.
    """

    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
            raise ValueError(f"{quoted(value)} is out of range; seconds from {low:g} to {high:g}")
        return float(value)

    return parse


def comma_separated(value: str) -> list[str]:
    """Splits a comma-separated setting into its items, and returns them without empty ones.

    Raises:
        ValueError: all items are empty.
    """
    words = [word.strip() for word in value.split(",") if word.strip()]
    if not words:
        raise ValueError("has only commas; a comma-separated list")
    return words


def host_names(value: str) -> list[str]:
    """Parses a comma-separated setting of host names, for Django's ALLOWED_HOSTS; returns the names.

    Raises:
        ValueError: an item has a scheme, a port or a path, or is no host name; or all items are empty.
    """
    for name in comma_separated(value):
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"{quoted(name)} is not a host name; a comma-separated list of names such as ai.example.com, "
                ".example.com (and all below it), 10.0.0.7, [::1] or *, without https:// and without a port"
            )
    return comma_separated(value)


def tag_names(value: str) -> list[str]:
    """Parses a comma-separated setting: the names of the members of OpenAI's `metadata` that count as tags of a call.

    Returns each name once.

    Raises:
        ValueError: an item is too long, or has control characters or `=`; or all items are empty.
    """
    names = comma_separated(value)
    for name in names:
        if len(name) > MAX_TAG_NAME_LENGTH or "=" in name or not name.isprintable():
            raise ValueError(
                f"{quoted(name)} is not a name of metadata; a comma-separated list of names such as project,feature, "
                f"of at most {MAX_TAG_NAME_LENGTH} characters"
            )
    return list(dict.fromkeys(names))


def email_address(value: str) -> str:
    """Checks a setting that is an e-mail address, perhaps with a name, and returns it unchanged.

    An example with a name is `chatproxy <a@b.example>`.

    Raises:
        ValueError: `value` is no such address, or contains control characters.
    """
    _, address = parseaddr(text(value))
    if not re.fullmatch(r"[^@\s]+@[A-Za-z0-9.-]+", address):
        raise ValueError(f"{quoted(value)} is not an e-mail address; one such as chatproxy@example.com")
    return value


def listen_address(value: str) -> str:
    """Checks the IP address or host name that the server listens on, and returns it unchanged.

    Raises:
        ValueError: `value` has a scheme or a port, or is neither an IP address nor a host name.
    """
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not re.fullmatch(r"[A-Za-z0-9._-]*[A-Za-z][A-Za-z0-9._-]*", value):
            raise ValueError(
                f"{quoted(value)} is not an address; an IP address such as 0.0.0.0 or ::1, or a host name, without "
                "http:// and without a port, which is PORT"
            ) from None
    return value


def origins(value: str) -> list[str]:
    """Parses a comma-separated setting of web origins, such as `https://example.com:8443`; returns the origins.

    Raises:
        ValueError: an item is no web origin, or all items are empty.
    """
    for origin in comma_separated(value):
        if not re.match(r"https?://[^/]+$", origin):
            raise ValueError(f"{quoted(origin)} is not an origin; a comma-separated list of https://host[:port]")
    return comma_separated(value)


def networks(value: str) -> list[str]:
    """Parses a comma-separated setting of IP addresses and networks, such as `10.0.0.0/8`; returns them as texts.

    Raises:
        ValueError: an item is neither an address nor a network, or all items are empty.
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
    """Checks a path prefix such as `/ai`, and returns it without a slash at its end.

    Raises:
        ValueError: `value` is no plain path, or its first segment is one of the gateway's own (`chatproxy.root_path`);
            the message says what is allowed.
    """
    try:
        return normal_root_path(value)
    except ValueError as fault:
        raise ValueError(f"{quoted(value)} {fault}") from None


def route_families(value: str) -> list[str]:
    """Parses a comma-separated setting of route families, which are groups of endpoints below `/v1`, such as `files`.

    Returns the names of the families, each once. The words `default` and `all` are replaced by the families that they
    stand for.

    Raises:
        ValueError: an item is no name of a family, or all items are empty.
    """
    several = {"default": routes.DEFAULT, "all": routes.ALL}
    names = [name for word in comma_separated(value) for name in several.get(word, (word,))]
    for name in names:
        if name not in routes.ALL:
            allowed = ", ".join((*several, *routes.ALL))
            raise ValueError(f"{quoted(name)} is not a family of routes; a comma-separated list of {allowed}")
    return list(dict.fromkeys(names))
