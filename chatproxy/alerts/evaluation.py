"""The thread of the shipper that looks for faults every 30 seconds: on this host and, if it is its turn, in the ledger.

Each time, one host looks at the ledger for all; an advisory lock of the transaction decides which. Even if two hosts
look at once, `incidents` opens each alert only once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from django.db import Error, connection, connections, transaction

from chatproxy.alert_models import AlertChannel, AlertKind, AlertRule
from chatproxy.alerts import hosts, incidents
from chatproxy.alerts.host_conditions import HOST_CONDITIONS, LoginRefusals, host_name, read_host_facts, shipper_away
from chatproxy.alerts.kinds import FoundFault
from chatproxy.alerts.ledger_conditions import LEDGER_CONDITIONS
from chatproxy.alerts.outage import DatabaseOutage
from usage.database.clock import database_now
from usage.database.fault_words import is_explained
from usage.database.query_deadline import limit_query_time
from usage.upkeep.periodic_thread import PeriodicThread

logger = logging.getLogger(__name__)

FIRST_SECONDS, EVERY_SECONDS = 5.0, 30.0
QUERY_SECONDS = 20.0  # for all queries of a look: a database that is slower counts as away
STOP_SECONDS = 5.0
LOCK = 0x616C6572  # the number of an advisory lock, the same in all processes


class AlertEvaluation(PeriodicThread):
    """A thread that looks for faults every 30 seconds, and opens and resolves alerts about them.

    Each host has one, in its shipper: the process that copies records of calls to the database.
    """

    name = "alerts"
    first_seconds, every_seconds = FIRST_SECONDS, EVERY_SECONDS
    stop_seconds = STOP_SECONDS
    failure = "faults were not looked for, and are again in half a minute"

    def __init__(self) -> None:
        super().__init__()
        self._first_found: dict[tuple[int, str], datetime] = {}  # by the id of a rule, and the subject
        self._logins = LoginRefusals()
        self._outage = DatabaseOutage()
        self._is_first = True

    def finish(self) -> None:
        """Records in the database that this host was stopped properly, so that nobody gets an alert about it."""
        try:
            with limit_query_time(STOP_SECONDS / 2):
                hosts.note_stop(host_name(), database_now())
        except Error:
            logger.warning("the database does not know that this host stops, and may tell that its shipper is away")
        finally:
            connections.close_all()

    def work(self) -> None:
        """Looks for faults once, and opens and resolves alerts about them.

        If the database fails, only alerts about this outage are sent, without the database.
        """
        try:
            with limit_query_time(QUERY_SECONDS):
                self.look_for_faults()
        except Error as error:
            self._outage.go_on(error)

    def look_for_faults(self, now: datetime | None = None) -> None:
        """Looks for faults on this host and in the database's tables, and opens and resolves alerts about them.

        The tables are examined only if no other process is doing so. Also records that this host is looking. If there
        was an outage of the database, ends its alert. `now` is the database's time by default.

        Raises:
            django.db.Error: the database does not answer.
        """
        now = now or database_now()
        seen_at = hosts.note_host(host_name(), now)
        rules = list(AlertRule.objects.filter(enabled=True))
        channels = list(AlertChannel.objects.filter(enabled=True).prefetch_related("rules"))
        self._outage.remember(rules, channels)
        self._look_at_host(rules, channels, now, seen_at)
        with transaction.atomic():
            if _has_turn():
                self._look_at_ledger(rules, channels, now)
        # Only now: if a query of this look has failed, the outage goes on, and its alert is sent in the end.
        self._outage.end(now)

    def _look_at_host(
        self, rules: Iterable[AlertRule], channels: list[AlertChannel], now: datetime, seen_at: datetime | None
    ) -> None:
        """Looks for faults of this host, and opens and resolves alerts about them.

        `seen_at` is the time of this host's previous look for faults. It is None if the host is new, or if its server
        was stopped properly.
        """
        facts = read_host_facts(now, self._logins)
        is_first, self._is_first = self._is_first, False
        for rule in rules:
            if (condition := HOST_CONDITIONS.get(rule.kind)) is None:
                continue
            window = timedelta(minutes=rule.window_minutes or 0)
            was_away = is_first and seen_at is not None and now - seen_at >= window
            seen = replace(facts, away_since=seen_at if was_away else None)
            self._record(rule, facts.host, partial(condition, rule, seen, now), now, channels)

    def _look_at_ledger(self, rules: list[AlertRule], channels: list[AlertChannel], now: datetime) -> None:
        """Looks for faults of keys and calls in the database's tables, and for hosts that no longer look for faults.

        Opens and resolves alerts about them. Also resolves the alerts of rules that are switched off and of hosts that
        are gone, and deletes old alerts.
        """
        for rule in rules:
            if rule.kind == AlertKind.SHIPPER:
                for host in hosts.find_hosts_away(now, timedelta(minutes=rule.window_minutes or 0)):
                    incidents.record(rule, host.name, [shipper_away(host.name, host.seen_at)], now, channels)
            elif (condition := LEDGER_CONDITIONS.get(rule.kind)) is not None:
                self._record(rule, "", partial(condition, rule, now), now, channels)
        longest = max((rule.window_minutes or 0 for rule in rules if rule.kind == AlertKind.SHIPPER), default=0)
        incidents.close_others(rules, hosts.forget_hosts(now, timedelta(minutes=longest)), now)
        incidents.delete_old(now)

    def _record(
        self,
        rule: AlertRule,
        host: str,
        find: Callable[[], Iterable[FoundFault]],
        now: datetime,
        channels: list[AlertChannel],
    ) -> None:
        """Calls `find` to look for the faults of one rule; opens and resolves the rule's alerts accordingly.

        If `find` fails for another reason than an outage of the database, the error is logged, and the rule's alerts
        stay as they are.

        Raises:
            django.db.Error: the database does not answer.
        """
        try:
            with transaction.atomic():  # else no rule could ask anything after a query that the database refuses
                found = [self._with_first_time(rule, fault) for fault in find()]
        except Exception as error:  # a border, as said
            if isinstance(error, Error) and is_explained(error):
                raise
            logger.exception("the alert rule %s fails", rule)
            return
        subjects = {fault.subject for fault in found}
        for pk, subject in list(self._first_found):
            if pk == rule.pk and subject not in subjects:
                del self._first_found[pk, subject]
        incidents.record(rule, host, found, now, channels)

    def _with_first_time(self, rule: AlertRule, fault: FoundFault) -> FoundFault:
        """Returns a copy of `fault` whose `since` is the time at which this process first found it, if that is earlier.

        This time is remembered for the next search. A fault that the last search did not find counts as new.
        """
        first = min(fault.since, self._first_found.get((rule.pk, fault.subject), fault.since))
        self._first_found[rule.pk, fault.subject] = first
        return replace(fault, since=first)


def _has_turn() -> bool:
    """Tries to lock the search for faults in the database's tables; returns False if another process has the lock.

    The lock is held until the transaction ends, so this must be called in a transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        [(is_mine,)] = cursor.fetchall()
    return bool(is_mine)
