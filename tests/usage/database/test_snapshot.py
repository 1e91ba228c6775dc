"""All queries of one snapshot see the same moment, whatever is written meanwhile."""

from __future__ import annotations

import threading

import pytest
from django.db import Error, connection, connections

from usage.database.snapshot import one_snapshot
from usage.models import SummedName


def write(name: str) -> None:
    """Commits a row over another connection."""

    def run() -> None:
        SummedName.objects.create(dimension="key", value=name)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


@pytest.mark.django_db(transaction=True)
def test_it_works() -> None:
    write("before")
    with one_snapshot():
        assert SummedName.objects.count() == 1
        write("meanwhile")
        assert SummedName.objects.count() == 1
    assert SummedName.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_nothing_outlives_it() -> None:
    """The next transaction on the connection may write, and sees what others commit."""
    with pytest.raises(Error, match="read-only"), one_snapshot():
        SummedName.objects.create(dimension="key", value="a")
    SummedName.objects.create(dimension="key", value="b")
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("read committed",)


@pytest.mark.django_db
def test_within_a_transaction_it_is_a_part_of_that() -> None:
    SummedName.objects.create(dimension="key", value="a")
    with one_snapshot():
        assert SummedName.objects.count() == 1
