"""Makes many calls at once: each on a connection of its own, all sent before the first answer is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle

from tests.chaos.processes import is_alive
from tests.support.callers.wire import Wire, connect, head
from tests.support.servers.gateway import Gateway

BODY = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}'


@contextmanager
def crowd(gateway: Gateway, size: int) -> Iterator[list[Wire]]:
    """Opens `size` connections to the server, equally many to each worker; yields them once all are accepted.

    The number is rounded down to a multiple of the number of workers.
    """
    pids = [pid for pid in gateway.worker_pids if is_alive(pid)]
    with ExitStack() as open_wires:
        wires = []
        for pid in pids:
            with gateway.only(pid):
                for _ in range(size // len(pids)):
                    wire = open_wires.enter_context(connect(gateway))
                    wire.send(head("GET", "/healthz"))
                    assert wire.read_answer().status == 200
                    wires.append(wire)
        yield wires


def statuses(wires: Sequence[Wire], *keys: str, body: bytes = BODY) -> list[int]:
    """Sends one chat completion on each of `wires`, all at once; returns the sorted statuses of the answers.

    If there are several keys, they take turns.
    """
    for wire, key in zip(wires, cycle(keys), strict=False):
        call = head("POST", "/v1/chat/completions", "Content-Type: application/json", length=len(body), key=key)
        wire.send(call + body)
    return sorted(wire.read_answer().status for wire in wires)
