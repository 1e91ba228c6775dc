"""Owns every setting a person can set: its name, default, type and meaning.

Sources, the first that has a non-empty value wins: the environment, `.env.local`, `.env`,
then `DATA_DIR/secrets.env` (what the first start generated). An empty value counts as unset.
A bad value raises `ImproperlyConfigured` with one line that names the variable, the fault and
what is allowed.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from chatproxy.env_file import read_env_file
from chatproxy.root_path import normal_root_path
from chatproxy.secret_strength import SHORTEST, SHORTEST_ON_LOOPBACK, is_easily_guessed
from chatproxy.service_urls import database_url, http_url, passwords_of, redis_url
from proxyapi import routes
from usage.addresses import is_loopback

BASE_DIR = Path(__file__).resolve().parent.parent
SECRETS_FILE = "secrets.env"
LONGEST_SHOWN = 15  # characters of a wrong value in a message
NO_ENV_FILES = "CHATPROXY_NO_ENV_FILES"  # set by tests: a developer's own files must not reach them


class Setting(NamedTuple):
    """One environment variable; `parse` raises `ValueError("fault; what is allowed")`."""

    name: str
    default: Any
    parse: Callable[[str], Any]
    meaning: str


def text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("contains control characters; printable characters only")
    return value


def header_value(value: str) -> str:
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise ValueError("contains spaces or non-ASCII characters; printable ASCII only")
    return value


STRONG = f"at least {SHORTEST} random printable ASCII characters, for example those of `openssl rand -hex 20`"
TOO_SHORT = f"is too short; {STRONG}"


def strong(value: str) -> str:
    """Checks a secret that strangers may guess at over the network. The fault never has the value in it.

    `read` refuses one of fewer than `SHORTEST` characters where others can reach the server.
    """
    if len(header_value(value)) < SHORTEST_ON_LOOPBACK:
        raise ValueError(TOO_SHORT)
    if is_easily_guessed(value):
        raise ValueError(f"is easily guessed; {STRONG}")
    return value


def django_secret(value: str) -> str:
    if len(value) < 50:
        raise ValueError("is too short; at least 50 characters")
    if len(set(value)) < 10 or value.startswith("django-insecure-"):
        raise ValueError("is easily guessed; at least 50 random characters")
    return text(value)


def key_secret(value: str) -> str:
    if len(value) < 32 or len(set(value)) < 10:
        raise ValueError("is too short or easily guessed; at least 32 random characters")
    return text(value)


def shown(value: str) -> str:
    """A wrong value for a message. What is longer than a right value may be a secret that got into the wrong place."""
    return repr(value) if len(value) <= LONGEST_SHOWN else f"a text of {len(value)} characters"


def switch(value: str) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if value.lower() not in words:
        raise ValueError(f"{shown(value)} is not a switch; true or false")
    return words[value.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"{shown(value)} is not one of the choices; {', '.join(choices)}")
        return value

    return parse


def whole_number(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not low <= int(value) <= high:
            raise ValueError(f"{shown(value)} is out of range; a whole number from {low} to {high}")
        return int(value)

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not low <= float(value) <= high:
            raise ValueError(f"{shown(value)} is out of range; seconds from {low:g} to {high:g}")
        return float(value)

    return parse


def words(value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def origins(value: str) -> list[str]:
    for origin in words(value):
        if not re.match(r"https?://[^/]+$", origin):
            raise ValueError(f"{shown(origin)} is not an origin; a comma-separated list of https://host[:port]")
    return words(value)


def networks(value: str) -> list[str]:
    for network in words(value):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError(
                f"{shown(network)} is not a network; a comma-separated list of IP addresses or CIDR networks"
            ) from None
    return words(value)


def root_path(value: str) -> str:
    try:
        return normal_root_path(value)
    except ValueError as fault:
        raise ValueError(f"{shown(value)} {fault}") from None


def route_families(value: str) -> list[str]:
    """`default` and `all` stand for several."""
    several = {"default": routes.DEFAULT, "all": routes.ALL}
    names = [name for word in words(value) for name in several.get(word, (word,))]
    for name in names:
        if name not in routes.ALL:
            allowed = ", ".join((*several, *routes.ALL))
            raise ValueError(f"{shown(name)} is not a family of routes; a comma-separated list of {allowed}")
    return list(dict.fromkeys(names))


MIB = 1024 * 1024

SETTINGS = (
    Setting("OPENAI_API_KEY", None, header_value, "The upstream key. Without one, calls must bring their own."),
    Setting("OPENAI_PROJECT_KEY", None, header_value, "Default `OpenAI-Project`."),
    Setting("OPENAI_ORGANIZATION", None, header_value, "Default `OpenAI-Organization`."),
    Setting("OPENAI_BASE_URL", "https://api.openai.com/v1", http_url, "The upstream: any OpenAI-compatible server."),
    Setting("SECURITY_KEY", None, strong, "The built-in key of callers. Generated at the first start."),
    Setting("ACCESS_TOKEN", None, strong, "For the health, log and runtime pages. Generated at the first start."),
    Setting("DEFAULT_MODEL", "gpt-4o-mini", text, "The model of `/chatgpt` and the health checks."),
    Setting("HOST", "127.0.0.1", text, "The address to listen on."),
    Setting("PORT", 3002, whole_number(1, 65535), "The port to listen on."),
    Setting("WEB_CONCURRENCY", 1, whole_number(1, 64), "Worker processes."),
    Setting("DATABASE_URL", None, database_url, "PostgreSQL. Unset: the bundled server, kept in `DATA_DIR`."),
    Setting("REDIS_URL", None, redis_url, "Counts the limits of keys for all processes. Unset: each for itself."),
    Setting("DATA_DIR", "./var", text, "Generated secrets, the journal and the bundled PostgreSQL."),
    Setting("REQUEST_TIMEOUT", 900.0, seconds(1, 86400), "Seconds for one upstream call in all."),
    Setting("FIRST_BYTE_TIMEOUT", None, seconds(1, 86400), "Seconds until upstream begins to answer. Unset: no limit."),
    Setting("IDLE_TIMEOUT", None, seconds(1, 86400), "Seconds of silence in an answer of upstream's. Unset: no limit."),
    Setting("MAX_PARALLEL_REQUESTS", 1000, whole_number(1, 100_000), "Calls at once per process; beyond it 503."),
    Setting(
        "MAX_CONNECTIONS",
        None,
        whole_number(10, 1_000_000),
        "Open connections per process. Unset: 10000, or twice the calls.",
    ),
    Setting("MAX_CONNECTIONS_PER_ADDRESS", None, whole_number(1, 1_000_000), "Of one client. Unset: half of them."),
    Setting("INVALID_KEYS_PER_MINUTE", 100, whole_number(1, 1_000_000), "Wrong keys of one client; beyond it 429."),
    Setting("MAX_BODY_BYTES", 50 * MIB, whole_number(1024, 1024 * MIB), "Largest request body; beyond it 413."),
    Setting("MAX_UPLOAD_BYTES", 25 * MIB, whole_number(1024, 1024 * MIB), "Largest uploaded file; beyond it 413."),
    Setting("MAX_FORM_BYTES", 800 * MIB, whole_number(1024, 16 * 1024 * MIB), "Largest form of /v1, all its files."),
    Setting(
        "STRANGER_BYTES", 128 * MIB, whole_number(MIB, 1024 * 1024 * MIB), "Bodies without a key yet, per process."
    ),
    Setting("SSE_KEEPALIVE_SECONDS", 15.0, seconds(0, 3600), "A comment when a stream is silent that long; 0: never."),
    Setting("INJECT_STREAM_USAGE", True, switch, "Ask upstream for the usage of streamed chats, for the ledger only."),
    Setting("BACKGROUND_POLL_SECONDS", 5.0, seconds(0, 3600), "How often unfetched background responses are sought."),
    Setting("V1_ROUTES", list(routes.DEFAULT), route_families, "Open families of `/v1`: names, `default`, `all`."),
    Setting("LOG_BODIES", "all", one_of("all", "errors", "none"), "Whose bodies the ledger keeps, redacted."),
    Setting("LOG_BODY_BYTES", 16384, whole_number(0, MIB), "How much is kept of each body."),
    Setting("RETENTION_DAYS", 365, whole_number(0, 36500), "Days that a call's row is kept; 0: for ever."),
    Setting("BODY_RETENTION_DAYS", 30, whole_number(0, 36500), "Days that its bodies are kept; 0: for ever."),
    Setting("JOURNAL_SYNC", "interval", one_of("interval", "always", "off"), "When the journal is synced to disk."),
    Setting("JOURNAL_RESERVE_BYTES", 64 * MIB, whole_number(0, 1024 * MIB), "Free disk below which calls get 503."),
    Setting("DJANGO_SECRET_KEY", None, django_secret, "Signs admin sessions. Generated at the first start."),
    Setting("KEY_ENCRYPTION_KEY", None, key_secret, "Digests and seals keys. Unset: `DJANGO_SECRET_KEY` does."),
    Setting("DEBUG", False, switch, "Django's debug pages in the admin. `make dev` and `make demo` only."),
    Setting("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"], words, "Host names the admin answers to."),
    Setting("CSRF_TRUSTED_ORIGINS", [], origins, "Origins of the admin behind a TLS proxy."),
    Setting("TRUSTED_PROXIES", [], networks, "Proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are believed."),
    Setting("ROOT_PATH", None, root_path, "Path under which it is reached, as `/ai`. Unset: `X-Forwarded-Prefix`."),
    Setting("ADMIN_USERNAME", "admin", text, "The first admin's name."),
    Setting("ADMIN_PASSWORD", None, text, "The first admin's password. Generated at the first start."),
)

# What is shown to nobody: the whole value, or for a URL the password in it.
SECRETS = frozenset(
    {"OPENAI_API_KEY", "SECURITY_KEY", "ACCESS_TOKEN", "DJANGO_SECRET_KEY", "KEY_ENCRYPTION_KEY", "ADMIN_PASSWORD"}
)
URLS_WITH_PASSWORDS = frozenset({"DATABASE_URL", "REDIS_URL"})


def read(environment: Mapping[str, str]) -> dict[str, Any]:
    """The typed value of every setting, by name.

    Raises:
        ImproperlyConfigured: a value is bad; one line.
    """
    values = {}
    for setting in SETTINGS:
        raw = environment.get(setting.name, "").strip()
        try:
            values[setting.name] = setting.parse(raw) if raw else setting.default
        except ValueError as fault:
            raise ImproperlyConfigured(f"{setting.name} {fault}") from None
    if (not is_loopback(values["HOST"]) or values["TRUSTED_PROXIES"]) and (short := short_secrets(values)):
        raise ImproperlyConfigured(f"{short[0]} {TOO_SHORT}")
    return values


def short_secrets(values: Mapping[str, Any]) -> list[str]:
    """The names of the secrets that are taken only because nobody reaches the server over the network."""
    return [name for name in ("SECURITY_KEY", "ACCESS_TOKEN") if 0 < len(values[name] or "") < SHORTEST]


def own_secrets(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The secrets among the typed values of `read`, in every spelling in which they may turn up in words of others."""
    found = {str(values[name]) for name in SECRETS if values[name]}
    for name in URLS_WITH_PASSWORDS:
        found.update(passwords_of(values[name] or ""))
    return tuple(sorted(found))


def data_dir(environment: Mapping[str, str]) -> Path:
    """Where the server keeps its data; a relative path counts from the project's folder."""
    default = next(setting.default for setting in SETTINGS if setting.name == "DATA_DIR")
    return (BASE_DIR / (environment.get("DATA_DIR", "").strip() or default)).resolve()


def load() -> dict[str, Any]:
    """Reads the sources in their order and returns what `read` makes of them."""
    known = {setting.name for setting in SETTINGS}
    merged = {name: value for name, value in os.environ.items() if name in known and value.strip()}
    if not os.environ.get(NO_ENV_FILES):
        for path in (BASE_DIR / ".env.local", BASE_DIR / ".env"):
            merged = {**read_file(path, known), **merged}
    return read({**read_file(data_dir(merged) / SECRETS_FILE, known), **merged})


def read_file(path: Path, names: set[str]) -> dict[str, str]:
    """The known, non-empty variables of one `.env` file; a missing file has none."""
    found = read_env_file(path)
    return {name: value for name, value in found.items() if name in names and value.strip()}
