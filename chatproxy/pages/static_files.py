"""Owns how static files leave: piece by piece, as fast as the client takes them; and the links to them.

WhiteNoise returns an ordinary iterator, which Django's ASGI handler reads to its end before the first byte is sent.
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
    """Middleware."""

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> WhiteNoiseFileResponse:
        response = WhiteNoiseMiddleware.serve(static_file, request)
        if isinstance(request, ASGIRequest) and response.file_to_stream is not None:
            response.streaming_content = pieces(response.file_to_stream)
        return response


async def pieces(file: BinaryIO) -> AsyncGenerator[bytes]:
    """The content of a file, which is closed in the end. The disk is waited for in a thread."""
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


class StaticLinks(StaticFilesStorage):
    """Django keeps STATIC_URL as it was at the first request; the root path may be another at each."""

    def url(self, name: str | None) -> str:
        return get_script_prefix().removesuffix("/") + super().url(name)
