"""One ASGI exchange under uvicorn: reading the body, noticing the client's hang-up, cutting the connection."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Connection:
    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._gone = asyncio.Event()
        self.was_cut = False

    async def read_body(self) -> tuple[bytes, bool]:
        """Reads the request's body; returns the body, and whether it is complete.

        It is incomplete if the client hung up while sending it.
        """
        chunks: list[bytes] = []
        whole = await self._each_chunk(chunks.append)
        return b"".join(chunks), whole

    async def count_body(self) -> tuple[int, bool]:
        """Reads the request's body without keeping it; returns its size in bytes, and whether it is complete."""
        size = 0

        def count(chunk: bytes) -> None:
            nonlocal size
            size += len(chunk)

        whole = await self._each_chunk(count)
        return size, whole

    async def _each_chunk(self, take: Callable[[bytes], None]) -> bool:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self._gone.set()
                return False
            take(message.get("body", b""))
            if not message.get("more_body", False):
                return True

    async def watch(self) -> None:
        """Waits until the client has hung up or the answer is complete; ASGI reports the same for both."""
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._gone.set()

    @property
    def gone(self) -> bool:
        return self._gone.is_set()

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def cut(self, *, flush: bool) -> None:
        """Cuts the connection to the client; with `flush`, bytes that were written before are still sent.

        ASGI and uvicorn have no call for this: an application that returns early gets a 500 or an error in the log.
        `receive` is a bound method of uvicorn's request cycle, and that holds the transport.
        """
        self.was_cut = True
        transport: asyncio.Transport = self._receive.__self__.transport  # type: ignore[attr-defined]  # see above
        if flush:
            transport.close()
        else:
            transport.abort()
        await self.watch()  # until connection_lost: only then does uvicorn know that no answer is to come
