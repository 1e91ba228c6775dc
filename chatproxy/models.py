"""Owns what the project keeps in the database: the count of failed logins, which all workers and hosts share, and the
canaries of secrets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, models

# One subject's count as a part of a statement: it counts only if the part before it found its subject below its limit.
COUNT = """step_{n} AS (
    INSERT INTO chatproxy_loginattempts AS known (subject, attempts, since)
    SELECT %(subject_{n})s, 1, now() WHERE {is_reached}
    ON CONFLICT (subject) DO UPDATE SET
        attempts = CASE WHEN known.since < now() - %(window)s::interval THEN 1 ELSE known.attempts + 1 END,
        since = CASE WHEN known.since < now() - %(window)s::interval THEN now() ELSE known.since END
    RETURNING attempts, extract(epoch FROM since + %(window)s::interval - now()) AS seconds)"""
IS_BELOW = "(SELECT attempts <= %(limit_{n})s FROM step_{n})"
# Rows that another statement is about to count in are left to it: waiting for each other, both would fail.
FORGET = """DELETE FROM chatproxy_loginattempts WHERE subject IN (
    SELECT subject FROM chatproxy_loginattempts WHERE since < now() - %(window)s::interval
    LIMIT 1000 FOR UPDATE SKIP LOCKED)"""


class Limit(NamedTuple):
    """A subject and the attempts that it has in a window. `is_own`: a login from there starts its count anew."""

    subject: str
    attempts: int
    is_own: bool = False


class LoginAttemptsManager(models.Manager["LoginAttempts"]):
    def add(self, limits: Sequence[Limit], window: timedelta) -> float | None:
        """Counts one more attempt of each subject in turn, up to the first whose limit is passed.

        Returns the seconds until that subject's window is over, or None if no limit is passed. It is one statement: no
        attempt is missed among many at once, and a subject behind one that is blocked is not counted. A count begins
        anew when its window is over. The only clock is the database's, which all hosts share.
        """
        steps: list[str] = []
        values: dict[str, str | int] = {"window": _interval(window)}
        for n, limit in enumerate(limits):
            values |= {f"subject_{n}": limit.subject, f"limit_{n}": limit.attempts}
            steps.append(COUNT.format(n=n, is_reached=IS_BELOW.format(n=n - 1) if n else "TRUE"))
        passed = " UNION ALL ".join(
            f"SELECT seconds FROM step_{n} WHERE attempts > %(limit_{n})s"  # noqa: S608  (a number of our own)
            for n in range(len(limits))
        )
        with connection.cursor() as cursor:
            cursor.execute(f"WITH {', '.join(steps)} {passed}", values)
            row = cursor.fetchone()
        return float(row[0]) if row else None

    def forget(self, window: timedelta) -> None:
        """Deletes counts whose window is over, at most a thousand at a time."""
        with connection.cursor() as cursor:
            cursor.execute(FORGET, {"window": _interval(window)})


def _interval(length: timedelta) -> str:
    return f"{length.total_seconds()} seconds"


class LoginAttempts(models.Model):
    """`subject` is the digest of a network, a user name or a device: people type their passwords as names."""

    subject = models.CharField(max_length=64, primary_key=True)
    attempts = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    objects = LoginAttemptsManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.attempts} since {self.since:%H:%M:%S}"


class SecretCanary(models.Model):
    """`canary` shows whether a server's secret is that of the database (`chatproxy.start.secret_canary`)."""

    name = models.CharField(max_length=100, primary_key=True)
    canary = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
