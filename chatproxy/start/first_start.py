"""Generates missing secrets and creates the first admin account, which a first start needs."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from chatproxy.configuration import setting_reader
from proxyapi.keys.private_file import write_private

HEADER = "# Generated at the first start. The environment, .env.local and .env come before this file.\n"

# URL-safe characters: they need no quoting in a .env file, a header or a shell.
GENERATORS: dict[str, Callable[[], str]] = {
    "SECURITY_KEY": lambda: secrets.token_urlsafe(32),
    "ACCESS_TOKEN": lambda: secrets.token_urlsafe(32),
    "DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(50),
    "ADMIN_PASSWORD": lambda: secrets.token_urlsafe(12),
}


def generate_secrets(data_dir: Path, *, with_password: bool = True) -> dict[str, str]:
    """Generates the missing secrets, writes them to `DATA_DIR/secrets.env`, and returns the generated ones by name.

    A missing ADMIN_PASSWORD is generated only if `with_password` is true; callers pass true while there is no admin.

    Raises:
        ImproperlyConfigured: the settings cannot be read.
        OSError: the file cannot be written.
    """
    path = data_dir / setting_reader.SECRETS_FILE
    with _locked(data_dir):
        values = setting_reader.load()
        made = {name: make() for name, make in GENERATORS.items() if values[name] is None}
        if not with_password:
            made.pop("ADMIN_PASSWORD", None)
        if made:
            kept = path.read_text() if path.exists() else HEADER
            lines = "".join(f"{name}={value}\n" for name, value in made.items())
            write_private(path, kept + ("" if kept.endswith("\n") or not kept else "\n") + lines)
    return made


def has_admin() -> bool:
    """Returns whether there is an active superuser in the database."""
    return get_user_model().objects.filter(is_superuser=True, is_active=True).exists()


def create_first_admin(values: setting_reader.SettingValues) -> bool:
    """Creates the superuser `ADMIN_USERNAME` if there is no active superuser; returns whether one was created.

    Raises:
        ValueError: an account of that name exists, or the password is weak; the message is one line without the
            password.
    """
    users = get_user_model().objects
    if has_admin():
        return False
    name = values["ADMIN_USERNAME"]
    if users.filter(username=name).exists():
        # The account is not made a superuser: its owner did not ask for more rights.
        raise ValueError(f"ADMIN_USERNAME {name!r} is the name of an account that is no active superuser; another name")
    check_password(name, values["ADMIN_PASSWORD"])
    users.create_superuser(username=name, password=values["ADMIN_PASSWORD"])
    return True


def check_password(name: str, password: str) -> None:
    """Checks the first admin's password by the rules for all passwords (`AUTH_PASSWORD_VALIDATORS`).

    Raises:
        ValueError: the password breaks rules; the message names them in one line, without the password.
    """
    try:
        validate_password(password, get_user_model()(username=name))
    except ValidationError as error:
        faults = " ".join(error.messages)
        raise ValueError(
            f"ADMIN_PASSWORD is refused: {faults} Set another, or unset it to have one generated"
        ) from None


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Context manager that locks a directory, so that only one process at a time generates secrets in it."""
    # `serve --prepare` may run beside a server that starts, and both must get the same secrets.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
