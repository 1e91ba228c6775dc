"""Makes the environment of a server that a test starts; copies the SDK's answer from an earlier server to it."""

from __future__ import annotations

import os
import re
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
    """The stored answer of the SDK; for servers with a new `DATA_DIR`.

    Such a server then starts like one that has run before. Otherwise its first worker would ask the SDK, which takes
    half a second of CPU. The answers for two upstreams of tests differ in nothing but the address.
    """

    FILE = "sdk.json"  # not imported from `proxyapi.upstream.client`, which needs Django's settings
    ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/v1")

    def __init__(self) -> None:
        self._known: tuple[str, bytes] | None = None  # the address of an upstream, and the answer

    def learn(self, upstream: str, data_dir: Path) -> None:
        """Reads the answer of the SDK that a server has stored in its `data_dir`, if there is one."""
        if self.ADDRESS.fullmatch(upstream):
            with suppress(OSError):
                self._known = upstream, (data_dir / self.FILE).read_bytes()

    def give(self, upstream: str, data_dir: Path) -> None:
        """Writes the answer of the SDK for `upstream` into `data_dir`, the DATA_DIR of a server that a test will start.

        Does nothing if the directory does not exist or has an answer already, or if none is known for such an upstream.
        """
        if self._known is None or not self.ADDRESS.fullmatch(upstream):
            return
        address, answer = self._known
        with suppress(OSError):  # some tests let it be no directory, or one that cannot be written
            if data_dir.is_dir() and not (data_dir / self.FILE).exists():
                (data_dir / self.FILE).write_bytes(answer.replace(address.encode(), upstream.encode()))


sdk_answers = SDKAnswers()
