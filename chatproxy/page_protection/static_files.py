"""Sends static files piece by piece, as fast as the client reads them; and makes the links to static files.

WhiteNoise alone returns an ordinary iterator, which Django's ASGI handler reads to its end before it sends the first
byte.
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

PIECE_BYTES = 256 * 1024  # each piece is read in a thread, which costs a switch to the thread and back


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Middleware that serves static files like WhiteNoise, but reads each piece only when the client wants it."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> WhiteNoiseFileResponse:
        response = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest) and response.file_to_stream is not None:
            response.streaming_content = file_pieces(response.file_to_stream)
        return response


async def file_pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    """Yields the content of `file` in pieces, each read in a thread, and closes the file at the end."""
    with file:
        # Reading from a disk would block the event loop.
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


class StaticLinks(StaticFilesStorage):
    """Django's storage of static files; its URLs begin with the root path of the current request."""

    # Django alone would use the root path of the first request for all later ones, which may have another.
    def url(self, name: str | None) -> str:
        """Returns the URL of the static file `name`, under the root path of the current request."""
        return get_script_prefix().removesuffix("/") + super().url(name)
