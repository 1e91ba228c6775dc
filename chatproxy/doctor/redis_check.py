"""The check of Redis, which counts the limits of keys for all processes."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings

from chatproxy.doctor.finding import Finding, warning

PATIENCE_SECONDS = 2.0


def check_redis() -> Iterator[Finding]:
    """Yields a warning if Redis does not answer, or if REDIS_URL is not set although there are several workers."""
    # Not a fault: without Redis each process counts limits for itself, and looks for Redis again every few seconds.
    if not settings.REDIS_URL:
        if settings.WEB_CONCURRENCY > 1:
            yield warning("WEB_CONCURRENCY is more than 1 without REDIS_URL, so each worker counts limits for itself")
        return
    if fault := _fault_of_redis(settings.REDIS_URL):
        yield warning(
            f"Redis does not answer ({fault}), so each process counts limits for itself; check REDIS_URL and the server"
        )


def _fault_of_redis(url: str) -> str:
    """Sends a request to Redis; returns the type of the error, or an empty text if Redis answers."""
    # Imported here: it takes a tenth of a second of each start, and most servers have no Redis.
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
    from redis.retry import Retry

    try:
        with Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
        ) as redis:
            redis.ping()
    except (RedisError, OSError, ValueError) as error:
        return type(error).__name__  # not the text, which could have the URL in it
    return ""
