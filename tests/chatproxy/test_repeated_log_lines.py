"""A pool of connections that fails again and again logs one line a minute, which counts those that were left out."""

from __future__ import annotations

import logging
import logging.config

import pytest
from psycopg import OperationalError
from psycopg_pool import PoolTimeout

from chatproxy import logs

ERROR = "error connecting in %r: %s"  # psycopg_pool's


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("psycopg.pool", logging.WARNING, "", 0, text, values, None)


def test_the_pools_warnings_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = logs.OnePerMinute()

    def passes(text: str, *values: object) -> str:
        logged = record(text, *values)
        return logged.getMessage() if repeated.filter(logged) else ""

    assert passes(ERROR, "budgets", "100 % away") == "error connecting in 'budgets': 100 % away"
    assert [passes(ERROR, "budgets", "100 % away") for _ in range(3)] == ["", "", ""]
    assert passes("another text") == "another text"
    monkeypatch.setattr(logs, "ONE_PER_SECONDS", 0.0)
    assert passes(ERROR, "budgets", "100 % away") == "error connecting in 'budgets': 100 % away (and 3 times before)"
    assert passes(ERROR, "budgets", "100 % away") == "error connecting in 'budgets': 100 % away"


def test_another_pool_and_another_reason_are_told() -> None:
    repeated = logs.OnePerMinute()
    refused, wrong = OperationalError("refused\nby 5"), OperationalError("wrong password")
    told = [("pages", refused), ("budgets", refused), ("budgets", wrong), ("budgets", PoolTimeout("refused"))]
    assert all(repeated.filter(record(ERROR, *values)) for values in told)
    told.append(("pages", OperationalError("refused\nby 6")))
    assert not any(repeated.filter(record(ERROR, *values)) for values in told)
    assert [repeated.filter(record("discarding %s", object())) for _ in range(2)] == [True, False]
    assert [repeated.filter(record("%(name)s", {"name": number})) for number in range(2)] == [True, False]


def test_the_filter_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = logs.OnePerMinute()
    for number in range(logs.MAX_KINDS + 1):
        assert repeated.filter(record(ERROR, f"pool {number}", "away"))
    assert len(repeated._kinds) == logs.MAX_KINDS
    assert repeated.filter(record(ERROR, "pool 0", "away"))  # the oldest was forgotten
    assert not repeated.filter(record(ERROR, f"pool {number}", "away"))


def test_the_logger_of_pools_has_the_filter_once() -> None:
    pools = logging.Filterer()
    for _ in range(2):  # by gunicorn's configuration, and by Django's
        configuration = logs.config({"other": {"level": "INFO"}})
        assert configuration["loggers"] == {"psycopg.pool": {"filters": ["one per minute"]}, "other": {"level": "INFO"}}
        configurator = logging.config.DictConfigurator(configuration)
        pools.addFilter(configurator.configure_filter(configurator.config["filters"]["one per minute"]))
    [found] = pools.filters
    assert isinstance(found, logs.OnePerMinute)
