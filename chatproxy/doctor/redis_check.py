"""The check of Redis, which counts the limits of keys for all processes."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chatproxy.doctor.finding import Finding, warning

PATIENCE_SECONDS = 2.0


def check_redis() -> Iterator[Finding]:
    """Yields a warning if Redis does not answer, or if REDIS_URL is unset although there are several workers."""
    # Not a fault: without Redis each process counts limits for itself, and looks for Redis again every few seconds.
    if not settings.REDIS_URL:
        if settings.WEB_CONCURRENCY > 1:
            yield warning("WEB_CONCURRENCY is more than 1 without REDIS_URL, so each worker counts limits for itself")
        return
    try:
        with Redis.from_url(
            settings.REDIS_URL,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
        ) as redis:
            redis.ping()
    except (RedisError, OSError, ValueError) as error:  # only the type: the text could have the URL in it
        yield warning(
            f"Redis does not answer ({type(error).__name__}), so each process counts limits for itself; check "
            "REDIS_URL and the server"
        )
