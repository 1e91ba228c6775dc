"""A simulator of these tests' own, and the clients that speak to it directly."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from tests.simulator import (
    Simulator,
    run_simulator,
)
from tests.support.polling import PATIENCE


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with run_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: Simulator) -> Simulator:
    running.clear()
    return running


@pytest.fixture(scope="module")
def client(running: Simulator) -> Iterator[OpenAI]:
    options: dict[str, Any] = {"max_retries": 0, "timeout": PATIENCE, "_strict_response_validation": True}
    with OpenAI(base_url=running.base_url, api_key="sk-test", **options) as client:
        yield client


@pytest.fixture(scope="module")
def http(running: Simulator) -> Iterator[httpx2.Client]:
    headers = {"authorization": "Bearer sk-test"}
    with httpx2.Client(base_url=running.base_url, headers=headers, timeout=PATIENCE) as http:
        yield http


@pytest.fixture(autouse=True)
def _fresh(simulator: Simulator) -> None:
    pass
