"""Sends static files compressed, piece by piece, as fast as the client reads them; and makes the links to them.

WhiteNoise alone returns an ordinary iterator, which Django's ASGI handler reads to its end before it sends a byte. It
also compresses only files that were collected during an installation, and here is no such step. The link to a file has
a digest of the file's content in it, so a changed file has another link, and browsers can store files for a year.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import os
import re
from collections.abc import AsyncGenerator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.urls import get_script_prefix
from whitenoise.middleware import WhiteNoiseFileResponse, WhiteNoiseMiddleware
from whitenoise.responders import StaticFile

PIECE_BYTES = 256 * 1024  # each piece is read in a thread, which costs a switch to the thread and back
FOREVER = "public, max-age=31536000, immutable"  # a year
_COMPRESSIBLE = re.compile(r"(text/|application/(javascript|json)|image/svg)")
# Compressed files are kept in memory: those of all pages are 30, and have less than 1 MB.
_MOST_KEPT = 64
_ACCEPTS_GZIP = re.compile(r"(^|,)\s*gzip\s*(;\s*q=(?!0(\.0*)?\s*(,|$))[^,]*)?(,|$)", re.IGNORECASE)


class StaticFiles(WhiteNoiseMiddleware):  # type: ignore[misc]  # it has no types
    """Middleware that serves static files as WhiteNoise does, but reads them piece by piece, and compresses texts.

    A piece is read only when the client can take it. A text is compressed if the client accepts gzip. Browsers may
    store a file for a year if its URL contains the digest of its content.
    """

    @staticmethod
    def serve(static_file: StaticFile, request: HttpRequest) -> WhiteNoiseFileResponse:
        response = WhiteNoiseMiddleware.serve(static_file, request)
        path = static_file.alternatives[-1][1]  # the file as it is, which is the last choice
        if response.status_code in (200, 304) and "v" in request.GET and request.GET["v"] == _version(path):
            response["Cache-Control"] = FOREVER
        file: BinaryIO | None = response.file_to_stream
        if response.status_code == 200 and _COMPRESSIBLE.match(response.get("Content-Type", "")):
            response["Vary"] = "Accept-Encoding"
            if _ACCEPTS_GZIP.search(request.headers.get("Accept-Encoding", "")):
                file = _compress(response, path)
        if isinstance(request, ASGIRequest) and file is not None:
            response.streaming_content = file_pieces(file)
        return response


def _compress(response: WhiteNoiseFileResponse, path: str) -> BinaryIO | None:
    """Compresses the file of a response, and adapts the headers; returns the compressed content, or None for HEAD.

    The ETag is removed, because it belongs to the uncompressed file; browsers then use the time of the file's last
    change.
    """
    compressed = _gzip(path, os.stat(path).st_mtime_ns)
    response["Content-Encoding"] = "gzip"
    response["Content-Length"] = str(len(compressed))
    del response["ETag"]
    if response.file_to_stream is None:
        return None
    response.file_to_stream.close()
    return io.BytesIO(compressed)


@lru_cache(maxsize=_MOST_KEPT)
def _gzip(path: str, _mtime_ns: int) -> bytes:
    """Returns the content of a file, compressed with gzip; cached until the file changes.

    `_mtime_ns`, the time of the file's last change, is a part of the cache's key: so a changed file is read again.
    """
    return gzip.compress(Path(path).read_bytes(), 6, mtime=0)


def _version(path: str) -> str:
    """Returns a short digest of the content of a file, or an empty text if the file is gone."""
    try:
        return _digest(path, os.stat(path).st_mtime_ns)
    except OSError:  # an update has replaced the files of the running server
        return ""


@lru_cache(maxsize=1000)
def _digest(path: str, _mtime_ns: int) -> str:
    """Returns a short digest of the content of a file; cached until the file changes.

    `_mtime_ns`, the time of the file's last change, is a part of the cache's key: so a changed file is read again.
    """
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:10]


@lru_cache(maxsize=1000)
def _file_of(name: str) -> str:
    """Returns the path of the static file `name`, or an empty text if there is no such file."""
    found = finders.find(name)
    return found if isinstance(found, str) and os.path.isfile(found) else ""


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
        """Returns the URL of the static file `name`, under the root path of the current request.

        The URL contains a digest of the file's content. So a changed file has another URL, and browsers can store files
        for a year. If there is no such file, the URL contains no digest.
        """
        url = get_script_prefix().removesuffix("/") + super().url(name)
        version = _version(_file_of(name)) if name else ""
        return f"{url}?v={version}" if version else url
