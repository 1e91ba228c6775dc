"""A call whose end cannot be read from a living process's journal: what its begin record supposes counts at once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.ledger.ledgers import Row, begin, call, end, leave, stored
from usage.call_record import RECORD_VERSION
from usage.journal.records import frame
from usage.journal_shipping.delivery import Delivery
from usage.journal_shipping.shipment import JournalShipment
from usage.models import UsageDay

pytestmark = pytest.mark.django_db


def torn(record: Row) -> bytes:
    return frame(record)[:-3] + b"\n"


@pytest.mark.parametrize("is_torn", [True, False], ids=["torn", "of a newer version"])
@pytest.mark.parametrize("is_known_before", [True, False])
def test_what_its_begin_supposes_counts(tmp_path: Path, is_torn: bool, is_known_before: bool) -> None:
    row = call(key_name="k")
    begun = {**begin(row), "supposed": {"input_tokens": 1_000_000, "output_tokens": 1}}
    last = torn(end(row)) if is_torn else frame({**end(row), "version": RECORD_VERSION + 1})
    path = leave(tmp_path, begun, *([] if is_known_before else [last]))
    shipment = JournalShipment(Delivery(tmp_path))
    shipment.ship_new([path])
    if is_known_before:
        with path.open("ab") as file:
            file.write(last)
        shipment.ship_new([path])
    [guess] = stored(row["request_id"])
    assert (guess.outcome, guess.key_name, guess.usage_source) == ("interrupted", "k", "estimated")
    assert guess.input_tokens == 1_000_000
    assert guess.cost
    assert UsageDay.objects.get(key_name="k").cost == guess.cost


def test_the_real_end_takes_its_place(tmp_path: Path) -> None:
    row = call(key_name="k")
    path = leave(tmp_path, {**begin(row), "supposed": {"input_tokens": 10**6}}, torn(end(row)), end(row))
    JournalShipment(Delivery(tmp_path)).ship_new([path])
    [whole] = stored(row["request_id"])
    assert (whole.outcome, whole.input_tokens) == ("success", row["input_tokens"])
    assert UsageDay.objects.get(key_name="k").cost == whole.cost != Decimal(0)
