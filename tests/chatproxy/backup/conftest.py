"""Places for servers that are backed up and restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.servers.backups import Place, new_place


@pytest.fixture
def new(simulator: Simulator, gateway_database: str, tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Makes places for servers; each has a migrated or `empty` database of its own or, if it is `bundled`, none yet."""
    with ExitStack() as undo:

        def make(name: str, *, bundled: bool = False, empty: bool = False) -> Place:
            server_url = "" if bundled else gateway_database
            place = new_place(simulator.base_url, tmp_path / name, server_url, is_migrated=not empty)
            return undo.enter_context(place)

        yield make
