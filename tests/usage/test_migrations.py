"""Migrations of the ledger: they import no code that changes, and an old database comes through them with its sums."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from tests.support.ledger.ledgers import Row, random_call
from tests.support.servers.databases import empty_database, manage
from usage.sums import sum_tables, totals_rollup
from usage.sums.histogram import unpack
from usage.sums.sum_tables import HISTOGRAMS, PACKED
from usage.sums.totals_rollup import Rollup

PACKAGES = ("chatproxy", "proxyapi", "usage")
# Migrations must do the same for ever, so they import nothing of ours but this.
ALLOWED = {
    "usage.database.concurrent_indexes": "operations that are about PostgreSQL and no table of ours",
    "proxyapi.models": "the validator of a field, which Django writes into migrations by its name",
    "proxyapi.team_models": "likewise",
    "proxyapi.key_names": "a rule on texts; rows that other rules had written would not be found again",
}
# What a row of that time has beside what `random_call` gives it.
ADD_UNPACKED_HOURS = replace(sum_tables.ALL_OF_HOURS, packed=()).add
PARTS_OF_COST = re.compile(r", (estimated|provisional)_cost( = [^,]*)?")  # columns of a later migration
NOTHING_ELSE = {
    **dict.fromkeys(("incoming_request_id", "upstream_request_id", "response_id", "service_tier"), ""),
    **dict.fromkeys(("error_type", "error_message", "user_agent", "digest"), ""),
    **dict.fromkeys(("cache_write_tokens", "reasoning_tokens", "audio_seconds", "web_searches", "price"), None),
    **dict.fromkeys(("audio_input_tokens", "audio_output_tokens", "time_to_first_chunk_ms"), None),
    # Columns of later migrations.
    **dict.fromkeys(("team", "owner", "end_user", "error_group"), ""),
    **dict.fromkeys(("by_gateway", "unknown_model", "other_code"), False),
    **{"cost_kind": "", "other_usage": None},
}


def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.partition(".")[0] in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_migrations_import_no_live_code(package: str) -> None:
    for path in sorted((settings.BASE_DIR / package / "migrations").glob("*.py")):
        assert imported(path) <= ALLOWED.keys(), f"{path.name}: what it imports may change; copy what it needs"


def unpacked(columns: Callable[..., list[dict[str, Any]]]) -> Callable[..., list[dict[str, Any]]]:
    """Wraps a function that returns rows of sums of hours: their histograms are in the columns of that time."""

    def hour_columns(hours: Any) -> list[dict[str, Any]]:
        names = {name: f"{name}_histogram" for name in HISTOGRAMS}
        return [
            hour | {column: unpack(hour[PACKED[name]]) for name, column in names.items()} for hour in columns(hours)
        ]

    return hour_columns


def write_as_then(connection: psycopg.Connection[Any], rows: list[Row]) -> None:
    """Writes rows and the sums of their hours as the code of that time did, which knew no totals."""
    rollup = Rollup()
    summed: Any = [{**row, "needs_price": row["cost"] is None} for row in rows]
    rollup.add(summed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(totals_rollup, "ADD_DAYS", PARTS_OF_COST.sub("", sum_tables.ADD_DAYS))
        patch.setattr(totals_rollup, "ADD_HOURS", PARTS_OF_COST.sub("", ADD_UNPACKED_HOURS))
        patch.setattr(totals_rollup, "_hour_columns", unpacked(totals_rollup._hour_columns))
        patch.setattr(Rollup, "_peaks", lambda _: ())
        cursor = psycopg.ClientCursor(connection)  # as Django's: it may execute several statements at once
        rollup.write_hours(cursor)  # type: ignore[arg-type]  # it is without Django's wrapper
    for row in rows:
        connection.execute(
            "INSERT INTO usage_request SELECT * FROM jsonb_populate_record(NULL::usage_request, %s::jsonb)",
            [json.dumps(row, default=str)],
        )


def totals(connection: psycopg.Connection[Any]) -> list[str]:
    """All totals, counts of failures and peaks; sums of doubles without what depends on their order.

    Without what no migration fills: the histograms of single keys, models and routes, and the sums of months.
    """
    query = """
        SELECT to_jsonb(total) - 'durations' || jsonb_build_object('duration_ms', round(duration_ms::numeric, 3))
               || CASE WHEN dimension = 'key' THEN
                  '{"duration_ms_histogram": [], "upstream_ms_histogram": [], "overhead_ms_histogram": []}'::jsonb
                  ELSE '{}' END
        FROM usage_usagetotal AS total
        WHERE span <> 'month'
        UNION ALL SELECT to_jsonb(failures) FROM usage_errortotal AS failures WHERE span <> 'month'
        UNION ALL SELECT to_jsonb(peak) FROM usage_usagepeak AS peak
    """
    return sorted(json.dumps(row, sort_keys=True) for (row,) in connection.execute(query).fetchall())


def test_an_old_database_gets_its_totals(gateway_database: str, tmp_path: Path) -> None:
    chance = random.Random(3)
    now = datetime.now(UTC)
    moments = [now - timedelta(hours=chance.choice([1, 50, 100]), seconds=chance.randrange(7200)) for _ in range(60)]
    rows = [
        NOTHING_ELSE
        | random_call(chance, moment)
        | {"error_code": chance.choice(["", "rate_limit"]), "cost": chance.choice([None, 0.25])}
        for moment in moments
    ]
    with empty_database(gateway_database) as url:
        manage(url, tmp_path, "migrate", "usage", "0002", "-v", "0")
        with psycopg.connect(url) as connection:
            write_as_then(connection, rows)
            connection.execute("INSERT INTO usage_ledgerstate (pruned_before) VALUES (%s)", [now - timedelta(hours=80)])
        manage(url, tmp_path, "migrate", "-v", "0")
        with psycopg.connect(url) as connection:
            migrated = totals(connection)
        manage(url, tmp_path, "ledger", "sum")
        with psycopg.connect(url) as connection:
            assert migrated == totals(connection)
    assert any('"span": "minute"' in total and '"duration_ms_histogram": []' not in total for total in migrated)
    assert any('"sample_id"' in total for total in migrated)
    assert any('"max_duration_ms"' in total for total in migrated)


def test_an_old_database_gets_its_names(gateway_database: str, tmp_path: Path) -> None:
    """Those of keys, models and routes that have totals of days."""
    insert = """
        INSERT INTO usage_usagetotal SELECT (jsonb_populate_record(NULL::usage_usagetotal, to_jsonb(one) || '{
            "calls": 1, "errors": 0, "unpriced_calls": 0, "input_tokens": 0, "cached_tokens": 0, "output_tokens": 0,
            "cost": 0, "estimated_cost": 0, "provisional_cost": 0, "duration_ms": 1, "duration_ms_histogram": [],
            "upstream_ms_histogram": [], "overhead_ms_histogram": []}')).*
        FROM (VALUES ('day', 'key', now(), 'ada'), ('day', 'key', now() - interval '1 day', 'ada'),
                     ('day', 'route', now(), ''), ('day', 'outcome', now(), 'success'), ('hour', 'key', now(), 'x'))
            AS one (span, dimension, start, value)
    """
    with empty_database(gateway_database) as url:
        manage(url, tmp_path, "migrate", "usage", "0023", "-v", "0")
        with psycopg.connect(url) as connection:
            connection.execute(insert)
        manage(url, tmp_path, "migrate", "-v", "0")
        with psycopg.connect(url) as connection:
            names = connection.execute("SELECT dimension, value FROM usage_summedname ORDER BY 1").fetchall()
            assert connection.execute("SELECT DISTINCT durations FROM usage_usagetotal").fetchall() == [([],)]
    assert names == [("key", "ada"), ("route", "")]


def test_an_old_price_stays_for_every_tier(gateway_database: str, tmp_path: Path) -> None:
    """An empty tier meant every tier then. Old code may still write prices after the migration."""
    insert = "INSERT INTO usage_modelprice (model, service_tier, valid_from, input) VALUES (%s, '', now(), 1)"
    with empty_database(gateway_database) as url:
        manage(url, tmp_path, "migrate", "usage", "0015", "-v", "0")
        with psycopg.connect(url) as connection:
            connection.execute(insert, ["before"])
        manage(url, tmp_path, "migrate", "-v", "0")
        with psycopg.connect(url) as connection:
            connection.execute(insert, ["meanwhile"])
            rows = connection.execute("SELECT model, every_tier FROM usage_modelprice ORDER BY model").fetchall()
    assert rows == [("before", True), ("meanwhile", True)]


def test_old_sums_by_label_get_grand_totals_and_so_do_older_codes(gateway_database: str, tmp_path: Path) -> None:
    """The version before writes sums by label also after the migration, and once more after the way back."""
    insert = """
        INSERT INTO usage_labeltotal SELECT 'day', 'end_user', '2026-11-01', value, 'key', '', '', 'model', 'route',
            1, 0, 0, 2, 0, 3, 0.5 FROM unnest(%s::text[]) AS value
    """
    sums = "SELECT span, label, start::text, calls, output_tokens, cost::float8 FROM usage_labelgrandtotal"
    with empty_database(gateway_database) as url, psycopg.connect(url, autocommit=True) as connection:
        manage(url, tmp_path, "migrate", "usage", "0037", "-v", "0")
        connection.execute(insert, [["a", "b"]])
        manage(url, tmp_path, "migrate", "usage", "0038", "-v", "0")
        connection.execute(insert, [["c"]])
        assert connection.execute(sums).fetchall() == [("day", "end_user", "2026-11-01", 3, 9, 1.5)]
        manage(url, tmp_path, "migrate", "usage", "0037", "-v", "0")
        connection.execute(insert, [["d"]])
        manage(url, tmp_path, "migrate", "usage", "0038", "-v", "0")
        assert connection.execute(sums).fetchall() == [("day", "end_user", "2026-11-01", 4, 12, 2.0)]
