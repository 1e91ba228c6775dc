"""Makes the environment of a server that a test starts; copies the SDK's answer from an earlier server to it."""

from __future__ import annotations

import os
from contextlib import suppress
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


class SDKAnswers:
    """The stored answers of the SDK, by the address of upstream; for servers with a new `DATA_DIR`.

    Such a server then starts like one that has run before. Otherwise its first worker would ask the SDK, which takes
    half a second of CPU.
    """

    FILE = "sdk.json"  # not imported from `proxyapi.upstream.client`, which needs Django's settings

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def learn(self, upstream: str, data_dir: Path) -> None:
        """Reads the answer of the SDK that a server has stored in its `data_dir`, if there is one."""
        with suppress(OSError):
            self._contents[upstream] = (data_dir / self.FILE).read_bytes()

    def give(self, upstream: str, data_dir: Path) -> None:
        """Writes the stored answer of the SDK into `data_dir`, the DATA_DIR of a server that a test will start.

        Does nothing if the directory does not exist or has an answer already, or if no answer is stored for `upstream`.
        """
        with suppress(OSError):  # some tests let it be no directory, or one that cannot be written
            if upstream in self._contents and data_dir.is_dir() and not (data_dir / self.FILE).exists():
                (data_dir / self.FILE).write_bytes(self._contents[upstream])


sdk_answers = SDKAnswers()
