"""The pending responses: background responses of which the ledger does not know yet that they have ended.

Usage that upstream will never state is not free: the call that has created the response then gets an estimate
(`usage.answers.estimate_rules`). If the exact usage is stated later after all, it replaces the estimate
(`usage.journal_shipping.response_billing`). The reservation of the call's budget ends in the same transaction.

Transactions lock rows of `PendingResponse` first, in the order of their ids, and all other rows about these responses
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
from usage.sums.sum_tables import SUMMED_SQL, fetch_summed_rows
from usage.sums.totals_rollup import Rollup

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
    """A change of the usage in a call's database row: the row before the change, and the row after it.

    Each is a list with this one row, or an empty list if the row did not exist.
    """

    before: list[SummedRow]
    after: list[SummedRow]


def remember_pending(rows: Sequence[CallRecord]) -> None:
    """Stores unfinished responses in the table `PendingResponse`, so that the gateway polls them.

    Each of `rows` is the row of a call with such a response. A response that is in the table already keeps its entry.
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
    """Ends the polling of responses: deletes their rows in `PendingResponse`, and the reservations of their calls.

    Call this function in a transaction.
    """
    locked = dict(pending.select_for_update().order_by("pk").values_list("pk", "request_id"))
    if locked:
        Hold.objects.filter(pk__in=list(locked.values())).delete()
        PendingResponse.objects.filter(pk__in=list(locked)).delete()


def forget_pending(response: PendingResponse, *, is_gone: bool = False, has_ended: bool = False) -> None:
    """Ends the polling of a background response, and writes an estimate of its usage to its call's row.

    The estimate is the stored one, with the output limited to what a model can have made until now. A lower estimate in
    the row is raised to it; exact usage in the row stays. The call's reservation of a budget is deleted.

    Args:
        response: the background response.
        is_gone: whether upstream no longer has the response. If so, and the call has a reservation or has named its
            project or organization, the output is not limited.
        has_ended: whether the response has ended. If so, and the call has no reservation, an estimate in the row stays
            as it is.
    """
    with transaction.atomic():
        # Nobody knows whether upstream went on with a response after its deletion.
        is_reserved = _is_reserved(response)
        # Of a response that has ended, an estimate in the call's row stays, unless usage is reserved. In all other
        # cases lower counts in the row are raised to the stored estimate. Of a response that is gone, all reserved
        # usage counts.
        # So it does if the call named a project: upstream says 404 to the others, though the response may still go on.
        is_hidden = bool((response.supposed or {}).get("is_of_named_account"))
        is_whole = is_gone and (is_reserved or is_hidden)
        written = _count_supposed(response, is_whole=is_whole, is_raised=is_reserved or not has_ended)
        settle_pending(PendingResponse.objects.filter(pk=response.pk))
    _count_in_metrics(written)


def suppose_usage(response: PendingResponse) -> None:
    """Writes an estimate of an unfinished background response's usage to its call's row, and sets the next poll's time.

    If dollars are reserved for the call, the whole stored estimate is written, and the reservation is deleted.
    Otherwise the estimate's output is limited to what a model can have made until now, and an estimate that is in the
    row already stays. Exact usage in the row always stays.
    """
    with transaction.atomic():
        is_reserved = _is_reserved(response)
        # Without a reservation, an estimate in the row stays, so that further refusals do not change it.
        written = _count_supposed(response, is_whole=is_reserved, is_raised=is_reserved)
        Hold.objects.filter(pk=response.request_id).delete()
    _count_in_metrics(written)
    # upstream may state the exact usage later
    postpone(response)


def suppose_unasked(limit: int) -> int:
    """Writes estimates of the usage of unfinished background responses while the gateway polls none; returns how many.

    A response of unknown usage gets an estimate (`suppose_usage`) if its call has a reservation of a budget, or if it
    is older than `UNASKED_AFTER`; at most `limit` responses get one. Before that, at most `limit` responses older than
    30 days are given up (`forget_pending`), which do not count in the result.
    """
    # Otherwise pages would show "counted when it ends" for ever: without polls nobody learns of the end.
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
    """Claims at most `limit` background responses whose next poll is due, and returns them for polling.

    No other process gets them for a minute. Before that, at most `limit` responses older than 30 days are given up: an
    estimate of their usage is counted instead (`forget_pending`).
    """
    now = database_now()
    # Upstream keeps no response longer.
    for response in PendingResponse.objects.filter(created_at__lt=now - GIVE_UP_AFTER)[:limit]:
        forget_pending(response)
    with transaction.atomic():
        due = PendingResponse.objects.filter(ask_at__lte=now).order_by("ask_at").select_for_update(skip_locked=True)
        responses = list(due[:limit])
        PendingResponse.objects.filter(pk__in=[response.pk for response in responses]).update(ask_at=now + LEASE)
    return responses


def postpone(response: PendingResponse) -> None:
    """Sets the time of the next poll of an unfinished response.

    The pause until then is half of the response's present age, but at most a minute.
    """
    now = database_now()
    ask_at = now + min(LEASE, (now - response.created_at) / 2)
    PendingResponse.objects.filter(pk=response.pk).update(ask_at=ask_at)  # none, if it was settled meanwhile


def _count_supposed(response: PendingResponse, *, is_whole: bool, is_raised: bool) -> list[Written]:
    """Writes an estimate of a background response's usage and cost to its call's row, and corrects the sums by it.

    Exact usage in the row stays. Returns the change of the row, for the caller to count in the metrics after the
    transaction. The list is empty if nothing was changed: the response is no longer pending, another row is billed for
    it, or the usage stays the same.

    Args:
        response: the background response.
        is_whole: whether the whole stored estimate counts. If not, its output is limited to what a model can have made
            until now.
        is_raised: whether an estimate in the row is raised where the stored one is higher. If not, it stays as it is.
    """
    # Nothing is written if the response is no longer pending, or another row is billed for it.
    if not PendingResponse.objects.select_for_update().filter(pk=response.pk).exists():
        return []
    wanted = Q(usage_source=UsageSource.UNKNOWN, cost__isnull=True)
    # An estimate in the row is, for example, that of a stream that its caller has left.
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
    """Returns a copy of a call's row with an estimate of its background response's usage, and with its cost.

    The estimate is the stored one. Unless `is_whole` is true, its output is limited to what a model can have made until
    now. Where the row has a higher count already, that count is kept.
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
    """Returns an upper bound of what a background response has used until `moment`.

    It is the stored estimate, with the output limited to what a model can make from `began` until `moment`. If `began`
    is None, or the gateway stored the response earlier, the time of storing counts instead. Without a stored estimate,
    the input tokens are estimated from the size of the request (`request_bytes`), and the output counts as 0.
    """
    if response.supposed is None:  # written by code of before
        return {"input_tokens": tokens_of_text(request_bytes), "output_tokens": 0}
    began = min(began or response.created_at, response.created_at)
    return limited_to_time(response.supposed, (moment - began).total_seconds())


def _write_usage(row: CallRecord) -> Written:
    """Writes the usage and cost in `row` to the database row of the same call, and corrects the sums of calls.

    Returns the database row before and after the change.
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
    """Adds the tokens and dollars by which calls' rows have changed to the metrics of this process."""
    for before, after in written:
        counters.count_usage(after, {str(row["request_id"]): before for row in after})
