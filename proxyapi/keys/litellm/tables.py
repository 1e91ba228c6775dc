"""Reads the keys of a LiteLLM proxy from its PostgreSQL, with the team, the user and the budgets of each.

It never writes there. Rows are read as JSON, because older versions of LiteLLM lack some of the columns; tables that
they lack are left out. The tables are those of its `schema.prisma` (litellm-proxy-extras 0.4.110).
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from psycopg.pq import Conninfo

CONNECT_SECONDS = "10"
# The sessions of LiteLLM's own pages are rows of the same table, with this team.
SESSIONS = "litellm-dashboard"
QUERY = """
SELECT to_jsonb(key)::text, to_jsonb(team)::text, to_jsonb(owner)::text, to_jsonb(budget)::text
FROM "LiteLLM_VerificationToken" AS key
LEFT JOIN "LiteLLM_TeamTable" AS team ON team.team_id = key.team_id
LEFT JOIN "LiteLLM_UserTable" AS owner ON owner.user_id = key.user_id
LEFT JOIN "LiteLLM_BudgetTable" AS budget ON budget.budget_id = key.budget_id
WHERE key.team_id IS DISTINCT FROM %s
ORDER BY key.key_alias, key.token
"""
# The budgets of members in their teams, and of organizations, by the ids of both.
MEMBERS, ORGANIZATIONS = "LiteLLM_TeamMembership", "LiteLLM_OrganizationTable"
SHARED_BUDGETS: dict[str, LiteralString] = {
    MEMBERS: """
        SELECT array[team_id, user_id], to_jsonb(budget)::text FROM "LiteLLM_TeamMembership"
        JOIN "LiteLLM_BudgetTable" AS budget USING (budget_id)
    """,
    ORGANIZATIONS: """
        SELECT array[organization_id], to_jsonb(budget)::text FROM "LiteLLM_OrganizationTable"
        JOIN "LiteLLM_BudgetTable" AS budget USING (budget_id)
    """,
}

LiteLLMRow = dict[str, Any]


class LiteLLMError(Exception):
    """Error: LiteLLM's database cannot be read. The message is one line without a password."""


class LiteLLMKey(NamedTuple):
    """A LiteLLM key with its team, user and budget: each is a database row as a dict, empty if there is no such row.

    `member_budget` is the budget of the user in the team, for all keys that this user has there, and
    `organization_budget` that of the team's organization.
    """

    key: LiteLLMRow
    team: LiteLLMRow
    owner: LiteLLMRow
    budget: LiteLLMRow
    member_budget: LiteLLMRow
    organization_budget: LiteLLMRow


def read_litellm_keys(url: str) -> list[LiteLLMKey]:
    """Reads all access keys of a LiteLLM proxy from its database, whose URL is `url`.

    Leaves out the sessions of LiteLLM's own pages, which are stored among the keys. Each key comes with its team, user
    and budgets. Numbers with a fraction are decimals.

    Raises:
        LiteLLMError: the database cannot be reached or read, or has no tables of LiteLLM.
    """
    address, schema = _split_url(url)
    try:
        with psycopg.connect(address) as database:
            database.read_only = True
            database.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(schema)))
            rows = database.execute(QUERY, [SESSIONS]).fetchall()
            members, organizations = (_read_budgets(database, table) for table in SHARED_BUDGETS)
    except psycopg.errors.UndefinedTable:
        raise LiteLLMError(f"the schema {schema!r} of this database has no tables of LiteLLM") from None
    except psycopg.ProgrammingError:  # its words may have parts of the URL
        raise LiteLLMError("this is no URL of a PostgreSQL database of LiteLLM") from None
    except psycopg.Error as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise LiteLLMError(f"LiteLLM's database cannot be read: {reason}") from None
    found = []
    for row in rows:
        key, team, owner, budget = map(_decoded, row)
        member_budget = members.get((key.get("team_id"), key.get("user_id")), {})
        organization_budget = organizations.get((team.get("organization_id"),), {})
        found.append(LiteLLMKey(key, team, owner, budget, member_budget, organization_budget))
    return found


def _read_budgets(database: psycopg.Connection[Any], table: str) -> dict[tuple[object, ...], LiteLLMRow]:
    """Reads the budgets of the rows of `table`, one of `SHARED_BUDGETS`; returns a map from the ids of the rows.

    The map is empty if this version of LiteLLM has no such table.
    """
    [(exists,)] = database.execute("SELECT to_regclass(%s) IS NOT NULL", [f'"{table}"']).fetchall()
    rows = database.execute(SHARED_BUDGETS[table]).fetchall() if exists else []
    return {tuple(ids): _decoded(text) for ids, text in rows}


def _split_url(url: str) -> tuple[str, str]:
    """Splits a database URL into a URL for `psycopg` and the name of the schema in the URL (default: `public`).

    Options that only Prisma knows are removed, and a time limit for connecting is added.

    Raises:
        LiteLLMError: the text is no URL of a PostgreSQL database.
    """
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    try:
        parts = urlsplit(url.strip())
        options = dict(parse_qsl(parts.query))
        parts.port  # noqa: B018  (ValueError if it is no number: libpq would quote it, and it may be of the password)
    except ValueError:
        raise LiteLLMError(
            "this is no URL; percent-encode the special characters of the password, and name the port by its number"
        ) from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise LiteLLMError("this is no URL that begins with postgresql://")
    # The other options are those of Prisma, which LiteLLM uses.
    kept = {"connect_timeout": CONNECT_SECONDS} | {name: value for name, value in options.items() if name in known}
    return urlunsplit(parts._replace(query=urlencode(kept))), options.get("schema", "public")


def _decoded(text: str | None) -> LiteLLMRow:
    row: LiteLLMRow = json.loads(text, parse_float=Decimal) if text else {}
    return row
