"""Makes keys with budgets for tests, makes calls with them, and reads what they have spent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx2
import psycopg

from tests.support.callers.key_box import insert
from tests.support.polling import PATIENCE, wait_until
from tests.support.servers.gateway import Gateway


def make_key(gateway: Gateway, name: str, **budgets: str) -> str:
    """Creates an access key with a budget for each given span, waits until every worker knows it, and returns its text.

    The budgets are in dollars.
    """
    with database(gateway.variables["DATABASE_URL"]) as connection:
        _, text = insert(connection, {f"budget_{span}": dollars for span, dollars in budgets.items()}, name)
    gateway.wait_until_known(text)
    return text


@contextmanager
def database(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def ask(gateway: Gateway, key: str, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
    """Makes a call with the access key `key` on a new connection, and returns the answer.

    Either of the server's two workers may accept the connection.
    """
    headers = {"Authorization": f"Bearer {key}", **headers}
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as client:
        return client.post(path, json=body, headers=headers)


def holds(url: str, key_name: str) -> list[Decimal]:
    with database(url) as connection:
        rows = connection.execute("SELECT dollars FROM usage_hold WHERE key_name = %s", [key_name]).fetchall()
    return [dollars for (dollars,) in rows]


def spent(url: str, key_name: str) -> tuple[Decimal, Decimal]:
    """Returns the dollars that a key has spent twice: by the sums of its days, and by the rows of its calls.

    Both are read from the database at one moment.
    """
    query = """SELECT (SELECT COALESCE(sum(cost), 0) FROM usage_usageday WHERE key_name = %(key)s),
        (SELECT COALESCE(sum(cost), 0) FROM usage_request WHERE key_name = %(key)s)"""
    with database(url) as connection:
        [(by_days, by_rows)] = connection.execute(query, {"key": key_name}).fetchall()
    return by_days, by_rows


def settled(url: str, key_name: str) -> Decimal:
    """Waits until no dollars of a key's budgets are reserved, and returns the dollars that the key has spent."""
    wait_until(lambda: not holds(url, key_name))
    by_days, by_rows = spent(url, key_name)
    assert by_days == by_rows
    return by_rows
