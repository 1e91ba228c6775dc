"""Sends status 504 to a caller whose own time limit is over, while the call goes on until its usage is known.

This is for calls of keys with a budget. Upstream may finish such a call in any case, and bills the work it has done. If
the call were broken off, its cost could only be estimated.
"""

from __future__ import annotations

import asyncio
import time

from corsheaders.middleware import CorsMiddleware

from proxyapi.call.call import Call
from proxyapi.exceptions import CallerTimeout, render
from proxyapi.streams.sending import send_whole

TIME_IS_OVER = "Upstream did not answer within this call's timeout. The call goes on upstream, and is counted."


class CallerDeadline:
    """Timer of the time limit that the caller has set for a call; when the time is over, the caller gets status 504."""

    def __init__(self, call: Call, deadline: float) -> None:
        self._call = call
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_at(deadline, self._expire)

    async def stop(self) -> None:
        """Stops the timer of the caller's time limit; waits if the answer with status 504 is just being sent.

        Afterwards, `left_at` of the request's `IncomingBody` (when the caller hung up, or got status 504) is None if
        the caller still waits for an answer.
        """
        # From now on only the call's handler sends to the caller, and `left_at` tells it whether it still may.
        self._timer.cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _expire(self) -> None:
        """Starts to send status 504 to the caller, whose time limit is over.

        Does nothing if the call has ended or the caller has left.
        """
        body = self._call.request.incoming_body
        if self._call.has_ended or body.left_at is not None:
            return
        body.left_at = time.perf_counter()
        self._call.timed_out = CallerTimeout(TIME_IS_OVER)
        self._task = asyncio.create_task(self._answer(self._call.timed_out))

    async def _answer(self, error: CallerTimeout) -> None:
        """Sends `error` (status 504) to the caller; a call from a browser gets CORS headers with it."""
        request = self._call.request
        response = render(error, request)
        if "HTTP_ORIGIN" in request.META:
            CorsMiddleware(lambda _: response).add_response_headers(request, response)
        await send_whole(request, response)
