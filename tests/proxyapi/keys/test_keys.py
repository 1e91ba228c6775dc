"""Keys of callers: made, rotated, revoked and seen over the socket; a whole key is found nowhere.

Over 300 lines, since the life of a key is followed over one server: made, used, rotated, revoked.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from django.utils import timezone

from proxyapi import sealing
from proxyapi.models import AccessKey
from tests.simulator.server import Simulator
from tests.support.ledger.tables import dump_tables
from tests.support.servers.gateway import PATIENCE, SECURITY_KEY, UPSTREAM_KEY, Gateway, run_gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
TEXT = re.compile(r"cp-[A-Za-z0-9_-]{43}")


def call(gateway: Gateway, text: str, **fields: Any) -> httpx2.Response:
    return gateway.post("/openai", {**CHAT, "security_key": text, **fields})


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    text = gateway.make_key("test it works", "--tag", "team a", "--tag", "night", "--owner", "Ada")
    answer = call(gateway, text)

    assert TEXT.fullmatch(text)
    assert answer.status_code == 200
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    assert text not in simulator.last.body.decode()
    row = gateway.row(answer)
    assert (row["key_name"], row["tags"], row["outcome"]) == ("test it works", ["team a", "night"], "success")
    assert (row["team"], row["owner"]) == ("", "Ada")


# --- in a call


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.make_key(f"in a call {uuid.uuid4()}")  # this may be made once more


@pytest.mark.parametrize("place", ["body", "query", "bearer", "header"])
@pytest.mark.parametrize("size", [10, 200_000])
def test_a_key_is_taken_wherever_it_is(gateway: Gateway, simulator: Simulator, key: str, place: str, size: int) -> None:
    body: dict[str, Any] = {**CHAT, "user": "x" * size}
    options: dict[str, dict[str, Any]] = {
        "body": {"json": {**body, "security_key": key}},
        "query": {"json": body, "params": {"security_key": key}},
        "bearer": {"json": body, "headers": {"authorization": f"Bearer {key}"}},
        "header": {"json": body, "headers": {"x-security-key": key}},
    }
    assert gateway.http.post("/openai", **options[place]).status_code == 200


def test_the_built_in_key_is_still_found_in_a_large_body(gateway: Gateway, simulator: Simulator) -> None:
    assert call(gateway, SECURITY_KEY, user="x" * 200_000).status_code == 200


@pytest.mark.parametrize("filler", ["cp-" + "x" * 43, "cp-", "cp-x ", "x"], ids=["keys", "starts", "short", "none"])
def test_a_large_body_of_a_stranger_is_not_parsed(gateway: Gateway, simulator: Simulator, filler: str) -> None:
    headers = {"content-type": "application/json"}
    answer = gateway.http.post("/openai", content=(filler * 2_000_000)[:20_000_000], headers=headers)

    assert answer.status_code == 403  # and not 400, which parsing would say
    assert answer.json()["error"]["code"] == "invalid_key"


def test_missing_unknown_expired_off_and_revoked_get_the_same_answer(gateway: Gateway, simulator: Simulator) -> None:
    expired, off, revoked = (gateway.make_key(f"same answer {name}") for name in ("expired", "off", "revoked"))
    with psycopg.connect(gateway._database_url, autocommit=True) as connection:
        update = "UPDATE proxyapi_accesskey SET"
        connection.execute(f"{update} expires_at = now() - interval '1 s' WHERE name = 'same answer expired'")
        connection.execute(f"{update} active = false WHERE name = 'same answer off'")
    assert gateway.manage("keys", "revoke", "same answer revoked").returncode == 0
    for text in (expired, off, revoked):
        gateway.wait_until_known(text, known=False)
    answers = [call(gateway, text) for text in ("", "cp-" + "x" * 43, expired, off, revoked)]

    errors = [answer.json()["error"] for answer in answers]
    for error in errors:
        del error["request_id"]
    assert [answer.status_code for answer in answers] == [403] * 5
    assert errors == [errors[0]] * 5
    assert len({frozenset(answer.headers) for answer in answers}) == 1
    assert simulator.requests == []


def test_an_access_token_is_no_key_and_a_key_is_no_access_token(gateway: Gateway, key: str) -> None:
    assert gateway.http.get("/debug/runtime", params={"access_token": key}).status_code == 403


# --- the account that pays


@pytest.fixture(scope="module")
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A server with a configured project and organization."""
    upstream, database = request.getfixturevalue("_simulator"), request.getfixturevalue("gateway_database")
    settings = {"OPENAI_PROJECT_KEY": "proj_house", "OPENAI_ORGANIZATION": "org-house"}
    with run_gateway(upstream.base_url, database, tmp_path_factory.mktemp("house"), **settings) as gateway:
        yield gateway


def test_a_keys_own_account_pays_unless_the_call_brings_one(house: Gateway, simulator: Simulator) -> None:
    own = house.make_key("own account", "--upstream-key-file", "-", said="sk-of-the-key-itself-01\n")
    plain = house.make_key("no account")

    def paid_by(text: str, **fields: str) -> tuple[str | None, ...]:
        assert call(house, text, **fields).status_code == 200
        names = ("authorization", "openai-project", "openai-organization")
        return tuple(simulator.last.header(name) for name in names)

    assert paid_by(own) == ("Bearer sk-of-the-key-itself-01", None, None)
    assert paid_by(own, project="proj_own") == ("Bearer sk-of-the-key-itself-01", "proj_own", None)
    assert paid_by(own, openai_api_key="sk-of-the-call") == ("Bearer sk-of-the-call", None, None)
    assert paid_by(plain) == (f"Bearer {UPSTREAM_KEY}", "proj_house", "org-house")
    assert paid_by(SECURITY_KEY) == (f"Bearer {UPSTREAM_KEY}", "proj_house", "org-house")


def test_a_keys_own_account_is_enough(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway(OPENAI_API_KEY="")
    own = gateway.make_key("enough", "--upstream-key-file", "-", said="sk-of-the-key-itself-02")

    assert call(gateway, own).status_code == 200
    assert call(gateway, SECURITY_KEY).status_code == 503


# --- bodies


@pytest.mark.parametrize(
    ("choice", "of_success", "of_failure"),
    [("inherit", True, True), ("all", True, True), ("errors", False, True), ("none", False, False)],
)
def test_a_key_says_whose_bodies_are_kept(
    gateway: Gateway, simulator: Simulator, choice: str, of_success: bool, of_failure: bool
) -> None:
    text = gateway.make_key(f"bodies {choice}", "--log-bodies", choice)
    answers = [call(gateway, text), call(gateway, text, model="fault:status-500")]
    ids = [gateway.row(answer)["request_id"] for answer in answers]
    with psycopg.connect(gateway._database_url) as connection:
        query = "SELECT count(*) FROM usage_requestbody WHERE request_id = %s"
        kept = [connection.execute(query, [request_id]).fetchall() == [(1,)] for request_id in ids]

    assert kept == [of_success, of_failure]


def test_a_key_may_keep_what_the_configuration_does_not(
    start_gateway: Callable[..., Gateway], simulator: Simulator
) -> None:
    gateway = start_gateway(LOG_BODIES="none")
    text = gateway.make_key("keeps", "--log-bodies", "all")
    body = {"model": "gpt-4o", "input": "Say hi.", "stream": True, "security_key": text}
    with gateway.http.stream("POST", "/openai2", json=body) as stream:
        stream.read()
    request_id = gateway.row(stream)["request_id"]
    with psycopg.connect(gateway._database_url) as connection:
        query = "SELECT response_body FROM usage_requestbody WHERE request_id = %s"
        ((kept,),) = connection.execute(query, [request_id]).fetchall()

    assert kept


# --- rotation


def test_rotating_under_load_refuses_no_call(start_gateway: Callable[..., Gateway], simulator: Simulator) -> None:
    gateway = start_gateway(WEB_CONCURRENCY="2")
    current = [gateway.make_key("under load")]
    statuses: list[int] = []
    stopping = threading.Event()

    def load() -> None:
        with httpx2.Client(base_url=gateway.url, timeout=PATIENCE) as http:
            while not stopping.is_set():
                statuses.append(http.post("/openai", json={**CHAT, "security_key": current[0]}).status_code)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        rotated = gateway.manage("keys", "rotate", "under load", "--grace", "1h")
        assert rotated.returncode == 0, rotated.stderr
        text = rotated.stdout.strip()
        gateway.wait_until_known(text)
        current[0] = text
    stopping.set()
    for thread in threads:
        thread.join(PATIENCE)

    assert len(statuses) > 100
    assert set(statuses) == {200}


def test_without_grace_the_old_key_is_refused(gateway: Gateway) -> None:
    old = gateway.make_key("no grace")
    new = gateway.manage("keys", "rotate", "no grace").stdout.strip()
    gateway.wait_until_known(old, known=False)

    assert gateway.ask(new).status_code == 400


# --- secrecy


def test_no_whole_key_is_anywhere(
    start_gateway: Callable[..., Gateway], simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    own = "sk-Own0Account0Of0The0Key0123456789"
    gateway = start_gateway()
    text = gateway.make_key("secrecy", "--upstream-key-file", "-", said=own)
    rotated = gateway.manage("keys", "rotate", "secrecy", "--grace", "1h").stdout.strip()
    gateway.wait_until_known(rotated)
    answers = [
        call(gateway, text),
        call(gateway, rotated, user=text),
        call(gateway, text, model=text),
        call(gateway, text, messages=[{"role": "user", "content": f"{own} {rotated}"}]),
        call(gateway, text + "x"),
        call(gateway, text, messages=5),
        gateway.http.get(f"/openai2/{text}", params={"security_key": rotated}),
        gateway.http.get("/nowhere", params={"security_key": text}, headers={"user-agent": text}),
        gateway.http.get("/readyz"),
    ]
    listed = gateway.manage("keys", "list", "--json")
    gateway.row(answers[0])
    gateway.stop()

    kept = dump_tables(gateway_database)
    files = [path.read_bytes().decode("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    errors = [answer.text for answer in answers if answer.status_code == 403]
    assert "secrecy" in kept
    assert (tmp_path / "keyring.json").exists()
    for where in (kept, gateway.log, listed.stdout, listed.stderr, *errors, *files):
        assert [secret for secret in (text, rotated, text[3:], rotated[3:], own) if secret in where] == []


# --- the command


def test_the_command_makes_lists_rotates_and_revokes(gateway: Gateway) -> None:
    options = ("--owner", "Ada", "--model", "gpt-4o*", "--expires", "90d", "--budget-month", "25", "--json")
    made = json.loads(gateway.manage("keys", "create", "by command", *options).stdout)
    assert TEXT.fullmatch(made["key"])
    assert (made["name"], made["state"], made["allowed_models"]) == ("by command", "active", ["gpt-4o*"])
    assert made["hint"] == f"{made['key'][:7]}…{made['key'][-4:]}"

    rotated = json.loads(gateway.manage("keys", "rotate", "by command", "--grace", "7d", "--json").stdout)
    assert rotated["key"] != made["key"]
    assert rotated["previous_valid_until"] is not None

    assert gateway.manage("keys", "revoke", "by command").returncode == 0
    listed = {key["name"]: key for key in json.loads(gateway.manage("keys", "list", "--json").stdout)}
    assert listed["by command"]["state"] == "revoked"
    assert "key" not in listed["by command"]
    table = gateway.manage("keys", "list").stdout
    assert re.match(r"KEY +STATE +CREATED +NAME +TEAM +OWNER\n", table)
    line = rf"^{re.escape(rotated['hint'])} +revoked +\d{{4}}-\d\d-\d\d  by command +Ada$"
    assert re.search(line, table, re.MULTILINE)


@pytest.mark.django_db
def test_what_the_command_changes_is_in_the_audit_log() -> None:
    """As what is changed in the admin is; the account that it names can sign in nowhere."""
    call_command("keys", "create", "by command")
    call_command("keys", "rotate", "by command")
    call_command("keys", "rotate", "by command", "--grace", "1h")
    call_command("keys", "revoke", "by command")
    call_command("keys", "list")
    with pytest.raises(CommandError):
        call_command("keys", "rotate", "by command")
    with pytest.raises(CommandError):
        call_command("keys", "create", "by command")
    entries = list(LogEntry.objects.order_by("pk").select_related("user"))

    words = [entry.change_message.partition(", with ")[0] for entry in entries]
    assert words[:2] == ["Created", "Rotated; the old key is no longer valid"]
    assert re.fullmatch(r"Rotated; the old key is valid until \d{4}-\d\d-\d\d \d\d:\d\d UTC", words[2])
    assert words[3:] == ["Revoked"]
    user = pwd.getpwuid(os.getuid()).pw_name
    assert {entry.change_message.partition(", with ")[2] for entry in entries} == {
        f"`manage.py keys` by the system user {user}."
    }
    assert [entry.action_flag for entry in entries] == [ADDITION, CHANGE, CHANGE, CHANGE]
    assert {(entry.object_repr, entry.get_edited_object()) for entry in entries} == {
        ("by command", AccessKey.objects.get())
    }
    [account] = {entry.user for entry in entries}
    assert (account.username, account.is_active, account.is_staff) == ("manage.py", False, False)
    assert not account.has_usable_password()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("create", "default"), "name: 'default' is the name of a built-in key."),
        (("create", "Access Token"), "is the name of a built-in key"),
        (("create", ""), "name: This field cannot be blank."),
        (("create", "a\nb"), "printable"),
        (("create", "wrong one", "--route", "openai"), "allowed_routes: A route starts with '/'"),
        (("create", "wrong one", "--requests-per-minute", "0"), "requests_per_minute: Ensure this value"),
        (("create", "wrong one", "--budget-day", "-1"), "budget_day: Ensure this value"),
        (("create", "wrong one", "--budget-day", "much"), "'much' is no number"),
        (("create", "wrong one", "--expires", "soon"), "'soon' is no span"),
        (("create", "wrong one", "--expires", "999999w"), "beyond the year 9999"),
        (("create", "wrong one", "--expires", "9999-12-31T23:59-14:00"), "beyond the year 9999"),
        (("create", "wrong one", "--expires", "0001-01-01T00:00+14:00"), "before the year 1"),
        (("create", "wrong one", "--model", "a\nb"), "allowed_models: An item of this list has no control characters"),
        (("create", "wrong one", "--upstream-key-file", "/nowhere"), "/nowhere cannot be read"),
        (("create", "wrong one", "--upstream-key-file", "/dev/null"), "/dev/null is empty"),
        (("rotate", "nobody"), "there is no key 'nobody'"),
        (("rotate", "nobody", "--grace", "long"), "'long' is no span"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
    ],
)
@pytest.mark.django_db
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], fault: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("keys", *arguments)

    assert fault in str(refused.value)
    assert not AccessKey.objects.exists()


def test_the_command_without_a_database_is_one_line(gateway: Gateway) -> None:
    variables = gateway.variables
    gateway.variables = {**variables, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
    try:
        done = gateway.manage("keys", "list")
    finally:
        gateway.variables = variables
    assert done.stderr.splitlines()[-1].startswith("chatproxy: the database cannot be reached")
    assert "Traceback" not in done.stderr


# --- the model


@pytest.mark.django_db
def test_a_name_is_taken_once_and_never_changes() -> None:
    key, _ = AccessKey.objects.issue("one")
    with pytest.raises(ValidationError, match="already exists"):
        AccessKey.objects.issue("one")
    key.name, key.owner = "two", "Ada"
    key.save()
    key.save(update_fields=["name", "note"])
    key.refresh_from_db()

    assert (key.name, key.owner) == ("one", "Ada")


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"])
def test_an_expiry_can_be_read_again(text: str) -> None:
    """One that cannot would make the table of keys unreadable, for workers, pages and commands."""
    with pytest.raises(ValidationError) as refused:
        AccessKey.objects.issue("too far", expires_at=datetime.fromisoformat(text))
    assert set(refused.value.message_dict) == {"expires_at"}


@pytest.mark.django_db
def test_a_digest_is_there_once() -> None:
    key, _ = AccessKey.objects.issue("one")
    with pytest.raises(IntegrityError):
        AccessKey.objects.create(name="two", digest=key.digest)


@pytest.mark.django_db
def test_what_is_revoked_stays_so() -> None:
    key, _ = AccessKey.objects.issue("one")
    key.rotate(timedelta(hours=1))
    key.revoke()
    revoked_at = key.revoked_at
    key.revoke()

    assert (key.revoked_at, key.previous_digest, key.state()) == (revoked_at, "", "revoked")
    with pytest.raises(ValidationError, match="make a new one"):
        key.rotate()


@pytest.mark.django_db
@pytest.mark.parametrize("grace", [timedelta(days=91), timedelta(seconds=-1)])
def test_a_grace_has_an_end(grace: timedelta) -> None:
    key, _ = AccessKey.objects.issue("one")
    with pytest.raises(ValidationError, match="at most 90 days"):
        key.rotate(grace)


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["short", "with space", "größe-größe", "x" * 501, "line\nbreak"])
def test_an_upstream_key_that_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII"):
        AccessKey.objects.issue("one", upstream_key=text)


@pytest.mark.django_db
def test_states() -> None:
    key, _ = AccessKey.objects.issue("one", expires_at=timezone.now() + timedelta(hours=1))
    assert key.state() == "active"
    assert key.state(timezone.now() + timedelta(hours=2)) == "expired"
    key.active = False
    assert key.state() == "off"


def test_another_secret_knows_no_key(settings: Any) -> None:
    text, sealed = sealing.digest("cp-x"), sealing.seal("sk-1")
    settings.KEY_SECRET = "another secret, also long enough, and so on"
    assert sealing.digest("cp-x") != text
    with pytest.raises(sealing.CannotUnseal):
        sealing.unseal(sealed)


def test_without_a_secret_no_key_is_made(settings: Any) -> None:
    settings.KEY_SECRET = None
    with pytest.raises(ImproperlyConfigured, match="start the server once"):
        sealing.digest("cp-x")
