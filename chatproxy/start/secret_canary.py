"""Checks at the start that a server has the right secrets: the database has a digest ("canary") of each.

Callers' keys are stored as digests made with a secret. A server with another secret would look healthy and refuse every
key, so it must not start. A server without a secret must not generate one for a database that has been in use. A canary
is an HMAC made with the secret, so it does not reveal the secret.
"""

from __future__ import annotations

import hmac
from pathlib import Path

from chatproxy.configuration.setting_reader import SettingValues
from chatproxy.models import SecretCanary
from proxyapi.models import AccessKey

KEY_SECRET = "KEY_ENCRYPTION_KEY or DJANGO_SECRET_KEY"  # noqa: S105  (the names of settings)
SHARED = ("DJANGO_SECRET_KEY", "SECURITY_KEY", "ACCESS_TOKEN")


class SecretsDiffer(Exception):
    """Error: a secret that the database was used with is not set on this server, or has changed.

    Its message is one line for a person.
    """


def check_secrets(values: SettingValues, path: Path) -> None:
    """Checks that this server has the secrets that its database was used with; call this before generating secrets.

    `values` are the settings. `path` is the file of generated secrets, for the error message.

    Raises:
        SecretsDiffer: a secret is not set on this server although the database was used with one, or the secret with
            which the digests of keys are made has changed. Other secrets may change.
    """
    # The database has digests of its secrets ("canaries"). SECURITY_KEY and ACCESS_TOKEN may change, since nothing in
    # the database depends on them, and so may DJANGO_SECRET_KEY if KEY_ENCRYPTION_KEY is set.
    canaries, secrets = _canaries(), _secrets(values)
    missing = [name for name, secret in secrets.items() if secret is None and name in canaries]
    if not canaries and secrets[KEY_SECRET] is None and AccessKey.objects.exists():  # of a version without canaries
        missing = ["DJANGO_SECRET_KEY"]
    if KEY_SECRET in missing:  # stands for two settings, and the other one is in the list as well
        missing.remove(KEY_SECRET)
    if missing:
        raise SecretsDiffer(
            f"this database has secrets that are missing here ({', '.join(missing)}), so none are generated; "
            f"restore {path} from a backup, or copy it from the host that has it, or set them in the environment; or "
            "start once with `manage.py serve --new-secrets`, and every key that was made before stops working"
        )
    key_secret = secrets[KEY_SECRET]
    if key_secret is not None and canaries.get(KEY_SECRET, "") not in {"", _canary(KEY_SECRET, key_secret)}:
        raise SecretsDiffer(
            f"{KEY_SECRET} is not the one that the keys in this database were made with; restore {path} from a backup, "
            "or copy it from the host that has it, or set it back; or start once with `manage.py serve --new-secrets`, "
            "and every key that was made before stops working"
        )


def record_secrets(values: SettingValues) -> list[str]:
    """Stores a digest of each secret in the database (a "canary"), for comparison at the next start.

    Returns the names of the secrets that have changed since the last start.
    """
    canaries = _canaries()
    changed = []
    for name, secret in _secrets(values).items():
        canary = _canary(name, secret or "")
        if canaries.get(name) != canary:
            SecretCanary.objects.update_or_create(name=name, defaults={"canary": canary})
            changed += [name] if name in canaries else []
    return changed


def _secrets(values: SettingValues) -> dict[str, str | None]:
    """Returns the secrets in the settings `values` whose digests the database stores, as a dict by name.

    A secret that is not set is None.
    """
    key_secret = values["KEY_ENCRYPTION_KEY"] or values["DJANGO_SECRET_KEY"]
    return {KEY_SECRET: key_secret, **{name: values[name] for name in SHARED}}


def _canary(name: str, secret: str) -> str:
    """Returns a digest (HMAC, in hex) of a secret, by which a later start sees whether the secret has changed.

    `name` is the secret's name, which goes into the digest.
    """
    return hmac.digest(secret.encode(), f"chatproxy canary of {name}".encode(), "sha256").hex()


def _canaries() -> dict[str, str]:
    """Reads the stored digests of secrets ("canaries") from the database, as a dict by the secret's name."""
    return dict(SecretCanary.objects.values_list("name", "canary"))
