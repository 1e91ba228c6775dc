"""Owns which requests are counted before they go on: calls of limited keys, and the pages that cost something."""

from __future__ import annotations

import math
from abc import abstractmethod

from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from proxyapi.call.call_request import ProxyRequest
from proxyapi.exceptions import RateLimited
from proxyapi.limits.limiter import limiter

PAGE_INTERVAL_SECONDS = 10


class Throttle(BaseThrottle):
    """DRF's policy, but one that may wait for counters which processes share."""

    @abstractmethod
    async def check(self, request: ProxyRequest, view: APIView) -> None:
        """Raises `RateLimited`."""


class KeyLimits(Throttle):
    """What the key may do in a minute, and at once. A key without limits costs nothing here."""

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if request.caller.is_limited:
            call = request.call_request
            call.held.ticket = await limiter.admit(request.caller, call.request_id, call.held)


class PageThrottle(Throttle):
    """Lets one request to a page go on in `PAGE_INTERVAL_SECONDS`, whoever sends it.

    Each process counts its own requests unless `REDIS_URL` is set. A refused request does not start the interval anew.
    """

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if remaining := await limiter.pace(type(view).__name__, PAGE_INTERVAL_SECONDS):
            seconds = math.ceil(remaining)
            raise RateLimited(
                f"Once in {PAGE_INTERVAL_SECONDS} seconds; try again in {seconds} s.", retry_after=seconds
            )
