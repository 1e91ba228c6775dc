"""The form of the log: each line is one JSON object.

Invariant: no line contains a secret, a body or a query string. So texts that may come from others are shortened: of a
path, only those segments are kept that cannot be a secret; of an exception, only the first line of its message, without
quoted texts. The result is redacted as well. A line break in a value is written as `\\n`, so nobody can forge a line.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from django.core.exceptions import ImproperlyConfigured

from chatproxy.configuration import setting_reader
from chatproxy.configuration.secret_strength import MIN_LENGTH_ON_LOOPBACK
from usage.kept_bodies.redaction import redact

ELIDED = "…"
ONE_PER_SECONDS = 60.0
MAX_KINDS = 100  # of records that one filter tells apart
MAX_EXCEPTION_LENGTH = 300  # characters of an exception's message
MAX_MESSAGE_LENGTH = 2000  # characters
MAX_SEGMENTS = 10  # of a path
# The segments of the server's own paths: a word of a route, which is shorter than any secret of a server, a number, or
# a request id. Other UUIDs are not among them, since upstream keys of some vendors are UUIDs.
_PLAIN_SEGMENT = re.compile(
    rf"[a-z_-]{{0,{MIN_LENGTH_ON_LOOPBACK - 2}}}[0-9]?|[0-9]{{1,12}}"
    r"|[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
)
# Names that Python and PostgreSQL put into quotes are kept; any other quoted text may be a caller's.
_QUOTED = re.compile(
    r"""("[A-Za-z_][\w.]{0,40}"|(?<!\w)'[A-Za-z_][\w.]{0,40}')(?!\w)"""
    r"""|"(?:[^\n]*"|[^\n]*)|(?<!\w)'(?:[^\n]*'|[^\n]*)"""
)
_QUERY = re.compile(r"\?\S*")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


def config(loggers: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Returns the logging configuration of a process: JSON lines on standard error, from level INFO on.

    The result is for `logging.config.dictConfig`. `loggers` has the configurations of single loggers, by name.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "chatproxy.logs.JsonFormatter"}},
        "filters": {"one per minute": {"()": "chatproxy.logs.one_per_minute"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["console"], "level": "INFO"},
        "loggers": {"psycopg.pool": {"filters": ["one per minute"]}, **loggers},
    }


class JsonFormatter(logging.Formatter):
    """Log formatter that writes each record as one line of JSON, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(message_of(record))[:MAX_MESSAGE_LENGTH],
        }
        if request_id := getattr(record, "request_id", ""):
            line["request_id"] = request_id
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = without_secrets("".join(describe_exception(record.exc_info[1], set())))
        return json.dumps(line)


class CutConnections(logging.Filter):
    """Log filter that drops the error that uvicorn logs when an answer was not completed."""

    # That is no error here: when the stream from upstream breaks, the gateway cuts the client's connection on purpose.
    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in record.getMessage()


class OnePerMinute(logging.Filter):
    """Log filter that lets one record of each kind pass per minute, and drops the others.

    Records are of the same kind if they have the same message format and the same arguments; arguments that are numbers
    may differ. The next record of the kind that passes says how many were dropped.
    """

    # While the database is away, a pool of connections logs each attempt to connect.
    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        # By kind, the oldest first: when one passed (`time.monotonic()`), and how many were left out since.
        self._kinds: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, now = _kind_of(record), time.monotonic()
        with self._lock:
            passed_at, left_out = self._kinds.get(kind, (-math.inf, 0))
            if now - passed_at < ONE_PER_SECONDS:
                self._kinds[kind] = (passed_at, left_out + 1)
                return False
            self._kinds.pop(kind, None)  # to be the last
            self._kinds[kind] = (now, 0)
            if len(self._kinds) > MAX_KINDS:
                del self._kinds[next(iter(self._kinds))]
        if left_out:
            record.msg, record.args = "%s (and %d times before)", (record.getMessage(), left_out)
        return True


def _kind_of(record: logging.LogRecord) -> tuple[str, ...]:
    """Returns the kind of a log record, for `OnePerMinute`: its text before values are inserted, and its values.

    Texts and errors are taken as they are. Of other values, such as numbers, only the type is taken, since there may be
    many different ones.
    """
    values = record.args if isinstance(record.args, tuple) else ()
    return str(record.msg), *(_kind_of_value(value) for value in values)


def _kind_of_value(value: object) -> str:
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {exception_words(value)}"
    return value if isinstance(value, str) else type(value).__name__


@lru_cache(maxsize=1)
def one_per_minute() -> OnePerMinute:
    """Returns the filter `OnePerMinute` of this process, always the same object."""
    # Gunicorn's configuration and then Django's add it to the same logger, which ignores a filter that it has already.
    return OnePerMinute()


def log_everything() -> None:
    """Makes Python send its warnings, and exceptions that nothing catches in threads and finalizers, to the log.

    By default, Python prints them to standard error, in another form than the log's.
    """
    logger = logging.getLogger(__name__)
    logging.captureWarnings(True)

    def in_thread(uncaught: threading.ExceptHookArgs) -> None:
        logger.error("a thread failed", exc_info=uncaught.exc_value)

    def in_finalizer(uncaught: sys.UnraisableHookArgs) -> None:
        logger.error("an exception could not be raised", exc_info=uncaught.exc_value)

    threading.excepthook = in_thread
    sys.unraisablehook = in_finalizer


def without_secrets(text: str) -> str:
    """Replaces the server's own secrets in a text, and everything that looks like a secret, by placeholders."""
    return redact(text, _own_secrets())


@lru_cache(maxsize=1)
def _own_secrets() -> tuple[str, ...]:
    """Returns the secrets in the server's settings; none if they cannot be read. Reads them once per process."""
    try:
        return setting_reader.own_secrets(setting_reader.load())
    except ImproperlyConfigured:  # a file has become unreadable since the start; the next start will report that
        return ()


def message_of(record: logging.LogRecord) -> str:
    """Returns the message of a log record, without the parts that may be a caller's data.

    A message about a request loses the query, quoted texts and unusual segments of the path; asyncio's messages lose
    all lines but the first.
    """
    try:
        message = record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} (its arguments do not fit)"
    if record.name == "asyncio":
        return message.partition("\n")[0]  # what follows are representations of objects
    path = str(getattr(getattr(record, "request", None), "path", ""))
    if path:
        for written in (path, path.encode("unicode_escape").decode("ascii")):  # Django escapes it
            message = message.replace(written, redacted_path(path))
        message = without_quoted_text(_QUERY.sub(f"?{ELIDED}", message))
    return message


def redacted_path(path: str) -> str:
    """Returns the first `MAX_SEGMENTS` segments of a URL's path; a segment that may be a secret becomes `…`."""
    # Secrets first, since one with a slash in it would be divided, and some of its parts may look like words.
    segments = without_secrets(path).split("/")[:MAX_SEGMENTS]
    return "/".join(segment if _PLAIN_SEGMENT.fullmatch(segment) else ELIDED for segment in segments)


def describe_exception(error: BaseException, seen: set[int]) -> Iterator[str]:
    """Yields the text of an exception's traceback in pieces, as Python prints it, but without data of callers.

    Messages are shortened (`exception_words`). Causes, and the members of an exception group, are included. `seen` has
    the ids of exceptions that were described before, which are left out; this exception's id is added.
    """
    seen.add(id(error))
    before, sentence = error.__cause__, _CAUSE
    if before is None and not error.__suppress_context__:
        before, sentence = error.__context__, _CONTEXT
    if before is not None and id(before) not in seen:
        yield from describe_exception(before, seen)
        yield sentence
    yield "Traceback (most recent call last):\n"
    yield from traceback.format_tb(error.__traceback__)
    yield f"{type(error).__module__}.{type(error).__qualname__}: {exception_words(error)}\n"
    for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if id(part) not in seen:
            yield from describe_exception(part, seen)


def exception_words(error: BaseException) -> str:
    """Returns the first line of an exception's message, at most `MAX_EXCEPTION_LENGTH` characters, for the log.

    Texts in quotes are replaced by `…`, because they may be a caller's data.
    """
    try:
        first = str(error).strip().partition("\n")[0]
    except Exception:  # the border: an exception's own method, of whatever library
        return ELIDED
    return without_quoted_text(first)[:MAX_EXCEPTION_LENGTH]


def without_quoted_text(words: str) -> str:
    """Replaces each quoted text in an error message by `…`, since it may be a caller's data.

    Short identifiers in quotes are kept.
    """
    # Python and PostgreSQL quote the names of attributes and columns.
    return _QUOTED.sub(lambda quoted: quoted[1] or f'"{ELIDED}"', words)
