"""The fields of a key are listed in four places, and agree: a rule that one forgot could be set and not enforced."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal

from django.contrib.admin import site
from django.test import RequestFactory

from proxyapi.admin import AccessKeyAdmin
from proxyapi.keys.callers import Budgets, Caller, TeamCeilings
from proxyapi.keys.snapshots import FIELDS, TEAM_FIELDS
from proxyapi.management.commands import keys as keys_command
from proxyapi.management.commands import teams as teams_command
from proxyapi.models import AccessKey
from proxyapi.pages.team_admin import TeamAdmin
from proxyapi.team_models import LogBodies

# The fields of a caller that are no rules, or are written otherwise in the table.
OTHERS = {"name", "created_at", "team_ceilings", "owner", "tags", "budgets", "upstream_key"}
RULES = {field.name for field in fields(Caller)} - OTHERS | {f"budget_{field.name}" for field in fields(Budgets)}


def test_a_snapshot_has_each_rule_of_a_caller() -> None:
    texts = {"digest", "previous_digest", "previous_valid_until", "expires_at"}
    assert set(FIELDS) == RULES | texts | {"name", "team_id", "owner", "tags", "sealed_upstream_key", "created_at"}


def test_a_team_has_each_of_its_rules_everywhere() -> None:
    """In the copy of the teams, in the form of the admin, and on the command line."""
    rules = {field.name for field in fields(TeamCeilings)} - {"name", "created_at", "budgets", "is_active"}
    rules |= {f"budget_{field.name}" for field in fields(Budgets)} | {"log_bodies"}
    options = vars(teams_command.Command().create_parser("manage.py", "teams").parse_args(["create", "any"]))

    assert set(TEAM_FIELDS) == rules | {"id", "name", "active", "tags", "sealed_upstream_key", "created_at"}
    assert {*TeamAdmin.rules, *TeamAdmin.limits} == rules
    assert set(teams_command.FIELDS) == rules | {"tags", "note", *TeamAdmin.of_members}
    assert options.keys() >= set(teams_command.FIELDS)


def test_the_admin_shows_each_rule_of_a_caller() -> None:
    assert {*AccessKeyAdmin.rules, *AccessKeyAdmin.limits} == RULES


def test_the_command_sets_each_rule_of_a_caller() -> None:
    options = vars(keys_command.Command().create_parser("manage.py", "keys").parse_args(["create", "any"]))
    assert set(keys_command.FIELDS) == RULES | {"tags", "expires_at", "owner", "note"}
    assert options.keys() >= set(keys_command.FIELDS)


def test_the_command_prints_each_field_that_the_admin_shows() -> None:
    other_names = {
        "key_text": "hint", "key_state": "state", "created": "created_at", "changed": "changed_at",
        "previous_key": "previous_valid_until", "own_account": "own_upstream_key",
        "owner_user": "owner",
    }  # fmt: skip
    entered = {"upstream_key", "forget_upstream_key"}  # only in the form: a key is never shown
    key = AccessKey(name="team a", budget_day=Decimal("1.50"), min_output_tokens=500, log_bodies=LogBodies.INHERIT)
    admin = AccessKeyAdmin(AccessKey, site)
    fieldsets = admin.get_fieldsets(RequestFactory().get("/"), key)
    shown = {other_names.get(name, name) for _, options in fieldsets for name in options["fields"]} - entered
    facts = keys_command._facts(key)
    assert facts.keys() == shown
    printed = json.loads(json.dumps(facts))
    assert (printed["budget_day"], printed["min_output_tokens"], printed["log_bodies"]) == ("1.50", 500, "inherit")
