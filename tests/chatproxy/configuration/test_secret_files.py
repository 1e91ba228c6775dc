"""Secrets as files: `NAME_FILE` names a file whose only line is the value; a bad file is one line without its text."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration import setting_reader

SECRET = "q8Zr-x0Kd.w7Lm_Vt3Yb"
VALUES = {
    "OPENAI_API_KEY": f"sk-{SECRET}",
    "SECURITY_KEY": SECRET,
    "ACCESS_TOKEN": SECRET,
    "DJANGO_SECRET_KEY": SECRET * 3,
    "KEY_ENCRYPTION_KEY": SECRET * 2,
    "ADMIN_PASSWORD": "a password with spaces",
    "OIDC_CLIENT_SECRET": SECRET,
    "DATABASE_URL": f"postgresql://me:{SECRET}@host/db",
    "REDIS_URL": f"redis://:{SECRET}@host",
    "EMAIL_URL": f"smtp://me:{SECRET}@host",
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes an empty folder the project's, without any setting."""
    for name in ({setting.name for setting in setting_reader.SETTINGS} | {setting_reader.NO_ENV_FILES}) & {*os.environ}:
        monkeypatch.delenv(name)
    monkeypatch.setattr(setting_reader, "BASE_DIR", tmp_path)
    return tmp_path


def refusal() -> str:
    """Returns the line with which the settings are refused."""
    with pytest.raises(ImproperlyConfigured) as refused:
        setting_reader.load()
    words = str(refused.value)
    assert SECRET not in words
    assert "\n" not in words
    return words


def test_every_secret_can_be_a_file() -> None:
    assert {f"{name}_FILE" for name in VALUES} == setting_reader.FILE_NAMES


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_its_file(project: Path, monkeypatch: pytest.MonkeyPatch, name: str, end: str) -> None:
    (project / "secret").write_text(VALUES[name] + end, newline="")
    monkeypatch.setenv(f"{name}_FILE", "secret")  # relative to the project's folder
    values = setting_reader.load()
    assert values[name] == VALUES[name]
    assert any(SECRET in secret for secret in setting_reader.own_secrets(values)) or name == "ADMIN_PASSWORD"


def test_an_env_file_may_name_it(project: Path) -> None:
    (project / "secret").write_text(SECRET)
    (project / ".env").write_text(f"ACCESS_TOKEN_FILE={project}/secret\n")
    assert setting_reader.load()["ACCESS_TOKEN"] == SECRET


def test_it_comes_before_a_generated_secret(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "var").mkdir()
    (project / "var" / setting_reader.SECRETS_FILE).write_text("SECURITY_KEY=generated-4d1c7f-9a02be-663\n")
    (project / "secret").write_text(SECRET)
    monkeypatch.setenv("SECURITY_KEY_FILE", "secret")
    assert setting_reader.load()["SECURITY_KEY"] == SECRET


def test_the_value_is_checked_as_any_other(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "secret").write_text("short")
    monkeypatch.setenv("SECURITY_KEY_FILE", "secret")
    assert refusal().startswith("SECURITY_KEY is too short")


@pytest.mark.parametrize("source", ["the environment", ".env"])
def test_both_the_secret_and_its_file_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (project / "secret").write_text(SECRET)
    monkeypatch.setenv("OPENAI_API_KEY_FILE", "secret")
    if source == ".env":
        (project / ".env").write_text(f"OPENAI_API_KEY={SECRET}\n")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert refusal() == "OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set; unset one of them"


BAD_FILES = {
    "is empty": b"",
    r"is empty|has no": b" \n\n",
    "more than one line": f"{SECRET}\n{SECRET}\n".encode(),
    "more than one line of text": SECRET.encode() + b"\0",
    "is not UTF-8 text": SECRET.encode("utf-16"),
}


@pytest.mark.parametrize("words", BAD_FILES)
def test_a_file_without_a_value_of_one_line_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    (project / "secret").write_bytes(BAD_FILES[words])
    monkeypatch.setenv("SECURITY_KEY_FILE", "secret")
    assert re.search(rf"^SECURITY_KEY_FILE: {project}/secret .*({words})", refusal())


def test_a_file_that_is_no_file_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURITY_KEY_FILE", "secret")
    assert refusal() == "SECURITY_KEY_FILE must be the path of a file, and there is no such file"
    os.mkfifo(project / "secret")
    assert refusal().startswith(f"SECURITY_KEY_FILE: {project}/secret is a pipe")
    (project / "secret").unlink()
    (project / "secret").symlink_to("gone")
    assert refusal().startswith(f"SECURITY_KEY_FILE: {project}/secret is a symbolic link")
    (project / "secret").unlink()
    (project / "secret").mkdir()
    assert refusal().startswith(f"SECURITY_KEY_FILE: {project}/secret is a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "secret").touch(0o000)
    monkeypatch.setenv("SECURITY_KEY_FILE", "secret")
    assert refusal() == "SECURITY_KEY_FILE: its file cannot be read: Permission denied"
