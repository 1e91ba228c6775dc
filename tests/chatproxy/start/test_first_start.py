"""A first start makes secrets in a private file, and one admin; never twice, and never over existing ones."""

import stat
import threading
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration import setting_reader
from chatproxy.start.first_start import GENERATORS, check_password, create_first_admin, generate_secrets
from chatproxy.start.secret_canary import SecretsDiffer, check_secrets, record_secrets

OTHER_SECRET = b"another-secret-of-mine-9876543210-zyxwvutsrqponmlkji"
ADMIN = {"ADMIN_USERNAME": "admin", "ADMIN_PASSWORD": "correct horse battery"}


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*GENERATORS, "KEY_ENCRYPTION_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    return tmp_path


def test_it_works(data_dir: Path) -> None:
    made = generate_secrets(data_dir)
    path = data_dir / setting_reader.SECRETS_FILE
    assert made.keys() == GENERATORS.keys()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = setting_reader.load()
    assert {name: values[name] for name in made} == made
    assert generate_secrets(data_dir) == {}


def test_what_a_source_has_is_not_generated(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURITY_KEY", "a-key-of-mine-0123456789")
    assert "SECURITY_KEY" not in generate_secrets(data_dir)
    assert "SECURITY_KEY" not in (data_dir / setting_reader.SECRETS_FILE).read_text()


def test_what_is_missing_is_appended(data_dir: Path) -> None:
    path = data_dir / setting_reader.SECRETS_FILE
    path.write_text("# mine\nSECURITY_KEY=kept-as-it-is-4d1c7f\nACCESS_TOKEN=")
    assert generate_secrets(data_dir).keys() == GENERATORS.keys() - {"SECURITY_KEY"}
    assert path.read_text().startswith("# mine\nSECURITY_KEY=kept-as-it-is-4d1c7f\nACCESS_TOKEN=\n")
    assert setting_reader.load()["SECURITY_KEY"] == "kept-as-it-is-4d1c7f"
    assert len(setting_reader.load()["ACCESS_TOKEN"]) > 40


def test_starts_at_once_end_with_the_same_secrets(data_dir: Path) -> None:
    made: list[dict[str, str]] = []
    threads = [threading.Thread(target=lambda: made.append(generate_secrets(data_dir))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, made)) == [0] * 7 + [len(GENERATORS)]


def damaged(content: bytes) -> dict[str, bytes | None]:
    """What may be left of a file of secrets, by what has happened to it; None: it is a link that leads nowhere."""
    secret = content.index(b"DJANGO_SECRET_KEY=") + len(b"DJANGO_SECRET_KEY=")
    return {
        "empty": b"",
        "only its first line": content[: content.index(b"\n") + 1],
        "half": content[: secret - 5],
        "cut in a secret": content[: secret + 10],
        "zeros": b"\0" * len(content),
        "another encoding": content.decode().encode("utf-16"),
        "a value lost": content[:secret] + content[content.index(b"\n", secret) :],
        "another secret": content[:secret] + OTHER_SECRET + content[content.index(b"\n", secret) :],
        "a link that leads nowhere": None,
    }


@pytest.mark.django_db
@pytest.mark.parametrize("how", damaged(b"#\nDJANGO_SECRET_KEY=0123456789abc\n"))
def test_a_damaged_file_of_secrets_is_never_completed(data_dir: Path, how: str) -> None:
    """The start ends with words, before any secret is generated."""
    path = data_dir / setting_reader.SECRETS_FILE
    generate_secrets(data_dir)
    record_secrets(setting_reader.load())
    left = damaged(path.read_bytes())[how]
    path.unlink()
    if left is None:
        path.symlink_to(data_dir / "gone")
    else:
        path.write_bytes(left)
    with pytest.raises((SecretsDiffer, ImproperlyConfigured)) as error:
        check_secrets(setting_reader.load(), path)
    assert str(path) in str(error.value) or "DJANGO_SECRET_KEY" in str(error.value)
    assert OTHER_SECRET.decode() not in str(error.value)
    assert (path.read_bytes() if path.exists() else None) == left


@pytest.mark.django_db
def test_the_first_admin_is_made_once() -> None:
    assert create_first_admin(ADMIN)
    admin = User.objects.get()
    assert admin.is_superuser
    assert admin.check_password(ADMIN["ADMIN_PASSWORD"])
    assert not create_first_admin({**ADMIN, "ADMIN_USERNAME": "other"})
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_an_account_of_that_name_gets_no_rights() -> None:
    User.objects.create_user("admin", password="its-own-password")
    with pytest.raises(ValueError, match="'admin' is the name of an account that is no active superuser"):
        create_first_admin(ADMIN)
    assert not User.objects.get().is_superuser


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("elevenchars", "too short"),
        ("1qaz2wsx3edc", "too common"),
        ("982451653497", "entirely numeric"),
        ("administrator-1", "too similar to the username"),
    ],
)
def test_a_weak_password_makes_no_admin_and_is_not_repeated(password: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        create_first_admin({"ADMIN_USERNAME": "administrator", "ADMIN_PASSWORD": password})
    assert str(refused.value).startswith("ADMIN_PASSWORD is refused: ")
    assert password not in str(refused.value)
    assert not User.objects.exists()


def test_a_generated_password_is_never_refused() -> None:
    for _ in range(200):
        check_password("admin", GENERATORS["ADMIN_PASSWORD"]())
