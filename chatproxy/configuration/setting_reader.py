"""The list of all settings of the server, with name, default, type and meaning, and the code that reads them.

The first source with a non-empty value wins: the environment, `.env.local`, `.env`, then `DATA_DIR/secrets.env` (the
secrets that the first start generated). A secret may also be in a file that a variable `NAME_FILE` names. An empty
value counts as unset. A bad value raises `ImproperlyConfigured` with one line that names the variable, the fault and
what is allowed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration.env_file import read_env_file
from chatproxy.configuration.secret_files import SUFFIX, read_secret_files
from chatproxy.configuration.secret_strength import MIN_LENGTH
from chatproxy.configuration.service_urls import (
    database_url,
    http_url,
    issuer_url,
    passwords_of,
    redis_url,
    smtp_url,
    upstream_url,
)
from chatproxy.configuration.setting_parsers import (
    TOO_SHORT,
    django_secret,
    email_address,
    header_value,
    host_names,
    key_secret,
    listen_address,
    networks,
    one_of,
    origins,
    root_path,
    route_families,
    seconds,
    strong_secret,
    switch,
    tag_names,
    text,
    whole_number,
)
from chatproxy.configuration.sign_in_settings import domains, role_names
from proxyapi import routes
from usage.ip_addresses import is_loopback

BASE_DIR = Path(__file__).resolve().parent.parent.parent
SECRETS_FILE = "secrets.env"
NO_ENV_FILES = "CHATPROXY_NO_ENV_FILES"  # set by tests: a developer's own files must not reach them
DEMO_FILE = "made-by-make-demo"  # in a DATA_DIR of `make demo`, whose commands must not reach a real server

# The value of every setting by name, in the type that its parser returns; `chatproxy.settings` declares each type.
SettingValues = dict[str, Any]


class Setting(NamedTuple):
    """A setting of the server: its name (an environment variable), its default, its parser, and its meaning for people.

    `parse` turns the variable's text into a typed value. It raises ValueError for a bad text; the message has the
    fault, a semicolon, and what is allowed.
    """

    name: str
    default: object
    parse: Callable[[str], object]
    meaning: str


MIB = 1024 * 1024
DEFAULT_DATA_DIR = "./var"

SETTINGS = (
    Setting("OPENAI_API_KEY", None, header_value, "The upstream key. Without one, calls must bring their own."),
    Setting("OPENAI_PROJECT_KEY", None, header_value, "Default `OpenAI-Project`."),
    Setting("OPENAI_ORGANIZATION", None, header_value, "Default `OpenAI-Organization`."),
    Setting(
        "OPENAI_BASE_URL", "https://api.openai.com/v1", upstream_url, "The upstream: any OpenAI-compatible server."
    ),
    Setting("REGIONAL_PRICES", None, switch, "Whether newer models cost 10 % more. Unset: by OpenAI's regional hosts."),
    Setting("SECURITY_KEY", None, strong_secret, "The built-in key of callers. Generated at the first start."),
    Setting(
        "ACCESS_TOKEN", None, strong_secret, "For the health, log and runtime pages. Generated at the first start."
    ),
    Setting("DEFAULT_MODEL", "gpt-4o-mini", text, "The model of `/chatgpt` and the health checks."),
    Setting("HOST", "127.0.0.1", listen_address, "The address to listen on."),
    Setting("PORT", 3002, whole_number(1, 65535), "The port to listen on."),
    Setting("WEB_CONCURRENCY", 1, whole_number(1, 64), "Worker processes."),
    Setting("DATABASE_URL", None, database_url, "PostgreSQL. Unset: the bundled server, kept in `DATA_DIR`."),
    Setting("REDIS_URL", None, redis_url, "Counts the limits of keys for all processes. Unset: each for itself."),
    Setting("DATA_DIR", DEFAULT_DATA_DIR, text, "Generated secrets, the journal and the bundled PostgreSQL."),
    Setting("REQUEST_TIMEOUT", 900.0, seconds(1, 86400), "Seconds for one upstream call in all."),
    Setting("DRAIN_SECONDS", 0.0, seconds(0, 3600), "Seconds of serving after SIGTERM while `/readyz` says 503."),
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
    Setting("PROJECT_SERVICE_TIER", "dearest", one_of("dearest", "default"), "Of calls that name none, for budgets."),
    Setting("PRICES_UPDATE", False, switch, "Download newer lists of prices every six hours."),
    Setting("PRICES_URL", None, http_url, "Where from. Unset: the published list of genai-prices."),
    Setting("V1_ROUTES", list(routes.DEFAULT), route_families, "Open families of `/v1`: names, `default`, `all`."),
    Setting("ACCESS_LOG", False, switch, "A line in the log for each request, without its query."),
    Setting("METADATA_TAGS", [], tag_names, "Members of a request's `metadata` that become tags of the call."),
    Setting("LOG_BODIES", "all", one_of("all", "errors", "none"), "Whose bodies the ledger keeps, redacted."),
    Setting("LOG_BODY_BYTES", 262144, whole_number(0, MIB), "How much is kept of each body."),
    Setting("AUDIT_BODY_VIEWS", False, switch, "Write into the audit log who looks at prompts and answers."),
    Setting("MY_USAGE_BODIES", False, switch, "Prompts and answers of a key's calls in My usage."),
    Setting("RETENTION_DAYS", 365, whole_number(0, 36500), "Days that a call's row is kept; 0: without limit."),
    Setting("BODY_RETENTION_DAYS", 30, whole_number(0, 36500), "Days that its bodies are kept; 0: without limit."),
    Setting("JOURNAL_SYNC", "interval", one_of("interval", "always", "off"), "When the journal is synced to disk."),
    Setting("JOURNAL_RESERVE_BYTES", 64 * MIB, whole_number(0, 1024 * MIB), "Free disk below which calls get 503."),
    Setting("DJANGO_SECRET_KEY", None, django_secret, "Signs admin sessions. Generated at the first start."),
    Setting("KEY_ENCRYPTION_KEY", None, key_secret, "Digests and seals keys. Unset: `DJANGO_SECRET_KEY` does."),
    Setting("DEBUG", False, switch, "Django's debug pages in the admin. `make dev` and `make demo` only."),
    Setting("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"], host_names, "Host names the admin answers to."),
    Setting("CSRF_TRUSTED_ORIGINS", [], origins, "Origins of the admin behind a TLS proxy."),
    Setting("TRUSTED_PROXIES", [], networks, "Proxies whose `X-Forwarded-For`, `-Proto` and `-Prefix` are believed."),
    Setting("ROOT_PATH", None, root_path, "Path under which it is reached, as `/ai`. Unset: `X-Forwarded-Prefix`."),
    Setting("PUBLIC_URL", None, http_url, "Where people reach the gateway, for alerts (unset: no links) and new keys."),
    Setting("EMAIL_URL", None, smtp_url, "The mail server for alerts. Unset: no e-mail."),
    Setting("EMAIL_FROM", "chatproxy@localhost", email_address, "The sender of its e-mails."),
    Setting("OIDC_ISSUER", None, issuer_url, "The issuer of single sign-on (OpenID Connect). Unset: passwords only."),
    Setting("OIDC_CLIENT_ID", None, header_value, "This gateway's client id at the issuer."),
    Setting("OIDC_CLIENT_SECRET", None, header_value, "Its client secret."),
    Setting("OIDC_NAME", "single sign-on", text, "What the button of the login page calls it."),
    Setting("OIDC_DOMAINS", [], domains, "Domains of e-mail addresses that may sign in."),
    Setting("OIDC_ROLES_CLAIM", None, text, "The claim with a person's roles. Unset: groups are given by hand."),
    Setting("OIDC_ROLES", None, role_names, "The groups that its values stand for, as llm-admins=admin,staff=viewer."),
    Setting("OIDC_TEAMS_CLAIM", None, text, "The claim with a person's teams. Unset: teams are given by hand."),
    Setting("SECOND_FACTOR", False, switch, "Whether people may protect their password by a second factor."),
    Setting("ADMIN_USERNAME", "admin", text, "The first admin's name."),
    Setting("ADMIN_PASSWORD", None, text, "The first admin's password. Generated at the first start."),
)

# Never shown or logged: the values of the former, and the passwords in the latter.
SECRETS = frozenset(
    {
        "OPENAI_API_KEY",
        "SECURITY_KEY",
        "ACCESS_TOKEN",
        "DJANGO_SECRET_KEY",
        "KEY_ENCRYPTION_KEY",
        "ADMIN_PASSWORD",
        "OIDC_CLIENT_SECRET",
    }
)
URLS_WITH_PASSWORDS = frozenset({"DATABASE_URL", "REDIS_URL", "EMAIL_URL"})
NEEDED_WITH_ISSUER = ("OIDC_CLIENT_ID", "OIDC_CLIENT_SECRET", "OIDC_DOMAINS")
# The variables that name a file instead of a secret itself.
FILE_NAMES = frozenset(name + SUFFIX for name in SECRETS | URLS_WITH_PASSWORDS)
# Variables that lead to the data of a real server, or may be its secrets; the demo and its commands ignore them.
REAL_SERVERS = frozenset({"DATABASE_URL", "REDIS_URL"}) | FILE_NAMES


def read(environment: Mapping[str, str]) -> SettingValues:
    """Parses environment variables; returns the typed values of all settings by name.

    A missing or empty variable gives the default.

    Raises:
        ImproperlyConfigured: a value is bad, a setting is missing that single sign-on needs, or a secret is too short
            for a server that other machines can reach; the message is one line.
    """
    values: SettingValues = {}
    for setting in SETTINGS:
        raw = environment.get(setting.name, "").strip()
        try:
            values[setting.name] = setting.parse(raw) if raw else setting.default
        except ValueError as fault:
            raise ImproperlyConfigured(f"{setting.name} {fault}") from None
    if values["OIDC_ISSUER"] and (missing := [name for name in NEEDED_WITH_ISSUER if not values[name]]):
        raise ImproperlyConfigured(f"{missing[0]} is missing; single sign-on needs it, since OIDC_ISSUER is set")
    if (not is_loopback(values["HOST"]) or values["TRUSTED_PROXIES"]) and (short := short_secrets(values)):
        raise ImproperlyConfigured(f"{short[0]} {TOO_SHORT}")
    return values


def short_secrets(values: SettingValues) -> list[str]:
    """Returns which of the secrets SECURITY_KEY and ACCESS_TOKEN are too short for a server that others can reach.

    The result has their names. A secret that is not set is left out.
    """
    return [name for name in ("SECURITY_KEY", "ACCESS_TOKEN") if 0 < len(values[name] or "") < MIN_LENGTH]


def own_secrets(values: SettingValues) -> tuple[str, ...]:
    """Returns the values of all secrets in the settings, so that they can be removed from texts.

    The passwords in URLs are included, as written and percent-decoded, except for very short ones.
    """
    found = {str(values[name]) for name in SECRETS if values[name]}
    for name in URLS_WITH_PASSWORDS:
        found.update(passwords_of(values[name] or ""))
    return tuple(sorted(found))


def data_dir(environment: Mapping[str, str]) -> Path:
    """Returns the directory that `DATA_DIR` in `environment` names; a relative path begins at the project's folder.

    Raises:
        ImproperlyConfigured: the path begins with `~`, or leads through a symbolic link to itself; the message is one
            line.
    """
    named = environment.get("DATA_DIR", "").strip() or DEFAULT_DATA_DIR
    if named.startswith("~"):  # else all data would go into a folder of that name
        kept = f"; the data until now is in {BASE_DIR / named}: move it" if (BASE_DIR / named).exists() else ""
        raise ImproperlyConfigured(f"DATA_DIR begins with ~, which only a shell replaces; write the whole path{kept}")
    path = BASE_DIR / named
    try:
        return path.resolve()
    except (RuntimeError, OSError):  # Python 3.11 and 3.12 raise RuntimeError
        raise ImproperlyConfigured(f"DATA_DIR {path} is a symbolic link that leads to itself") from None


def load() -> SettingValues:
    """Reads the settings from the environment and the `.env` files; returns their typed values by name.

    The first of these sources that has a value counts: the environment, `.env.local`, `.env`, `DATA_DIR/secrets.env`. A
    variable `NAME_FILE` names a file with the secret `NAME`. If DATA_DIR is that of a demo, the environment's variables
    in `REAL_SERVERS` are ignored, since they lead to the data or secrets of a real server.

    Raises:
        ImproperlyConfigured: a value is bad, or a file cannot be read; the message is one line.
    """
    known = {setting.name for setting in SETTINGS}
    counted = (known | FILE_NAMES) - (REAL_SERVERS if is_demo(os.environ) else set())
    merged = {name: value for name, value in os.environ.items() if name in counted and value.strip()}
    for path in env_files():
        merged = {**read_file(path, known | FILE_NAMES), **merged}
    merged |= read_secret_files(merged, BASE_DIR)
    return read({**read_file(data_dir(merged) / SECRETS_FILE, known), **merged})


def env_files() -> list[Path]:
    """Returns the paths of the `.env` files that people write, the most important first; they need not exist.

    The list is empty if the variable `NO_ENV_FILES` is set, or if DATA_DIR is the directory of a demo.
    """
    if os.environ.get(NO_ENV_FILES) or is_demo(os.environ):
        return []
    return [BASE_DIR / ".env.local", BASE_DIR / ".env"]


def is_demo(environment: Mapping[str, str]) -> bool:
    """Returns whether the directory that `DATA_DIR` in `environment` names was made by `make demo`.

    Raises:
        ImproperlyConfigured: the path leads through a symbolic link to itself.
    """
    return os.path.isfile(data_dir(environment) / DEMO_FILE)


def read_file(path: Path, names: set[str]) -> dict[str, str]:
    """Reads the settings in `names` from an `.env` file, as a dict; settings with an empty value are left out.

    The dict is empty if there is no such file.

    Raises:
        EnvFileError: the file or one of its lines cannot be read.
    """
    found = read_env_file(path)
    return {name: value for name, value in found.items() if name in names and value.strip()}
