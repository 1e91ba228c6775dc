"""Who made an object is known for good: in the database once, on disk until then, through restarts and outages."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import httpx2
import pytest
from django.db import connection
from openai.types.beta import AssistantStreamEvent

from proxyapi.object_owners import owner_store
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.ledger.ledgers import NOON, call, end, ship
from tests.support.servers.clusters import give_cluster
from tests.support.servers.gateway import Gateway, run_gateway
from usage.answers.created_ids import CreatedIds
from usage.answers.reader import AnswerReader
from usage.answers.streamed_text import StreamedText
from usage.journal_shipping.stored_object_rows import given_name, makers
from usage.models import StoredObject
from usage.upkeep.retention import prune
from usage.upkeep.verify import find_faults

CALL = {"model": "gpt-4o-mini", "input": "hi"}


def owners() -> dict[str, str]:
    return dict(StoredObject.objects.values_list("object_id", "key_name"))


@pytest.mark.django_db(transaction=True)
class TestInTheDatabase:
    def test_what_a_call_has_made_is_its_keys(self, tmp_path: Path) -> None:
        made = call(key_name="a", objects=["resp_1", "msg_1"], objects_last=False, response_id="resp_1")
        ship(tmp_path, end(made), end(call(key_name="b", objects=["file-1"])), end(call(key_name="c")))

        assert owners() == {"resp_1": "a", "msg_1": "a", "file-1": "b"}
        assert set(StoredObject.objects.filter(lasts=True).values_list("pk", flat=True)) == {"file-1"}
        assert list(find_faults(tmp_path)) == []

    def test_the_first_maker_stays_the_maker(self, tmp_path: Path) -> None:
        first, later = call(NOON, key_name="a", objects=["x"]), call(NOON + timedelta(1), key_name="b", objects=["x"])
        ship(tmp_path / "one", end(later), end(first))
        ship(tmp_path / "two", end(call(NOON + timedelta(2), key_name="c", objects=["x", "x" * 512])))
        ship(tmp_path / "three", end(call(NOON + timedelta(3), key_name="a", objects=["x"])))
        ship(tmp_path / "four", end(call(NOON + timedelta(4), key_name="b", objects=["x", "x" * 512])))

        assert makers(["x"]) == {"x": "a"}
        # that the others were given the id, too, has rows of its own, unless it has no room in the column
        given = {given_name("x", key): key for key in ("b", "c")}
        assert owners() == {"x": "a", "x" * 512: "c", **given}

    def test_a_call_that_is_shipped_twice_says_it_once(self, tmp_path: Path) -> None:
        row = call(key_name="a", objects=["x", "y"])
        ship(tmp_path / "one", end(row))
        ship(tmp_path / "two", end(row))

        assert owners() == {"x": "a", "y": "a"}

    def test_a_row_that_the_database_refuses_still_says_what_it_has_made(self, tmp_path: Path) -> None:
        ship(tmp_path, end(call(key_name="a", objects=["x"], error_message="a\0b")))
        assert owners() == {"x": "a"}

    @pytest.mark.parametrize("name", ["x" * 250, None, 5])
    def test_a_refused_row_without_a_whole_name_of_its_key_makes_nobody_an_owner(
        self, name: Any, tmp_path: Path
    ) -> None:
        ship(tmp_path, end(call(key_name=name, objects=["x"], error_message="a\0b")))
        assert owners() == {}

    @pytest.mark.parametrize("objects", [5, None, "x", [5, None, "", "a\0b", "x" * 600], {"x": 1}])
    def test_what_can_be_no_id_costs_no_row(self, objects: Any, tmp_path: Path) -> None:
        delivery = ship(tmp_path, end(call(objects=objects)))
        assert (delivery.delivered, delivery.dead_letters, owners()) == (1, 0, {})

    def test_an_older_row_says_it_by_its_response_id(self, tmp_path: Path) -> None:
        ship(
            tmp_path,
            end(call(NOON, key_name="a", route="/v1/responses", response_id="resp_1")),
            end(call(NOON + timedelta(1), key_name="b", route="/v1/responses", response_id="resp_1")),
            end(call(NOON, key_name="b", route="/v1/responses/{id}", method="GET", response_id="resp_2")),
            end(call(NOON, key_name="b", route="/v1/responses/{id}/cancel", response_id="resp_3")),
        )
        assert makers(["resp_1", "resp_2", "resp_3", "resp_4"]) == {"resp_1": "a"}

    def test_what_lasts_is_kept_and_what_does_not_goes_with_its_row(self, tmp_path: Path, settings: Any) -> None:
        settings.RETENTION_DAYS = 10
        ship(tmp_path, end(call(objects=["msg_1", "rs_1"], objects_last=False)), end(call(objects=["file-1"])))
        prune(NOON + timedelta(days=100))

        assert set(owners()) == {"file-1"}
        assert list(find_faults(tmp_path)) == []

    def test_links_go_when_the_database_knows_and_stay_until_then(
        self, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(owner_store, "_owners", {})
        monkeypatch.setattr(connection, "close", lambda: None)
        settings.DATA_DIR = tmp_path / "data"
        for object_id in ("x", "a/b%2F", "ü", "unshipped"):
            owner_store.record_owner(object_id, "a/ key")
        ship(tmp_path, end(call(key_name="a/ key", objects=["x", "a/b%2F", "ü"])))
        links = list((tmp_path / "data" / "owners").glob("*/*"))
        owner_store.sweep(links[0].lstat().st_mtime + 10)
        assert len(list((tmp_path / "data" / "owners").glob("*/*"))) == 4

        owner_store.sweep(links[0].lstat().st_mtime + 400 * 86400)

        (left,) = (tmp_path / "data" / "owners").glob("*/*")
        assert str(left.readlink()) == "unshipped/a/ key"


def client(server: Gateway, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def test_a_worker_that_starts_with_the_database_away_knows_the_owners(simulator: Simulator, tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "postgres", give_cluster)
    (tmp_path / "data").mkdir()
    try:
        with run_gateway(simulator.base_url, postgres.url, tmp_path / "data", V1_ROUTES="all") as server:
            with client(server, make_key(server, "anna")) as anna, client(server, make_key(server, "bert")) as bert:
                file = anna.post("/v1/files", data={"purpose": "assistants"}, files={"file": ("a", b"x")}).json()["id"]
                (item,) = anna.post("/v1/responses", json=CALL).json()["output"]
            key, other = anna.headers["authorization"], bert.headers["authorization"]
            assert server.manage("ledger", "verify").returncode == 0
            postgres.stop()
            os.kill(server.worker_pids[0], signal.SIGKILL)
            server.wait_for_log("(?s)" + ".*".join(["Booting worker"] * 2))
            reference = {**CALL, "input": [{"type": "item_reference", "id": item["id"]}]}
            own = {"id": "msg_nobodys", "role": "assistant", "content": "hi"}
            for header, status in ((key, 200), (other, 404)):
                headers = {"authorization": header}
                with httpx2.Client(base_url=server.url, headers=headers, timeout=60) as http:
                    assert http.get(f"/v1/files/{file}").status_code == status
                    assert http.post("/v1/responses", json=reference).status_code == status
                    assert http.post("/v1/responses", json={**CALL, "input": [item]}).status_code == status
                    # What only the database could know: a reference must wait for it, a mention need not.
                    assert http.get("/v1/files/file-unknown").status_code == 503
                    assert http.post("/v1/responses", json={**CALL, "input": [own]}).status_code == 200
            postgres.start()  # a stop without it waits until the ledger gives up
    finally:
        postgres.delete()


def test_after_a_restart_the_database_knows_without_the_links(
    simulator: Simulator, gateway_database: str, tmp_path: Path
) -> None:
    with run_gateway(simulator.base_url, gateway_database, tmp_path / "one", V1_ROUTES="all") as server:
        key, other = make_key(server, "restarted"), make_key(server, "restarted other")
        with client(server, key) as http:
            conversation = http.post("/v1/conversations", json={}).json()["id"]
            answer = http.post("/v1/responses", json={**CALL, "model": "o3", "stream": True})
            server.row(answer)
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    items = {event["item"]["id"] for event in events if event["type"] == "response.output_item.added"}
    assert {one.partition("_")[0] for one in items} == {"rs", "msg"}
    with run_gateway(simulator.base_url, gateway_database, tmp_path / "two", V1_ROUTES="all") as server:
        for text, status in ((key, 200), (other, 404)):
            server.wait_until_known(text)
            with client(server, text) as http:
                assert http.get(f"/v1/conversations/{conversation}").status_code == status
                for item in items:
                    reference = {**CALL, "input": [{"type": "item_reference", "id": item}]}
                    assert http.post("/v1/responses", json=reference).status_code == status


# Which ids an answer has


def read(answer: dict[str, Any], **options: bool) -> list[str]:
    made = CreatedIds(**options)
    made.read(answer)
    return made.take_new()


def test_the_ids_in_an_answer() -> None:
    call_item = {"id": "ci_1", "type": "code_interpreter_call", "container_id": "cntr_1"}
    response = {"object": "response", "id": "resp_1", "output": [call_item, {"id": "msg_1"}, 5, {"id": 5}, None]}
    assert read(response) == ["resp_1", "ci_1", "msg_1", "cntr_1"]
    assert read(response, is_creating=False) == ["ci_1", "msg_1", "cntr_1"]
    assert read(response, is_stored=False) == ["cntr_1"]
    spoken = {"message": {"audio": {"id": "audio_1"}}}
    assert read({"object": "chat.completion", "id": "chatcmpl-1", "choices": [spoken]}, is_stored=False) == ["audio_1"]
    assert read({"object": "batch", "id": "b", "output_file_id": "f1", "error_file_id": None}) == ["b", "f1"]
    assert read({"object": "list", "id": "no", "data": [{"id": "msg_1"}, {"id": "msg_2"}]}) == ["msg_1", "msg_2"]
    assert read({"id": "anything_new"}) == ["anything_new"]
    for odd in ({}, {"id": 5}, {"id": "a\0"}, {"object": 5, "id": []}, {"object": "response", "output": {"id": "x"}}):
        assert read(odd) == []


def test_the_ids_in_a_large_answer_are_read_as_those_in_a_small_one() -> None:
    large = "x" * 300_000
    picture = {"id": "ig_1", "type": "image_generation_call", "result": large}
    response = {"object": "response", "id": "resp_1", "output": [picture, {"id": "msg_1", "text": "\ud800"}]}
    spoken = {"message": {"audio": {"id": "audio_1", "data": large}}}
    completion = {"object": "chat.completion", "id": "chatcmpl-1", "choices": [spoken]}
    items = {"object": "list", "data": [{"id": "msg_1", "content": large}, {"id": "msg_2"}]}
    for answer in (response, completion, items):
        whole = AnswerReader()
        whole.created = CreatedIds()
        whole.read_body(json.dumps(answer).encode())
        assert whole.created.take_new() == read(answer)


def test_the_ids_in_a_streams_events() -> None:
    made = CreatedIds()
    created = {"type": "response.created", "response": {"object": "response", "id": "resp_1", "output": []}}
    made.read_event(created)
    assert made.take_new() == ["resp_1"]
    for kind in ("response.output_item.added", "response.output_item.done"):
        made.read_event({"type": kind, "item": {"id": "ci_1", "container_id": "cntr_1"}})
    made.read_event({**created, "type": "response.completed"})
    assert made.take_new() == ["ci_1", "cntr_1"]
    made.read_event({"object": "thread.run", "id": "run_1", "thread_id": "thread_1"})
    odd_events: list[dict[str, Any]] = [
        {},
        {"type": []},
        {"response": 5},
        {"type": "response.output_item.done", "item": 5},
    ]
    for odd in odd_events:
        made.read_event(odd)
    assert made.take_new() == ["run_1", "thread_1"]


def whole_objects() -> Iterator[tuple[str, str]]:
    """Yields the names of the SDK's events whose data are an object such as a thread or a run, and its `object`.

    Errors have no id. Steps of a run have a type of their own, and are named with their run.
    """
    for event in get_args(get_args(AssistantStreamEvent)[0]):
        members = event.model_fields["data"].annotation.model_fields
        if "id" in members and "type" not in members:
            yield get_args(event.model_fields["event"].annotation)[0], get_args(members["object"].annotation)[0]


@pytest.mark.parametrize(("name", "kind"), list(whole_objects()))
def test_the_owner_of_an_object_that_is_the_whole_data_of_an_event_is_recorded(name: str, kind: str) -> None:
    """Upstream states the type of such an event as the event's name only."""
    reader = AnswerReader()
    reader.text, reader.created = StreamedText(1000), CreatedIds()
    reader.read_events(f"event: {name}\ndata: {json.dumps({'id': 'made_1', 'object': kind})}\n\n".encode())

    assert reader.created.take_new() == ["made_1"]
