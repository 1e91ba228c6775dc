"""The project's own tables: counts of login attempts, shared by all workers and hosts, and the canaries of secrets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, models

# One step of a statement: counts an attempt of one subject, if the step before found its subject below its limit.
COUNT = """step_{n} AS (
    INSERT INTO chatproxy_loginattempts AS known (subject, attempts, since)
    SELECT %(subject_{n})s, 1, now() WHERE {is_reached}
    ON CONFLICT (subject) DO UPDATE SET
        attempts = CASE WHEN known.since < now() - %(window)s::interval THEN 1 ELSE known.attempts + 1 END,
        since = CASE WHEN known.since < now() - %(window)s::interval THEN now() ELSE known.since END
    RETURNING attempts, extract(epoch FROM since + %(window)s::interval - now()) AS seconds)"""
IS_BELOW = "(SELECT attempts <= %(limit_{n})s FROM step_{n})"
# Skips rows that another statement has locked to count: two statements that wait for each other would both fail.
FORGET = """DELETE FROM chatproxy_loginattempts WHERE subject IN (
    SELECT subject FROM chatproxy_loginattempts WHERE since < now() - %(window)s::interval
    LIMIT 1000 FOR UPDATE SKIP LOCKED)"""


class Limit(NamedTuple):
    """A subject and the attempts that are allowed to it in a window.

    `is_own`: the subject is the user's own (a device, or a name from a network), so a login starts its count anew.
    """

    subject: str
    attempts: int
    is_own: bool = False


class LoginAttemptsManager(models.Manager["LoginAttempts"]):
    """Counts login attempts."""

    def add(self, limits: Sequence[Limit], window: timedelta) -> float | None:
        """Adds one attempt to each subject in turn, up to the first whose limit is passed.

        Returns the seconds until that subject's window ends, or None if no limit is passed. One statement does it all,
        so that simultaneous attempts are all counted, and a subject after a blocked one is not. A count starts anew
        when its window has ended, by the database's clock, which all hosts share.
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
        """Deletes counts whose window has ended, at most a thousand at a time."""
        with connection.cursor() as cursor:
            cursor.execute(FORGET, {"window": _interval(window)})


def _interval(length: timedelta) -> str:
    """Returns a time span as PostgreSQL's `interval` reads it."""
    return f"{length.total_seconds()} seconds"


class LoginAttempts(models.Model):
    """The count of one subject: attempts since the start of its window.

    `subject` is the digest of a network, a user name or a device; a digest, since people type passwords as names.
    """

    subject = models.CharField(max_length=64, primary_key=True)
    attempts = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    objects = LoginAttemptsManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.attempts} since {self.since:%H:%M:%S}"


class SecretCanary(models.Model):
    """A digest that shows whether a server has the secret of this database (`chatproxy.start.secret_canary`)."""

    name = models.CharField(max_length=100, primary_key=True)
    canary = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
