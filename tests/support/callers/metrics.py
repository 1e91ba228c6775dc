"""Reads `/metrics` as Prometheus does, and waits for certain samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import orjson
from prometheus_client.parser import text_string_to_metric_families

from tests.support import polling
from tests.support.servers.gateway import ACCESS_TOKEN, PATIENCE, Gateway

TOKEN = {"access_token": ACCESS_TOKEN}
HI = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(gateway: Gateway) -> Samples:
    answer = httpx2.get(f"{gateway.url}/metrics", params=TOKEN, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    """Returns the value of the metric `name` with the given labels: the sum of all samples that have these labels.

    A sample may have other labels as well.
    """
    return sum(
        number
        for (sample, found), number in samples.items()
        if sample == name and labels.items() <= dict(found).items()
    )


def reports_since(gateway: Gateway, moment: float) -> list[dict[str, Any]]:
    """Returns the reports that the workers and the shipper of a server have written since the Unix time `moment`."""
    reports = []
    for path in Path(gateway.variables["DATA_DIR"], "workers").glob("*.json"):
        with suppress(FileNotFoundError):  # of a dead worker, taken over meanwhile
            reports.append(orjson.loads(path.read_bytes()))
    return [report for report in reports if report.get("at", 0) > moment]


def wait_for_reports(gateway: Gateway) -> None:
    """Waits until `/metrics` shows everything that the server has counted until now, whichever worker answers.

    A worker knows its own numbers, but those of other workers and of the shipper only from their last reports.
    """
    begin, workers = time.time(), int(gateway.variables.get("WEB_CONCURRENCY", "1"))
    polling.wait_until(lambda: len(reports_since(gateway, begin)) == workers + 1)


def wait_until(gateway: Gateway, holds: Callable[[Samples], bool]) -> Samples:
    """Reads `/metrics` again and again until the condition `holds` is true for its samples; returns these samples.

    That may take a second, because workers report once a second what they have counted.
    """
    samples: Samples = {}

    def look() -> bool:
        nonlocal samples
        samples = scrape(gateway)
        return holds(samples)

    polling.wait_until(look, PATIENCE, lambda: samples)
    return samples
