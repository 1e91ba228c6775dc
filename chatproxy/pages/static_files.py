"""Sends static files piece by piece, as fast as the client takes them; and makes the links to them.

WhiteNoise alone returns an ordinary iterator, which Django's ASGI handler reads to its end before it sends a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import BinaryIO

from django.contrib.staticfiles.storage import StaticFilesStorage
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import get_script_prefix
from whitenoise.middleware import WhiteNoiseFileResponse, WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

PIECE_BYTES = 256 * 1024  # each costs a hop to a thread and back


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Middleware: WhiteNoise's, with a file's content read in pieces under ASGI."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> WhiteNoiseFileResponse:
        response = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest) and response.file_to_stream is not None:
            response.streaming_content = pieces(response.file_to_stream)
        return response


async def pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Yields the content of a file, and closes the file in the end. A thread waits for the disk."""
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


class StaticLinks(StaticFilesStorage):
    """The storage that makes the links to static files, under the root path of the request.

    Django puts the root path of the first request before STATIC_URL and keeps it; here each request may have another.
    """

    def url(self, name: str | None) -> str:
        """Returns the URL of the file `name`."""
        return get_script_prefix().removesuffix("/") + super().url(name)
