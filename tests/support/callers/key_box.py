"""Makes keys with limits for tests, several at a time, since it takes a second until the server knows them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

import psycopg

from proxyapi.models import AccessKey
from proxyapi.team_models import SpenderColumns, Team
from tests.support.servers.gateway import Gateway

AT_ONCE = 25
KEYS_OF_TEAM = 5


class KeyBox:
    """A stock of access keys with limits, for the tests of one server; each key is given out once.

    With `spender` "team", the limits are those of a team, of which the key is the only one. `others` are further
    servers with the same database, which know the keys as well.
    """

    def __init__(
        self, gateway: Gateway, spender: Literal["key", "team"] = "key", others: Sequence[Gateway] = ()
    ) -> None:
        self._gateway, self._servers = gateway, (gateway, *others)
        self._spender = spender
        self._made: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)

    def take(self, **rules: int) -> str:
        """Returns the text of an unused access key that has the limits in `rules`; the server knows the key already."""
        return self.take_named(**rules)[1]

    def take_named(self, **rules: int) -> tuple[str, str]:
        """Returns the name and the text of an unused access key that has the limits in `rules`."""
        made = self._made[json.dumps(rules)]
        if not made:
            with psycopg.connect(self._gateway.variables["DATABASE_URL"], autocommit=True) as connection:
                for _ in range(AT_ONCE):
                    found = {"team": insert_team(connection, rules)} if self._spender == "team" else rules
                    made.append(insert(connection, found))
                _, last = insert(connection, {})
            self._wait_until_known(last)  # asking with one of the others would count
        return made.pop()

    def take_team(self, of_each_key: Mapping[str, object], **rules: object) -> tuple[str, list[str]]:
        """Makes a team that has the limits in `rules`, with `KEYS_OF_TEAM` keys; returns its name and the keys' texts.

        `of_each_key` are limits of the keys themselves.
        """
        with psycopg.connect(self._gateway.variables["DATABASE_URL"], autocommit=True) as connection:
            team = insert_team(connection, rules)
            texts = [insert(connection, {"team": team, **of_each_key})[1] for _ in range(KEYS_OF_TEAM)]
            _, last = insert(connection, {})
        self._wait_until_known(last)
        return team.name, texts

    def _wait_until_known(self, text: str) -> None:
        for server in self._servers:
            server.wait_until_known(text)


def insert(connection: psycopg.Connection[Any], rules: Mapping[str, object], name: str = "") -> tuple[str, str]:
    """Adds an access key to the database of the running server, and returns the key's name and text.

    `AccessKey.objects.issue` would add it to the database of the tests, which is another one. `rules` are fields of the
    key, such as its limits.
    """
    key = AccessKey(name=name or f"limited {uuid4()}", **rules)
    text = key.renew()
    _insert_row(connection, key)
    return key.name, text


def insert_team(connection: psycopg.Connection[Any], rules: Mapping[str, object], name: str = "") -> Team:
    """Adds a team to the database of the running server, and returns it; `rules` are fields of the team."""
    team = Team(name=name or f"limited team {uuid4()}", **rules)
    _insert_row(connection, team)
    return team


def _insert_row(connection: psycopg.Connection[Any], row: SpenderColumns) -> None:
    """Inserts the row of a key or a team, and sets its primary key."""
    fields = [field for field in row._meta.concrete_fields if not field.primary_key]
    values = {field.column or field.name: field.pre_save(row, add=True) for field in fields}
    columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
    query = f"INSERT INTO {row._meta.db_table} ({columns}) VALUES ({places}) RETURNING id"  # noqa: S608  (our own names)
    found = connection.execute(query.encode(), list(values.values())).fetchone()
    assert found is not None
    row.pk = found[0]
