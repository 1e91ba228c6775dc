"""Django's settings for a database, from its URL."""

from __future__ import annotations

import environ
from django.core.exceptions import ImproperlyConfigured
from psycopg.pq import Conninfo

from chatproxy.configuration.service_urls import DATABASE_FORM, ENCODE
from usage.database.query_deadline import DeadlineConnection

# The options that a URL may have: libpq's, and those of Django's backend.
KNOWN_OPTIONS = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"isolation_level", "assume_role"}


def database_settings(url: str) -> dict[str, object]:
    """Returns Django's settings for the database at `url`, with a pool of connections.

    Raises:
        ImproperlyConfigured: the URL cannot be used; the message is one line without any part of the URL.
    """
    try:
        config: dict[str, object] = environ.Env.db_url_config(url)
    except Exception:  # the border to a library whose errors quote parts of the URL, and so perhaps of the password
        raise ImproperlyConfigured(f"DATABASE_URL cannot be read; {ENCODE}; {DATABASE_FORM}") from None
    found = config.get("OPTIONS")
    options: dict[str, object] = {**found} if isinstance(found, dict) else {}
    if not options.keys() <= KNOWN_OPTIONS:  # psycopg would quote the name
        raise ImproperlyConfigured(f"DATABASE_URL has an option that PostgreSQL does not know; {DATABASE_FORM}")
    if not config.get("NAME") and "service" not in options:
        raise ImproperlyConfigured(f"DATABASE_URL names no database; {DATABASE_FORM}")
    return {
        **config,
        "HOST": options.pop("host", config["HOST"]),  # not as an option: `dbshell` reads the host from this key only
        # Persistent connections do not work under ASGI; the pool lends a connection for each use.
        "CONN_MAX_AGE": 0,
        # The pool asks each connection that it lends whether it is still open: a server with `idle_session_timeout`, a
        # firewall or a restart has perhaps ended it. Without that, the first page or call after a pause would fail.
        "CONN_HEALTH_CHECKS": True,
        # Outside a transaction a server-side cursor outlives its statement, and a pooler in transaction mode may have
        # lent the connection to another client by then. `iterator()` opens one, and so does each form with a choice of
        # rows.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            "connect_timeout": 5,
            **options,
            # After a burst of pages one connection is closed every ten seconds (`max_idle`), so that few are left for
            # somebody else to end: the pool waits 0, 1, 2, … seconds between those that it finds ended.
            "pool": {
                "min_size": 0,
                "max_size": 8,
                "timeout": 5,
                "max_idle": 10,
                "connection_class": DeadlineConnection,
            },
        },
    }
