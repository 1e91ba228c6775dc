"""Owns keys with limits for tests: several are made at a time, since it takes a second until the server knows them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import psycopg

from proxyapi.models import AccessKey
from tests.support.servers.gateway import Gateway

AT_ONCE = 25


class KeyBox:
    """A stock of access keys with limits, for the tests of one server; each key is given out once."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._made: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    def take(self, **rules: int) -> str:
        """Returns the text of an unused access key that has the limits in `rules`; the server knows the key already."""
        return self.take_named(**rules)[1]

    def take_named(self, **rules: int) -> tuple[str, str]:
        """Returns the name and the text of an unused access key that has the limits in `rules`."""
        made = self._made[json.dumps(rules)]
        if not made:
            with psycopg.connect(self._gateway.variables["DATABASE_URL"], autocommit=True) as connection:
                made += [insert(connection, rules) for _ in range(AT_ONCE)]
                _, last = insert(connection, {})
            self._gateway.wait_until_known(last)  # asking with one of the others would count
        return made.pop()


def insert(connection: psycopg.Connection[Any], rules: Mapping[str, object], name: str = "") -> tuple[str, str]:
    """Adds an access key to the database of the running server, and returns the key's name and text.

    `AccessKey.objects.issue` would add it to the database of the tests, which is another one. `rules` are fields of the
    key, such as its limits.
    """
    key = AccessKey(name=name or f"limited {uuid4()}", **rules)
    text = key.renew()
    values = {
        field.column or field.name: field.pre_save(key, add=True)
        for field in key._meta.concrete_fields
        if not field.primary_key
    }
    columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
    query = f"INSERT INTO proxyapi_accesskey ({columns}) VALUES ({places})"  # noqa: S608  (names of our own columns)
    connection.execute(query.encode(), list(values.values()))
    return key.name, text
