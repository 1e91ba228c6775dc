"""Owns writing a file that only its owner may read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """All or nothing, mode 0600 from its first byte, on the disk before it has its name."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:  # a border: whatever it is, it is cleaned up and goes on
        Path(name).unlink()
        raise
