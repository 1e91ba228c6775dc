"""Owns the callers: a mix of calls that goes on whatever happens, and their book of what they saw.

Each call has a marker, sent as `X-Request-Id`, which the ledger keeps, and in the body, which upstream keeps.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2

from tests.support.servers.gateway import SECURITY_KEY

CALLERS = 24
PAUSE = 0.3  # seconds between a caller's calls, on average
HANGS_AFTER = 45.0  # longer than the server's REQUEST_TIMEOUT
SOUND = b"\xff\xfb\x90\x00" + bytes(413) * 4


@dataclass(frozen=True)
class Kind:
    """A kind of call.

    `outcome` is what the ledger, and `status` what the caller must see if nothing else happens to the call. `leaves` is
    after how many seconds the caller hangs up; None if it waits for the answer.
    """

    name: str
    path: str
    model: str
    outcome: str = "success"
    status: int | None = 200
    leaves: float | None = None


KINDS = {
    Kind("plain", "/openai", "gpt-4o-mini"): 24,
    Kind("slow", "/openai", "fault:slow-0.3"): 18,
    Kind("embedding", "/embeddings", "text-embedding-3-small"): 12,
    Kind("stream", "/openai2", "fault:events-20+pace-0.03"): 16,
    Kind("upload", "/openai/audio/transcriptions", "whisper-1"): 8,
    Kind("left", "/openai", "fault:slow-20", "client_cancelled", None, leaves=0.2): 4,
    Kind("left stream", "/openai2", "fault:events-400+pace-0.05", "client_cancelled", 200, leaves=0.4): 4,
    Kind("error", "/openai", "fault:status-500", "upstream_error", 500): 3,
    Kind("limited", "/embeddings", "fault:status-429", "upstream_error", 429): 3,
    Kind("cut", "/openai", "fault:cut", "unreachable", 502): 2,
    Kind("cut body", "/openai", "fault:cut-body", "unreachable", 502): 2,
    Kind("cut stream", "/openai2", "fault:cut-stream-4", "unreachable", 200): 3,
}
PLAIN = next(iter(KINDS))


@dataclass
class Entry:
    """One call in the callers' book; times are those of `time.time()`.

    `saw` is what the caller saw: "complete", "left" (it hung up itself), "failed" (the stream ended with an error
    event), "cut" (the connection), "refused" (no connection) or "hung" (no answer).
    """

    marker: str
    kind: Kind
    phase: str
    started: float
    ended: float = 0.0
    saw: str = "hung"
    status: int | None = None
    request_id: str = ""
    code: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.started


class Load:
    """Callers that make one call after the other until they are stopped.

    `phase` is the name of what is done to the server at the moment; a call's entry gets it when the call ends.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.book: list[Entry] = []
        self.phase = "calm"
        self._random = random.Random(seed)
        self._stopping = False
        self._going = asyncio.Event()
        self._going.set()
        # A connection for each call: the end of an idle one would look like a fault.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx2.AsyncClient(base_url=url, timeout=HANGS_AFTER, limits=limits)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Lets the callers make calls until the block ends, and then waits until each has finished its last call."""
        async with self._client:
            callers = [asyncio.create_task(self._call_in_turn()) for _ in range(CALLERS)]
            try:
                yield
            finally:
                self._stopping = True
                await asyncio.gather(*callers)

    @asynccontextmanager
    async def resting(self) -> AsyncIterator[None]:
        """Keeps the callers from beginning new calls until the block ends.

        Waits a second before the block begins, in which calls in flight may finish.
        """
        self._going.clear()
        await asyncio.sleep(1)
        try:
            yield
        finally:
            self._going.set()

    async def _call_in_turn(self) -> None:
        while not self._stopping:
            await self._going.wait()
            (kind,) = self._random.choices(list(KINDS), list(KINDS.values()))
            await self.call(kind)
            await asyncio.sleep(self._random.expovariate(1 / PAUSE))

    async def call(self, kind: Kind) -> Entry:
        entry = Entry(f"chaos-{uuid4()}", kind, self.phase, time.time())
        self.book.append(entry)
        try:
            async with asyncio.timeout(HANGS_AFTER if kind.leaves is None else kind.leaves):
                await self._exchange(entry)
        except TimeoutError:
            entry.saw = "hung" if kind.leaves is None else "left"
        except httpx2.ConnectError:
            entry.saw = "refused"
        except httpx2.RequestError:
            entry.saw = "cut" if entry.saw != "failed" else "failed"
        entry.ended = time.time()
        entry.phase = self.phase  # what went wrong at its end, if something did
        return entry

    async def _exchange(self, entry: Entry) -> None:
        headers = {"X-Request-Id": entry.marker, "X-Security-Key": SECURITY_KEY}
        async with self._client.stream("POST", entry.kind.path, headers=headers, **_body(entry)) as answer:
            entry.status = answer.status_code
            entry.request_id = answer.headers["x-proxy-request-id"]
            body = b""
            async for piece in answer.aiter_raw():
                body += piece
                if b"\nevent: error\n" in body:
                    entry.saw = "failed"
        if answer.headers.get("content-type") == "text/event-stream; charset=utf-8":
            whole = b"event: response.completed\n" in body and body.endswith(b"data: [DONE]\n\n")
            entry.saw = "complete" if whole else "cut"
            return
        entry.saw = "complete"
        if answer.status_code >= 400:
            with suppress(ValueError, LookupError, TypeError):
                error = answer_error(body)
                entry.code = error["code"] if "request_id" in error else ""


def answer_error(body: bytes) -> Any:
    """Returns the error object in an answer's body; if the gateway made it, it has a `request_id`."""
    return httpx2.Response(200, content=body).json()["error"]


def _body(entry: Entry) -> dict[str, Any]:
    kind, marker = entry.kind, entry.marker
    match kind.path:
        case "/openai":
            return {"json": {"model": kind.model, "messages": [{"role": "user", "content": marker}]}}
        case "/embeddings":
            return {"json": {"model": kind.model, "input": marker}}
        case "/openai2":
            return {"json": {"model": kind.model, "input": marker, "stream": True}}
    return {"data": {"model": kind.model, "prompt": marker}, "files": {"file": ("a.mp3", SOUND, "audio/mpeg")}}
