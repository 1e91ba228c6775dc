"""The sessions of calls that continue a response: in one batch and in several, and never another key's."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.ledger.ledgers import NOON, call, end, ship, stored
from usage.models import Request
from usage.upkeep.verify import find_faults

pytestmark = pytest.mark.django_db


def response(number: int, before: str = "", **columns: Any) -> Any:
    """The row of a call that has made the response `resp_<number>`, perhaps as a continuation of `before`."""
    further = {"previous_response_id": before} if before else {}
    made = f"resp_{number}"
    return call(
        NOON + timedelta(seconds=number), route="/v1/responses", response_id=made, objects=[made], objects_last=False,
        **further, **columns,
    )  # fmt: skip


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("stated", "session"), [("", "resp_1"), ("talk", "talk")])
def test_a_chain_has_the_session_of_its_first_call(tmp_path: Path, at_once: bool, stated: str, session: str) -> None:
    rows = [response(1, session=stated), response(2, "resp_1"), response(3, "resp_2"), response(4, "resp_1")]
    for batch in [rows] if at_once else [[row] for row in rows]:
        ship(tmp_path, *map(end, batch))
    assert [row.session for row in stored(*(row["request_id"] for row in rows))] == [session] * 4
    assert list(find_faults(tmp_path)) == []


@pytest.mark.parametrize("at_once", [True, False])
def test_a_response_of_another_key_has_no_part_in_it(tmp_path: Path, at_once: bool) -> None:
    rows = [response(1, key_name="one", session="secret"), response(2, "resp_1", key_name="other")]
    for batch in [rows] if at_once else [[row] for row in rows]:
        ship(tmp_path, *map(end, batch))
    assert [row.session for row in stored(*(row["request_id"] for row in rows))] == ["secret", "resp_1"]


def test_a_new_session_hides_no_change_of_a_row(tmp_path: Path) -> None:
    rows = [response(1), response(2, "resp_1")]
    ship(tmp_path, end(rows[0]))
    Request.objects.update(client_address="192.0.2.1")
    before = list(find_faults(tmp_path))
    ship(tmp_path, end(rows[1]))
    assert [row.session for row in stored(rows[0]["request_id"])] == ["resp_1"]
    assert list(find_faults(tmp_path)) == before != []


def test_a_response_that_nobody_knows_names_the_session(tmp_path: Path) -> None:
    row = response(2, "resp_1")
    ship(tmp_path, end(row))
    assert [one.session for one in stored(row["request_id"])] == ["resp_1"]
