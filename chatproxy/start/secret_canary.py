"""Owns the proof that a server has the secrets that its database was made with: a canary of each, in the database.

Callers' keys are kept as digests under one secret. A server with another one refuses every key and looks healthy, so it
must not start; and a server without one must not generate it beside a database that has been in use. A canary is an
HMAC under the secret, so it says nothing about it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatproxy.models import SecretCanary
from proxyapi.models import AccessKey

KEY_SECRET = "KEY_ENCRYPTION_KEY or DJANGO_SECRET_KEY"  # noqa: S105  (the names of settings)
SHARED = ("DJANGO_SECRET_KEY", "SECURITY_KEY", "ACCESS_TOKEN")


class OtherSecrets(Exception):
    """The database was made with secrets that are not these; the message is one line for a person."""


def check_secrets(values: Mapping[str, Any], path: Path) -> None:
    """Compares the secrets in `values`, before any is generated. `path` is the file in which generated ones are kept.

    A SECURITY_KEY, ACCESS_TOKEN or DJANGO_SECRET_KEY that was changed is taken: nothing in the database depends on it.

    Raises:
        OtherSecrets: one that the database knows is missing here, or the secret of its keys is another.
    """
    canaries, secrets = _canaries(), _secrets(values)
    missing = [name for name, secret in secrets.items() if secret is None and name in canaries]
    if not canaries and secrets[KEY_SECRET] is None and AccessKey.objects.exists():  # an older version's database
        missing = ["DJANGO_SECRET_KEY"]
    if KEY_SECRET in missing:  # its name is that of two settings, of which the other is in the list
        missing.remove(KEY_SECRET)
    if missing:
        raise OtherSecrets(
            f"this database has secrets that are missing here ({', '.join(missing)}), so none are generated; "
            f"restore {path} from a backup, or copy it from the host that has it, or set them in the environment; or "
            "start once with `manage.py serve --new-secrets`, and every key that was made before stops working"
        )
    key_secret = secrets[KEY_SECRET]
    if key_secret is not None and canaries.get(KEY_SECRET, "") not in {"", _canary(KEY_SECRET, key_secret)}:
        raise OtherSecrets(
            f"{KEY_SECRET} is not the one that the keys in this database were made with; restore {path} from a backup, "
            "or copy it from the host that has it, or set it back; or start once with `manage.py serve --new-secrets`, "
            "and every key that was made before stops working"
        )


def record_secrets(values: Mapping[str, Any]) -> list[str]:
    """Makes these the secrets of the database; returns the names of those that were others before."""
    canaries = _canaries()
    changed = []
    for name, secret in _secrets(values).items():
        canary = _canary(name, secret or "")
        if canaries.get(name) != canary:
            SecretCanary.objects.update_or_create(name=name, defaults={"canary": canary})
            changed += [name] if name in canaries else []
    return changed


def _secrets(values: Mapping[str, Any]) -> dict[str, str | None]:
    key_secret = values["KEY_ENCRYPTION_KEY"] or values["DJANGO_SECRET_KEY"]
    return {KEY_SECRET: key_secret, **{name: values[name] for name in SHARED}}


def _canary(name: str, secret: str) -> str:
    return hmac.digest(secret.encode(), f"chatproxy canary of {name}".encode(), "sha256").hex()


def _canaries() -> dict[str, str]:
    return dict(SecretCanary.objects.values_list("name", "canary"))
