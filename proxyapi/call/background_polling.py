"""Asks upstream about background responses that nobody has fetched, so that their usage is counted.

Such a request to upstream is a poll. Only responses that were made with the configured upstream key are polled, because
no other upstream key is stored for them. If the response has ended, the poll writes a ledger row marked `by_gateway`,
with the usage and cost of the response. The row has the key, model and route of the call that created the response, but
does not count as a call of the key. If the response is unfinished, the poll writes no row.

If a response is gone or ends without stating its usage, if upstream refuses the poll, or if polling is switched off,
the usage is estimated in the row of the call that created the response (`usage.journal_shipping.background_responses`).

The shipper process of each host does the polling, for at most `BATCH` responses at a time. It claims a response with a
lease, and claims no more than it can ask about at once. Otherwise a lease could expire while its response waits, and
another host would ask about the same response. `POLL_TIMEOUT_SECONDS` is shorter than a lease.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from uuid_utils.compat import uuid7

from proxyapi.cached_settings import call_settings
from proxyapi.call.journal_rows import poll_row
from proxyapi.database_threads import in_own_thread
from proxyapi.exceptions import UpstreamFailure
from proxyapi.keys.credentials import configured_credentials
from proxyapi.upstream import client
from proxyapi.upstream.request import UpstreamRequest
from usage.answers.created_ids import CreatedIds
from usage.answers.event_kinds import TERMINAL_STATUSES
from usage.answers.reader import UNFINISHED_STATUSES, AnswerReader
from usage.call_record import COUNTS
from usage.journal_shipping.background_responses import forget_pending, lease_pending, postpone, suppose_usage
from usage.journal_shipping.response_billing import ROUTES
from usage.ledger import ledger
from usage.models import PendingResponse, Request, UsageSource
from usage.money.spent_and_reserved import responses_are_polled

logger = logging.getLogger(__name__)

WAITING = "background responses wait for the database: %s"
BATCH = 20
# Time limit of one request; shorter than a lease (`usage.journal_shipping.background_responses`).
POLL_TIMEOUT_SECONDS = 30.0
# What `poll_row` reads of the call that has made a response: in the event loop no other column can be read later.
MAKER_COLUMNS = (
    "route", "request_model", "team", "owner", "end_user", "session", "tags", "started_at", "request_bytes",
    "usage_source", *COUNTS, "other_usage",
)  # fmt: skip
GONE = {404, 410}  # the response was deleted, or has expired
REFUSALS = {400, 401, 403, 405}  # this account may not ask, now or ever


async def watch_pending() -> None:
    """Asks upstream about unfinished background responses until this task is cancelled, so that their usage is counted.

    Looks in the database every `BACKGROUND_POLL_SECONDS` for responses whose next poll is due. Returns at once if that
    setting is 0, or if no upstream key is configured.
    """
    asked: set[str] = set()  # ids of the responses that are being asked about
    async with asyncio.TaskGroup() as polls:  # cancels all of them when this task is cancelled
        while responses_are_polled():
            await asyncio.sleep(settings.BACKGROUND_POLL_SECONDS)
            try:
                # The due responses are marked in the database as this host's, so that no other host asks about them.
                due = await in_own_thread(lambda: _lease(BATCH - len(asked)))
            except Exception:  # the border: whatever the error is, the loop must go on
                logger.exception("background responses could not be leased")
                continue
            for response in due:
                if response.response_id not in asked:  # else it stood still for longer than a lease, and asks already
                    asked.add(response.response_id)
                    polls.create_task(_poll(response, asked))


async def _poll(response: PendingResponse, asked: set[str]) -> None:
    """Asks upstream about one background response, then removes the response's id from the set `asked`.

    Errors are logged, not raised.
    """
    try:
        await ask(response)
    except DatabaseError as error:  # the response is asked about again when its lease has expired
        logger.info(WAITING, type(error).__name__)
    except Exception:  # the border: whatever the error is, the other tasks of the group must go on
        logger.exception("a background response could not be asked for")
    finally:
        asked.discard(response.response_id)


async def ask(response: PendingResponse) -> None:
    """Asks upstream once about a background response. If it has ended, stores its usage, and stops polling it.

    In the other cases:

    * The response is unfinished: it will be polled again later.
    * Upstream does not know the response (status 404 or 410), or the response ended without stating its usage: it is
      not polled any more, and its usage is estimated. A failed response gets no estimate.
    * Upstream refuses to answer (status 400, 401, 403 or 405): the usage is estimated for now, and the polling goes on.
    * No usable answer came: the response is polled again when this host's lease of it has expired.

    Raises:
        django.db.Error: the database is away; the response is polled again when the lease has expired.
    """
    started, started_at = time.perf_counter(), datetime.now(UTC)
    request_id = str(uuid7())  # now: lists of calls take the time of a row from its id, sums from `started_at`
    deadline = asyncio.get_running_loop().time() + POLL_TIMEOUT_SECONDS
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
    if looked.status in GONE:
        await in_own_thread(lambda: _change_in_database(lambda: forget_pending(response, is_gone=True)))
    if looked.status in REFUSALS:
        await in_own_thread(lambda: _change_in_database(lambda: suppose_usage(response)))
    if looked.status != 200:
        return
    answer = AnswerReader()
    answer.created = CreatedIds(is_creating=False, lasts=False)
    answer.read_body(body)
    if answer.response_status in UNFINISHED_STATUSES:
        await in_own_thread(lambda: _change_in_database(lambda: postpone(response)))
        return
    if answer.usage is None and answer.response_status not in TERMINAL_STATUSES:
        return  # no response came, but perhaps a proxy's error page: asks again when the lease has expired
    maker = await in_own_thread(lambda: _maker_of(response))
    row = poll_row(
        response,
        maker,
        answer,
        upstream_request_id=looked.request_id,
        secrets=call_settings().secrets,
        started_at=started_at,
        seconds=time.perf_counter() - started,
        size=len(body),
    )
    ledger.record_poll(request_id, row)
    settles = answer.response_status == "failed" or row["usage_source"] == UsageSource.ESTIMATED
    if answer.usage is None and not settles:  # it ended without a usage, and the row does not end the polling
        await in_own_thread(lambda: _change_in_database(lambda: forget_pending(response, has_ended=True)))


def _lease(limit: int) -> list[PendingResponse]:
    """Claims up to `limit` background responses that are due to be polled, and returns them.

    A claim is a lease: it is stored in the database, and expires. The result is empty while the database is away, and
    if `limit` is not positive.
    """
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
    """Reads the ledger row of the call that created a background response, with the columns `MAKER_COLUMNS`.

    If the row is gone, or belongs to a call to another API, returns an unsaved row that has only a route.

    Raises:
        django.db.Error: the database is away.
    """
    try:
        maker = Request.objects.filter(pk=response.request_id).only(*MAKER_COLUMNS).first()
    finally:
        connection.close()
    return maker if maker and maker.route.startswith(ROUTES) else Request(route=ROUTES[-1])


def _change_in_database(change: Callable[[], None]) -> None:
    """Runs the function `change`, which changes a database row; then closes this thread's database connection."""
    try:
        change()
    finally:
        # This thread was started for this change alone.
        connection.close()
