"""Explains a failed connection to the database: the reason in one line, and whether waiting may help.

A database that is still starting refuses connections, has no host name yet, or reports that it is starting up; then
waiting helps. A wrong password, name or option stays wrong. psycopg gives no SQLSTATE for a failed connection
(psycopg/psycopg#1188), so the message is read: that of libpq, or the English one of PostgreSQL, PgBouncer or Supavisor.
After an unknown message, waiting may help.
"""

from __future__ import annotations

import re

import psycopg
from django.db import InterfaceError

from chatproxy.logs import without_secrets

# libpq has not tried to connect: an option is wrong.
_BAD_OPTION = re.compile(r"connection is bad: (?!connection to server )")
_LASTING = re.compile(
    r"authentication failed|no password supplied|password must|not permitted to log in|no pg_hba\.conf entry"
    r"|pg_hba\.conf rejects|permission denied for database|(?:role|database) \"[^\n]*\" does not exist"
    r"|unrecognized configuration parameter|(?:invalid|bad) value for |invalid command-line argument"
    r"|server does not support SSL|certificate file \"|private key file \"|certificate verify failed|SSL error: "
    r"|unsupported startup parameter|no such (?:user|database)|Tenant or user not found"
)
# Classes of SQLSTATE of errors in the first statements that stay (PostgreSQL's manual, appendix A).
_LASTING_CLASSES = {"0A", "22", "28", "3D", "3F", "42"}
# SQLSTATEs of a server that is starting, stopping or takes no more connections, and of a broken connection.
_AWAY_CODES = ("08", "53300", "57P")
SHOW_PLACE = "run the command again with --traceback to see where"
_PLACE = re.compile(r".*(?:connection is bad|failed): +|(?:FATAL|ERROR): +")


def reason_of(error: Exception) -> str:
    """Returns why a connection to the database failed, as one line without addresses and secrets.

    `error` is an error of psycopg, or an error of Django that one of psycopg has caused. If it has no message, the name
    of its class is returned.
    """
    # libpq may give several reasons.
    first = str(error).strip().partition("\n")[0]
    return without_secrets(_PLACE.sub("", first).strip()) or type(error).__name__


def describe_failure(error: Exception) -> str:
    """Returns one line that tells a person that a command failed because of the database, and why.

    `error` is an error of psycopg, or an error of Django that one of psycopg has caused. The line is without addresses
    and secrets. If the error may be a fault of the gateway's own code, the line says how to see where it was raised.
    """
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    code = cause.sqlstate if isinstance(cause, psycopg.Error) else None
    if code and not code.startswith(_AWAY_CODES):
        return f"the database has refused a statement: {reason_of(error)}; {SHOW_PLACE}"
    if not code and isinstance(cause or error, psycopg.InterfaceError | InterfaceError):  # such as a closed cursor
        return f"the connection to the database cannot be used: {reason_of(error)}; {SHOW_PLACE}"
    return f"the database cannot be reached; is the server running? ({reason_of(error)})"


def is_lasting(error: psycopg.Error) -> bool:
    """Returns whether a connection to the database failed for a lasting reason, such as a wrong password.

    If several hosts were tried, all reasons must be lasting. An unknown reason is not lasting.
    """
    if isinstance(error, psycopg.ProgrammingError):  # an option's value cannot be read
        return True
    if error.sqlstate:  # the connection was made
        return error.sqlstate[:2] in _LASTING_CLASSES
    text = str(error)
    if _BAD_OPTION.match(text):
        return True
    attempts = [line for line in text.splitlines() if "failed: " in line]
    return bool(attempts) and all(_LASTING.search(line) for line in attempts)
