"""The shipper: every call is in the tables once, with its sums, whatever happens on the way there.

Over 300 lines, since each step of the way from file to tables is tried with the same journal and the same database.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.db.backends.utils import CursorWrapper

from chatproxy.postgres.bundled import BundledPostgres
from tests.simulator.server import Simulator
from tests.support.ledger.ledgers import (
    NOON,
    assert_sums_are_right,
    begin,
    call,
    call_id,
    end,
    leave,
    random_call,
    ship,
    shipping,
    stored,
    stored_sums,
    write,
)  # fmt: skip
from tests.support.servers.disks import PATIENCE, wait_until
from tests.support.servers.gateway import run_gateway
from usage.call_record import CallRecord
from usage.journal import segments
from usage.journal.records import frame
from usage.journal.undelivered import DEAD_LETTERS
from usage.journal.writer import Journal
from usage.journal_shipping.delivery import Delivery, GaveUp
from usage.journal_shipping.shipper import Shipper, adopt_dead
from usage.metric_counters import counters
from usage.models import Request, RequestBody
from usage.sums.totals_rollup import Rollup

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("impatient_shipper")]


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """`work` with its thread's connections closed at the end."""

    def run() -> Any:
        try:
            return work()
        finally:
            connections.close_all()

    return run


def test_it_works(tmp_path: Path) -> None:
    row = call(request_body="asked", response_body="answered", tags=["a", "b"], client_address="::1")
    ship(tmp_path, begin(row), end(row))
    (request,) = Request.objects.all()
    for name, value in row.items():
        if name not in {"request_id", "request_body", "response_body"}:
            assert getattr(request, name) == value, name
    assert str(request.pk) == row["request_id"]
    assert request.cost is not None
    assert request.price
    assert request.price["source"].startswith("genai-prices")
    body = RequestBody.objects.get()
    assert (body.pk, body.request_body, body.response_body) == (request.pk, "asked", "answered")
    assert_sums_are_right()
    assert list(tmp_path.iterdir()) == []


def test_a_running_process_ships_what_it_writes(tmp_path: Path) -> None:
    chance = random.Random(1)
    rows = [random_call(chance) for _ in range(1200)]
    with shipping(tmp_path) as (journal, shipper):
        write(journal, rows[:700])
        journal.rotate()
        write(journal, rows[700:])
        wait_until(lambda: shipper.lag_bytes == 0)
        wait_until(lambda: len(list(tmp_path.glob("*.journal"))) == 1)  # the closed one is gone
        assert Request.objects.count() == 1200
    assert list(tmp_path.iterdir()) == []
    assert RequestBody.objects.count() == sum("request_body" in row for row in rows)
    assert_sums_are_right()


def test_what_comes_while_a_round_ships_is_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a busy process would ship call by call, each in a transaction of its own."""
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    shipper = Shipper(tmp_path)
    delivered: list[int] = []

    def deliver(rows: Sequence[CallRecord]) -> None:
        delivered.append(len(rows))
        if len(delivered) < 3:
            write(journal, [call(), call()])

    monkeypatch.setattr(shipper.delivery, "deliver", deliver)
    write(journal, [call()])
    shipper._ship_once()
    shipper._ship_once()
    journal.close()
    assert delivered == [1, 2]


@pytest.mark.parametrize("stopping", [False, True])
def test_nothing_waits_for_all_that_the_dead_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopping: bool
) -> None:
    """Neither what a running process writes meanwhile, nor the end of a stop: then the rest is the next shipper's."""
    monkeypatch.setattr(segments, "READ_BYTES", 4096)
    left = [call() for _ in range(50)]
    path = leave(tmp_path, *map(end, left))
    journal = Journal(tmp_path, reserve_bytes=0)
    journal.open()
    shipper = Shipper(tmp_path)
    delivered: list[list[str]] = []
    own = call()

    def deliver(rows: Sequence[CallRecord]) -> None:
        delivered.append([row["request_id"] for row in rows])
        if len(delivered) == 1:
            write(journal, [own])
            if stopping:
                shipper.delivery.deadline = 0.0

    monkeypatch.setattr(shipper.delivery, "deliver", deliver)
    with pytest.raises(GaveUp) if stopping else nullcontext():
        shipper._ship_once()
    journal.close()
    expected = {row["request_id"] for row in left}
    if stopping:
        assert set(delivered[0]) < expected
        assert len(delivered) == 1
        assert path.exists()
    else:
        assert delivered[1] == [own["request_id"]]
        assert {request_id for ids in delivered for request_id in ids} == expected | {own["request_id"]}
        assert not path.exists()


def test_a_running_process_adopts_a_dead_ones_journal(tmp_path: Path) -> None:
    row = call()
    with shipping(tmp_path):
        leave(tmp_path, end(row))
        wait_until(lambda: Request.objects.filter(pk=row["request_id"]).exists())
    assert_sums_are_right()


def test_a_journal_shipped_again_changes_nothing(tmp_path: Path) -> None:
    chance = random.Random(2)
    rows = [random_call(chance) for _ in range(300)]
    records = [record for row in rows for record in (begin(row), end(row))]
    ship(tmp_path, *records)
    before = (list(Request.objects.values()), list(RequestBody.objects.values()), stored_sums())
    for _ in range(3):
        ship(tmp_path, *records)
    ship(tmp_path, *records[150:], *records[:200])
    assert (list(Request.objects.values()), list(RequestBody.objects.values()), stored_sums()) == before
    assert len(before[0]) == 300
    assert_sums_are_right()


def test_a_record_twice_in_one_batch_counts_once(tmp_path: Path) -> None:
    row = call(response_body="once")
    ship(tmp_path, end(row), end(row))
    assert_sums_are_right()
    assert Request.objects.count() == RequestBody.objects.count() == 1


class Died(BaseException):
    """The process is gone: nobody catches this."""


def test_a_death_between_the_commit_and_the_unlink_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, orphan = call(), call()

    def die(*_: Any, **__: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(Died):
            ship(tmp_path, begin(row), end(row), begin(orphan))
    assert Request.objects.count() == 2
    assert len(list(tmp_path.glob("*.journal"))) == 1
    ship(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert Request.objects.count() == 2
    assert_sums_are_right()


def test_a_death_before_the_commit_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = call(response_body="kept")

    def die(*_: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Rollup, "write", die)
        with pytest.raises(Died):
            ship(tmp_path, end(row))
    assert not Request.objects.exists()
    ship(tmp_path)
    assert Request.objects.count() == RequestBody.objects.count() == 1
    assert_sums_are_right()


def test_two_adopters_at_once_ship_everything_once(tmp_path: Path) -> None:
    chance = random.Random(3)
    for _ in range(12):
        rows = [random_call(chance) for _ in range(40)]
        leave(tmp_path, *(record for row in rows for record in (begin(row), end(row))), begin(call()))
    start = threading.Barrier(3)

    def adopt() -> None:
        start.wait()
        adopt_dead(tmp_path, Delivery(tmp_path))

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(in_thread(adopt)) for _ in range(3)]:
            done.result()
    ship(tmp_path)
    assert Request.objects.count() == 12 * 41
    assert list(tmp_path.iterdir()) == []
    assert_sums_are_right()


def test_two_copies_of_a_journal_shipped_at_once_count_once(tmp_path: Path) -> None:
    chance = random.Random(4)
    records = [end(random_call(chance)) for _ in range(400)]
    directories = [tmp_path / name for name in "abc"]
    for directory in directories:
        leave(directory, *chance.sample(records, len(records)))  # each in another order
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda directory: in_thread(lambda: ship(directory))(), directories))
    assert Request.objects.count() == 400
    assert_sums_are_right()


# Calls that nobody saw end.


def test_a_begin_without_an_end_is_interrupted(tmp_path: Path) -> None:
    row = call()
    ship(tmp_path, begin(row))
    (request,) = Request.objects.all()
    assert (request.outcome, request.error_code, request.status) == ("interrupted", "interrupted", None)
    assert (request.key_name, request.route, request.started_at) == ("default", "/openai", NOON)
    assert (request.usage_source, request.input_tokens) == ("estimated", -(-row["request_bytes"] // 4))
    assert request.cost is not None
    assert request.cost > 0
    assert_sums_are_right()


def test_a_late_end_replaces_the_guess_and_its_sums(tmp_path: Path) -> None:
    row = call(request_body="asked", response_body="answered")
    ship(tmp_path, {**begin(row), "request_body": "asked"})
    assert Request.objects.get().outcome == "interrupted"
    delivery = ship(tmp_path, end(row))
    assert delivery.dead_letters == 0
    assert Request.objects.get().outcome == "success"
    assert RequestBody.objects.get().response_body == "answered"
    assert_sums_are_right()
    ship(tmp_path, begin(row))  # a guess never replaces what is known
    assert Request.objects.get().outcome == "success"
    assert_sums_are_right()


def test_metrics_count_the_guess_and_its_real_end_once(tmp_path: Path) -> None:
    def dollars() -> Decimal:
        signs = {"cost_dollars": 1, "cost_taken_back_dollars": -1}
        return sum((signs.get(name, 0) * value for (name, *_), value in counters.dollars.items()), Decimal(0))

    before, row = dollars(), call()
    ship(tmp_path, begin(row))
    assert dollars() > before
    ship(tmp_path, end(row))
    cost = Request.objects.get().cost
    assert cost is not None
    assert dollars() - before == cost


def test_a_real_end_that_is_an_internal_error_replaces_the_guess(tmp_path: Path) -> None:
    row = call(outcome="interrupted", error_code="internal_error", status=500)
    ship(tmp_path, begin(row))
    ship(tmp_path, end(row))
    assert Request.objects.get().status == 500
    assert_sums_are_right()


@pytest.mark.parametrize("end_first", [True, False])
def test_an_end_in_another_segment_than_its_begin_is_found(tmp_path: Path, end_first: bool) -> None:
    row, writer = call(), call_id()
    first, second = (end(row), begin(row)) if end_first else (begin(row), end(row))
    (tmp_path / f"{writer}.00000001.journal").write_bytes(frame(first))
    (tmp_path / f"{writer}.00000002.journal").write_bytes(frame(second) + frame(begin(row)))
    ship(tmp_path)
    assert Request.objects.get().outcome == "success"
    assert_sums_are_right()


def test_a_torn_tail_ends_quietly(tmp_path: Path) -> None:
    row, torn = call(), call()
    delivery = ship(tmp_path, begin(row), begin(torn), end(row), frame(end(torn))[:-1])
    assert delivery.damaged == 0
    assert [request.outcome for request in stored(row["request_id"], torn["request_id"])] == ["success", "interrupted"]
    assert_sums_are_right()


# A database that is away.


def killing_itself(times: int) -> Callable[[Rollup, CursorWrapper], None]:
    """In place of `Rollup.write`: the first `times` transactions lose their connection just before the commit."""
    real = Rollup.write
    left = [times]

    def write(self: Rollup, cursor: CursorWrapper) -> None:
        real(self, cursor)
        if left[0]:
            left[0] -= 1
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    return write


def test_a_lost_connection_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rollup, "write", killing_itself(3))
    rows = [call() for _ in range(20)]
    delivery = ship(tmp_path, *map(end, rows))
    assert delivery.dead_letters == 0
    assert delivery.database_error == ""
    assert Request.objects.count() == 20
    assert_sums_are_right()


def test_connections_cut_all_the_time_lose_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(6)
    rows = [random_call(chance) for _ in range(4000)]
    leave(tmp_path, *map(end, rows))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(in_thread(lambda: ship(tmp_path)))
        cut = 0
        while not done.done():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'INSERT%%'"
                )
                cut += cursor.fetchone()[0]
            if cut >= 5:
                break
        delivery = done.result()
    assert cut
    assert delivery.dead_letters == 0
    assert Request.objects.count() == 4000
    assert_sums_are_right()


def test_a_table_that_is_missing_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    row = call()
    delivery = Delivery(tmp_path)
    leave(tmp_path, end(row))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_usageday RENAME TO away")
    try:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(in_thread(lambda: adopt_dead(tmp_path, delivery)))
            wait_until(lambda: delivery.database_error)
            assert delivery.database_error.startswith("ProgrammingError: a table is missing")
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE away RENAME TO usage_usageday")
            done.result()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE IF EXISTS away RENAME TO usage_usageday")
    assert delivery.dead_letters == 0
    assert delivery.database_error == ""
    assert not (tmp_path / DEAD_LETTERS).exists()
    assert_sums_are_right()


def test_a_stop_during_an_outage_leaves_the_journal_to_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [call() for _ in range(10)]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_request RENAME TO away")
    try:
        journal = Journal(tmp_path, reserve_bytes=0)
        journal.open()
        shipper = Shipper(tmp_path)
        shipper.start()
        write(journal, rows)
        wait_until(lambda: shipper.delivery.database_error)
        journal.close()
        shipper.stop(0.1)
        shipper._thread.join(PATIENCE)
        assert not shipper._thread.is_alive()
        with pytest.raises(GaveUp):
            adopt_dead(tmp_path, Delivery(tmp_path, deadline=0))
        assert len(list(tmp_path.glob("*.journal"))) == 1
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO usage_request")
    ship(tmp_path)
    assert Request.objects.filter(outcome="success").count() == 10
    assert list(tmp_path.iterdir()) == []
    assert_sums_are_right()


def test_a_postgresql_that_is_stopped_and_started_again_gets_every_call_once(
    simulator: Simulator, tmp_path: Path
) -> None:
    postgres = BundledPostgres(tmp_path / "away")
    (tmp_path / "away").mkdir()
    postgres.start()
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
    try:
        with run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as gateway:
            answers = [gateway.post("/openai", body)]
            gateway.row(answers[0])
            postgres.stop()
            answers += [gateway.post("/openai", body) for _ in range(20)]
            gateway.wait_for_log("the database is away")
            answers += [gateway.post("/openai", body) for _ in range(5)]
            assert {answer.status_code for answer in answers} == {200}
            postgres.start()
            rows = gateway.rows(at_least=26)
            assert {str(row["request_id"]) for row in rows} == {
                answer.headers["x-proxy-request-id"] for answer in answers
            }
            with psycopg.connect(postgres.url) as check:
                assert check.execute("SELECT sum(calls) FROM usage_usagehour").fetchone() == (26,)
                assert check.execute("SELECT sum(calls) FROM usage_usageday").fetchone() == (26,)
        assert not (tmp_path / "data" / "journal" / DEAD_LETTERS).exists()
    finally:
        postgres.stop()
        postgres.delete()
