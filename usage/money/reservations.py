"""Reserves dollars of budgets for calls, from leases in memory, which one task gets and renews in PostgreSQL.

If the lease of its key or team has enough free dollars, a call reserves them at once (`leases`). Otherwise the call
waits for a round trip (`lease_rounds`) that gets the dollars for all waiting calls of this process. If a round trip
fails, all waiting calls fail, `fault` has the reason, and further calls that would have to wait fail at once, until a
later round trip succeeds.

While this worker has leases, a round trip each second reads their rows: whether another worker needs dollars that no
call uses here, and whether a statement whose answer was lost was executed. A lease that no call has used for
`IDLE_SECONDS` is given back. Its row is deleted when the rows of its calls have been shipped.

Over 300 lines, since one class has the whole life of leases, from the call that needs one to the lease's end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal
from itertools import islice
from math import inf

import psycopg
from psycopg_pool import PoolTimeout

from usage.database.fault_words import words_of
from usage.money.lease_rounds import PATIENCE, LeaseRounds, Round
from usage.money.lease_statements import SPANS, Grant
from usage.money.leases import NOTHING, BudgetState, CallShare, Lease, Need, Wanted
from usage.money.spenders import Spender

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 0.02
LOOK_SECONDS = 1.0
IDLE_SECONDS = 3.0
DOUBT_SECONDS = 30.0  # for which a statement whose answer was lost may still be executed
LEASES_AT_ONCE = 50  # that one round trip asks for dollars: each is a transaction, and all have a second together
RENEW_SECONDS = 60.0  # of a lease that is used or may be; `leases.USABLE_SECONDS` says for how long it is good
ONE_OUTAGE_SECONDS = 60.0  # a database that fails again within a minute of coming back is in the same outage


class ReservationsUnavailable(Exception):
    """Error: no dollars can be reserved for a call, as its lease has too few and the database does not answer."""


Waiting = tuple[Wanted, asyncio.Future[BudgetState]]


class Reservations:
    """The budget reservations of one worker process, which are parts of the leases that the database grants the worker.

    Call `open` before use, in the event loop that serves calls.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.outages = 0  # how many outages of the database there have been, the present one included
        self._writer = ""
        self._version = 0  # of the newest round
        self._back_at = -inf
        self._look_at = -inf  # when the next look is due
        self._rounds = LeaseRounds()
        self._keeper: asyncio.Task[None] | None = None
        self._leases: dict[tuple[Spender, date], Lease] = {}
        self._retired: list[Lease] = []
        self._waiting: dict[Lease, list[Waiting]] = defaultdict(list)
        self._work = asyncio.Event()

    async def open(self, writer: str) -> None:
        """Starts the task that gets, renews and gives back this worker's leases (parts of budgets).

        `writer` is the id of this worker's journal.
        """
        # Whoever ships the last record of that journal deletes its leases.
        self._writer = writer
        await self._rounds.open()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """Gives the free dollars of all leases (parts of budgets) back, and closes the connections to the database.

        During an outage of the database, no dollars are given back. The used dollars are subtracted from the leases
        later, when the rows of the calls are written.
        """
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper}, timeout=PATIENCE)
        for lease in list(self._leases.values()):
            self._retire(lease)
        if self._retired and not self.fault:
            await self._round()
        await self._rounds.close()

    def take_at_once(self, wanted: Wanted) -> CallShare | None:
        """Reserves a call's highest possible cost in this worker's lease (part of a budget); returns the reservation.

        Never waits: returns None if the lease has too few free dollars, or if other calls wait for the lease. Use
        `take` then.
        """
        lease = self._lease_for(wanted)
        share = None if lease in self._waiting else lease.reserve(wanted)
        if share is not None and lease.is_low:
            self._work.set()
        return share

    async def take(self, wanted: Wanted) -> BudgetState:
        """Reserves a call's highest possible cost in the budgets of its key or team; waits for the database if needed.

        Returns a `BudgetState`; its `share` is the reservation, or None if too little was left. If less than the
        highest cost is left, the call may get all that is left, on the conditions that `Wanted` states.

        Raises:
            ReservationsUnavailable: the database does not answer, so it is unknown how much is left.
        """
        if (share := self.take_at_once(wanted)) is not None:
            return BudgetState(share)
        if self.fault:
            raise ReservationsUnavailable
        lease = self._lease_for(wanted)
        future: asyncio.Future[BudgetState] = asyncio.get_running_loop().create_future()
        self._waiting[lease].append((wanted, future))
        self._work.set()
        try:
            return await future
        except asyncio.CancelledError:  # the caller has left, perhaps at the moment when the call got its share
            if not future.cancelled() and future.exception() is None and (share := future.result().share) is not None:
                self.settle(share, NOTHING)
            raise

    def settle(self, share: CallShare, dollars: Decimal) -> None:
        """Replaces an ended call's reservation by the call's cost, in this worker's memory.

        The database learns of the cost when the call's row is written. Dollars that the lease no longer needs are given
        back a moment later.
        """
        # In the database, the writing of the call's row does so.
        lease = share.lease
        lease.settle(share, dollars)
        lease.used_at = time.monotonic()
        if lease.surplus:  # given back a moment later, so that it also serves the caller's next call
            asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._work.set)

    def shrink(self, share: CallShare, dollars: Decimal) -> None:
        """Lowers the reservation of a call to `dollars`; the other dollars of the reservation are free again."""
        share.lease.shrink(share, dollars)
        if share.lease.surplus:
            self._work.set()

    def _lease_for(self, wanted: Wanted) -> Lease:
        """Returns the lease (part of a budget) from which a call can reserve dollars; makes an empty one if needed.

        It is the lease for the call's spender and UTC day. If that one is too old, was not renewed lately, or has other
        budgets, a new lease replaces it.
        """
        now = time.monotonic()
        place = (wanted.spender, wanted.day)
        lease = self._leases.get(place)
        if lease is not None and (lease.budgets != wanted.budgets or not lease.is_usable(now)):
            self._retire(lease)
            lease = None
        if lease is None:
            lease = self._leases[place] = Lease(wanted, now)
        lease.used_at = now
        return lease

    def _retire(self, lease: Lease) -> None:
        """Makes a lease serve no further calls. The next round trip to the database gives its free dollars back."""
        if not lease.is_retired:
            lease.is_retired = True
            del self._leases[lease.spender, lease.day]
            self._retired.append(lease)
            self._work.set()

    # --- rounds

    async def _keep(self) -> None:
        """Runs as a task that makes round trips to the database for the leases, until it is cancelled.

        A round trip is made when calls or leases need dollars, when leases give dollars back, and each second while
        there are leases.
        """
        try:
            while True:
                until_look = max(0, self._look_at - time.monotonic()) if self._leases or self._retired else None
                with suppress(TimeoutError):
                    async with asyncio.timeout(until_look):
                        await self._work.wait()
                self._work.clear()
                if self.fault:
                    await asyncio.sleep(LOOK_SECONDS)
                await self._round()
        finally:
            self._fail(self._waiting)

    async def _round(self) -> None:
        """Makes a round trip to the database, if there is anything to send; answers the calls that wait for dollars.

        It answers the calls of at most `LEASES_AT_ONCE` leases; the others wait for the next round trip. If the round
        trip fails, nothing is raised here, but all waiting calls get the error `ReservationsUnavailable`.
        """
        waiting = dict(islice(self._waiting.items(), LEASES_AT_ONCE))
        for lease in waiting:
            self._waiting[lease] = []  # so that calls that come meanwhile stand behind these
        if len(self._waiting) > len(waiting):
            self._work.set()
        planned: Round | None = None
        try:
            planned = self._plan(waiting)
            if not planned.is_empty or self.fault:
                await self._rounds.make(planned)
            self._read_answers(planned, waiting)
        except Exception as error:  # the border: after any error, waiting calls need an answer, and later calls a round
            if not isinstance(error, psycopg.Error | PoolTimeout | OSError):
                logger.exception("a round of reservations failed")
            self._record_failure(words_of(error), planned)
            self._fail(waiting)
            waiting, self._waiting = self._waiting, defaultdict(list)
            self._fail(waiting)
            return
        except asyncio.CancelledError:
            self._fail(waiting)
            raise
        for lease in waiting:
            if not self._waiting[lease]:
                del self._waiting[lease]

    def _plan(self, waiting: dict[Lease, list[Waiting]]) -> Round:
        """Plans the next round trip to the database, for all leases and for the calls in `waiting`, and returns it.

        Leases that no call has used for a while are retired: they give all their dollars back. Dollars to be given back
        are subtracted from the leases in memory at once.
        """
        now = time.monotonic()
        self._version += 1
        if not self.fault:  # else it could not be given back, and there would be no other one
            for lease in list(self._leases.values()):
                if not lease.in_flight and now - lease.used_at >= IDLE_SECONDS and lease not in waiting:
                    self._retire(lease)
        every = [*self._leases.values(), *self._retired]
        calls = {lease: [wanted for wanted, future in waiting[lease] if not future.done()] for lease in waiting}
        needs = [need for lease in waiting if (need := Need.of(lease, calls[lease])).dollars > 0]
        low = [Need.of(lease) for lease in every if lease.is_low and lease not in waiting]
        needs += low[: LEASES_AT_ONCE - len(needs)]
        given = {}
        for lease in every:
            dollars = NOTHING if lease in waiting else lease.surplus
            if dollars or lease.is_in_doubt or lease.is_recalled or self._is_to_renew(lease, now):
                lease.granted -= dollars
                given[lease] = dollars
        looked: list[Lease] = []
        if every and (now >= self._look_at or self.fault):
            looked, self._look_at = every, now + LOOK_SECONDS
        return Round(self._writer, self._version, given, sorted(needs, key=lambda need: need.lease.spender), looked)

    def _is_to_renew(self, lease: Lease, now: float) -> bool:
        """Returns whether a lease must be renewed now, `RENEW_SECONDS` after the last time, so that it stays valid.

        Returns False for a retired lease without calls, which may run out.
        """
        # A retired lease without calls is not renewed: it runs out even if its row is not deleted.
        return now - lease.renewed_at >= RENEW_SECONDS and bool(lease.in_flight or not lease.is_retired)

    def _read_answers(self, done: Round, waiting: dict[Lease, list[Waiting]]) -> None:
        """Updates the leases in memory by the database's answers in the round trip `done`; then answers waiting calls.

        A call in `waiting` is not answered, but waits for the next round trip, if its lease has too few free dollars,
        and `done` did not ask the database for more dollars for this lease.
        """
        now = time.monotonic()
        if self.fault:
            logger.info("budgets are reserved again")
            self.fault, self._back_at = "", now
        for lease in done.given:
            lease.is_in_doubt = lease.is_recalled = False
            lease.renewed_at = now
        answers = {need.lease: answer for need, answer in zip(done.needs, done.answers, strict=True)}
        for lease, answer in answers.items():
            lease.take_granted(answer.granted, answer.spare, has_waited=lease in waiting)
        for lease, calls in waiting.items():
            for wanted, future in calls:
                if future.done():  # the caller has left
                    continue
                state = reserve(lease, wanted, answers.get(lease))
                if state.share is None and lease not in answers:  # what was free has been used meanwhile
                    self._waiting[lease].append((wanted, future))
                else:
                    future.set_result(state)
            if lease.surplus or self._waiting[lease]:
                self._work.set()
        if done.looked:
            self._read_rows(done)

    def _read_rows(self, done: Round) -> None:
        """Updates the leases in memory from their rows in the database, which the round trip `done` has read.

        A row has the lease's dollars, and whether another worker needs some of them. A lease whose row is gone is
        retired: no further call uses it. Retired leases that are no longer needed are forgotten.
        """
        for lease in done.looked:
            if (row := done.rows.get(lease.id)) is not None:
                is_recalled, lease.granted = row
                if is_recalled:
                    lease.has_spare, lease.is_recalled = False, True
                    self._work.set()
            elif lease.granted:  # it has run out, or the database is a restored one: its calls go on without it
                lease.granted = lease.used + lease.reserved
                self._retire(lease)
        self._retired = [
            lease
            for lease in self._retired
            if lease.in_flight
            or lease.id in done.rows
            or lease in self._waiting
            or lease not in done.looked
            or time.monotonic() - lease.doubted_at < DOUBT_SECONDS
        ]

    def _record_failure(self, fault: str, planned: Round | None) -> None:
        """Records that the round trip `planned` has failed for the reason `fault`; logs the beginning of an outage.

        The leases that were to be changed by the round trip are marked as in doubt: the database may have executed its
        statements, or not. `planned` is None if the round trip was not planned yet.
        """
        # Nobody knows whether the statements were executed.
        if planned is not None:
            for lease in [*planned.given, *(need.lease for need in planned.needs)]:
                lease.is_in_doubt, lease.doubted_at = True, time.monotonic()
        if not self.fault:
            logger.warning("budgets cannot be reserved: %s", fault)
            if time.monotonic() - self._back_at > ONE_OUTAGE_SECONDS:
                self.outages += 1
        self.fault = fault
        self._work.set()

    def _fail(self, waiting: Mapping[Lease, list[Waiting]]) -> None:
        """Makes each call in `waiting` that has no answer yet fail with the error `ReservationsUnavailable`."""
        for calls in waiting.values():
            for _, future in calls:
                if not future.done():
                    future.set_exception(ReservationsUnavailable())


def reserve(lease: Lease, wanted: Wanted, answer: Grant | None) -> BudgetState:
    """Reserves dollars of a lease for a call that has waited; returns a `BudgetState` with the reservation as `share`.

    `share` is None if the lease has too few free dollars. `answer` is the database's answer to the lease's request for
    dollars; the dollars spent and reserved in the budgets come from it. If it is None, nothing was requested, and the
    result has only `share`.
    """
    if answer is None:
        return BudgetState(lease.reserve(wanted))
    unheld = min(
        budget - answer.spent[span] for span, budget in zip(SPANS, wanted.budgets, strict=True) if budget is not None
    )
    return BudgetState(lease.reserve(wanted, unheld), answer.spent, answer.held, answer.others)


reservations = Reservations()
