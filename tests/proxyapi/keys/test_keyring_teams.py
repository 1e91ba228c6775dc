"""The teams of the keys in memory: their rules beside those of each key, as fresh as keys, also from the disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from proxyapi import sealing
from proxyapi.dispatch.permissions import check_model, check_route, may_use_model
from proxyapi.exceptions import ModelNotAllowed, RouteNotAllowed, TeamArchived
from proxyapi.keys import keyring as keyring_module
from proxyapi.keys import snapshots
from proxyapi.keys.callers import Budgets, Caller, TeamCeilings
from proxyapi.keys.keyring import Keyring
from proxyapi.models import AccessKey
from proxyapi.team_models import Team
from tests.simulator.server import Simulator
from tests.support.polling import wait_until
from tests.support.servers.gateway import PATIENCE, Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def data_dir(settings: Any, tmp_path: Path) -> Path:
    settings.DATA_DIR = tmp_path
    return tmp_path


@pytest.fixture
def start_keyring(data_dir: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(keyring_module, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(keyring_module, "START_SECONDS", PATIENCE)  # each start has looked once
    with ExitStack() as running:

        def start() -> Keyring:
            keyring = Keyring()
            keyring.start()
            running.callback(keyring.stop)
            return keyring

        yield start


def caller_of(keyring: Keyring, text: str) -> Caller:
    caller = keyring.find(text)
    assert caller is not None
    return caller


def test_it_works(start_keyring: Callable[[], Keyring]) -> None:
    team = Team.objects.found(
        "a team", tags=["project=x", "night"], parallel_calls=3, budget_day="1.5", allowed_models=["gpt-4o*"],
        log_bodies="errors", upstream_key="sk-of-the-team",
    )  # fmt: skip
    _, plain = AccessKey.objects.issue("plain", team=team, tags=["night", "own"])
    others: dict[str, Any] = {"log_bodies": "none", "upstream_key": "sk-of-its-own", "parallel_calls": 9}
    _, own = AccessKey.objects.issue("own", team=team, **others)
    _, alone = AccessKey.objects.issue("alone")
    keyring = start_keyring()
    first, second, third = (caller_of(keyring, text) for text in (plain, own, alone))

    budgets = Budgets(day=Decimal("1.5"))
    made = team.created_at
    ceilings = TeamCeilings("a team", parallel_calls=3, budgets=budgets, allowed_models=("gpt-4o*",), created_at=made)
    assert first.team_ceilings == second.team_ceilings == ceilings
    assert (first.team, third.team, third.team_ceilings) == ("a team", "", None)
    assert first.tags == ("night", "own", "project=x")
    assert [caller.log_bodies for caller in (first, second, third)] == ["errors", "none", "inherit"]
    assert [caller.upstream_key for caller in (first, second, third)] == ["sk-of-the-team", "sk-of-its-own", None]
    assert (first.limit_ceilings, second.limit_ceilings, third.limit_ceilings) == ((ceilings,), (second, ceilings), ())
    assert "sk-of-the-team" not in repr(first)


def test_control_characters_in_older_tags_are_replaced(start_keyring: Callable[[], Keyring]) -> None:
    _, text = AccessKey.objects.issue("one", team=Team.objects.found("a team"))
    Team.objects.update(tags=["project=\x01others"])
    AccessKey.objects.update(tags=["\x01closed"])
    assert caller_of(start_keyring(), text).tags == ("\ufffdclosed", "project=\ufffdothers")


def test_a_change_of_a_team_is_noticed_as_one_of_a_key_is(start_keyring: Callable[[], Keyring], data_dir: Path) -> None:
    team, other = Team.objects.found("a team"), Team.objects.found("other")
    key, text = AccessKey.objects.issue("a key")
    keyring = start_keyring()
    assert caller_of(keyring, text).ceilings == (caller_of(keyring, text),)

    AccessKey.objects.filter(pk=key.pk).update(team=team)
    wait_until(lambda: caller_of(keyring, text).team == "a team")
    Team.objects.filter(pk=team.pk).update(requests_per_minute=7)
    wait_until(lambda: caller_of(keyring, text).limit_ceilings)
    AccessKey.objects.filter(pk=key.pk).update(team=other)
    wait_until(lambda: caller_of(keyring, text).team == "other")
    Team.objects.filter(pk=other.pk).update(active=False)
    wait_until(lambda: caller_of(keyring, text).route_ceilings)
    wait_until(lambda: not json.loads((data_dir / "keyring.json").read_text())["teams"][1]["active"])


def test_a_start_without_the_database_knows_the_teams(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team = Team.objects.found("a team", budget_month="2.25", upstream_key="sk-of-the-team")
    _, text = AccessKey.objects.issue("one", team=team)
    first = start_keyring()
    wait_until((data_dir / "keyring.json").exists)
    known = caller_of(first, text)
    first.stop()
    assert "sk-of-the-team" not in (data_dir / "keyring.json").read_text()
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)

    assert caller_of(start_keyring(), text) == known
    assert known.budget_ceilings == (known.team_ceilings,)


@pytest.mark.parametrize("has_teams", [True, False])
def test_a_copy_without_teams_is_not_used_once_there_are_teams(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch, has_teams: bool
) -> None:
    team = Team.objects.found("a team", budget_month="2.25") if has_teams else None
    _, text = AccessKey.objects.issue("one", team=team)
    first = start_keyring()
    copy = data_dir / "keyring.json"
    wait_until(copy.exists)
    first.stop()
    stored = json.loads(copy.read_text())
    records = [{name: value for name, value in record.items() if name != "team_id"} for record in stored["records"]]
    older = {name: value for name, value in stored.items() if name != "teams"} | {"records": records}
    copy.write_text(json.dumps(older))  # as workers of an older version beside this one write it
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)

    second = start_keyring()
    assert (second.find(text) is None, second.state == "missing") == (has_teams, has_teams)


def test_a_copy_that_lacks_the_team_of_a_key_admits_the_others(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = AccessKey.objects.issue("one", team=Team.objects.found("a team"))
    _, alone = AccessKey.objects.issue("alone")
    start_keyring().stop()
    path = data_dir / "keyring.json"
    wait_until(path.exists)
    copy = json.loads(path.read_text())
    path.write_text(json.dumps({**copy, "teams": []}))
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)
    keyring = start_keyring()

    assert keyring.find(text) is None
    assert keyring.find(alone) is not None


def test_a_copy_of_a_version_without_teams_is_read(
    start_keyring: Callable[[], Keyring], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = AccessKey.objects.issue("one")
    start_keyring().stop()
    path = data_dir / "keyring.json"
    wait_until(path.exists)
    copy = json.loads(path.read_text())
    del copy["teams"], copy["records"][0]["team_id"]
    path.write_text(json.dumps(copy))
    monkeypatch.setattr(snapshots, "marker", lambda: 1 / 0)

    assert caller_of(start_keyring(), text).name == "one"


def test_an_account_of_a_team_that_cannot_be_unsealed_pays_for_nothing(start_keyring: Callable[[], Keyring]) -> None:
    team = Team.objects.found("a team", upstream_key="sk-of-the-team")
    Team.objects.update(sealed_upstream_key=sealing.seal("sk-other")[:-4] + "AAAA")
    _, text = AccessKey.objects.issue("one", team=team)
    _, own = AccessKey.objects.issue("two", team=team, upstream_key="sk-of-its-own")
    keyring = start_keyring()

    assert keyring.find(text) is None
    assert keyring.find(own) is not None


# --- what key and team allow


@pytest.mark.parametrize(
    ("of_key", "of_team", "refuser"),
    [
        ((), (), None),
        (("gpt-4o*",), ("gpt-*",), None),
        ((), ("o1",), "The team of this key"),
        (("o1",), (), "This key"),
        (("gpt-4o*",), ("o1", "gpt-4o"), "The team of this key"),
        (("o1",), ("o2",), "This key"),
    ],
)
def test_both_must_allow_a_model_and_a_route(
    of_key: tuple[str, ...], of_team: tuple[str, ...], refuser: str | None
) -> None:
    team = TeamCeilings("a team", allowed_models=of_team, allowed_routes=of_team)
    caller = Caller("a key", allowed_models=of_key, allowed_routes=of_key, team_ceilings=team)
    for check, error in ((check_model, ModelNotAllowed), (check_route, RouteNotAllowed)):
        if refuser is None:
            check(caller, "gpt-4o-mini")
        else:
            with pytest.raises(error, match=f"^{refuser} may not use"):
                check(caller, "gpt-4o-mini")
    assert may_use_model(caller, "gpt-4o-mini") is (refuser is None)


def test_an_archived_team_allows_nothing() -> None:
    caller = Caller("a key", team_ceilings=TeamCeilings("a team", is_active=False))
    with pytest.raises(TeamArchived):
        check_route(caller, "/openai")


def test_over_the_wire(gateway: Gateway, simulator: Simulator) -> None:
    """A row keeps the team that its key was in; whose rule refuses is said; an archived team's keys are refused."""
    gateway.manage("teams", "create", "one team", "--model", "gpt-4o*", "--tag", "project=x")
    gateway.manage("teams", "create", "other team")
    text = gateway.make_key("a key of teams", "--team", "one team")

    def ask(model: str = "gpt-4o-mini") -> Any:
        headers = {"Authorization": f"Bearer {text}"}
        return gateway.http.post("/v1/chat/completions", json={**CHAT, "model": model}, headers=headers)

    first, refused = ask(), ask("o1")
    assert (first.status_code, refused.status_code) == (200, 403)
    assert refused.json()["error"]["message"].startswith("The team of this key may not use the model 'o1'. ")
    gateway.manage("keys", "move", "a key of teams", "--team", "other team")
    wait_until(lambda: ask("o1").status_code == 200)
    moved = ask()
    gateway.manage("shell", "-c", ARCHIVE)
    wait_until(lambda: ask().status_code == 403)
    last = ask()

    assert last.json()["error"]["code"] == "team_archived"
    rows = [gateway.row(answer) for answer in (first, moved, last)]
    assert [(row["team"], row["outcome"]) for row in rows] == [
        ("one team", "success"), ("other team", "success"), ("other team", "rejected"),
    ]  # fmt: skip
    assert rows[0]["tags"] == ["project=x"]


ARCHIVE = """
from proxyapi.team_models import Team
team = Team.objects.get(name="other team")
team.active = False
team.save(update_fields=["active"])
"""
