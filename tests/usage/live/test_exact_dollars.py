"""The dollars in `/metrics`: exact to the eighth decimal, however many they are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.support.ledger.ledgers import call
from usage import metric_counters as counters_module
from usage.live import metrics, worker_files
from usage.live.worker_files import WorkerFile, read_worker_reports
from usage.metric_counters import WorkerCounters


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(worker_files, "directory", lambda: tmp_path / "workers")
    monkeypatch.setattr(counters_module, "counters", WorkerCounters())
    monkeypatch.setattr(worker_files, "counters", counters_module.counters)
    monkeypatch.setattr(WorkerFile, "of_this_process", None)
    return tmp_path / "workers"


def test_dollars_are_exact_above_millions_and_through_restarts(directory: Path) -> None:
    """Added up by several processes, by a version that counted them as floating-point numbers, and on the page."""
    cost, dearest = Decimal("0.00000001"), Decimal("99999999.99999999")
    odd = 'a "model"\\'
    for _ in range(3):
        rows = [call(reasoning_tokens=None, cost=one, response_model=odd) for one in [cost] * 7 + [dearest] * 9]
        counters_module.counters.count_usage(rows)
        worker_files.leave_counts()
        counters_module.counters.dollars.clear()
    older = {"id": "older", "values": [["cost_dollars", "/openai", odd, 0.1 + 0.2]]}
    (directory / "older.json").write_bytes(orjson.dumps(older))
    total = 3 * (7 * cost + 9 * dearest) + Decimal("0.3")
    for _ in range(2):  # the counts of the dead processes are in another file at the second time
        assert [*read_worker_reports().counted.dollars.values()] == [total]
    line = f'chatproxy_cost_dollars_total{{model="a \\"model\\"\\\\",route="/openai"}} {total}'
    assert line in metrics.render().decode().splitlines()


def test_teams_have_dollars_and_calls_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters_module, "MOST_TEAMS", 2)
    counters = counters_module.counters
    rows = [
        call(reasoning_tokens=None, cost=Decimal(number), team=team, by_gateway=False)
        for number, team in enumerate(["", "red", "blue", "red", "green"])
    ]
    counters.count_usage(rows)
    cheaper: Any = {**rows[1], "cost": Decimal("0.25")}
    counters.count_repricing([rows[1]], [cheaper])
    teams = {key: value for key, value in counters.dollars.items() if key[0].startswith("team_")}
    assert teams == {
        ("team_cost_dollars", "red"): 4,
        ("team_cost_dollars", "blue"): 2,
        ("team_cost_dollars", "other"): 4,
        ("team_cost_taken_back_dollars", "red"): Decimal("0.75"),
    }
    assert {key[1]: value for key, value in counters.values.items() if key[0] == "team_calls"} == {
        "red": 2, "blue": 1, "other": 1,
    }  # fmt: skip
