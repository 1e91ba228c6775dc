"""Finds the processes of a server, and checks that no process and no port is left after its end."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from tests.chaos.processes import is_alive
from tests.support.callers.wire import Wire, connect, head
from tests.support.polling import wait_until
from tests.support.servers.gateway import Gateway


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_nothing_is_left(gateway: Gateway) -> None:
    assert not any(is_running(pid) for pid in gateway.worker_pids)
    with pytest.raises(ProcessLookupError):
        os.killpg(gateway.process.pid, 0)  # it is the leader of its own group
    parts = urlsplit(gateway.url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((parts.hostname, parts.port))


def shipper_of(gateway: Gateway) -> int:
    """Waits until a server has a shipper that ships its journals, and returns the shipper's process id."""
    found: list[int] = []

    def look() -> bool:
        for path in Path(gateway.variables["DATA_DIR"], "workers").glob("*.shipper.json"):
            with suppress(FileNotFoundError):  # of a dead one, taken over meanwhile
                found.append(orjson.loads(path.read_bytes())["pid"])
        found[:] = filter(is_alive, found)
        return bool(found)

    wait_until(look)
    return found[0]


@contextmanager
def requests_with_signal(gateway: Gateway, number: signal.Signals, request: bytes, queued: int) -> Iterator[list[Wire]]:
    """Sends a signal to a server, and a `request` on 5 idle connections and on `queued` new ones.

    The worker stands still meanwhile, so that it finds the signal and all requests at once; the new connections are in
    the port's queue. Yields the connections, which are open until the block ends.
    """
    (worker,) = gateway.worker_pids
    with ExitStack() as stack:
        wires = [stack.enter_context(connect(gateway)) for _ in range(5)]
        for wire in wires:
            wire.send(head("GET", "/healthz"))
            assert wire.read_answer().status == 200
        os.kill(worker, signal.SIGSTOP)
        wires += [stack.enter_context(connect(gateway)) for _ in range(queued)]
        for wire in wires:
            wire.send(request)
        gateway.process.send_signal(number)
        gateway.wait_for_log(f"Handling signal: {number.name.removeprefix('SIG').lower()}")
        os.kill(worker, signal.SIGCONT)
        yield wires
