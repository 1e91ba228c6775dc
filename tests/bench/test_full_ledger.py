"""The measures over a full ledger can fill one, with rows and sums that are right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.db import connection as migrated

from tests.support.servers.databases import empty_database

WEEKS = 8
FILLING = f"""
import json, pathlib, sys
from bench.ledger.pages import Shape, prepare
directory = pathlib.Path(sys.argv[1])
prepare(directory, sys.argv[2], Shape(2000, weeks={WEEKS}, keys=30, bodies=100))
from usage.upkeep.verify import find_faults
print(json.dumps(list(find_faults(directory))))
"""
INDEXES = "SELECT count(*) FROM pg_index WHERE indrelid = 'usage_request'::regclass AND indisvalid"
# Calls of whole weeks, each in the same second of its week; those of today are in no whole week.
WEEKS_OF_CALLS = """
    SELECT count(*), count(DISTINCT (key_name, extract(dow FROM started_at), started_at::time)), count(DISTINCT digest)
    FROM usage_request WHERE started_at < date_trunc('day', now()) AND key_name <> 'team-rare'
"""


@pytest.mark.django_db
def test_a_new_database_is_filled_with_rows_and_sums_that_are_right(gateway_database: str, tmp_path: Path) -> None:
    with empty_database(gateway_database) as url:
        command = [sys.executable, "-c", FILLING, str(tmp_path), url]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        with psycopg.connect(url) as connection:
            calls, different, digests = connection.execute(WEEKS_OF_CALLS).fetchone() or ()
            ((bodies,),) = connection.execute("SELECT count(*) FROM usage_requestbody").fetchall()
            ((indexes,),) = connection.execute(INDEXES).fetchall()
            ((strays,),) = connection.execute("SELECT count(*) FROM usage_request_default").fetchall()

    assert "\n2,000 rows; MB: " in run.stdout
    assert json.loads(run.stdout.splitlines()[-1]) == []
    assert calls == digests == WEEKS * different > 1400
    assert bodies == 100
    assert strays == 0  # each month has its partition
    with migrated.cursor() as cursor:
        cursor.execute(INDEXES)
        assert cursor.fetchall() == [(indexes,)]  # all that the migrations make
