"""Owns the pace of the pages that cost something: one call per page in ten seconds."""

from __future__ import annotations

import math
import time

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

SECONDS_BETWEEN_CALLS = 10.0


class OncePerTenSeconds(BaseThrottle):
    """Per page and per process. A refused call does not push the next one back."""

    _allowed_again: dict[str, float] = {}  # noqa: RUF012  (one clock per page for the whole process)

    def allow_request(self, request: Request, view: APIView) -> bool:
        now = time.monotonic()
        page = type(view).__name__
        self._remaining = self._allowed_again.get(page, 0.0) - now
        if self._remaining > 0:
            return False
        self._allowed_again[page] = now + SECONDS_BETWEEN_CALLS
        return True

    def wait(self) -> float:
        return math.ceil(self._remaining)
