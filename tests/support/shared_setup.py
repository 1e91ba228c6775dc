"""Shares between the clients of all tests what each of them would prepare anew, and what is the same for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import httpx2
import pytest
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.responders import Redirect, StaticFile


@contextmanager
def share_setup() -> Iterator[None]:
    """Context manager in which HTTP clients share their TLS contexts, and Django's clients the list of static files.

    Reading the authorities that a TLS context trusts takes 35 ms of CPU, and looking for static files takes 25 ms.
    """
    files: dict[str, StaticFile | Redirect] = {}
    find_files = WhiteNoiseMiddleware.add_files_from_finders

    def add_files(middleware: WhiteNoiseMiddleware) -> None:
        if not files:
            find_files(middleware)
            files.update(middleware.files)
        middleware.files.update(files)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx2._transports.default.create_ssl_context", cache(httpx2.create_ssl_context))
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add_files)
        yield
