"""Rows that the database refuses and lines that are damaged: set aside, told in the ledger, and shipped later."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.support.ledger.ledgers import (
    NOON,
    SUMS,
    assert_sums_are_right,
    begin,
    call,
    end,
    leave,
    letters,
    ship,
    shipping,
    stored,
    write,
)  # fmt: skip
from tests.support.ledger.poison import POISON
from tests.support.servers.disks import wait_until
from usage.journal.records import frame
from usage.journal.undelivered import DAMAGED, DEAD_LETTERS
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.shipper import adopt_dead, replay
from usage.models import Request

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("impatient_shipper")]


@pytest.mark.parametrize("fault", POISON)
def test_one_poison_row_costs_nobody_else_his(tmp_path: Path, fault: str) -> None:
    rows = [call() for _ in range(21)]
    poison = call(**POISON[fault])
    delivery = ship(tmp_path, *map(end, rows[:13]), end(poison), *map(end, rows[13:]))
    assert delivery.dead_letters == 1
    assert Request.objects.filter(outcome="success").exclude(error_code="dead_letter").count() == 21

    stub = Request.objects.get(pk=poison["request_id"])
    assert (stub.error_code, stub.outcome, stub.duration_ms) == ("dead_letter", "success", 812.345)
    assert stub.started_at == NOON
    assert stub.cached_tokens == 200
    assert stub.key_name == ("" if fault == "a null where none may be" else "default")
    (kept,) = letters(tmp_path)
    assert kept["request_id"] == poison["request_id"]
    assert kept["fault"]
    assert all(kept[name] == value for name, value in POISON[fault].items())
    assert (tmp_path / DEAD_LETTERS).stat().st_mode & 0o777 == 0o600
    assert_sums_are_right()


def test_names_too_long_for_an_index_are_no_outage(tmp_path: Path) -> None:
    chance = random.Random(1)
    names: dict[str, Any] = {
        name: "".join(chr(0x1F300 + chance.randrange(700)) for _ in range(200))
        for name in ("key_name", "team", "owner", "end_user")
    }
    row = call(**names)
    leave(tmp_path, end(row), end(call()))
    delivery = Delivery(tmp_path, deadline=time.monotonic() + 5)
    adopt_dead(tmp_path, delivery)
    assert (delivery.dead_letters, Request.objects.count()) == (1, 2)
    assert Request.objects.get(pk=row["request_id"]).key_name == names["key_name"]
    assert_sums_are_right()


def test_many_poison_rows_are_each_found(tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = [call(**(POISON["below zero"] if chance.random() < 0.1 else {})) for _ in range(600)]
    bad = [row for row in rows if row["input_tokens"] < 0]
    ship(tmp_path, *map(end, rows))
    assert Request.objects.count() == 600
    assert {kept["request_id"] for kept in letters(tmp_path)} == {row["request_id"] for row in bad}
    assert Request.objects.filter(error_code="dead_letter").count() == len(bad)
    assert_sums_are_right()


@pytest.mark.parametrize("request_id", ["not-a-uuid", "", "01997000-0000-7000-8000-00000000000g", "f" * 36])
def test_a_row_without_a_uuid_is_a_dead_letter_without_a_stub(tmp_path: Path, request_id: str) -> None:
    rows = [call(), call()]
    delivery = ship(tmp_path, end(rows[0]), end(call(request_id=request_id)), end(rows[1]))
    assert Request.objects.count() == 2
    assert delivery.dead_letters == len(letters(tmp_path)) == 1
    assert list(tmp_path.glob("*.journal")) == []


def test_a_poison_begin_is_a_stub_too(tmp_path: Path) -> None:
    row = call(route="/" + "x" * 100)
    ship(tmp_path, begin(row))
    stub = Request.objects.get()
    assert (stub.error_code, stub.outcome, len(letters(tmp_path))) == ("dead_letter", "interrupted", 1)
    assert_sums_are_right()


def widen(column: str, sql_type: str) -> None:
    with connection.cursor() as cursor:
        for table in (
            "usage_request",
            "usage_usagehour",
            "usage_usagebreakdown",
            "usage_labeltotal",
            "usage_errortotal",
        ):
            cursor.execute(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {sql_type}")


@pytest.mark.parametrize("record", [begin, end])
def test_a_replay_after_the_cause_is_gone_replaces_the_stub(tmp_path: Path, record: Callable[..., Any]) -> None:
    row = call(route="/" + "x" * 100, response_body="kept")
    poison = call(**POISON["below zero"])
    ship(tmp_path, record(row), end(poison))
    assert len(letters(tmp_path)) == 2
    delivery = replay(tmp_path)
    assert (delivery.delivered, delivery.dead_letters) == (2, 2)  # the stubs, again
    widen("route", "varchar(101)")
    try:
        delivery = replay(tmp_path)
        assert delivery.dead_letters == 1, [kept["fault"] for kept in letters(tmp_path)]
        assert [kept["request_id"] for kept in letters(tmp_path)] == [poison["request_id"]]
        replaced, stub = stored(row["request_id"], poison["request_id"])
        assert replaced.route == row["route"]
        assert replaced.error_code == ("interrupted" if record is begin else "")
        assert stub.error_code == "dead_letter"
        assert not (tmp_path / "deadletter.retried").exists()
    finally:
        Request.objects.all().delete()
        for model in SUMS:
            model.objects.all().delete()
        widen("route", "varchar(100)")


def test_a_replay_keeps_the_sums_right(tmp_path: Path) -> None:
    row = call(response_body="a")
    (tmp_path / DEAD_LETTERS).write_bytes(
        json.dumps({**row, "started_at": NOON.isoformat(), "fault": "x"}).encode() + b"\n"
    )
    ship(tmp_path, end({**row, "error_message": "a\0"}))
    assert Request.objects.get().error_code == "dead_letter"
    replay(tmp_path)
    assert Request.objects.get().error_code == ""
    assert_sums_are_right()


def test_a_replay_that_was_killed_is_taken_up_again(tmp_path: Path) -> None:
    old, new = call(), call()
    for name, row in (("deadletter.retried", old), (DEAD_LETTERS, new)):
        (tmp_path / name).write_bytes(
            json.dumps({**row, "started_at": NOON.isoformat(), "fault": "x"}).encode() + b"\n"
        )
    replay(tmp_path)
    replay(tmp_path)
    assert {str(request.pk) for request in Request.objects.all()} == {old["request_id"], new["request_id"]}
    assert letters(tmp_path) == []


# Damaged lines.


def test_a_damaged_line_is_set_aside_and_its_call_has_a_row(tmp_path: Path) -> None:
    rows = [call() for _ in range(3)]
    lines = [frame(end(row)) for row in rows]
    lines[1] = lines[1].replace(b'"success"', b'"sXccess"')
    delivery = ship(tmp_path, *lines, b"not a record at all\n")
    assert delivery.damaged == 2
    outcomes = [request.outcome for request in stored(*(row["request_id"] for row in rows))]
    assert outcomes == ["success", "interrupted", "success"]
    assert (tmp_path / DAMAGED).read_bytes() == lines[1] + b"not a record at all\n"
    assert_sums_are_right()


def test_a_damaged_begin_does_not_hide_the_end(tmp_path: Path) -> None:
    row = call()
    ship(tmp_path, frame(begin(row)).replace(b"/openai", b"/opXnai"), end(row))
    assert Request.objects.get().outcome == "success"
    assert_sums_are_right()


def test_a_damaged_end_of_a_running_process_is_a_guess(tmp_path: Path) -> None:
    rows = [call(), call()]
    with shipping(tmp_path) as (journal, shipper):
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE usage_request RENAME TO away")  # holds the shipper back
        write(journal, rows)
        [segment] = tmp_path.glob("*.journal")
        data = segment.read_bytes()
        segment.write_bytes(data[:-20] + b"\xff" * 20)  # the newline, too
        journal.rotate()  # before that, the record may be one that is being written
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE away RENAME TO usage_request")
        wait_until(lambda: shipper.lag_bytes == 0)
    assert {str(request.pk): request.outcome for request in Request.objects.all()} in (
        {rows[0]["request_id"]: "success", rows[1]["request_id"]: "interrupted"},
        {rows[0]["request_id"]: "success", rows[1]["request_id"]: "success"},  # it had been read already
    )
    assert_sums_are_right()
