"""Owns the load of whole answers: in a closed loop, and in an open one at a fixed rate.

By hand on asyncio's protocols: a client library would cost more than the server. Any answer but a 200 ends the run.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import uvloop

from bench.stand.requests import address

CONNECTIONS = 16
MOST_OPEN = 200  # calls of an open loop to one target
PATIENCE = 120.0  # seconds for any answer


class Asked(NamedTuple):
    """A server's URL, and the bytes of a request."""

    url: str
    request: bytes


class Caller(asyncio.Protocol):
    """A keep-alive connection with one call at a time; `answered` hears of each whole answer."""

    transport: Any

    def __init__(self, answered: Callable[[Caller], None]) -> None:
        self._answered = answered
        self._buffer = bytearray()
        self._whole = 0  # bytes of the answer, once its head is there
        self.sent_at = 0.0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._whole:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(f"answered {bytes(self._buffer[:2000])!r}")
                return
            self._whole = end + 4 + int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._buffer) >= self._whole:
            self._buffer.clear()
            self._whole = 0
            self._answered(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"connection lost: {exc}")

    def _fail(self, reason: str) -> None:
        if not self.failed.done():
            self.failed.set_exception(SystemExit(f"a call failed: {reason}"))


def closed_loop(asked: Asked, calls: int, connections: int = CONNECTIONS) -> float:
    """Each connection asks again as soon as it is answered. Returns seconds."""
    return uvloop.run(_closed_loop(asked, calls, connections))


async def _closed_loop(asked: Asked, calls: int, connections: int) -> float:
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    to_send, to_answer = calls, calls

    def answered(caller: Caller) -> None:
        nonlocal to_answer
        to_answer -= 1
        if to_answer == 0 and not done.done():
            done.set_result(None)
        send(caller)

    def send(caller: Caller) -> None:
        nonlocal to_send
        if to_send:
            to_send -= 1
            caller.send(asked.request)

    callers = [await _connect(asked, answered) for _ in range(min(connections, calls))]
    start = time.perf_counter()
    for caller in callers:
        send(caller)
    try:
        await _first(done, callers)
        return time.perf_counter() - start
    finally:
        await _close(callers)


def open_loop(targets: Sequence[Asked], rate: float, seconds: float) -> list[list[float]]:
    """`rate` calls a second to each target, evenly and in turn, whether or not the last is answered. Milliseconds."""
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_open_loop(targets, rate, seconds))
    finally:
        gc.enable()


async def _open_loop(targets: Sequence[Asked], rate: float, seconds: float) -> list[list[float]]:
    calls = int(seconds * rate) * len(targets)
    to_answer = calls
    latencies: list[list[float]] = [[] for _ in targets]
    idle: list[list[Caller]] = [[] for _ in targets]
    callers: list[Caller] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def heard(index: int) -> Callable[[Caller], None]:
        def answered(caller: Caller) -> None:
            nonlocal to_answer
            to_answer -= 1
            if not to_answer:
                done.set_result(None)
            latencies[index].append((time.perf_counter() - caller.sent_at) * 1000)
            idle[index].append(caller)

        return answered

    for index, target in enumerate(targets):
        idle[index] = [await _connect(target, heard(index)) for _ in range(MOST_OPEN)]
        callers += idle[index]
    loop = asyncio.get_running_loop()
    start, pause = loop.time(), 1 / rate / len(targets)
    try:
        for number in range(calls):
            await asyncio.sleep(start + number * pause - loop.time())
            index = number % len(targets)
            if not idle[index]:
                raise SystemExit(f"{MOST_OPEN} calls are open at {rate:g} a second: {targets[index].url} is too slow")
            idle[index].pop().send(targets[index].request)
        await _first(done, callers)
        return latencies
    finally:
        await _close(callers)


async def _connect(asked: Asked, answered: Callable[[Caller], None]) -> Caller:
    _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(answered), *address(asked.url))
    return caller


async def _first(done: asyncio.Future[None], callers: Sequence[Caller]) -> None:
    """Waits for the end, or raises the first failure."""
    futures = [done, *(caller.failed for caller in callers)]
    finished, _ = await asyncio.wait(futures, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if not finished:
        raise SystemExit(f"no end after {PATIENCE:g} s")
    for future in finished:
        future.result()


async def _close(callers: Sequence[Caller]) -> None:
    for caller in callers:
        caller.failed.cancel()
        caller.transport.close()
    await asyncio.sleep(0)  # the loop's turn, in which it closes them
