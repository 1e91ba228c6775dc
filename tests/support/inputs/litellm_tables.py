"""Creates the tables of a LiteLLM proxy from which its keys are read, in the form of litellm-proxy-extras 0.4.110."""

from __future__ import annotations

import hashlib
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

TABLES: tuple[LiteralString, ...] = (
    """
    CREATE TABLE "LiteLLM_BudgetTable" (
        budget_id text PRIMARY KEY, max_budget double precision, soft_budget double precision,
        max_parallel_requests integer, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, model_max_budget jsonb,
        budget_duration text, budget_reset_at timestamp(3), allowed_models text[] DEFAULT '{}',
        created_at timestamp(3) NOT NULL DEFAULT now(), created_by text NOT NULL DEFAULT 'admin'
    )
    """,
    """
    CREATE TABLE "LiteLLM_TeamTable" (
        team_id text PRIMARY KEY, team_alias text, organization_id text, metadata jsonb NOT NULL DEFAULT '{}',
        max_budget double precision, spend double precision NOT NULL DEFAULT 0, models text[],
        max_parallel_requests integer, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, budget_duration text,
        blocked boolean NOT NULL DEFAULT false
    )
    """,
    """
    CREATE TABLE "LiteLLM_TeamMembership" (
        user_id text, team_id text, spend double precision NOT NULL DEFAULT 0, budget_id text,
        PRIMARY KEY (user_id, team_id)
    )
    """,
    """
    CREATE TABLE "LiteLLM_OrganizationTable" (
        organization_id text PRIMARY KEY, organization_alias text NOT NULL, budget_id text NOT NULL,
        models text[], spend double precision NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE "LiteLLM_UserTable" (
        user_id text PRIMARY KEY, user_alias text, user_email text, user_role text, max_budget double precision,
        spend double precision NOT NULL DEFAULT 0, models text[], max_parallel_requests integer, tpm_limit bigint,
        rpm_limit bigint, budget_duration text
    )
    """,
    """
    CREATE TABLE "LiteLLM_VerificationToken" (
        token text PRIMARY KEY, key_name text, key_alias text, spend double precision NOT NULL DEFAULT 0,
        expires timestamp(3), models text[], aliases jsonb NOT NULL DEFAULT '{}', config jsonb NOT NULL DEFAULT '{}',
        user_id text, team_id text, permissions jsonb NOT NULL DEFAULT '{}', max_parallel_requests integer,
        metadata jsonb NOT NULL DEFAULT '{}', blocked boolean, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint,
        max_budget double precision, budget_duration text, budget_reset_at timestamp(3),
        allowed_routes text[] DEFAULT '{}', model_max_budget jsonb NOT NULL DEFAULT '{}', budget_limits jsonb,
        budget_id text REFERENCES "LiteLLM_BudgetTable", access_group_ids text[] DEFAULT '{}'
    )
    """,
)
KEYS, TEAMS, USERS, BUDGETS = (
    "LiteLLM_VerificationToken", "LiteLLM_TeamTable", "LiteLLM_UserTable", "LiteLLM_BudgetTable"
)  # fmt: skip
MEMBERS, ORGANIZATIONS = "LiteLLM_TeamMembership", "LiteLLM_OrganizationTable"


def make_tables(url: str) -> None:
    """Makes empty tables of LiteLLM in the database at `url`."""
    with psycopg.connect(url) as database:
        for statement in TABLES:
            database.execute(statement)


def add_row(url: str, table: str, **columns: Any) -> None:
    """Adds a row to one of LiteLLM's tables; dictionaries become JSON."""
    values = [Jsonb(value) if isinstance(value, dict) else value for value in columns.values()]
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    )
    with psycopg.connect(url) as database:
        database.execute(statement, values)


def add_key(url: str, text: str, **columns: Any) -> None:
    """Adds the row of a LiteLLM key whose secret is `text`; the row has its digest and its last four characters."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    add_row(url, KEYS, token=digest, key_name=f"sk-...{text[-4:]}", **columns)
