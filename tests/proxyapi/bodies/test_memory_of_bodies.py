"""A body's memory goes with its call: what a worker holds does not grow with how many large ones there were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, Gateway

MIB = 1024 * 1024
CALLS = 16
HEADERS = {"Authorization": f"Bearer {SECURITY_KEY}", "Content-Type": "application/json"}
WHOLE = b'{"model": "gpt-4o-mini", "messages": [], "user": "%b"}' % (b"x" * 8 * MIB)


def resident(gateway: Gateway) -> int:
    """Bytes of the worker."""
    status = Path(f"/proc/{gateway.worker_pids[-1]}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", WHOLE[:-2]), ("/v1/chat/completions", WHOLE),
                                            ("/openai", WHOLE), ("/openai", WHOLE[:-2])])  # fmt: skip
def test_large_bodies_do_not_stay(gateway: Gateway, simulator: Simulator, path: str, body: bytes) -> None:
    for _ in range(3):  # what one needs at a time
        assert gateway.http.post(path, content=body, headers=HEADERS).status_code == 400
    before = resident(gateway)

    for _ in range(CALLS):
        gateway.http.post(path, content=body, headers=HEADERS)

    assert resident(gateway) - before < CALLS * len(body) // 2
