"""Counts requests before they go on: the calls of keys with limits, and requests to pages that cost something."""

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
    """Base class of the checks that count requests against a limit: Django REST framework's throttles, but async.

    The check may wait for Redis, which counts for several processes together.
    """

    @abstractmethod
    async def check(self, request: ProxyRequest, view: APIView) -> None:
        """Counts a request against this throttle's limit.

        Raises:
            RateLimited: the request exceeds the limit.
        """


class KeyLimits(Throttle):
    """Throttle that counts a call against its key's limits: requests a minute, tokens a minute, and calls at once.

    A call of a key without limits is not counted.
    """

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if request.caller.is_limited:
            call = request.call_request
            call.resources.ticket = await limiter.admit(request.caller, call.request_id, call.resources.at_end)


class PageThrottle(Throttle):
    """Throttle that lets a page be requested once in `PAGE_INTERVAL_SECONDS`, by all clients together.

    Each process counts its own requests unless `REDIS_URL` is set. A refused request does not start the interval anew.
    """

    async def check(self, request: ProxyRequest, view: APIView) -> None:
        if remaining := await limiter.pace(type(view).__name__, PAGE_INTERVAL_SECONDS):
            seconds = math.ceil(remaining)
            raise RateLimited(
                f"Once in {PAGE_INTERVAL_SECONDS} seconds; try again in {seconds} s.", retry_after=seconds
            )
