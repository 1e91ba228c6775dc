"""What all tests of the app `usage` have in common."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _counters_from_zero() -> None:
    """Lets each test count from zero."""
    from usage.metric_counters import counters  # a process that only distributes tests has no Django

    counters.values.clear()
    counters.dollars.clear()
