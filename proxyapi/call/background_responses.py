"""Owns asking upstream about background responses that nobody has fetched, so that their usage is counted.

Only those made with the configured key: a caller's own key is not kept. The look that sees the end of a response is a
row of its own, marked `by_gateway`: no call of the key, but it has the response's usage and cost. It is filed under the
key, model and route of the call that made the response.

A process asks about at most `AT_ONCE` responses at a time, and leases no more than it asks about at once: a lease that
waited for others would pass, and another process would ask the same. `PATIENCE` is shorter than a lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from uuid_utils.compat import uuid7

from proxyapi.call.facts import configured_secrets
from proxyapi.call.gateway_fields import configured_credentials
from proxyapi.call.record import look_row
from proxyapi.exceptions import UpstreamFailure
from proxyapi.threads import in_own_thread
from proxyapi.upstream import client
from proxyapi.upstream.client import UpstreamRequest
from usage.answers.created_ids import CreatedIds
from usage.answers.reader import TERMINAL_STATUSES, UNFINISHED_STATUSES, AnswerReader
from usage.ledger import ledger
from usage.models import PendingResponse, Request
from usage.shipping.response_usage import ROUTES, forget_pending, lease_pending, postpone

logger = logging.getLogger(__name__)

WAITING = "background responses wait for the database: %s"
AT_ONCE = 20
PATIENCE = 30.0  # seconds for one look; `usage.shipping.response_usage.LEASE` is longer


async def watch_pending() -> None:
    """Runs beside the calls of one process until it is cancelled; processes share the work by leases."""
    asked: set[str] = set()  # ids of the responses that a look is on its way for
    async with asyncio.TaskGroup() as looks:  # ends them all when this is cancelled
        while settings.BACKGROUND_POLL_SECONDS and settings.OPENAI_API_KEY:
            await asyncio.sleep(settings.BACKGROUND_POLL_SECONDS)
            try:
                due = await in_own_thread(lambda: _lease(AT_ONCE - len(asked)))
            except Exception:  # the border: whatever the leasing meets must not end the watching
                logger.exception("background responses could not be leased")
                continue
            for response in due:
                if response.response_id not in asked:  # else this process stood still for longer than a lease
                    asked.add(response.response_id)
                    looks.create_task(_look(response, asked))


async def _look(response: PendingResponse, asked: set[str]) -> None:
    try:
        await ask(response)
    except DatabaseError as error:  # its lease runs out, and it is asked for again
        logger.info(WAITING, type(error).__name__)
    except Exception:  # the border: whatever one look meets must not end the others, or the watching
        logger.exception("a background response could not be asked for")
    finally:
        asked.discard(response.response_id)


async def ask(response: PendingResponse) -> None:
    """Looks at one response, and writes a row if it has ended."""
    started, started_at = time.perf_counter(), datetime.now(UTC)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    request = UpstreamRequest("GET", f"/responses/{response.response_id}", configured_credentials(), deadline)
    try:
        looked = await client.send(request)
        try:
            body = await looked.read()
        finally:
            looked.close()
    except UpstreamFailure as failure:
        logger.info("background response not seen: %s", failure.code)
        return
    if looked.status == 404:
        await in_own_thread(lambda: _forget(response))
    if looked.status != 200:
        return
    answer = AnswerReader()
    answer.created = CreatedIds(is_creating=False, lasts=False)
    answer.read_body(body)
    if answer.response_status in UNFINISHED_STATUSES:
        await in_own_thread(lambda: _postpone(response))
        return
    if answer.usage is None and answer.response_status not in TERMINAL_STATUSES:
        return  # no response, but a proxy's page or the like: the next lease asks again
    maker = await in_own_thread(lambda: _maker_of(response))
    row = look_row(
        response,
        maker,
        answer,
        upstream_request_id=looked.request_id,
        secrets=configured_secrets(),
        started_at=started_at,
        seconds=time.perf_counter() - started,
        size=len(body),
    )
    ledger.record_look(str(uuid7()), row)
    if answer.usage is None:  # it failed or was cancelled before it cost anything; nothing will settle it
        await in_own_thread(lambda: _forget(response))


def _lease(limit: int) -> list[PendingResponse]:
    if limit <= 0:
        return []
    try:
        return lease_pending(limit)
    except DatabaseError as error:
        logger.info(WAITING, type(error).__name__)
        return []
    finally:
        connection.close()


def _maker_of(response: PendingResponse) -> Request:
    """The call that has made the response; one of its route, if its row has been pruned.

    Raises:
        django.db.Error: the database is away; the next lease asks again.
    """
    try:
        maker = Request.objects.filter(pk=response.request_id).only("route", "request_model", "tags").first()
    finally:
        connection.close()
    return maker if maker and maker.route.startswith(ROUTES) else Request(route=ROUTES[-1])


def _postpone(response: PendingResponse) -> None:
    try:
        postpone(response)
    finally:
        connection.close()


def _forget(response: PendingResponse) -> None:
    try:
        forget_pending(response)
    finally:
        connection.close()
