"""The fields of a key are listed in four places, and agree: a rule that one forgot could be set and not enforced."""

from __future__ import annotations

from dataclasses import fields

from proxyapi.admin import AccessKeyAdmin
from proxyapi.keys.keyring import Budgets, Caller
from proxyapi.keys.snapshots import FIELDS
from proxyapi.management.commands import keys as keys_command

# The fields of a caller that are no rules, or are written otherwise in the table.
OTHERS = {"name", "tags", "budgets", "upstream_key"}
RULES = {field.name for field in fields(Caller)} - OTHERS | {f"budget_{field.name}" for field in fields(Budgets)}


def test_a_snapshot_has_each_rule_of_a_caller() -> None:
    texts = {"digest", "previous_digest", "previous_valid_until", "expires_at"}
    assert set(FIELDS) == RULES | texts | {"name", "tags", "sealed_upstream_key"}


def test_the_admin_shows_each_rule_of_a_caller() -> None:
    assert {*AccessKeyAdmin.rules, *AccessKeyAdmin.limits} == RULES


def test_the_command_sets_each_rule_of_a_caller() -> None:
    options = vars(keys_command.Command().create_parser("manage.py", "keys").parse_args(["create", "any"]))
    assert set(keys_command.FIELDS) == RULES | {"tags", "expires_at", "owner", "note"}
    assert options.keys() >= set(keys_command.FIELDS)
