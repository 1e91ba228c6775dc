"""docs/grafana-dashboard.json shows all that `/metrics` has, by queries that Prometheus understands."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from chatproxy.configuration import setting_reader
from tests.support.documentation import rows_of
from tests.support.promtool import run_promtool

PANELS: list[dict[str, Any]] = json.loads((setting_reader.BASE_DIR / "docs" / "grafana-dashboard.json").read_text())[
    "panels"
]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_it_shows_every_metric_and_no_other() -> None:
    """By the table of docs/deploy.md, which tests/test_documentation.py compares with the page itself."""
    metrics = {row[0].strip("`") for row in rows_of("metric | labels | meaning")}
    assert {name.removesuffix("_bucket") for name in re.findall(r"chatproxy_\w+", " ".join(QUERIES))} == metrics


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(QUERIES)
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    run_promtool("check", "rules", path)


def test_the_first_call_without_a_price_is_shown(tmp_path: Path) -> None:
    """The counter of a model begins with this call: its rate would be 0 if no second one came."""
    [query] = [one.replace("$__rate_interval", "5m") for one in QUERIES if "unpriced_calls_total" in one]
    series = 'chatproxy_unpriced_calls_total{instance="a",model="gpt-9",route="/v1/responses"}'
    shown = [
        {"expr": query, "eval_time": time, "exp_samples": [{"labels": '{model="gpt-9"}', "value": calls}]}
        for time, calls in (("20m", 1), ("69m", 1), ("100m", 0), ("120m", 2))
    ]
    values = [{"series": series, "values": "_x10 1x100 3x10"}]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": values, "promql_expr_test": shown}]}))
    run_promtool("test", "rules", path)


def test_panels_have_numbers_and_places_of_their_own() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations((panel["gridPos"] for panel in PANELS), 2):
        assert (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
