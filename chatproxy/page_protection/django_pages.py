"""Loads Django's own handler, and the pages behind it, with the first request for a page.

The admin, "My usage", their forms, templates and middleware take 20 MB and a quarter of a second to load. Most workers
never make a page, since a browser reaches only some of them.
"""

from __future__ import annotations

import asyncio
import gc

from django.core.handlers.asgi import ASGIHandler
from django.urls import get_resolver

from proxyapi.call.caller_connection import Receive, Send
from proxyapi.database_threads import in_own_thread


class DjangoPages:
    """ASGI application for Django's pages: passes each request to Django's handler, which the first request loads.

    The handler is loaded in a thread, so that the event loop serves calls of the API meanwhile.
    """

    def __init__(self) -> None:
        self._handler: ASGIHandler | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: dict[str, object], receive: Receive, send: Send) -> None:
        handler = self._handler or await self._load_once()
        await handler(scope, receive, send)

    async def _load_once(self) -> ASGIHandler:
        """Loads Django's handler, unless another request has loaded it or is just loading it; returns the handler."""
        async with self._loading:
            if self._handler is None:
                self._handler = await in_own_thread(load_handler)
            return self._handler


def load_handler() -> ASGIHandler:
    """Loads Django's handler with its middleware and all pages, and returns it.

    Call this in a thread, since it takes a quarter of a second.
    """
    gc.disable()  # as while a worker starts (`chatproxy.processes.worker`)
    try:
        handler = ASGIHandler()
        get_resolver().url_patterns  # noqa: B018  (the attribute loads the pages)
        gc.freeze()  # as a worker does with what it has loaded before (`chatproxy.processes.lifespan`)
    finally:
        gc.enable()
    return handler
