"""What the ledger keeps of a large body is made beside the event loop, whatever becomes of the call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatproxy.asgi import application
from proxyapi.bodies.large_bodies import LARGE_BYTES
from proxyapi.call.journal_rows import text_columns
from tests.support.callers.asgi import Asgi
from tests.support.servers.gateway import SECURITY_KEY
from tests.support.servers.worker import worker_in_this_process

BEARER = {"authorization": f"Bearer {SECURITY_KEY}", "content-type": "application/json"}


@pytest.fixture(autouse=True)
def _worker(tmp_path: Path) -> Iterator[None]:
    with worker_in_this_process(tmp_path):
        yield


@pytest.fixture
def makers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads in which excerpts of bodies were made."""
    names: list[str] = []

    def watched(*arguments: Any) -> Any:
        names.append(threading.current_thread().name)
        return text_columns(*arguments)

    monkeypatch.setattr("proxyapi.call.call.text_columns", watched)
    return names


async def refused(path: str, size: int) -> int:
    """The status of a call with a body of this size, which is refused for what is in it."""
    pieces = [b'{"timeout": 0, "model": "m", "user": "', b"x" * size, b'", "n": ]']
    return await Asgi("POST", path, headers=BEARER, pieces=pieces).ask(application)


@pytest.mark.parametrize("path", ["/openai", "/openai2", "/embeddings"])
async def test_a_large_body_is_kept_in_its_thread(makers: list[str], path: str) -> None:
    assert await refused(path, LARGE_BYTES) == 400
    assert [name.rpartition("_")[0] for name in makers] == ["large body"]


async def test_a_small_body_takes_no_thread(makers: list[str]) -> None:
    assert await refused("/openai", 1000) == 400
    assert makers == [threading.current_thread().name]
