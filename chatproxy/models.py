"""Owns the count of failed logins, in the database, so that all workers and hosts share it."""

from __future__ import annotations

from datetime import datetime

from django.db import connection, models

UPSERT = (
    "INSERT INTO chatproxy_loginattempts AS known (subject, attempts, since) VALUES (%(subject)s, 1, now())"
    " ON CONFLICT (subject) DO UPDATE SET"
    " attempts = CASE WHEN known.since < %(start)s THEN 1 ELSE known.attempts + 1 END,"
    " since = CASE WHEN known.since < %(start)s THEN now() ELSE known.since END"
    " RETURNING attempts, since"
)


class LoginAttemptsManager(models.Manager["LoginAttempts"]):
    def add(self, subject: str, start: datetime) -> LoginAttempts:
        """Counts one more, in one statement: of attempts at once, none is missed. Before `start`, all is forgotten."""
        with connection.cursor() as cursor:
            cursor.execute(UPSERT, {"subject": subject, "start": start})
            attempts, since = cursor.fetchone()
        return LoginAttempts(subject=subject, attempts=attempts, since=since)


class LoginAttempts(models.Model):
    """`subject` is the digest of an address or of a user name: people type their passwords there."""

    subject = models.CharField(max_length=64, primary_key=True)
    attempts = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    objects = LoginAttemptsManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.attempts} since {self.since:%H:%M:%S}"
