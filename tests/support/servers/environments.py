"""Makes the environment of a server that a test starts."""

from __future__ import annotations

import os
from pathlib import Path

from chatproxy.configuration import setting_reader


def variables(data_dir: Path, **settings: str) -> dict[str, str]:
    names = {setting.name for setting in setting_reader.SETTINGS} | setting_reader.FILE_NAMES
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return {
        **inherited,
        setting_reader.NO_ENV_FILES: "1",
        "DATA_DIR": str(data_dir),
        "PYTHONUNBUFFERED": "1",
        **settings,
    }
