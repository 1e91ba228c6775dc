"""The clients for calls with unstreamed answers, which call in a closed loop or at a fixed rate.

They use asyncio's protocols directly, because a client library would cost more CPU than the server. An answer with
another status than 200 ends the run.
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
MOST_OPEN = 200  # calls that `open_loop` has in flight to one target, unless it is told otherwise
PATIENCE = 120.0  # seconds for any answer


class Asked(NamedTuple):
    """One server's URL, and the bytes of the request that is sent to it over and over."""

    url: str
    request: bytes


class Answers(NamedTuple):
    """How long a number of calls took: all of them in `seconds`, and each one in `milliseconds`."""

    seconds: float
    milliseconds: list[float]


class Caller(asyncio.Protocol):
    """A client's keep-alive connection that makes one call at a time; calls `answered` after each complete answer.

    `failed` has an exception once the connection is lost or an answer has another status than 200.
    """

    transport: Any

    def __init__(self, answered: Callable[[Caller], None]) -> None:
        self._answered = answered
        self._buffer = bytearray()
        self._whole = 0  # size of the answer in bytes; 0 until its head has arrived
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


def closed_loop(asked: Asked, calls: int, connections: int = CONNECTIONS) -> Answers:
    """Makes `calls` calls on `connections` connections, and returns how long they took.

    Each connection sends its next call as soon as the last is answered.
    """
    return uvloop.run(_closed_loop(asked, calls, connections))


async def _closed_loop(asked: Asked, calls: int, connections: int) -> Answers:
    milliseconds: list[float] = []
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    to_send = calls

    def answered(caller: Caller) -> None:
        milliseconds.append((time.perf_counter() - caller.sent_at) * 1000)
        if len(milliseconds) == calls:
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
        await _wait_until_done(done, callers)
        return Answers(time.perf_counter() - start, milliseconds)
    finally:
        await _close(callers)


def open_loop(targets: Sequence[Asked], rate: float, seconds: float, most_open: int = MOST_OPEN) -> list[list[float]]:
    """Makes `rate` calls a second to each target for `seconds`; returns each target's latencies in milliseconds.

    The calls are evenly spaced, the targets take turns, and no call waits for the answer to an earlier one. Raises
    SystemExit if more than `most_open` calls to one target are in flight. Python's garbage collector is off meanwhile,
    so that its pauses are not measured.
    """
    gc.collect()
    gc.disable()
    try:
        return uvloop.run(_open_loop(targets, rate, seconds, most_open))
    finally:
        gc.enable()


async def _open_loop(targets: Sequence[Asked], rate: float, seconds: float, most_open: int) -> list[list[float]]:
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
        idle[index] = [await _connect(target, heard(index)) for _ in range(most_open)]
        callers += idle[index]
    loop = asyncio.get_running_loop()
    start, pause = loop.time(), 1 / rate / len(targets)
    try:
        for number in range(calls):
            await asyncio.sleep(start + number * pause - loop.time())
            index = number % len(targets)
            if not idle[index]:
                raise SystemExit(f"{most_open} calls are open at {rate:g} a second: {targets[index].url} is too slow")
            idle[index].pop().send(targets[index].request)
        await _wait_until_done(done, callers)
        return latencies
    finally:
        await _close(callers)


async def _connect(asked: Asked, answered: Callable[[Caller], None]) -> Caller:
    """Opens a client connection to the server and returns it."""
    _, caller = await asyncio.get_running_loop().create_connection(lambda: Caller(answered), *address(asked.url))
    return caller


async def _wait_until_done(done: asyncio.Future[None], callers: Sequence[Caller]) -> None:
    """Waits until all calls are answered (`done`), or until the first call fails.

    Raises SystemExit as soon as a call fails, or when `PATIENCE` seconds have passed.
    """
    futures = [done, *(caller.failed for caller in callers)]
    finished, _ = await asyncio.wait(futures, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
    if not finished:
        raise SystemExit(f"no end after {PATIENCE:g} s")
    for future in finished:
        future.result()


async def _close(callers: Sequence[Caller]) -> None:
    """Closes the connections of the benchmark's clients."""
    for caller in callers:
        caller.failed.cancel()
        caller.transport.close()
    await asyncio.sleep(0)  # the event loop closes them in its next turn
