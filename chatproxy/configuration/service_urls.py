"""Checks the URLs of other services: of the upstream, PostgreSQL, Redis and the mail server.

Each check returns the URL, or raises `ValueError` with a message that says what is wrong and what is allowed.

Invariant: no error message contains a part of the URL. Even host, port, path and options may be a part of a password:
one with an unescaped `/`, `?`, `#` or `@` is split in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from usage.ip_addresses import is_loopback

DATABASE_FORM = "postgresql://user:password@host:port/name"
REDIS_FORM = "redis[s]://[user:password@]host[:port][/number] or unix:///path/to/socket"
REDIS_OPTIONS_FORM = (
    "db, username, password, client_name, health_check_interval, socket_timeout, socket_connect_timeout and "
    "socket_keepalive; with rediss:// also ssl_cert_reqs (none, optional or required), ssl_check_hostname, "
    "ssl_ca_certs, ssl_ca_path, ssl_certfile, ssl_keyfile, ssl_password and ssl_ciphers"
)
SMTP_FORM = "smtp+tls://user:password@host:587, smtp+ssl://user:password@host:465 or smtp://host:25"
SMTP_PORTS = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
ENCODE = "percent-encode the special characters of the password (/ as %2F, @ as %40), and check the port"
MIN_REDACTED_LENGTH = 6  # a shorter password may be part of many words; redacting it would make texts unreadable

# The options in the query of a Redis URL that the Redis client takes, with their values. With another one, or another
# value, it raises errors of various types when it connects, or answers in a form that the limits cannot read.
_NUMBER, _SWITCH = r"[0-9]{1,6}(?:\.[0-9]{1,6})?", r"(?i:true|false|yes|no|on|off|1|0)"
_REDIS_OPTIONS = {
    "db": r"[0-9]{1,5}", "username": r".+", "password": r".+", "client_name": r"[!-~]+",
    "health_check_interval": r"[0-9]{1,6}", "socket_timeout": _NUMBER, "socket_connect_timeout": _NUMBER,
    "socket_keepalive": _SWITCH,
}  # fmt: skip
_TLS_OPTIONS = {
    "ssl_cert_reqs": r"none|optional|required", "ssl_check_hostname": _SWITCH, "ssl_ca_certs": r".+",
    "ssl_ca_path": r".+", "ssl_certfile": r".+", "ssl_keyfile": r".+", "ssl_password": r".+", "ssl_ciphers": r".+",
}  # fmt: skip

_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._~%-]*)(?::[0-9]{0,5})?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_OPENAI_HOST = re.compile(r"(?:[a-z0-9-]+\.)?api\.openai\.com")
_ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/embeddings")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def http_url(value: str) -> str:
    """Checks the base URL of an HTTP service, and returns it without a slash at its end.

    Raises:
        ValueError: `value` is no `http` or `https` URL, or contains a user, a password, a query or a fragment; the
            message says what is allowed.
    """
    parts = _split(value)
    if parts is not None and "@" in parts.netloc:  # calls send their own Authorization header
        raise ValueError("has a user or a password in it; http://host[:port][/path] or https://…, without either")
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("is not a base URL; http://host[:port][/path] or https://…, without query")
    return value.rstrip("/")


def issuer_url(value: str) -> str:
    """Checks the address of an OpenID Connect issuer (single sign-on), and returns it without a slash at its end.

    Raises:
        ValueError: `http_url` refuses `value`, or it is not https:// although the issuer is on another machine.
    """
    url = http_url(value)
    parts = urlsplit(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or "") and parts.hostname != "localhost":
        raise ValueError("is not encrypted; https://host[:port][/path]")
    return url


def upstream_url(value: str) -> str:
    """Checks the base URL of an OpenAI-compatible server, and returns it without a slash at its end.

    Raises:
        ValueError: `http_url` refuses `value`; or `value` is the URL of a single endpoint; or it is OpenAI's URL with
            another path than `/v1`. The message says what is allowed.
    """
    url = http_url(value)
    parts = urlsplit(url)
    if parts.path.endswith(_ENDPOINTS):
        raise ValueError("is the address of one endpoint; the base URL ends before it, as in https://host/v1")
    if _OPENAI_HOST.fullmatch(parts.hostname or "") and parts.path != "/v1":
        raise ValueError("has not the path of OpenAI's API; https://api.openai.com/v1")
    return url


def database_url(value: str) -> str:
    """Checks the URL of a PostgreSQL database, which may name several hosts, and returns it unchanged.

    Raises:
        ValueError: `value` is no such URL; the message says what is allowed.
    """
    if not re.match(r"postgres(ql)?://", value):
        raise ValueError(f"is not a PostgreSQL URL; {DATABASE_FORM}")
    if (parts := _split(value)) is None or not _has_plain_credentials(parts):
        raise ValueError(f"cannot be read; {ENCODE}; {DATABASE_FORM}")
    return value


def redis_url(value: str) -> str:
    """Checks the URL of a Redis server (`redis`, `rediss` or `unix`), and returns it unchanged.

    Raises:
        ValueError: `value` is no such URL; the message says what is allowed.
    """
    parts = _split(value)
    if parts is not None and parts.scheme in {"redis", "rediss"}:
        usable = bool(parts.hostname) and re.fullmatch(r"(/[0-9]{0,5})?", parts.path) is not None
    else:
        usable = parts is not None and parts.scheme == "unix" and bool(parts.path)
    if parts is None or not usable or not _has_plain_credentials(parts):
        raise ValueError(f"is not a Redis URL; {ENCODE}; {REDIS_FORM}")
    options = _REDIS_OPTIONS | _TLS_OPTIONS if parts.scheme == "rediss" else _REDIS_OPTIONS
    for name, text in parse_qsl(parts.query, keep_blank_values=True):
        if name not in options or not re.fullmatch(options[name], text):
            raise ValueError(f"has an option that is not known, or has an impossible value; {REDIS_OPTIONS_FORM}")
    return value


def smtp_url(value: str) -> str:
    """Checks the URL of a mail server (`smtp`, `smtp+tls` or `smtp+ssl`), and returns it unchanged.

    Raises:
        ValueError: `value` is no such URL; the message says what is allowed.
    """
    parts = _split(value)
    if parts is None or parts.scheme not in SMTP_PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(f"is not the URL of a mail server; {ENCODE}; {SMTP_FORM}")
    if not _has_plain_credentials(parts):
        raise ValueError(f"cannot be read; {ENCODE}; {SMTP_FORM}")
    return value


class MailServer(NamedTuple):
    """The parts of a mail server's URL.

    `starts_tls` is true for `smtp+tls` (STARTTLS), and `has_tls` for `smtp+ssl` (TLS from the start).
    """

    host: str
    port: int
    user: str
    password: str
    starts_tls: bool
    has_tls: bool


def mail_server(url: str) -> MailServer:
    """Returns the parts of a mail server's URL that `smtp_url` has accepted; a missing port becomes the usual one.

    A `+` in a password stays a `+`; django-environ's parser would turn it into a space.
    """
    parts = urlsplit(url)
    return MailServer(
        parts.hostname or "",
        parts.port or SMTP_PORTS[parts.scheme],
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        parts.scheme == "smtp+tls",
        parts.scheme == "smtp+ssl",
    )


def passwords_of(url: str) -> Iterator[str]:
    """Yields the passwords in a URL, as written and percent-decoded, so that they can be removed from texts.

    A password of fewer than `MIN_REDACTED_LENGTH` characters, or one that equals the user's name, is left out.
    """
    parts = _split(url)
    if parts is None:
        return
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    found = [written, *(text for name, text in parse_qsl(parts.query) if "password" in name.lower())]
    for password in {*found, *map(unquote, found)}:
        if len(password) >= MIN_REDACTED_LENGTH and password != parts.username:
            yield password


def _split(value: str) -> SplitResult | None:
    """Splits a URL into its parts; returns None if it is malformed or its port is invalid.

    A URL with several hosts, as PostgreSQL allows it, is split, too.
    """
    if not value.isprintable() or " " in value:
        return None
    try:
        parts = urlsplit(value)
        return None if parts.port == 0 and "," not in parts.netloc else parts
    except ValueError:
        return _split_of_several_hosts(value)


def _split_of_several_hosts(value: str) -> SplitResult | None:
    """Splits a URL with several hosts, as PostgreSQL allows it.

    Returns None if there is only one host, or if the URL is malformed.
    """
    # `urlsplit` could not read its port: of the hosts `a:1,b:2`, it takes `1,b:2` for the port.
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return parts if "," in parts.netloc else None


def _has_plain_credentials(parts: SplitResult) -> bool:
    """Returns whether a URL is written so that all programs read its user, password and hosts alike.

    The characters `@`, `/`, `?` and `#` must be percent-encoded in the user and the password. There may be no fragment,
    no `@` in the path or query, no wrong percent-encoding, and no unprintable character.
    """
    credentials, _, hosts = parts.netloc.rpartition("@")
    escaped = (parts.netloc, parts.path, parts.query)
    return (
        "@" not in credentials + parts.path + parts.query
        and not parts.fragment
        and _HOSTS.fullmatch(hosts) is not None
        and not any(_BAD_ESCAPE.search(part) for part in escaped)
        and unquote(parts.netloc).isprintable()
    )
