"""Throttles, which count requests against limits: calls of keys with limits, and requests for costly pages."""

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
    """Base class of throttles, which count a request against a limit; like Django REST framework's, but async.

    Subclasses implement `check`.
    """

    @abstractmethod
    async def check(self, request: ProxyRequest, view: APIView) -> None:
        """Counts a request against this throttle's limit.

        A throttle that counts in Redis, for all processes, may wait for Redis.

        Raises:
            RateLimited: the request exceeds the limit.
        """


class KeyLimits(Throttle):
    """Throttle that counts a call against the limits of its key and of the key's team.

    The limits are requests a minute, tokens a minute, and parallel calls.
    """

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if request.caller.limit_ceilings:
            call = request.call_request
            call.resources.ticket = await limiter.admit(request.caller, call.request_id, call.resources.at_end)


class PageThrottle(Throttle):
    """Throttle for a page that may be requested once in `PAGE_INTERVAL_SECONDS`, by all clients together.

    With `REDIS_URL`, all processes count together. A refused request does not start a new interval.
    """

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if remaining := await limiter.pace(type(view).__name__, PAGE_INTERVAL_SECONDS):
            seconds = math.ceil(remaining)
            raise RateLimited(
                f"Once in {PAGE_INTERVAL_SECONDS} seconds; try again in {seconds} s.", retry_after=seconds
            )
