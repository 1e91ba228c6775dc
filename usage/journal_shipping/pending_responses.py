"""The responses that have not ended as far as the ledger knows, until the gateway has asked upstream about them.

Usage that upstream will never state is not free: the call that has made the response then gets what is supposed of it
(`usage.answers.estimate_rules`), as an estimate. If the exact usage is stated later after all, it replaces the estimate
(`usage.journal_shipping.background_cost`). The reservation of the call's budget ends in the same transaction.

Transactions lock rows of `PendingResponse` first, in the order of their ids, and everything else of these responses
afterwards, so that they never deadlock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, cast

import orjson
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from usage.answers.estimate_rules import at_least, limited_to_time, tokens_of_text
from usage.call_record import COUNTS, CallRecord, SummedRow, SupposedUsage
from usage.database.clock import database_now
from usage.journal_shipping.digests import DIGEST
from usage.metric_counters import counters
from usage.models import CountedResponse, Hold, PendingResponse, Request, UsageSource
from usage.money.row_pricing import Pricer
from usage.sums.adding_up import SUMMED_SQL, Rollup
from usage.sums.summed_rows import fetch_summed_rows

LEASE = timedelta(seconds=60)  # one process asks; another may when this has passed
# When polling is off, a response is taken to have ended after this time. One of a key with a budget counts at once, by
# all that was reserved for it.
UNASKED_AFTER = timedelta(minutes=10)
GIVE_UP_AFTER = timedelta(days=30)  # upstream keeps a response no longer
COLUMNS = [field.name for field in Request._meta.concrete_fields if field.name != "digest"]
USAGE_COLUMNS = (*COUNTS, "other_usage", "usage_source")
SET_COLUMNS = (*USAGE_COLUMNS, "cost", "cost_kind", "price")
READ_ROW = f"SELECT {SUMMED_SQL} FROM usage_request WHERE request_id = %s"
SET_USAGE = (
    f"UPDATE usage_request SET {', '.join(f'{name} = known.{name}' for name in SET_COLUMNS)}"
    " FROM jsonb_populate_record(NULL::usage_request, %s::jsonb) AS known"
    f" WHERE usage_request.request_id = known.request_id RETURNING {SUMMED_SQL}"
)
UPDATE_DIGEST = f"UPDATE usage_request SET digest = {DIGEST} WHERE request_id = %s"


class Written(NamedTuple):
    """A change of one call's row in the table, whose usage was replaced: the row before, and the row after."""

    before: list[SummedRow]
    after: list[SummedRow]


def remember_pending(rows: Sequence[CallRecord]) -> None:
    """Stores the responses of the given rows as unfinished, so that the gateway polls their status.

    Each row is that of a call with one such response. The response becomes a row of the table `PendingResponse`.
    """
    # In one order: two hosts that insert the same responses in different ones would wait for each other.
    pending = [
        PendingResponse(
            response_id=row["response_id"],
            key_name=row["key_name"],
            request_id=row["request_id"],
            supposed=row.get("supposed"),
        )
        for row in sorted(rows, key=lambda row: str(row["response_id"]))
    ]
    PendingResponse.objects.bulk_create(pending, ignore_conflicts=True)


def settle_pending(pending: QuerySet[PendingResponse]) -> None:
    """Ends the polling of unfinished responses: deletes their rows `pending`, and their calls' budget reservations.

    Call this function in a transaction.
    """
    locked = dict(pending.select_for_update().order_by("pk").values_list("pk", "request_id"))
    if locked:
        Hold.objects.filter(pk__in=list(locked.values())).delete()
        PendingResponse.objects.filter(pk__in=list(locked)).delete()


def forget_pending(response: PendingResponse, *, is_gone: bool = False, has_ended: bool = False) -> None:
    """Ends the polling of a background response whose usage upstream will never state, and counts an estimate instead.

    The estimate is stored with the response. It is written to the row of the call and added to the sums by hour, day,
    key and so on. If the row has an estimate already, the row's estimate is raised to the stored one.

    `has_ended` means that upstream has said that the response ended. Then the row's own estimate is kept as it is,
    unless the call has a reservation.

    `is_gone` means that upstream no longer has the response. Nobody knows whether upstream went on with the response
    after its deletion. So if the call has a reservation, all of the reserved usage counts.
    """
    with transaction.atomic():
        is_reserved = _is_reserved(response)
        written = _count_supposed(response, is_whole=is_gone and is_reserved, is_raised=is_reserved or not has_ended)
        settle_pending(PendingResponse.objects.filter(pk=response.pk))
    _count_in_metrics(written)


def suppose_usage(response: PendingResponse) -> None:
    """Counts an estimate of a background response's usage, because upstream refuses at present to state its status.

    The estimate is stored with the response. If the call has a budget reservation, all of the reserved usage counts,
    since upstream may go on with the response, and the reservation is deleted. Without a reservation, an estimate that
    the row has already stays as it is, so that further refusals do not change it.

    The response is still polled, because upstream may state the exact usage later.
    """
    with transaction.atomic():
        is_reserved = _is_reserved(response)
        written = _count_supposed(response, is_whole=is_reserved, is_raised=is_reserved)
        Hold.objects.filter(pk=response.request_id).delete()
    _count_in_metrics(written)
    postpone(response)


def suppose_unasked(limit: int) -> int:
    """Counts an estimate of the usage of unfinished responses while the polling of responses is switched off.

    Without polling, the gateway does not learn when a response ends, and pages would show "counted when it ends" for
    ever. The estimate is written to the rows of the calls that created the responses, and to the sums.

    An exact usage replaces the estimate if upstream states one later: when a caller fetches the response, or when
    polling is switched on again. At most `limit` responses get an estimate. Returns how many got one.
    """
    now = database_now()
    for response in PendingResponse.objects.filter(created_at__lt=now - GIVE_UP_AFTER)[:limit]:
        forget_pending(response)
    uncounted = Request.objects.filter(pk=OuterRef("request_id"), usage_source=UsageSource.UNKNOWN, cost__isnull=True)
    is_old = Q(created_at__lt=now - UNASKED_AFTER)
    is_reserved = Exists(Hold.objects.filter(pk=OuterRef("request_id")))
    unasked = list(PendingResponse.objects.filter(is_reserved | is_old, Exists(uncounted)).order_by("pk")[:limit])
    for response in unasked:
        suppose_usage(response)
    return len(unasked)


def _is_reserved(response: PendingResponse) -> bool:
    return Hold.objects.filter(pk=response.request_id).exists()


def lease_pending(limit: int) -> list[PendingResponse]:
    """Returns background responses that this process is to poll now, and leases them so that no other process does.

    At most `limit` are returned. The lease ends after a minute. Upstream keeps no response longer than 30 days. Older
    ones are not polled any more: an estimate of their usage is counted instead.
    """
    now = database_now()
    for response in PendingResponse.objects.filter(created_at__lt=now - GIVE_UP_AFTER)[:limit]:
        forget_pending(response)
    with transaction.atomic():
        due = PendingResponse.objects.filter(ask_at__lte=now).order_by("ask_at").select_for_update(skip_locked=True)
        responses = list(due[:limit])
        PendingResponse.objects.filter(pk__in=[response.pk for response in responses]).update(ask_at=now + LEASE)
    return responses


def postpone(response: PendingResponse) -> None:
    """Sets when to poll an unfinished background response again: after half of its age, at most a minute from now."""
    now = database_now()
    ask_at = now + min(LEASE, (now - response.created_at) / 2)
    PendingResponse.objects.filter(pk=response.pk).update(ask_at=ask_at)  # none, if it was settled meanwhile


def _count_supposed(response: PendingResponse, *, is_whole: bool, is_raised: bool) -> list[Written]:
    """Writes an estimate of a background response's usage to the row of the call that created it, and to the sums.

    The estimate is the one that is stored with the response. Unless `is_whole`, its output tokens are limited to what a
    model can make in the time since the response was created.

    What is written depends on the usage that the row has:

    * An exact usage stays as it is.
    * An unknown usage without a cost is replaced by the estimate.
    * An estimate stays as it is, such as that of a stream that its caller has left while the response went on. Only
      with `is_raised`, counts that are lower than those of the stored estimate are raised to them.

    Nothing is written if the response is no longer pending, or if another row is billed for its usage.

    Returns the changes that were written. They must be counted in the metrics after the end of the transaction.
    """
    if not PendingResponse.objects.select_for_update().filter(pk=response.pk).exists():
        return []
    wanted = Q(usage_source=UsageSource.UNKNOWN, cost__isnull=True)
    if is_raised and response.supposed is not None:
        wanted |= Q(usage_source=UsageSource.ESTIMATED)
    rows = Request.objects.select_for_update().filter(wanted, pk=response.request_id)
    found: list[CallRecord] = list(rows.values(*COLUMNS))
    written = []
    for row in found:
        # Of several rows that estimate a response, one counts. The exact one may replace it later.
        owner, _ = CountedResponse.objects.get_or_create(
            response_id=response.response_id, defaults={"request_id": response.request_id}
        )
        if str(owner.request_id) == str(response.request_id):
            supposed = _with_supposed(row, response, is_whole=is_whole)
            if any(supposed.get(name) != row.get(name) for name in USAGE_COLUMNS):
                written.append(_write_usage(supposed))
    return written


def _with_supposed(row: CallRecord, response: PendingResponse, *, is_whole: bool) -> CallRecord:
    """Returns a call's row with the estimated usage of its background response, and with the cost of that usage.

    The estimate is the one stored with the response. With `is_whole`, all of it counts: the usage for which the call's
    budget was reserved. Otherwise its output tokens are limited to what a model can have made until now.
    """
    if is_whole and response.supposed is not None:
        supposed: SupposedUsage = response.supposed
    else:
        supposed = supposed_by(response, cast(datetime, row["started_at"]), row["request_bytes"], database_now())
    usage = at_least(supposed, row, row["other_usage"])
    [priced] = Pricer().priced([{**row, **usage, "usage_source": UsageSource.ESTIMATED}])
    return priced


def supposed_by(
    response: PendingResponse, began: datetime | None, request_bytes: int, moment: datetime
) -> SupposedUsage:
    """Returns the estimated usage of a background response on which upstream has worked until `moment` at most.

    The work began at `began`. The time at which the gateway stored the response as pending is taken instead if it is
    earlier, or if `began` is None. `request_bytes` is the size of the request. If no estimate was stored with the
    response, the input is estimated from this size.
    """
    if response.supposed is None:  # written by code of before
        return {"input_tokens": tokens_of_text(request_bytes), "output_tokens": 0}
    began = min(began or response.created_at, response.created_at)
    return limited_to_time(response.supposed, (moment - began).total_seconds())


def _write_usage(row: CallRecord) -> Written:
    """Replaces the usage and cost of a call's row in the table by those in `row`, and corrects the sums accordingly.

    Returns the row of the table as it was before the change, and as it is after it.
    """
    request_id = row["request_id"]
    known = {name: row.get(name) for name in ("request_id", *SET_COLUMNS)}
    with connection.cursor() as cursor:
        cursor.execute(READ_ROW, [request_id])
        before = fetch_summed_rows(cursor)
        cursor.execute(SET_USAGE, [orjson.dumps(known, default=str).decode()])
        after = fetch_summed_rows(cursor)
        cursor.execute(UPDATE_DIGEST, [request_id])
        rollup = Rollup()
        rollup.add(before, sign=-1)
        rollup.add(after)
        rollup.write(cursor)
    return Written(before, after)


def _count_in_metrics(written: Sequence[Written]) -> None:
    """Adds to this process's metrics the tokens and dollars that rows have gained because their usage was replaced."""
    for before, after in written:
        counters.count_usage(after, {str(row["request_id"]): before for row in after})
