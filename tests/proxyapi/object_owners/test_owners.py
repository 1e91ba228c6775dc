"""What one key makes is not there for another, wherever it is named, on both APIs: upstream does not hear of it.

Over 300 lines, since each family of objects is tried with the same two keys.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from proxyapi.object_owners import owner_store
from proxyapi.routes import FAMILIES
from tests.simulator.server import Simulator
from tests.support.callers.owners import (
    CALL,
    CHAT,
    FILE,
    alice,
    assert_not_there,
    bob,
    client,
    default,
    made,
    server,
    upload,
)
from tests.support.polling import PATIENCE
from tests.support.servers.gateway import Gateway, run_gateway

__all__ = ("alice", "bob", "default", "server")  # fixtures


def consent(http: httpx2.Client) -> str:
    return made(http.post("/v1/audio/voice_consents", data={"language": "en-US", "name": "x"}, files=FILE))


def voice(http: httpx2.Client) -> str:
    form = {"name": "x", "consent": consent(http)}
    return made(http.post("/v1/audio/voices", data=form, files=FILE))


def batch(http: httpx2.Client) -> str:
    body = {"input_file_id": upload(http, "batch"), "endpoint": "/v1/responses", "completion_window": "24h"}
    return made(http.post("/v1/batches", json=body))


def job(http: httpx2.Client) -> str:
    body = {"model": "gpt-4o-mini", "training_file": upload(http, "fine-tune")}
    return made(http.post("/v1/fine_tuning/jobs", json=body))


def large_upload(http: httpx2.Client) -> str:
    body = {"bytes": 3, "filename": "a", "mime_type": "text/plain", "purpose": "assistants"}
    return made(http.post("/v1/uploads", json=body))


Maker = Callable[[httpx2.Client], str]
# How an object of each family is made; where it is read, and where its family is listed.
MAKERS: dict[str, tuple[str, Maker]] = {
    "responses": ("/v1/responses/{}", lambda http: made(http.post("/v1/responses", json={**CALL, "background": True}))),
    "conversations": ("/v1/conversations/{}", lambda http: made(http.post("/v1/conversations", json={}))),
    "chat/completions": (
        "/v1/chat/completions/{}",
        lambda http: made(http.post("/v1/chat/completions", json={**CHAT, "store": True})),
    ),
    "files": ("/v1/files/{}", upload),
    "vector_stores": ("/v1/vector_stores/{}", lambda http: made(http.post("/v1/vector_stores", json={}))),
    "batches": ("/v1/batches/{}", batch),
    "uploads": ("/v1/uploads/{}/cancel", large_upload),
    "fine_tuning": ("/v1/fine_tuning/jobs/{}", job),
    "assistants": ("/v1/assistants/{}", lambda http: made(http.post("/v1/assistants", json={"model": "gpt-4o-mini"}))),
    "threads": ("/v1/threads/{}", lambda http: made(http.post("/v1/threads", json={}))),
    "audio": ("/v1/audio/voice_consents/{}", consent),
}
LISTS = (
    "chat/completions",
    "files",
    "vector_stores",
    "batches",
    "fine_tuning/jobs",
    "assistants",
    "audio/voice_consents",
)


def test_every_open_family_that_keeps_something_is_tried_here() -> None:
    """`tests/proxyapi/object_owners/test_opened_families.py` walks all paths of all families, with an upstream that
    knows no rules."""
    families = {family.name for family in FAMILIES if family.open_by_default}
    assert families - set(MAKERS) == {"embeddings", "images", "moderations", "models"}


@pytest.mark.parametrize("family", MAKERS)
def test_an_object_of_any_family_is_its_makers(
    family: str, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    path, make = MAKERS[family]
    mine = path.format(make(alice))
    method = "POST" if family == "uploads" else "GET"
    for http, status in ((alice, 200), (bob, 404), (default, 200)):
        heard = len(simulator.requests)
        answer = http.request(method, mine)
        assert answer.status_code == status, answer.text
        if status == 404:
            assert_not_there(answer, simulator, heard)
    for other in ("DELETE", "POST"):
        heard = len(simulator.requests)
        assert_not_there(bob.request(other, mine), simulator, heard)
        for below in ("/items", "/something_new", "/a/b/c"):
            assert_not_there(bob.request(other, mine + below), simulator, heard)
    if family != "uploads":
        assert alice.delete(mine).status_code in {200, 405}


@pytest.mark.parametrize("family", LISTS)
def test_a_list_has_a_keys_own_objects_only(
    family: str, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    _, make = MAKERS[family.partition("/j")[0].partition("/v")[0]]
    mine, theirs = [make(alice) for _ in range(2)], [make(bob) for _ in range(2)]
    for http, ids, others in ((alice, mine, theirs), (bob, theirs, mine)):
        page = http.get(f"/v1/{family}?limit=100").json()
        shown = [item["id"] for item in page["data"]]
        assert set(ids) <= set(shown)
        assert not set(others) & set(shown)
        assert (page["first_id"], page["last_id"]) == (shown[0], shown[-1])
    assert {*mine, *theirs} <= {item["id"] for item in default.get(f"/v1/{family}?limit=100").json()["data"]}


def test_what_a_key_does_not_find_on_one_page_it_finds_on_the_next(
    simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    oldest = made(bob.post("/v1/vector_stores", json={}))
    for _ in range(5):
        made(alice.post("/v1/vector_stores", json={}))
    page = bob.get("/v1/vector_stores?limit=2").json()

    assert [item["id"] for item in page["data"]] == [oldest]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (oldest, oldest, False)
    assert bob.get(f"/v1/vector_stores?limit=2&after={oldest}").json()["data"] == []
    stranger = alice.get("/v1/vector_stores?limit=1").json()["data"][0]["id"]
    for name in ("after", "before", "AFTER", "%61fter"):
        heard = len(simulator.requests)
        assert_not_there(bob.get(f"/v1/vector_stores?{name}={stranger}"), simulator, heard)


@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
@pytest.mark.parametrize("stream", [False, True])
def test_an_item_of_a_response_is_its_keys(
    path: str, stream: bool, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    tools = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    answer = alice.post(path, json={**CALL, "model": "o3", "tools": tools, "stream": stream})
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        output = next(event["response"]["output"] for event in events if event["type"] == "response.completed")
    else:
        output = answer.json()["output"]
    container = next(item["container_id"] for item in output if item["type"] == "code_interpreter_call")
    assert {item["type"] for item in output} == {"reasoning", "code_interpreter_call", "message"}
    for item in output:
        for pure in ({"type": "item_reference", "id": item["id"]}, {"id": item["id"]}):
            for there in ("/v1/responses", "/openai2", "/openai2/input_tokens"):
                heard = len(simulator.requests)
                assert_not_there(bob.post(there, json={**CALL, "input": [pure]}), simulator, heard)
                assert alice.post(there, json={**CALL, "input": [pure]}).status_code == 200
        for whole in ({"input": [item]}, {"input": [{**item, "ID": item["id"]}]}):
            heard = len(simulator.requests)
            assert_not_there(bob.post("/v1/responses", json={**CALL, **whole}), simulator, heard)
    assert alice.post("/v1/responses", json={**CALL, "input": output}).status_code == 200
    for http, heard_more in ((alice, 1), (bob, 0)):
        heard = len(simulator.requests)
        http.post("/v1/responses", json={**CALL, "tools": [{"type": "code_interpreter", "container": container}]})
        assert len(simulator.requests) == heard + heard_more


def container_in(answer: httpx2.Response) -> str:
    items = answer.json()["output"]
    return str(next(item["container_id"] for item in items if item["type"] == "code_interpreter_call"))


@pytest.mark.parametrize("stream", [False, True])
def test_who_continues_a_shared_response_does_not_become_the_owner_of_its_container(
    stream: bool, server: Gateway, simulator: Simulator, alice: httpx2.Client, gateway_database: str, tmp_path: Path
) -> None:
    """Also on a host that has not served the response, in a later turn, and where it is streamed."""
    interpreter = {**CALL, "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]}
    first, plain = (alice.post("/v1/responses", json=body) for body in (interpreter, CALL))
    container, (shared, other) = container_in(first), (made(first), made(plain))
    for answer in (first, plain):
        server.row(answer)
    bobs = server.make_key(f"bob of {shared}", "--shared-object", shared, "--shared-object", other)
    with run_gateway(simulator.base_url, gateway_database, tmp_path, V1_ROUTES="all") as elsewhere:
        there = client(elsewhere, alice.headers["authorization"].removeprefix("Bearer "))
        with client(elsewhere, bobs) as bob, there as alice_there:
            continued = shared
            for _ in range(2):
                body = {**interpreter, "previous_response_id": continued, "stream": stream}
                turn = bob.post("/v1/responses", json=body)
                assert container in turn.text
                lines = [line[6:] for line in turn.text.splitlines() if line.startswith("data: {")]
                continued = json.loads(lines[-1])["response"]["id"] if stream else made(turn)
            use = {**CALL, "tools": [{"type": "code_interpreter", "container": container}]}
            assert bob.post("/v1/responses", json=use).status_code == 404
            assert alice_there.post("/v1/responses", json=use).status_code == 200
            new = container_in(bob.post("/v1/responses", json={**interpreter, "previous_response_id": other}))
            use = {**CALL, "tools": [{"type": "code_interpreter", "container": new}]}
            assert bob.post("/v1/responses", json=use).status_code == 200  # made by this call: at once


def test_what_a_client_sends_back_passes_also_if_nothing_was_stored(alice: httpx2.Client) -> None:
    include = ["reasoning.encrypted_content"]
    first = alice.post("/v1/responses", json={**CALL, "model": "o3", "store": False, "include": include}).json()
    again = [{"role": "user", "content": "hi"}, *first["output"], {"role": "user", "content": "and now?"}]
    for item in again:
        item.setdefault("id", "__fake_id__")
    answer = alice.post("/v1/responses", json={**CALL, "model": "o3", "store": False, "input": again})
    assert answer.status_code == 200, answer.text


def test_files_made_upstream_for_a_batch_are_its_keys(alice: httpx2.Client, bob: httpx2.Client) -> None:
    output = alice.get(f"/v1/batches/{batch(alice)}").json()["output_file_id"]
    assert alice.get(f"/v1/files/{output}/content").status_code == 200
    assert bob.get(f"/v1/files/{output}/content").status_code == 404


def test_files_made_upstream_for_a_batch_are_its_keys_also_if_it_is_only_listed(
    server: Gateway,
    simulator: Simulator,
    alice: httpx2.Client,
    default: httpx2.Client,
    gateway_database: str,
    tmp_path: Path,
) -> None:
    mine = batch(alice)
    output = default.get(f"/v1/batches/{mine}").json()["output_file_id"]  # has ended now, and alice has not asked
    bobs = server.make_key("bob who sees batches", "--shared-object", mine)
    with client(server, bobs) as bob:
        assert [one["id"] for one in bob.get("/v1/batches").json()["data"]] == [mine]
        assert bob.get(f"/v1/files/{output}/content").status_code == 404
    listed = alice.get("/v1/batches")
    assert alice.get(f"/v1/files/{output}/content").status_code == 200
    server.row(listed)
    with (
        run_gateway(simulator.base_url, gateway_database, tmp_path, V1_ROUTES="all") as elsewhere,
        client(elsewhere, alice.headers["authorization"].removeprefix("Bearer ")) as there,
    ):
        assert there.get(f"/v1/files/{output}/content").status_code == 200


def test_the_file_of_an_upload_and_the_thread_of_a_run_are_their_keys(alice: httpx2.Client, bob: httpx2.Client) -> None:
    mine = large_upload(alice)
    part = made(alice.post(f"/v1/uploads/{mine}/parts", files={"data": ("a", b"abc", "text/plain")}))
    assert bob.post(f"/v1/uploads/{large_upload(bob)}/complete", json={"part_ids": [part]}).status_code == 404
    whole = alice.post(f"/v1/uploads/{mine}/complete", json={"part_ids": [part]}).json()
    assistant = MAKERS["assistants"][1](alice)
    assert bob.post("/v1/threads/runs", json={"assistant_id": assistant}).status_code == 404
    run = alice.post("/v1/threads/runs", json={"assistant_id": assistant}).json()
    for http, status in ((alice, 200), (bob, 404)):
        assert http.get(f"/v1/files/{whole['file']['id']}").status_code == status
        assert http.get(f"/v1/threads/{run['thread_id']}/messages").status_code == status


def test_the_fields_of_a_form_are_looked_at_before_its_end_goes_up(
    simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    hers = consent(alice)
    for name in ("consent", "CONSENT", "x[consent]"):
        answer = bob.post("/v1/audio/voices", data={"name": "x", name: hers}, files=FILE)
        assert answer.status_code == 404, answer.text
    assert voice(bob)
    for fields in ({"video[id]": hers}, {"tool.file_ids[]": hers}, {"anything_id": hers}):
        assert bob.post("/v1/images/edits", data={"model": "gpt-image-1", **fields}, files=FILE).status_code == 404
    assert not [one for one in simulator.requests if hers.encode() in one.body and one.outcome == "completed"][1:]


def test_naming_an_object_makes_it_nobodys(
    server: Gateway, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    """An answer often has the id of an object that its request named."""
    file, store = upload(alice), made(default.post("/v1/vector_stores", json={}))
    attached = default.post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
    server.row(attached)
    assert made(attached) == file
    assert alice.get(f"/v1/files/{file}").status_code == 200
    assert bob.get(f"/v1/files/{file}").status_code == 404


def test_an_id_that_nobody_has_made_here_is_for_the_built_in_key_alone(
    simulator: Simulator, bob: httpx2.Client, default: httpx2.Client
) -> None:
    elsewhere = httpx2.post(
        f"{simulator.base_url}/conversations", json={}, headers={"authorization": "Bearer sk-x"}, timeout=PATIENCE
    ).json()["id"]
    assert default.get(f"/v1/conversations/{elsewhere}").status_code == 200
    heard = len(simulator.requests)
    assert_not_there(bob.get(f"/v1/conversations/{elsewhere}"), simulator, heard)
    assert_not_there(bob.post("/openai2", json={**CALL, "conversation": elsewhere}), simulator, heard)
    assert_not_there(bob.post("/v1/responses", json={**CALL, "prompt": {"id": "pmpt_1"}}), simulator, heard)


def test_a_call_on_an_account_that_it_brings_names_that_accounts_objects(
    simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    hers = MAKERS["conversations"][1](alice)
    for account, unknown_is_heard in (("sk-of-bobs-own", 1), ("sk-test-upstream", 0)):
        own = {**CALL, "openai_api_key": account}
        heard = len(simulator.requests)
        bob.post("/openai2", json={**own, "prompt": {"id": "pmpt_1"}})
        assert len(simulator.requests) == heard + unknown_is_heard
        heard = len(simulator.requests)
        assert_not_there(bob.post("/openai2", json={**own, "conversation": hers}), simulator, heard)


def test_only_the_built_in_key_changes_models(
    simulator: Simulator, alice: httpx2.Client, default: httpx2.Client
) -> None:
    heard = len(simulator.requests)
    for method, path in (
        ("DELETE", "/v1/models/ft:gpt-4o:x"), ("DELETE", "/v1/models/ft%3Agpt-4o%3Ax"), ("POST", "/v1/models/ft:x"),
        ("DELETE", "/v1/models/ft:x/"), ("POST", "/v1/models/ft:x/undo"),
        ("POST", "/v1/models"), ("DELETE", "/v1/%6dodels/ft:x"),
    ):  # fmt: skip
        answer = alice.request(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_not_allowed"), path
    assert len(simulator.requests) == heard
    assert default.delete("/v1/models/ft:gpt-4o:x").status_code == 200
    assert alice.get("/v1/models/gpt-4o").status_code == 200


def test_shared_objects_are_read_and_used_and_not_changed(
    server: Gateway, alice: httpx2.Client, bob: httpx2.Client, default: httpx2.Client
) -> None:
    store, other = (made(default.post("/v1/vector_stores", json={})) for _ in range(2))
    key = server.make_key(f"shared {store}", "--shared-object", f"{store[:-2]}*", "--shared-object", "pmpt_*")
    search = {"tools": [{"type": "file_search", "vector_store_ids": [store]}]}
    with client(server, key) as http:
        assert http.get(f"/v1/vector_stores/{store}").status_code == 200
        assert http.post(f"/v1/vector_stores/{store}/search", json={"query": "x"}).status_code == 200
        assert http.post("/v1/responses", json={**CALL, **search}).status_code == 200
        assert [item["id"] for item in http.get("/v1/vector_stores").json()["data"]] == [store]
        for answer in (
            http.delete(f"/v1/vector_stores/{store}"),
            http.post(f"/v1/vector_stores/{store}", json={"name": "mine"}),
            http.post(f"/v1/vector_stores/{store}/files", json={"file_id": upload(http)}),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "route_not_allowed")
        assert http.get(f"/v1/vector_stores/{other}").status_code == 404
        assert http.post("/v1/responses", json={**CALL, "prompt": {"id": "pmpt_1"}}).status_code != 404
    assert bob.post("/v1/responses", json={**CALL, **search}).status_code == 404
    assert default.delete(f"/v1/vector_stores/{store}").status_code == 200


def test_the_folders_of_owners_are_for_the_server_alone(server: Gateway, alice: httpx2.Client) -> None:
    upload(alice)
    folder = Path(server.variables["DATA_DIR"]) / "owners"
    for one in (folder, *folder.iterdir()):
        assert stat.S_IMODE(one.stat().st_mode) == 0o700


def test_folders_of_an_older_version_are_closed(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    (tmp_path / "owners" / "ab").mkdir(parents=True, mode=0o755)
    owner_store.close_folders()
    assert [stat.S_IMODE(one.stat().st_mode) for one in (tmp_path / "owners", tmp_path / "owners" / "ab")] == [
        0o700
    ] * 2
