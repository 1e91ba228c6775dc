"""No error message repeats a secret of a setting, however badly the setting is written, whichever library complains."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from redis import ConnectionPool as PlainConnectionPool
from redis.asyncio import ConnectionPool

from chatproxy.configuration import setting_parsers, setting_reader
from chatproxy.configuration.database_settings import database_settings
from tests.support.servers.environments import variables

SECRET = "Pl4nted-Secr3t-0f-the-0wner"
PASSWORD = "5ecretPassw0rd"
NAMES = [setting.name for setting in setting_reader.SETTINGS]
# Every spelling is tried in every setting: a value may also have been put into the wrong one.
SPELLINGS = {
    "as it is": SECRET,
    "with a space": f"{SECRET} {SECRET}",
    "with a line break": f"{SECRET}\n{SECRET}",
    "with a control character": f"{SECRET}\x1b[31m",
    "with a NUL": f"{SECRET}\x01",
    "not ASCII": f"{SECRET}ü",
    "short": SECRET[:7],
    "repeated": SECRET[:6] * 10,
    "list": f"{SECRET},{SECRET}",
    "quoted": f'"{SECRET}',
    "with /": f"postgresql://user:{PASSWORD}/x@host:5432/name",
    "with ?": f"postgresql://user:{PASSWORD}?x@host:5432/name",
    "with #": f"postgresql://user:{PASSWORD}#x@host:5432/name",
    "with @": f"postgresql://user:x@{PASSWORD}@host:5432/name",
    "with %": f"postgresql://user:{PASSWORD}%zz@host:5432/name",
    "with [": f"postgresql://user:[{PASSWORD}@host:5432/name",
    "port, then /": f"postgresql://user:1234/{PASSWORD}@host:5432/name",
    "bad port": f"postgresql://user:{PASSWORD}@host:99999/name",
    "port is a word": f"postgresql://user@host:{PASSWORD}/name",
    "an unknown option": f"postgresql://user@host/name?{PASSWORD}=1",
    "an option with @": f"postgresql://user:x@y?{PASSWORD}=z@host/name",
    "a fragment": f"postgresql://user:x@host/name#{PASSWORD}",
    "without a scheme": f"user:{PASSWORD}@host:5432/name",
    "another scheme": f"mysql://user:{PASSWORD}@host:5432/name",
    "redis with /": f"redis://user:{PASSWORD}/x@host:6379/0",
    "redis port, then /": f"redis://user:6379/{PASSWORD}@host:6379/0",
    "redis with ?": f"redis://:x?{PASSWORD}@host:6379/0",
    "redis with #": f"redis://:x#{PASSWORD}@host:6379/0",
    "redis with @": f"redis://:x@{PASSWORD}@host:6379/0",
    "redis database": f"redis://host:6379/{PASSWORD}",
    "redis port": f"redis://host:{PASSWORD}/0",
    "redis without a host": f"redis://:{PASSWORD}@/0",
    "http": f"https://user:{PASSWORD}@host/v1",
    "http with /": f"https://user:{PASSWORD}/x@host/v1",
    "http with a query": f"https://host/v1?api-key={PASSWORD}",
    "http port": f"https://host:{PASSWORD}/v1",
    "origin": f"https://user:{PASSWORD}@host/admin",
}
GOOD_DATABASES = (
    "postgresql://u:p@h/db",
    "postgres://u:p%2F%40%3F%23@h:5432/db?sslmode=require&application_name=x",
    "postgresql://u:a:b!$&'()*+,;=~._-@h/db",
    "postgresql:///db?host=/var/run/postgresql",
    "postgresql://u@%2Fvar%2Frun%2Fpostgresql/db",
    "postgresql://u:p@[2001:db8::1]:5432/db",
    "postgresql://u:p@one:5432,two:5433/db?target_session_attrs=read-write",
)
GOOD_REDIS = (
    "redis://h",
    "redis://:p%2F@h:6379/1",
    "rediss://u:p@h/",
    "redis://[::1]:6379/0",
    "unix:///run/r.sock?db=1&username=u&password=p%2F&client_name=gateway",
    "redis://h?socket_timeout=0.5&socket_connect_timeout=2&socket_keepalive=true&health_check_interval=30",
    "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=False&ssl_ca_certs=/ca.pem&ssl_ca_path=/cas&ssl_ciphers=HIGH",
    "rediss://h?db=1&ssl_certfile=/own.pem&ssl_keyfile=/own.key&ssl_password=p",
)


def pieces_in(words: str) -> list[str]:
    """Returns the parts of the planted secret, six characters each, that occur in the words."""
    return [
        text[at : at + 6] for text in (SECRET, PASSWORD) for at in range(len(text) - 5) if text[at : at + 6] in words
    ]


def complaint(name: str, value: str) -> tuple[str, BaseException | None]:
    """Returns the message about a setting with this value, and the error's cause; "" and None if it is accepted."""
    try:
        values = setting_reader.read({name: value})
        database_settings(values["DATABASE_URL"] or "postgresql://h/db")
        if values["REDIS_URL"]:
            ConnectionPool.from_url(values["REDIS_URL"])
    except ImproperlyConfigured as error:
        return str(error), error.__cause__
    return "", None


@pytest.mark.parametrize("name", NAMES)
def test_no_setting_repeats_a_secret(name: str) -> None:
    has_secrets = name in setting_reader.SECRETS | setting_reader.URLS_WITH_PASSWORDS
    for spelling, value in SPELLINGS.items():
        if not has_secrets and len(value) <= setting_parsers.MAX_QUOTED_LENGTH:
            continue  # a wrong number or word is shown, up to 15 characters
        words, cause = complaint(name, value)

        assert pieces_in(words) == [], spelling
        assert cause is None, spelling
        assert not words or re.fullmatch(rf"{name} [^\n]+", words), spelling


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if SPELLINGS[name].startswith("postgresql:")])
def test_a_database_url_that_is_read_in_two_ways_is_refused(spelling: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL .*postgresql://user:password@host:port/name$"):
        database_settings(setting_reader.read({"DATABASE_URL": SPELLINGS[spelling]})["DATABASE_URL"])


@pytest.mark.parametrize("spelling", [name for name in SPELLINGS if SPELLINGS[name].startswith("redis:")])
def test_a_redis_url_that_is_read_in_two_ways_is_refused(spelling: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="REDIS_URL is not a Redis URL; percent-encode"):
        setting_reader.read({"REDIS_URL": SPELLINGS[spelling]})


@pytest.mark.parametrize("url", GOOD_DATABASES)
def test_a_database_url_with_an_encoded_password_is_read(url: str) -> None:
    assert database_settings(setting_reader.read({"DATABASE_URL": url})["DATABASE_URL"])["NAME"] == "db"


def test_the_password_is_what_was_encoded() -> None:
    config = database_settings("postgresql://u:p%2F%40%3F%23%25@h:5432/db")

    assert (config["PASSWORD"], config["HOST"], config["PORT"]) == ("p/@?#%", "h", 5432)


@pytest.mark.parametrize("url", GOOD_REDIS)
def test_a_redis_url_is_read(url: str) -> None:
    assert setting_reader.read({"REDIS_URL": url})["REDIS_URL"] == url
    for pool in (ConnectionPool, PlainConnectionPool):  # of the limits, and of `doctor`
        pool.from_url(url).make_connection()  # with an option that it does not know, it raises `TypeError`


STARTS = [
    ("SECURITY_KEY", "short"),
    ("ACCESS_TOKEN", "not ASCII"),
    ("OPENAI_API_KEY", "with a space"),
    ("OPENAI_BASE_URL", "http with /"),
    ("DATABASE_URL", "with /"),
    ("DATABASE_URL", "port, then /"),
    ("DATABASE_URL", "an unknown option"),
    ("REDIS_URL", "redis with #"),
    ("PORT", "as it is"),
]


@pytest.mark.parametrize(("name", "spelling"), STARTS)
def test_a_refused_start_prints_one_line_without_it(tmp_path: Path, name: str, spelling: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=setting_reader.BASE_DIR,
        env=variables(tmp_path, **{name: SPELLINGS[spelling]}),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"chatproxy: {name} [^\n]+\n", done.stderr)
    assert pieces_in(done.stderr) == []


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_setting_with_the_name_of_a_secret_is_treated_as_one(name: str) -> None:
    """`OPENAI_PROJECT_KEY` is a project's id, base URLs may have no password, and the number of wrong keys is none."""
    looks_secret = re.search("KEY|TOKEN|SECRET|PASSWORD|URL", name) and name not in {
        "OPENAI_PROJECT_KEY",
        "OPENAI_BASE_URL",
        "PRICES_URL",
        "PUBLIC_URL",
        "INVALID_KEYS_PER_MINUTE",
    }
    assert bool(looks_secret) == (name in setting_reader.SECRETS | setting_reader.URLS_WITH_PASSWORDS)


def test_the_own_secrets_are_those_of_the_settings() -> None:
    values = setting_reader.read(
        {
            "SECURITY_KEY": f"{SECRET}-1",
            "OPENAI_API_KEY": f"{SECRET}-2",
            "DATABASE_URL": f"postgresql://chatproxy:{PASSWORD}%2F@h/db",
            "REDIS_URL": "redis://:chatproxy@h",
        }
    )
    found = setting_reader.own_secrets(values)

    assert set(found) == {f"{SECRET}-1", f"{SECRET}-2", f"{PASSWORD}%2F", f"{PASSWORD}/", "chatproxy"}
