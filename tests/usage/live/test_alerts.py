"""docs/alerts.yml: each rule asks for metrics that there are, fires when it should, and not while all is well."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from chatproxy.configuration import setting_reader
from tests.support.documentation import rows_of
from tests.support.promtool import run_promtool

FILE = setting_reader.BASE_DIR / "docs" / "alerts.yml"
RULES: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]
}
FAILED, GOOD = (f'chatproxy_calls_total{{instance="a",outcome="{outcome}"}}' for outcome in ("timeout", "success"))


class Scene(NamedTuple):
    """Values of metrics with which one alert fires, and with which it does not, in promtool's notation.

    `labels` are those of the alert, beside its severity. `at` is the time of the judgement, from the first value on.
    """

    firing: dict[str, str]
    calm: dict[str, str]
    labels: dict[str, str]
    at: str = "30m"


def of_gauge(name: str, firing: float, calm: float, **labels: str) -> Scene:
    """Returns the scene of an alert that judges the value of one metric."""
    labels = {"instance": "a", **labels}
    pairs = ",".join(f'{label}="{text}"' for label, text in labels.items())
    series = f"{name}{{{pairs}}}"
    return Scene({series: f"{firing}x30"}, {series: f"{calm}x30"}, labels)


def of_counter(name: str, **labels: str) -> Scene:
    """Returns the scene of an alert that fires when a counter grows."""
    scene = of_gauge(name, 0, 0, **labels)
    return scene._replace(firing=dict.fromkeys(scene.firing, "0+1x30"))


BUCKETS = [f'chatproxy_overhead_seconds_bucket{{instance="a",le="{end}"}}' for end in ("0.1", "0.25", "+Inf")]
# A counter with labels begins with its first call, so that no growth is seen of a single one; and it stays for ever.
UNPRICED = 'chatproxy_unpriced_calls_total{instance="a",model="gpt-9",route="/v1/responses"}'
FILES = [f'chatproxy_process_{name}_files{{instance="a",pid="7",process="worker"}}' for name in ("open", "allowed")]
SCENES = {
    "ChatproxyDown": of_gauge("chatproxy_workers", 0, 1),
    "ChatproxyUpstreamUnreachable": of_gauge("chatproxy_upstream_up", 0, 1),
    "ChatproxyCallsFail": Scene(
        {FAILED: "0+6x30", GOOD: "0+94x30"}, {FAILED: "0+4x30", GOOD: "0+96x30"}, {"instance": "a"}
    ),
    "ChatproxyJournalFull": of_gauge("chatproxy_journal_full", 1, 0),
    "ChatproxyDatabaseAway": of_gauge("chatproxy_database_up", 0, 1),
    "ChatproxyShipperStuck": of_gauge("chatproxy_shipper_up", 0, 1),
    "ChatproxyLedgerBehind": of_gauge("chatproxy_ledger_lag_seconds", 121, 119),
    "ChatproxyJournalLarge": of_gauge("chatproxy_journal_bytes", 1000000001, 1000000000),
    "ChatproxyDeadLetters": of_counter("chatproxy_dead_letters_total"),
    "ChatproxyDamagedRecords": of_counter("chatproxy_damaged_records_total"),
    "ChatproxyUnpricedCalls": Scene(
        {UNPRICED: "_x90 1x30"}, {UNPRICED: "5x120"}, {"instance": "a", "model": "gpt-9"}, at="120m"
    ),
    "ChatproxyBudgetNearlySpent": of_gauge("chatproxy_budget_used_ratio", 0.91, 0.9, key="team", span="day"),
    "ChatproxyBudgetsFail": of_gauge("chatproxy_budgets_failing", 1, 0),
    "ChatproxyRedisAway": of_gauge("chatproxy_redis_away_seconds", 61, 0),
    "ChatproxyKeysOld": of_gauge("chatproxy_keyring_age_seconds", 61, 1),
    "ChatproxyOverheadHigh": Scene(
        dict(zip(BUCKETS, ("0+90x30", "0+100x30", "0+100x30"), strict=True)),
        dict(zip(BUCKETS, ("0+96x30", "0+100x30", "0+100x30"), strict=True)),
        {"instance": "a"},
    ),
    "ChatproxyClocksDiffer": of_gauge("chatproxy_clock_difference_seconds", -61, 59),
    "ChatproxyFilesNearlyUsedUp": Scene(
        dict(zip(FILES, ("81x30", "100x30"), strict=True)),
        dict(zip(FILES, ("79x30", "100x30"), strict=True)),
        {"instance": "a", "pid": "7", "process": "worker"},
    ),
    "ChatproxyPagesWait": of_gauge("chatproxy_pool_waiting", 1, 0),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_asks_for_metrics_that_there_are(name: str) -> None:
    """By the table of docs/deploy.md, which tests/test_documentation.py compares with the page itself."""
    metrics = {row[0].strip("`") for row in rows_of("metric | labels | meaning")}
    asked = {found.removesuffix("_bucket") for found in re.findall(r"chatproxy_\w+", RULES[name]["expr"])}
    assert asked
    assert asked <= metrics
    assert RULES[name]["annotations"].keys() == {"summary", "action"}
    assert RULES[name]["labels"]["severity"] in {"page", "ticket"}


def test_every_rule_has_a_scene() -> None:
    assert RULES.keys() == SCENES.keys()


@pytest.mark.parametrize("name", SCENES)
def test_a_rule_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    scene, rule = SCENES[name], RULES[name]
    alert = {"exp_labels": {**scene.labels, **rule["labels"]}, "exp_annotations": rule["annotations"]}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in found.items()],
            "alert_rule_test": [{"eval_time": scene.at, "alertname": name, "exp_alerts": expected}],
        }
        for found, expected in ((scene.firing, [alert]), (scene.calm, []))
    ]
    path = tmp_path / "tests.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": tests}))
    run_promtool("test", "rules", path)
