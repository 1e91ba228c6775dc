"""A question to Redis that fails: no call fails with it, and an error of the gateway's own is not taken for Redis's."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from proxyapi.limits.limit_counters import CountersUnavailable
from proxyapi.limits.redis_link import RedisLink


@pytest.mark.parametrize(
    ("fault", "has_traceback"),
    [
        (RedisConnectionError("redis://:password@host"), False),
        (ResponseError("OOM"), False),
        (TimeoutError(), False),
        (ConnectionResetError(), False),
        (TypeError("a fault of ours"), True),
        (LookupError("a fault of ours"), True),
    ],
)
async def test_only_an_error_of_the_gateways_own_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, fault: Exception, has_traceback: bool
) -> None:
    async def question() -> None:
        raise fault

    link = RedisLink("redis://127.0.0.1:1")
    with pytest.raises(CountersUnavailable):
        await link.ask(question)
    with pytest.raises(CountersUnavailable):
        await link.ask(question)  # not asked: the outage goes on
    await link.probe(question)

    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == (2 if has_traceback else 0)
    warnings = [record.getMessage() for record in caplog.records if not record.exc_info]
    assert warnings == [f"Redis is away, so each process counts limits for itself: {type(fault).__name__}"]
    assert "password" not in caplog.text
