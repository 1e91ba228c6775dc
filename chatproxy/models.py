"""The project's own tables: counts of login attempts, for all workers and hosts, and digests of secrets ("canaries").

The tables of alerts are in `chatproxy.alert_models`; this module imports it, so that Django finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from django.db import connection, models

from chatproxy.alert_models import Alert as Alert

# One step of a SQL statement: counts an attempt of one subject, if the step before it has not exceeded its limit.
COUNT = """step_{n} AS (
    INSERT INTO chatproxy_loginattempts AS known (subject, attempts, since)
    SELECT %(subject_{n})s, 1, now() WHERE {is_reached}
    ON CONFLICT (subject) DO UPDATE SET
        attempts = CASE WHEN known.since < now() - %(window)s::interval THEN 1 ELSE known.attempts + 1 END,
        since = CASE WHEN known.since < now() - %(window)s::interval THEN now() ELSE known.since END
    RETURNING attempts, extract(epoch FROM since + %(window)s::interval - now()) AS seconds)"""
IS_BELOW = "(SELECT attempts <= %(limit_{n})s FROM step_{n})"
# Skips rows that another statement is counting in: if two statements waited for each other, one would fail.
FORGET = """DELETE FROM chatproxy_loginattempts WHERE subject IN (
    SELECT subject FROM chatproxy_loginattempts WHERE since < now() - %(window)s::interval
    LIMIT 1000 FOR UPDATE SKIP LOCKED)"""


class LoginLimit(NamedTuple):
    """A limit on login attempts: how many a subject (a network, a user name or a device) may make in a period of time.

    If `is_own` is true, the subject belongs to one user, and a successful login sets the count of attempts back to
    zero. Otherwise, attempts of others count, too, and a successful login only lowers the count by one.
    """

    subject: str
    attempts: int
    is_own: bool = False


class LoginAttemptsManager(models.Manager["LoginAttempts"]):
    """Manager of the table that counts login attempts: adds attempts, and deletes old counts."""

    def add(self, limits: Sequence[LoginLimit], window: timedelta) -> float | None:
        """Counts one login attempt for the subject of each limit, in order; stops at the first limit that is exceeded.

        Returns the seconds until that limit allows attempts again; None if no limit is exceeded. A count starts again
        from zero when `window` has passed since its first attempt, by the database's clock.
        """
        # All counting is one SQL statement, so that attempts made at the same time are all counted. All hosts share the
        # database's clock.
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
        """Deletes counts of login attempts that began longer than `window` ago, at most a thousand in one call."""
        with connection.cursor() as cursor:
            cursor.execute(FORGET, {"window": _interval(window)})


def _interval(length: timedelta) -> str:
    """Formats a length of time as PostgreSQL's `interval`: `900.0 seconds`."""
    return f"{length.total_seconds()} seconds"


class LoginAttempts(models.Model):
    """The number of login attempts that one subject has made since the time `since`.

    `subject` is the digest of a network, a user name, an account or a device, or of a used code of a second factor.
    """

    # A digest, because people sometimes type their password into the field of the name.
    subject = models.CharField(max_length=64, primary_key=True)
    attempts = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    objects = LoginAttemptsManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.attempts} since {self.since:%H:%M:%S}"


class SecretCanary(models.Model):
    """The digest of one of the server's secrets, as it was when a server last started with this database.

    `name` is the name of the secret. A starting server compares its own secret with the digest.
    """

    name = models.CharField(max_length=100, primary_key=True)
    canary = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
