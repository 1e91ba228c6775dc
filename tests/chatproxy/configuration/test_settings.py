"""Settings: their sources, which values are refused, and that the documentation is complete."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration import setting_reader
from chatproxy.configuration.database_settings import database_settings

NAMES = [setting.name for setting in setting_reader.SETTINGS]
KNOWN = set(NAMES)

BAD_VALUES = [
    ("OPENAI_API_KEY", "sk with spaces", "spaces or non-ASCII", "printable ASCII only"),
    ("OPENAI_ORGANIZATION", "größe", "spaces or non-ASCII", "printable ASCII only"),
    ("OPENAI_BASE_URL", "api.openai.com/v1", "not a base URL", "http://host[:port][/path]"),
    ("OPENAI_BASE_URL", "http://host:99999/v1", "not a base URL", "http://host[:port][/path]"),
    ("OPENAI_BASE_URL", "https://host/v1?a=b", "not a base URL", "without query"),
    ("OPENAI_BASE_URL", "https://api.openai.com", "path of OpenAI's API", "https://api.openai.com/v1"),
    ("OPENAI_BASE_URL", "https://eu.api.openai.com/v2", "path of OpenAI's API", "https://api.openai.com/v1"),
    ("OPENAI_BASE_URL", "https://host/v1/chat/completions", "address of one endpoint", "https://host/v1"),
    ("HOST", "http://0.0.0.0", "not an address", "without http://"),
    ("HOST", "0.0.0.0:80", "not an address", "without a port"),
    ("HOST", "[::1]", "not an address", "::1"),
    ("HOST", "300.1.1.1", "not an address", "an IP address"),
    ("ALLOWED_HOSTS", "a.example, https://b.example", "not a host name", "without https://"),
    ("ALLOWED_HOSTS", "a.example:443", "not a host name", "without a port"),
    ("ALLOWED_HOSTS", "::1", "not a host name", "[::1]"),
    ("TRUSTED_PROXIES", "https://10.0.0.7", "not a network", "IP addresses or CIDR networks"),
    ("V1_ROUTES", ",", "only commas", "a comma-separated list"),
    ("OPENAI_BASE_URL", "https://user:secret@host/v1", "has a user or a password in it", "without either"),
    ("SECURITY_KEY", "short", "too short", "at least 20"),
    ("ACCESS_TOKEN", "q8Zr-x0Kd.w7Lm_", "too short", "at least 20"),
    ("SECURITY_KEY", "correct horse battery staple", "spaces or non-ASCII", "printable ASCII only"),
    ("SECURITY_KEY", "пароль-пароль-пароль-пароль", "spaces or non-ASCII", "printable ASCII only"),
    ("DEFAULT_MODEL", "a\x07b", "control characters", "printable"),
    ("PORT", "0", "out of range", "from 1 to 65535"),
    ("PORT", "\uff13\uff10\uff10\uff12", "out of range", "from 1 to 65535"),
    ("PORT", "3002.5", "out of range", "a whole number"),
    ("WEB_CONCURRENCY", "-1", "out of range", "from 1 to 64"),
    ("REQUEST_TIMEOUT", "nan", "out of range", "seconds from 1 to 86400"),
    ("REQUEST_TIMEOUT", "0", "out of range", "seconds from 1 to 86400"),
    ("DATABASE_URL", "mysql://host/name", "not a PostgreSQL URL", "postgresql://user:password@host:port/name"),
    ("REDIS_URL", "localhost:6379", "not a Redis URL", "redis[s]://[user:password@]host[:port][/number]"),
    ("REDIS_URL", "redis://:secret@host:99999", "not a Redis URL", "unix:///path/to/socket"),
    ("REDIS_URL", "redis:///0", "not a Redis URL", "redis[s]://"),
    ("REDIS_URL", "unix://", "not a Redis URL", "unix:///"),
    ("REDIS_URL", "redis://host/0?decode_responses=true", "an option that is not known", "socket_timeout"),
    ("REDIS_URL", "redis://host/0?ssl_cert_reqs=none", "an option that is not known", "with rediss:// also"),
    ("REDIS_URL", "rediss://host/0?ssl_cert_reqs=CERT_NONE", "an impossible value", "none, optional or required"),
    ("REDIS_URL", "unix:///run/r.sock?db=first", "an impossible value", "db"),
    ("V1_ROUTES", "responses, video", "not a family", "default, all, chat/completions"),
    ("DJANGO_SECRET_KEY", "x" * 49, "too short", "at least 50"),
    ("DEBUG", "maybe", "not a switch", "true or false"),
    ("CSRF_TRUSTED_ORIGINS", "https://a.example/admin", "not an origin", "https://host[:port]"),
    ("TRUSTED_PROXIES", "10.0.0.0/8, *", "not a network", "CIDR networks"),
    ("ROOT_PATH", "https://evil/", "no plain path", "for example /ai"),
    ("ROOT_PATH", "/v1/proxy", "begins as a path of the gateway's own", "for example /ai"),
]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty folder the project's: `.env`, `.env.local` and `var/secrets.env` are read there alone."""
    for name in (*NAMES, setting_reader.NO_ENV_FILES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    (tmp_path / "var").mkdir()
    return tmp_path


def test_defaults_without_any_source(sources: Path) -> None:
    assert setting_reader.load() == {setting.name: setting.default for setting in setting_reader.SETTINGS}


def test_every_default_is_a_value_that_would_be_accepted() -> None:
    for setting in setting_reader.SETTINGS:
        if setting.default is not None:
            default = setting.default
            raw = ",".join(default) if isinstance(default, list) else str(default)
            assert not raw or setting.parse(raw) == default, setting.name


def test_the_first_source_wins(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = [setting_reader.load()["DEFAULT_MODEL"]]
    for path in ("var/secrets.env", ".env", ".env.local"):
        (sources / path).write_text(f"DEFAULT_MODEL=of-{Path(path).name}\n")
        read.append(setting_reader.load()["DEFAULT_MODEL"])
    monkeypatch.setenv("DEFAULT_MODEL", "of-environment")
    read.append(setting_reader.load()["DEFAULT_MODEL"])
    assert read == ["gpt-4o-mini", "of-secrets.env", "of-.env", "of-.env.local", "of-environment"]


def test_an_empty_value_lets_the_next_source_speak(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (sources / ".env").write_text("PORT=4000\nHOST=\n")
    (sources / ".env.local").write_text('PORT=""\n')
    monkeypatch.setenv("PORT", " ")
    values = setting_reader.load()
    assert (values["PORT"], values["HOST"]) == (4000, "127.0.0.1")


def test_data_dir_of_a_file_says_where_the_secrets_are(sources: Path) -> None:
    (sources / "elsewhere").mkdir()
    (sources / ".env").write_text("DATA_DIR=elsewhere\n")
    (sources / "elsewhere" / setting_reader.SECRETS_FILE).write_text("SECURITY_KEY=key-from-elsewhere-77\n")
    assert setting_reader.load()["SECURITY_KEY"] == "key-from-elsewhere-77"


@pytest.mark.parametrize("path", ["~/data", "~", "~other/data"])
def test_a_tilde_that_no_shell_has_replaced_is_refused(
    sources: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """It would be a folder of that name in the project's."""
    (sources / ".env").write_text(f"DATA_DIR={path}\n")
    with pytest.raises(ImproperlyConfigured, match=r"^DATA_DIR begins with ~, .*; write the whole path$"):
        setting_reader.load()
    monkeypatch.setenv("DATA_DIR", f"./{path}")
    assert setting_reader.load()["DATA_DIR"] == f"./{path}"


def test_files_do_not_change_the_environment_of_others(sources: Path) -> None:
    (sources / ".env").write_text("PATH=/nowhere\nPORT=4000\n")
    before = dict(os.environ)
    setting_reader.load()
    assert dict(os.environ) == before


@pytest.mark.parametrize(("name", "value", "fault", "allowed"), BAD_VALUES)
def test_a_bad_value_is_one_line_with_name_fault_and_what_is_allowed(
    name: str, value: str, fault: str, allowed: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        setting_reader.read({name: value})
    line = str(caught.value)
    assert line.startswith(f"{name} ")
    assert fault in line
    assert allowed in line
    assert "\n" not in line


GOOD_VALUES = [
    ("OPENAI_BASE_URL", "https://eu.api.openai.com/v1/"),
    ("OPENAI_BASE_URL", "https://ark.example.com/api/v3"),
    ("OPENAI_BASE_URL", "https://me.openai.azure.com/openai/v1"),
    ("OPENAI_BASE_URL", "http://127.0.0.1:8000"),
    ("HOST", "::"),
    ("HOST", "fe80::1%eth0"),
    ("HOST", "gateway-1.internal"),
    ("ALLOWED_HOSTS", "*"),
    ("ALLOWED_HOSTS", ".example.com, chat_proxy, 10.0.0.7, [2001:db8::1]"),
]


@pytest.mark.parametrize(("name", "value"), GOOD_VALUES)
def test_a_rare_but_right_value_is_taken(name: str, value: str) -> None:
    assert setting_reader.read({name: value, "SECURITY_KEY": "4d1c7f-9a02be-6630d1"})[name]


def test_a_secret_is_not_repeated_in_its_error() -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        setting_reader.read({"OPENAI_API_KEY": "sk-not for logs"})
    assert "sk-not" not in str(caught.value)


def test_a_database_url_with_a_bad_port_is_one_line() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"^DATABASE_URL .*postgresql://user:password@host:port/name$"):
        database_settings("postgresql://user:password@host:99999/name")


def test_a_socket_directory_becomes_the_host() -> None:
    config: dict[str, Any] = database_settings(
        "postgresql://postgres@/chatproxy?host=/some/where%20else&sslmode=disable"
    )
    assert (config["HOST"], config["NAME"], config["USER"]) == ("/some/where else", "chatproxy", "postgres")
    assert config["OPTIONS"]["sslmode"] == "disable"
    assert "host" not in config["OPTIONS"]


def test_the_command_line_says_a_bad_setting_in_one_line() -> None:
    command = [sys.executable, "manage.py", "serve"]
    environ = {**os.environ, "PORT": "high"}
    done = subprocess.run(
        command, cwd=setting_reader.BASE_DIR, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "chatproxy: PORT 'high' is out of range; a whole number from 1 to 65535\n"


@pytest.mark.parametrize("document", ["docs/settings.md", ".env.example"])
def test_every_setting_is_documented(document: str) -> None:
    text = (setting_reader.BASE_DIR / document).read_text()
    assert [name for name in NAMES if not re.search(rf"\b{name}\b", text)] == []


def test_the_example_changes_nothing_until_it_is_edited(tmp_path: Path) -> None:
    assert setting_reader.read_file(setting_reader.BASE_DIR / ".env.example", KNOWN) == {}


def test_the_example_has_the_defaults(tmp_path: Path) -> None:
    example = tmp_path / ".env"
    example.write_text(re.sub(r"(?m)^#(?=[A-Z_]+=)", "", (setting_reader.BASE_DIR / ".env.example").read_text()))
    found = setting_reader.read_file(example, KNOWN)
    assert setting_reader.read(found) == {setting.name: setting.default for setting in setting_reader.SETTINGS}
