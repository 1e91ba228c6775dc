"""Misspelt settings are named, with what is meant; the names of other programs are not."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from chatproxy.configuration import setting_reader
from chatproxy.configuration.misspelt_names import count_errors, find_misspelt_names, nearest_name

KNOWN = {setting.name for setting in setting_reader.SETTINGS} | setting_reader.FILE_NAMES
MISSPELT = {
    "OPENAI_APIKEY": "OPENAI_API_KEY",
    "OPENAI_API_KEYS": "OPENAI_API_KEY",
    "openai_api_key": "OPENAI_API_KEY",
    "PROT": "PORT",
    "HOSTS": "HOST",
    "SECURTY_KEY": "SECURITY_KEY",
    "DATABSE_URL": "DATABASE_URL",
    "DATABASE_URL_FIEL": "DATABASE_URL_FILE",
    "ALOWED_HOSTS": "ALLOWED_HOSTS",
    "WEB_CONCURENCY": "WEB_CONCURRENCY",
}
# What shells, containers, Kubernetes, CI and SDKs have in the environment.
OF_OTHERS = re.findall(
    r"\w+",
    """
    PATH HOME HOSTNAME HOSTTYPE USER LOGNAME SHELL TERM LANG LC_ALL PWD OLDPWD TZ EDITOR PAGER DISPLAY TMPDIR MAIL
    SHLVL PS1 COLUMNS LINES NO_COLOR CI DEBIAN_FRONTEND PYTHONPATH PYTHONUNBUFFERED VIRTUAL_ENV HTTP_PROXY HTTPS_PROXY
    NO_PROXY ALL_PROXY SSL_CERT_FILE OPENAI_ORG_ID OPENAI_PROJECT_ID OPENAI_API_TYPE OPENAI_API_VERSION OPENAI_LOG
    AZURE_OPENAI_API_KEY ANTHROPIC_API_KEY POSTGRES_PASSWORD POSTGRES_USER PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE
    KUBERNETES_PORT KUBERNETES_SERVICE_HOST REDIS_PORT REDIS_SERVICE_HOST DATABASE_PORT DATABASE_SERVICE_PORT
    CHATPROXY_PORT POD_NAME NODE_ENV NODE_NAME LOG_LEVEL GITHUB_TOKEN GITLAB_TOKEN SECRET_KEY DJANGO_SETTINGS_MODULE
    MAKEFLAGS MAKELEVEL SSH_AUTH_SOCK XDG_DATA_DIRS DATA_HOME ADMIN_EMAIL ROOT MODEL
""",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty folder the project's, and the environment empty."""
    for name in [*os.environ]:
        if name != "PATH":
            monkeypatch.delenv(name)
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_name_has_a_nearest_one(name: str) -> None:
    assert nearest_name(name, KNOWN) == MISSPELT[name]


@pytest.mark.parametrize("wrong", [("", "Q", "ZQ"), ("XQ", "JJ", ""), ("Z", "QJ")])
def test_a_long_name_with_any_two_errors_has_a_nearest_one(wrong: tuple[str, ...]) -> None:
    """Two letters too many, missing or wrong, that no name has."""
    for name in (name for name in KNOWN if len(name) >= 12):
        for place in range(0, len(name) - 4, 3):
            pieces = name[:place], name[place + 1 : place + 3], name[place + 4 :]
            changed = pieces[0] + wrong[0] + pieces[1] + "".join(wrong[1:]) + pieces[2]
            if count_errors(changed, name) <= 2:
                assert nearest_name(changed, KNOWN) != "", changed


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_name_of_other_programs_is_none(name: str) -> None:
    assert nearest_name(name, KNOWN) == ""


@pytest.mark.parametrize(
    ("one", "other", "errors"),
    [
        ("PORT", "PORT", 0),
        ("PROT", "PORT", 1),
        ("PRT", "PORT", 1),
        ("", "PORT", 4),
        ("PORTS", "HOST", 3),
        ("AB", "", 2),
    ],
)
def test_typing_errors_are_counted(one: str, other: str, errors: int) -> None:
    assert count_errors(one, other) == errors == count_errors(other, one)


def test_the_environment_is_judged_by_near_names_only(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OF_OTHERS:
        monkeypatch.setenv(name, "x")
    assert list(find_misspelt_names()) == []
    monkeypatch.setenv("PROT", "4000")
    assert list(find_misspelt_names()) == [
        "PROT in the environment is no setting, and has no effect; did you mean PORT?",
    ]
    monkeypatch.setenv("PORT", "4000")
    assert list(find_misspelt_names()) == []
    monkeypatch.setenv("SECURTY_KEY", " ")
    assert list(find_misspelt_names()) == []


def test_every_unknown_name_of_an_env_file_is_named(project: Path) -> None:
    text = "PORT=4000\nOPENAI_APIKEY=sk-1\nLOG_LEVEL=debug\nPROT=\nPOSTGRES_PASSWORD=x\nCOMPOSE_PROJECT_NAME=y\n"
    (project / ".env").write_text(text)
    assert list(find_misspelt_names()) == [
        f"OPENAI_APIKEY in {project}/.env is no setting, and has no effect; did you mean OPENAI_API_KEY?",
        f"LOG_LEVEL in {project}/.env is no setting, and has no effect",
    ]


def test_a_secret_that_looks_like_a_name_is_not_shown(project: Path) -> None:
    (project / ".env").write_text("aGVsbG8gd29ybGQ==\nA1B2C3D4E5F6==\n")
    assert list(find_misspelt_names()) == [f"a variable in {project}/.env is no setting, and has no effect"] * 2
