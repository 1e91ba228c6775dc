"""Exports in CSV and JSON hold every call, are sent piece by piece, and no spreadsheet finds a formula in them."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ledger.ledgers import call, call_id
from tests.support.ledger.pages import HOSTILE, ISOLATE, OVERRIDE, make_call, make_failure, pieces_of
from tests.support.polling import PATIENCE
from usage.admin_pages import export
from usage.admin_pages.export import _one_by_one
from usage.journal_shipping.rows import write_rows
from usage.page_data import exports
from usage.page_data.exports import export_calls
from usage.page_data.filters import Filters
from usage.untrusted_text import INVISIBLE, csv_cell, escape_invisible

CALLS = "/admin/usage/request/export.{}"
SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20\t\r\n"  # that begin a formula; some spreadsheets read the full-width ones, too
FORMULAS = [
    '\uff1dHYPERLINK("https://evil.example")',
    " \uff20SUM(1)",
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "  =1",
    "=cmd|' /C calc'!A0",
    "\ufeff=1",
    "\0=1",
    "\u200b=1",
]


def text(admin: Client, address: str, **query: str) -> str:
    answer = admin.get(address, query)
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith("attachment; ")
    return b"".join(pieces_of(answer)).decode()


def rows(admin: Client, **query: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(text(admin, CALLS.format("csv"), **query))))


@pytest.mark.django_db
def test_it_works(admin: Client) -> None:
    ids = [make_failure(2, tags=["a", "b"]), make_call(1, client_address="192.0.2.7"), make_call(key_name="other")]
    found = rows(admin)
    listed = json.loads(text(admin, CALLS.format("json")))

    assert [row["request_id"] for row in found] == [row["request_id"] for row in listed] == ids[::-1]
    assert found[2]["tags"] == "a, b"
    assert found[2]["error_code"] == "upstream_timeout"
    assert (found[1]["client_address"], found[1]["cost"], found[1]["input_tokens"]) == (
        "192.0.2.7",
        "0.00043500",
        "1000",
    )
    assert listed[1]["duration_ms"] == 812.345
    assert datetime.fromisoformat(found[0]["started_at"]).tzinfo is not None
    assert found[2]["input_tokens"] == "1000"


@pytest.mark.django_db
def test_an_export_of_a_calendar_month_has_its_calls_and_no_others(admin: Client) -> None:
    """February of a leap year, with calls a millisecond from its edges."""
    start, end, instant = datetime(2024, 2, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), timedelta(milliseconds=1)
    outside, first, last, after = [make_call(started_at=at) for at in (start - instant, start, end - instant, end)]

    assert [row["request_id"] for row in rows(admin, range="2024-02")] == [last, first]
    assert [row["request_id"] for row in rows(admin, range="2024-02-29")] == [last]
    assert [row["request_id"] for row in rows(admin, range="2024-03")] == [after]
    assert [row["request_id"] for row in rows(admin, range="2024-01")] == [outside]


@pytest.mark.django_db
def test_a_filtered_list_is_exported_as_it_is_filtered(admin: Client) -> None:
    make_call()
    wanted = make_failure()

    assert [row["request_id"] for row in rows(admin, outcome="failed")] == [wanted]
    assert text(admin, CALLS.format("json"), key="nobody") == "[]"
    assert len(text(admin, CALLS.format("csv"), key="nobody").splitlines()) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_all_of_it_comes_piece_by_piece(admin: Client, kind: str) -> None:
    now = datetime.now(UTC)
    for start in range(0, 2500, 500):
        write_rows([call(now, request_id=call_id(now, start + number)) for number in range(500)])
    with CaptureQueriesContext(connection) as queries:
        pieces = pieces_of(admin.get(CALLS.format(kind)))
    whole = b"".join(pieces).decode()

    assert len(pieces) > 3
    assert len(queries) < 20
    count = len(whole.splitlines()) - 1 if kind == "csv" else len(json.loads(whole))
    assert count == 2500


@pytest.mark.django_db
@pytest.mark.parametrize("formula", [formula for formula in FORMULAS if "\0" not in formula])
def test_no_cell_is_a_formula(admin: Client, formula: str) -> None:
    make_failure(key_name=formula, user_agent=formula, error_message=formula, response_model=formula)
    [row] = rows(admin)

    for name in ("key_name", "user_agent", "error_message", "response_model"):
        assert row[name][0] not in SIGNS


@given(st.sampled_from(FORMULAS) | st.text() | st.text(alphabet=[*SIGNS, *' ";\t\r\nx']))
def test_a_cell_is_text_whatever_is_in_it(value: str) -> None:
    made = csv_cell(value)

    first, *further = re.split(r"[;\t\r\n]", made)  # into the cells where semicolons separate them
    assert first.lstrip()[:1] not in set(SIGNS)
    assert not [cell for cell in further if cell.replace('"', "").lstrip()[:1] in set(SIGNS) - set("\t\r\n")]
    assert not INVISIBLE.search(made)


@pytest.mark.parametrize(
    ("value", "made"), [(None, ""), (5, "5"), (-5, "-5"), (-1.5, "-1.5"), (True, "True"), ("plain", "plain")]
)
def test_numbers_stay_numbers(value: Any, made: str) -> None:
    assert csv_cell(value) == made


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_hostile_text_is_only_text(admin: Client, kind: str) -> None:
    make_failure(key_name=f"{OVERRIDE}{ISOLATE}x", error_message=HOSTILE + "m" * 10**6, error_code='a,"b"\n=c')
    whole = text(admin, CALLS.format(kind))
    csv.field_size_limit(2 * 10**6)

    assert OVERRIDE not in whole
    [row] = json.loads(whole) if kind == "json" else csv.DictReader(StringIO(whole))
    assert row["key_name"] == "<U+202E><U+2067>x"
    assert row["error_message"].startswith(HOSTILE)
    assert row["error_code"] == ('a,"b"\n=c' if kind == "json" else 'a,"b"\n\'=c')


@pytest.mark.django_db
def test_the_errors_are_exported_by_kind(admin: Client) -> None:
    make_failure(key_name="a")
    make_failure(key_name="b", error_code="=code")
    make_failure(key_name="c")
    found = list(csv.DictReader(StringIO(text(admin, "/admin/usage/errors/export.csv", range="hour"))))
    listed = json.loads(text(admin, "/admin/usage/errors/export.json", range="hour"))

    assert [(row["calls"], row["keys"], row["error_code"]) for row in found] == [
        ("2", "2", "upstream_timeout"),
        ("1", "1", "'=code"),
    ]
    [facts] = {(row["fault"], row["state"], row["message"]) for row in listed}
    assert facts == ("openai", "new", "It took too long.")


@pytest.mark.django_db
def test_no_other_form_is_known(admin: Client) -> None:
    assert admin.get(CALLS.format("xls")).status_code == 404
    assert admin.get("/admin/usage/errors/export.html").status_code == 404


def test_nothing_is_read_before_it_is_asked_for() -> None:
    def batches() -> Iterator[list[dict[str, Any]]]:
        yield [{"a": 1}]
        raise AssertionError("read too early")

    written = exports._as_csv(batches(), ["a"])
    assert next(written) == b"a\r\n"
    assert next(written) == b"1\r\n"


def test_inert_text_says_what_was_in_it() -> None:
    assert escape_invisible("a\0b\u202ec\ud800") == "a<U+0000>b<U+202E>c<U+D800>"
    assert escape_invisible("über\n\tall", 4) == "über…"


def test_no_piece_is_made_before_the_last_has_left() -> None:
    made = []

    def make() -> Iterator[bytes]:
        for number in range(3):
            made.append(number)
            yield b"piece"

    async def take_one() -> None:
        await anext(aiter(_one_by_one(make(), "me")))

    async_to_sync(take_one)()
    assert made == [0]


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_a_piece_is_sent() -> None:
    make_failure()
    held = []

    async def read() -> None:
        async for _ in _one_by_one(export_calls(Filters(), "csv"), "me"):
            held.append(await sync_to_async(lambda: connection.connection)())

    async_to_sync(read)()
    assert held == [None, None]


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_while_a_page_is_sent(admin: Client) -> None:
    assert admin.get("/admin/usage/request/").status_code == 200
    assert connection.connection is None


@pytest.mark.django_db
def test_a_reader_has_few_exports_at_once(admin: Client) -> None:
    async def statuses() -> list[int]:
        begun = [_one_by_one(iter([b"1", b"2"]), "account root") for _ in range(export.READER_EXPORTS)]
        for pieces in begun:
            await anext(aiter(pieces))
        found = [(await sync_to_async(admin.get)(CALLS.format("csv"))).status_code]
        assert [piece async for piece in begun[0]] == [b"2"]
        found.append((await sync_to_async(admin.get)(CALLS.format("csv"))).status_code)
        return found

    assert async_to_sync(statuses)() == [429, 200]


def test_few_pieces_are_made_at_once() -> None:
    """Each holds a connection of the worker's pool."""
    begun, most = threading.Semaphore(0), []
    go_on = threading.Event()

    def make() -> Iterator[bytes]:
        most.append(1)
        begun.release()
        assert go_on.wait(PATIENCE)
        yield b"piece"

    async def read(number: int) -> None:
        async with ThreadSensitiveContext():  # as Django reads each answer: in a thread of its own
            assert [piece async for piece in _one_by_one(make(), f"{number}")] == [b"piece"]

    async def read_many() -> int:
        tasks = [asyncio.create_task(read(number)) for number in range(export.PARALLEL_PIECES + 2)]
        for _ in range(export.PARALLEL_PIECES):
            await asyncio.to_thread(begun.acquire)
        made = len(most)
        go_on.set()
        await asyncio.gather(*tasks)
        return made

    assert asyncio.run(read_many()) == export.PARALLEL_PIECES


def test_json_without_rows_leaves_pauses_to_end_it_in() -> None:
    rows: list[list[dict[str, Any]]] = [[], [{"a": 1}], [], [{"a": 2}], []]
    pieces = list(exports._as_json(rows))

    assert len(pieces) == len(rows) + 1
    assert json.loads(b"".join(pieces)) == [{"a": 1}, {"a": 2}]
