"""Migrations: what they import, and that an installation of an old version comes through all of them."""

from __future__ import annotations

import ast
import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Json

from chatproxy import environment
from tests.support.ledger.ledgers import random_call
from tests.support.servers.databases import new_database

# What migrations may import of the project, and so must stay importable under its name.
IMPORTABLE = {
    "usage.database.concurrent_indexes": "how an index is made; knows no model, and no table by its name",
    "proxyapi.models": "the validator of names, which Django writes into the migration of its column",
    "proxyapi.key_names": "the form in which names are equal: keys of before and of now must have the same",
}
PROJECT = ("chatproxy", "proxyapi", "usage")
MIGRATIONS = [path for package in PROJECT for path in (environment.BASE_DIR / package / "migrations").glob("0*.py")]

INSERT_CALL = """
    INSERT INTO usage_request (request_id, incoming_request_id, upstream_request_id, response_id, key_name, method,
        route, request_model, response_model, stream, service_tier, status, outcome, error_type, error_code,
        error_message, started_at, duration_ms, upstream_ms, overhead_ms, request_bytes, response_bytes, user_agent,
        input_tokens, output_tokens, usage, usage_source, cost, tags, digest)
    VALUES (%(request_id)s, '', '', '', %(key_name)s, 'POST', %(route)s, %(request_model)s, %(response_model)s, false,
        '', %(status)s, %(outcome)s, '', %(error_code)s, '', %(started_at)s, %(duration_ms)s, %(upstream_ms)s,
        %(overhead_ms)s, 10, 20, '', %(input_tokens)s, %(output_tokens)s, %(usage)s, 'exact', %(cost)s, '{}', '')
"""
# An hour for each group of calls, as the version of 0002 has added them up.
ADD_HOURS = """
    INSERT INTO usage_usagehour (hour, key_name, model, route, outcome, calls, unpriced_calls, input_tokens,
        cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, audio_input_tokens, audio_output_tokens,
        audio_seconds, web_searches, request_bytes, response_bytes, cost, duration_ms, max_duration_ms,
        max_input_tokens, max_cached_tokens, max_output_tokens, duration_ms_histogram, upstream_ms_histogram,
        overhead_ms_histogram)
    SELECT date_trunc('hour', started_at, 'UTC'), key_name, COALESCE(NULLIF(response_model, ''), request_model), route,
        outcome, count(*), count(*) FILTER (WHERE cost IS NULL), COALESCE(sum(input_tokens), 0), 0, 0,
        COALESCE(sum(output_tokens), 0), 0, 0, 0, 0, 0, sum(request_bytes), sum(response_bytes),
        COALESCE(sum(cost), 0), sum(duration_ms), max(duration_ms), 0, 0, 0,
        array_fill(0::bigint, ARRAY[100]) || count(*), ARRAY[count(*)], '{}'
    FROM usage_request GROUP BY 1, 2, 3, 4, 5
"""
TOTALS = """
    SELECT span, dimension, start, value, calls, errors, unpriced_calls, input_tokens, cached_tokens, output_tokens,
        cost, round(duration_ms::numeric, 3), duration_ms_histogram, upstream_ms_histogram, overhead_ms_histogram
    FROM usage_usagetotal WHERE span <> 'minute' OR start > %s ORDER BY span, dimension, start, value
"""
FAILURES = """
    SELECT span, start, outcome, status, error_code, model, route, key_name, calls, first_at, last_at, sample_id
    FROM usage_errortotal ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.stem)
def test_a_migration_imports_no_code_that_changes(path: Path) -> None:
    """It runs years later, with the code of then, on the tables of before; what it needs is copied into it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        live = [name for name in names if name.partition(".")[0] in PROJECT]
        assert set(live) <= IMPORTABLE.keys(), path


def test_the_totals_of_an_old_version_are_those_that_this_one_adds_up(gateway_database: str, tmp_path: Path) -> None:
    chance = random.Random(3)
    now = datetime.now(UTC)
    with new_database(gateway_database) as url:
        manage(url, tmp_path, "migrate", "usage", "0002")
        with psycopg.connect(url, autocommit=True) as connection:
            for _ in range(300):
                moment = now - timedelta(minutes=chance.randrange(6 * 24 * 60))
                call = random_call(chance, moment)
                call["error_code"] = "" if call["outcome"] == "success" else chance.choice(["slow", "gone"])
                cost = chance.choice([None, Decimal("0.0125")])
                connection.execute(INSERT_CALL, {**call, "usage": Json(call["usage"]), "cost": cost})
            connection.execute(ADD_HOURS)
        manage(url, tmp_path, "migrate")
        recent = now - timedelta(days=2, hours=23)
        with psycopg.connect(url) as connection:
            migrated = connection.execute(TOTALS, [recent]).fetchall(), connection.execute(FAILURES).fetchall()
        manage(url, tmp_path, "ledger", "sum")
        with psycopg.connect(url) as connection:
            added_up = connection.execute(TOTALS, [recent]).fetchall(), connection.execute(FAILURES).fetchall()
    assert migrated == added_up
    totals, failures = migrated
    assert {row[0] for row in totals} == {"minute", "hour", "day"}
    assert sum(row[4] for row in totals if row[:2] == ("day", "all")) == 300
    assert failures


def manage(database_url: str, data_dir: Path, *arguments: str) -> None:
    """Runs a command of `manage.py` on a database of its own."""
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=environment.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url, "DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
