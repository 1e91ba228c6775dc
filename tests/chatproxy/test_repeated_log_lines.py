"""A pool of connections that fails again and again logs one line a minute, which counts those that were left out."""

from __future__ import annotations

import logging

import pytest

from chatproxy import logs

ERROR = "error connecting in %r: %s"  # psycopg_pool's


def test_the_pools_warnings_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = logs.OnePerMinute()

    def passes(text: str, *values: object) -> str:
        record = logging.LogRecord("psycopg.pool", logging.WARNING, "", 0, text, values, None)
        return record.getMessage() if repeated.filter(record) else ""

    assert passes(ERROR, "budgets", "100 % away") == "error connecting in 'budgets': 100 % away"
    assert [passes(ERROR, "budgets", number) for number in range(3)] == ["", "", ""]
    assert passes("another text") == "another text"
    monkeypatch.setattr(logs, "ONE_PER_SECONDS", 0.0)
    assert passes(ERROR, "budgets", "%s") == "error connecting in 'budgets': %s (and 3 times before)"
    assert passes(ERROR, "budgets", "x") == "error connecting in 'budgets': x"


def test_the_filter_is_at_the_pools_logger() -> None:
    configuration = logs.config({"other": {"level": "INFO"}})
    assert configuration["loggers"] == {"psycopg.pool": {"filters": ["one per minute"]}, "other": {"level": "INFO"}}
    assert configuration["filters"] == {"one per minute": {"()": "chatproxy.logs.OnePerMinute"}}
