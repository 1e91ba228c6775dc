"""Reads secrets from files: `OPENAI_API_KEY_FILE` names a file that contains the value of `OPENAI_API_KEY`.

Docker and Kubernetes give secrets to containers in this way: as one file for each secret, outside of the environment.

Invariant: no error message contains a part of a file's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration.env_file import EnvFileError, read_regular_file

SUFFIX = "_FILE"
MAX_BYTES = 64 * 1024


def read_secret_files(variables: Mapping[str, str], base: Path) -> dict[str, str]:
    """Reads the files named by variables such as `OPENAI_API_KEY_FILE`; returns the secrets in them by name.

    `variables` are the settings from the environment and the `.env` files, by name. Relative paths begin at `base`.

    Raises:
        ImproperlyConfigured: a setting is given both directly and as a file, or a file cannot be read or does not have
            exactly one line of text; the message is one line.
    """
    found = {}
    for variable, path in variables.items():
        if variable.endswith(SUFFIX):
            name = variable.removesuffix(SUFFIX)
            if name in variables:
                raise ImproperlyConfigured(f"{name} and {variable} are both set; unset one of them")
            found[name] = _read_secret(variable, base / path.strip())
    return found


def _read_secret(variable: str, path: Path) -> str:
    """Returns the secret in a file, which is the file's only line; `variable` is the variable that names the file.

    Raises:
        ImproperlyConfigured: the file does not exist, cannot be read, is not UTF-8 text, is empty or too large, or has
            more than one line or a NUL character.
    """
    try:
        content = read_regular_file(path)
    except OSError as error:
        raise ImproperlyConfigured(f"{variable}: its file cannot be read: {error.strerror}") from None
    except EnvFileError as error:
        raise ImproperlyConfigured(f"{variable}: {error}") from None
    if content is None:
        # The message has no path: the text may be the secret itself.
        raise ImproperlyConfigured(f"{variable} must be the path of a file, and there is no such file")
    try:
        lines = content.decode("utf-8-sig").strip().splitlines()
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{variable}: {path} is not UTF-8 text") from None
    if not lines:
        raise ImproperlyConfigured(f"{variable}: {path} is empty")
    if len(lines) > 1 or len(content) > MAX_BYTES or "\0" in lines[0]:
        raise ImproperlyConfigured(f"{variable}: {path} has more than one line of text; it must be the value alone")
    return lines[0]
