"""Writes files that only their owner may read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Writes a text to a file that only its owner may read, and replaces the file if it exists.

    The text goes to a temporary file of mode 0600 first, which is synced to the disk before it gets its name. So nobody
    ever sees the file half written, or readable for others.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:  # a border: whatever has failed, the temporary file is deleted
        Path(name).unlink(missing_ok=True)
        raise
