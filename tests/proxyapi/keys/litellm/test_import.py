"""`manage.py import litellm`: keys from a real database of LiteLLM, made once, with their secrets in a private file."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command

from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.support.inputs.litellm_tables import (
    BUDGETS,
    MEMBERS,
    ORGANIZATIONS,
    TEAMS,
    USERS,
    add_key,
    add_row,
    make_tables,
)
from tests.support.servers.databases import new_database
from tests.support.servers.gateway import Gateway

TEXTS = {"research": "sk-research-1234567890abcd", "pipeline": "sk-pipeline-1234567890efgh"}


@pytest.fixture
def litellm(gateway_database: str) -> Iterator[str]:
    """The URL of a LiteLLM proxy's database, as Prisma takes it, with two keys, an expired one and a session."""
    with new_database(gateway_database) as url:
        make_tables(url)
        add_row(
            url, TEAMS, team_id="t-1", team_alias="science", models=["gpt-*"], max_budget=500, organization_id="o-1"
        )
        add_row(url, USERS, user_id="u-1", user_email="ann@example.com")
        add_row(url, BUDGETS, budget_id="b-1", max_budget=2.5, budget_duration="1d")
        add_row(url, BUDGETS, budget_id="b-2", max_budget=9000)
        add_row(url, ORGANIZATIONS, organization_id="o-1", organization_alias="all", budget_id="b-2")
        add_row(url, MEMBERS, team_id="t-1", user_id="u-1", budget_id="b-1")
        add_key(
            url, TEXTS["research"], key_alias="research", team_id="t-1", user_id="u-1",
            models=["openai/gpt-4o", "gpt-4o"], rpm_limit=60, max_budget=10.1, spend=0.3, metadata={"tags": ["lab"]},
        )  # fmt: skip
        add_key(url, TEXTS["pipeline"], key_alias="pipeline", user_id="u-1", budget_id="b-1", blocked=True)
        add_key(url, "sk-old-0000", key_alias="old", expires="2020-01-01")
        add_key(url, "sk-session-0000", key_alias=None, team_id="litellm-dashboard")
        yield f"{url}&connection_limit=10&pool_timeout=60&schema=public"


def run(litellm: str, directory: Path, *options: str) -> list[str]:
    """Runs the command, and returns the lines that it prints."""
    (directory / "url").write_text(litellm + "\n")
    said = io.StringIO()
    call_command("import", "litellm", "--database-url-file", str(directory / "url"), *options, stdout=said)
    return said.getvalue().splitlines()


@pytest.mark.django_db
def test_it_works(litellm: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    lines = run(litellm, tmp_path, "--keys-file", str(file))
    assert lines[-1] == f"1 team and 2 keys made, and are in {file}; 1 key left out"
    assert "old (sk-...0000): left out: has expired" in lines
    made = {entry["name"]: entry for entry in json.loads(file.read_text())}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert made.keys() == TEXTS.keys()
    names = ("team", "owner", "litellm_key")
    assert [made["research"][name] for name in names] == ["science", "ann@example.com", "sk-...abcd"]
    research, pipeline = (AccessKey.objects.get(name=name) for name in ("research", "pipeline"))
    assert (research.allowed_models, research.requests_per_minute, research.tags) == (["gpt-4o"], 60, ["lab"])
    assert research.budget_total == Decimal("9.8")
    assert research.team is not None
    assert (research.team.name, research.team.budget_total, research.team.allowed_models) == (
        "science", Decimal(500), ["gpt-*"]
    )  # fmt: skip
    assert "    not taken over: the limits and budgets of its organization, for all teams together" in lines
    assert "    not taken over: the limits and budgets of its user in the team, for all keys together" in lines
    assert (pipeline.team, pipeline.owner, pipeline.active, pipeline.budget_day) == (
        None, "ann@example.com", False, Decimal("2.5")
    )  # fmt: skip
    words = LogEntry.objects.values_list("change_message", flat=True)
    assert {text.partition(", with ")[0] for text in words} == {
        "Created like the key sk-...abcd of LiteLLM", "Created like the key sk-...efgh of LiteLLM",
        "Created like the team t-1 of LiteLLM",
    }  # fmt: skip


@pytest.mark.django_db
def test_a_dry_run_makes_nothing_and_says_the_same(litellm: str, tmp_path: Path) -> None:
    said = run(litellm, tmp_path, "--dry-run")
    assert said[-1] == "1 team and 2 keys would be made; 1 key left out"
    assert not AccessKey.objects.exists()
    assert not Team.objects.exists()
    assert not LogEntry.objects.exists()
    assert run(litellm, tmp_path, "--keys-file", str(tmp_path / "keys.json"))[:-1] == said[:-1]


@pytest.mark.django_db
def test_a_second_run_makes_nothing_twice(litellm: str, tmp_path: Path) -> None:
    run(litellm, tmp_path, "--keys-file", str(tmp_path / "first.json"))
    again = run(litellm, tmp_path, "--keys-file", str(tmp_path / "second.json"))
    assert again[-1] == "0 teams and 0 keys made; 3 keys left out"
    assert sum("there is a key of this name already" in line for line in again) == 2
    assert not (tmp_path / "second.json").exists()
    assert AccessKey.objects.count() == 2


@pytest.mark.django_db
def test_a_later_run_finds_the_team_and_leaves_its_limits(litellm: str, tmp_path: Path) -> None:
    run(litellm, tmp_path, "--keys-file", str(tmp_path / "first.json"))
    Team.objects.update(budget_total=7)
    add_key(litellm.partition("&")[0], "sk-later-1111", key_alias="later", team_id="t-1")
    lines = run(litellm, tmp_path, "--keys-file", str(tmp_path / "second.json"))
    assert "team science (t-1): is here already, and keeps its own limits" in lines
    later = AccessKey.objects.select_related("team").get(name="later")
    assert later.team is not None
    assert (later.team.name, later.team.budget_total) == ("science", Decimal(7))


@pytest.mark.django_db
def test_keys_of_a_team_that_cannot_be_made_are_left_out(litellm: str, tmp_path: Path) -> None:
    Team.objects.found("Science")
    lines = run(litellm, tmp_path, "--dry-run")
    assert lines[0].startswith("team science (t-1): left out: Team with this Name already exists")
    assert "research (sk-...abcd): left out: its team is left out" in lines
    assert lines[-1] == "0 teams and 1 key would be made; 2 keys left out"


@pytest.mark.django_db
def test_a_team_without_a_key_is_not_made(litellm: str, tmp_path: Path) -> None:
    url = litellm.partition("&")[0]
    add_row(url, TEAMS, team_id="t-2", team_alias="gone")
    add_key(url, "sk-gone-2222", key_alias="gone", team_id="t-2", expires="2020-01-01")
    assert not [line for line in run(litellm, tmp_path, "--dry-run") if "t-2" in line]


@pytest.mark.django_db
def test_two_keys_of_one_name_are_not_made_one(litellm: str, tmp_path: Path) -> None:
    add_key(litellm.partition("&")[0], "sk-other-7777", key_alias="RESEARCH")
    lines = run(litellm, tmp_path, "--dry-run")
    assert lines[-1] == "1 team and 2 keys would be made; 2 keys left out"
    assert sum("there is a key of this name already" in line for line in lines) == 1


@pytest.mark.django_db
def test_a_name_that_no_key_may_have_is_left_out(litellm: str, tmp_path: Path) -> None:
    add_key(litellm.partition("&")[0], "sk-other-7777", key_alias="default")
    assert "default (sk-...7777): left out: 'default' is the name of a built-in key." in run(
        litellm, tmp_path, "--dry-run"
    )


@pytest.mark.django_db
def test_no_key_is_made_whose_secret_cannot_be_kept(
    litellm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CommandError, match="cannot be written: No space left on device; nothing was made"):
        run(litellm, tmp_path, "--keys-file", str(tmp_path / "keys.json"))
    assert not AccessKey.objects.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["url"]


@pytest.mark.django_db
def test_an_older_file_stays(litellm: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("older")
    with pytest.raises(CommandError, match="is there already"):
        run(litellm, tmp_path, "--keys-file", str(file))
    assert file.read_text() == "older"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://me:pw-4d1c7f@host/db", "begins with postgresql://"),
        ("postgresql://me:pw-4d1c7f/x@host/db", "percent-encode"),
        ("postgresql://me:pw-4d1c7f@127.0.0.1/db?sslmode=perhaps", "cannot be read"),
        ("postgresql://me:pw-4d1c7f@127.0.0.1:1/db", "cannot be read: .*Connection refused"),
    ],
)
def test_a_database_that_cannot_be_read_is_said_without_its_password(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(CommandError, match=words) as found:
        run(url, tmp_path, "--dry-run")
    assert "pw-4d1c7f" not in str(found.value)


def test_a_database_without_tables_of_litellm_is_said(gateway_database: str, tmp_path: Path) -> None:
    with new_database(gateway_database) as url, pytest.raises(CommandError, match="has no tables of LiteLLM"):
        run(url, tmp_path, "--dry-run")


@pytest.mark.django_db
def test_columns_that_an_older_litellm_lacks_are_not_needed(litellm: str, tmp_path: Path) -> None:
    with psycopg.connect(litellm.partition("&")[0]) as database:
        database.execute(
            'ALTER TABLE "LiteLLM_VerificationToken" DROP budget_limits, DROP tpd_limit, DROP allowed_routes,'
            " DROP access_group_ids"
        )
        database.execute('DROP TABLE "LiteLLM_TeamMembership", "LiteLLM_OrganizationTable"')
    assert run(litellm, tmp_path, "--dry-run")[-1] == "1 team and 2 keys would be made; 1 key left out"


def test_the_new_key_works(gateway: Gateway, litellm: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    done = gateway.manage(
        "import", "litellm", "--database-url-file", "-", "--keys-file", str(file), said=litellm + "\n"
    )
    assert done.returncode == 0, done.stderr
    texts = {entry["name"]: entry["key"] for entry in json.loads(file.read_text())}
    assert not any(text in done.stdout for text in texts.values())
    gateway.wait_until_known(texts["research"])
    assert gateway.ask(texts["pipeline"]).status_code == 403  # it was blocked
