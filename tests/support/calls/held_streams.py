"""Opens streams that upstream holds back until a test releases them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.simulator.server import Simulator
from tests.support.servers.gateway import SECURITY_KEY, Gateway

STREAM = {"security_key": SECURITY_KEY, "model": "fault:gate-stream", "input": "hi", "stream": True}
STREAMS = 5


def read_streams(gateway: Gateway, simulator: Simulator, hang_up: Callable[[], object]) -> list[bytes]:
    """Opens several streams at once, calls `hang_up` while upstream holds all of them back, then lets them go on.

    Returns the bytes of each stream.
    """

    def read() -> bytes:
        with gateway.http.stream("POST", "/openai2", json=STREAM) as stream:
            return b"".join(stream.iter_raw())

    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(read) for _ in range(STREAMS)]
        simulator.wait_until(lambda: simulator.waiting == STREAMS)
        hang_up()
        simulator.release()
        return [stream.result() for stream in streams]
