"""Owns the sending of a streamed answer: its chunks, the comments between them, and how it ends.

A stream ends cleanly or by a cut connection, never in between: a message withheld makes the
server cut, and a caller that no longer takes what it is sent is dropped with its buffer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from django.conf import settings

from proxyapi.call.caller_connection import CallerConnection, Send
from proxyapi.exceptions import CallerGone, InternalError
from proxyapi.streams.relay import Relay

# What a stream may last beyond its call's deadline: time for our own error event to leave.
GRACE_SECONDS = 1.0


class EventStream:
    """One `relay` on its way to one caller."""

    def __init__(self, relay: Relay, send: Send, connection: CallerConnection, http_version: str) -> None:
        self._relay = relay
        self._send = send
        self._connection = connection
        self._has_chunks = http_version != "1.0"

    async def run(self, start: Mapping[str, Any] | None) -> None:
        """Sends the head `start`, unless one has been sent, then everything; closes the relay however this ends."""
        relay = self._relay
        if not self._has_chunks:
            self._connection.answer_until_close()
        try:
            async with asyncio.timeout_at(relay.deadline + GRACE_SECONDS):
                async with self._comments(), aclosing(relay.chunks(self._connection.send_now)) as chunks:
                    if start is not None:
                        await self._send(start)
                    async for chunk in chunks:
                        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
                relay.close()  # before a wait for a caller that takes nothing more
                if self._has_chunks and not relay.broken:
                    await self._send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            self._connection.abort()
            return
        except CallerGone:
            raise
        except Exception:  # the border: it is ours, and no departure
            relay.fail(InternalError())
            raise
        finally:
            relay.close()
        if relay.broken and not self._has_chunks:
            self._connection.abort()  # a mere close would be a clean end

    @asynccontextmanager
    async def _comments(self) -> AsyncIterator[None]:
        comments = asyncio.create_task(self._send_comments()) if settings.SSE_KEEPALIVE_SECONDS else None
        try:
            yield
        finally:
            if comments is not None:
                comments.cancel()
                await asyncio.wait({comments})

    async def _send_comments(self) -> None:
        """A comment whenever the relay has had nothing for `SSE_KEEPALIVE_SECONDS`.

        One that had to wait for the socket could end up inside an event; a caller that takes nothing needs none.
        """
        pause = settings.SSE_KEEPALIVE_SECONDS
        while True:
            await asyncio.sleep(pause)
            quiet = time.perf_counter() - self._relay.last_sent
            pause = settings.SSE_KEEPALIVE_SECONDS
            if quiet < pause:
                pause -= quiet
                continue
            if self._relay.takes_comments and self._connection.takes_bytes:
                self._relay.has_comments = True
                await self._send({"type": "http.response.body", "body": self._relay.comment, "more_body": True})
