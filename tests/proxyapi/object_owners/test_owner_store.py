"""What a key has made upstream only that key sees: a millisecond after, from another worker, with the database away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import openai
import pytest

from proxyapi.object_owners import owner_store
from tests.chaos.lab import Postgres
from tests.simulator.server import Simulator
from tests.support.callers.budgeted_keys import make_key
from tests.support.polling import PATIENCE
from tests.support.servers.clusters import give_cluster
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

CALL = {"model": "gpt-4o-mini", "input": "hi"}
HELLO = [{"role": "user", "content": "hi"}]
AS_FORM = {"content-type": "multipart/form-data; boundary=x"}
Ask = Callable[[httpx2.Client, str], httpx2.Response]

# The five routes, on both faces.
ROUTES: dict[str, Ask] = {
    "retrieve": lambda http, made: http.get(f"/v1/responses/{made}"),
    "retrieve as a stream": lambda http, made: http.get(f"/v1/responses/{made}?stream=true"),
    "delete": lambda http, made: http.delete(f"/v1/responses/{made}"),
    "cancel": lambda http, made: http.post(f"/v1/responses/{made}/cancel"),
    "input items": lambda http, made: http.get(f"/v1/responses/{made}/input_items"),
    "retrieve as a form": lambda http, made: http.get(f"/v1/responses/{made}", headers=AS_FORM),
    "delete as a form": lambda http, made: http.request("DELETE", f"/v1/responses/{made}", headers=AS_FORM),
    "cancel as a form": lambda http, made: http.post(f"/v1/responses/{made}/cancel", headers=AS_FORM),
    "spelled otherwise": lambda http, made: http.get(f"/v1/%72esponses/{made.replace('_', '%5F')}"),
    "something new": lambda http, made: http.get(f"/v1/responses/{made}/something_new"),
    "previous": lambda http, made: http.post("/v1/responses", json={**CALL, "previous_response_id": made}),
    "simple retrieve": lambda http, made: http.get(f"/openai2/{made}"),
    "simple delete": lambda http, made: http.delete(f"/openai2/{made}"),
    "simple cancel": lambda http, made: http.post(f"/openai2/{made}/cancel", json={}),
    "simple input items": lambda http, made: http.get(f"/openai2/{made}/input_items"),
    "simple previous": lambda http, made: http.post("/openai2", json={**CALL, "previous_response_id": made}),
    "simple count": lambda http, made: http.post("/openai2/input_tokens", json={**CALL, "previous_response_id": made}),
}


@pytest.fixture(scope="module")
def server(_simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("owners")
    with run_gateway(_simulator.base_url, gateway_database, folder, WEB_CONCURRENCY="2") as gateway:
        yield gateway


@contextmanager
def closing_database(postgres: Postgres) -> Iterator[None]:
    try:
        yield
    finally:
        postgres.delete()


def client(server: Gateway, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE)


@pytest.fixture(scope="module")
def alice(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"alice {uuid4()}")) as http:
        yield http


@pytest.fixture(scope="module")
def bob(server: Gateway) -> Iterator[httpx2.Client]:
    with client(server, make_key(server, f"bob {uuid4()}")) as http:
        yield http


def make(http: httpx2.Client, path: str = "/v1/responses", **fields: Any) -> str:
    answer = http.post(path, json={**CALL, "background": True, **fields})
    answer.raise_for_status()
    return str(answer.json()["id"])


@pytest.mark.parametrize("route", ROUTES)
def test_another_keys_response_is_not_there(
    route: str, server: Gateway, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    made = make(alice)
    seen = len(simulator.requests)

    answer, nowhere = ROUTES[route](bob, made), ROUTES[route](bob, "resp_nowhere")

    assert (answer.status_code, nowhere.status_code) == (404, 404)
    error, missing = answer.json()["error"], nowhere.json()["error"]
    assert error.pop("request_id") != missing.pop("request_id")
    assert json.dumps(error).replace(made, "resp_nowhere") == json.dumps(missing)
    assert made in error["message"]
    assert len(simulator.requests) == seen
    row = server.row(answer)
    assert (row["outcome"], row["status"], row["response_id"]) == ("rejected", 404, "")


@pytest.mark.parametrize("route", [name for name in ROUTES if name != "something new"])
@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
def test_its_own_key_finds_it_at_once_from_every_worker(route: str, path: str, alice: httpx2.Client) -> None:
    key = alice.headers["authorization"]
    for _ in range(3):
        with httpx2.Client(base_url=alice.base_url, headers={"authorization": key}, timeout=PATIENCE) as connection:
            assert ROUTES[route](connection, make(alice, path)).status_code != 404


def test_a_streamed_response_is_its_keys_from_its_first_event_on(
    server: Gateway, simulator: Simulator, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    call = {**CALL, "model": "fault:gate-stream", "stream": True}
    with alice.stream("POST", "/v1/responses", json=call) as stream:
        lines = stream.iter_lines()
        made = next(json.loads(line[6:])["response"]["id"] for line in lines if line.startswith("data: "))
        assert bob.get(f"/v1/responses/{made}").status_code == 404
        simulator.release()
        assert any("response.completed" in line for line in lines)
    assert bob.get(f"/v1/responses/{made}").status_code == 404


def test_the_row_says_it_when_the_link_is_gone(server: Gateway, alice: httpx2.Client, bob: httpx2.Client) -> None:
    answer = alice.post("/v1/responses", json=CALL)
    server.row(answer)
    for link in Path(server.variables["DATA_DIR"]).glob("owners/*/*"):
        link.unlink()

    assert alice.get(f"/v1/responses/{answer.json()['id']}").status_code == 200
    assert bob.get(f"/v1/responses/{answer.json()['id']}").status_code == 404


def test_the_built_in_key_sees_everything(server: Gateway, simulator: Simulator, alice: httpx2.Client) -> None:
    elsewhere = openai.OpenAI(base_url=simulator.base_url, api_key="sk-test").responses.create(
        model="gpt-4o-mini", input="hi"
    )
    with client(server, SECURITY_KEY) as built_in:
        assert built_in.get(f"/v1/responses/{elsewhere.id}").status_code == 200
        assert built_in.get(f"/v1/responses/{make(alice)}").status_code == 200


def test_conversations_and_stored_completions_are_their_keys(
    server: Gateway, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    conversation = alice.post("/v1/conversations", json={}).json()["id"]
    stored = {"model": "gpt-4o-mini", "messages": HELLO, "store": True}
    completion = alice.post("/v1/chat/completions", json=stored).json()["id"]
    others = bob.post("/v1/chat/completions", json=stored).json()["id"]

    for http, status in ((alice, 200), (bob, 404)):
        assert http.get(f"/v1/conversations/{conversation}").status_code == status
        assert http.get(f"/v1/conversations/{conversation}/items").status_code == status
        assert http.post("/v1/responses", json={**CALL, "conversation": conversation}).status_code == status
        assert http.post("/v1/responses", json={**CALL, "conversation": {"id": conversation}}).status_code == status
        assert http.get(f"/v1/chat/completions/{completion}").status_code == status
        assert http.get(f"/v1/chat/completions/{completion}/messages").status_code == status
    assert [item["id"] for item in alice.get("/v1/chat/completions").json()["data"]] == [completion]
    assert [item["id"] for item in bob.get("/v1/chat/completions").json()["data"]] == [others]


def test_a_second_previous_response_id_is_looked_at_too(
    server: Gateway, alice: httpx2.Client, bob: httpx2.Client
) -> None:
    mine, hers = make(bob), make(alice)
    for one, other in ((mine, hers), (hers, mine)):
        body = f'{{"model":"gpt-4o-mini","input":"hi","previous_response_id":"{one}","previous_response_id":"{other}"}}'
        answer = bob.post("/v1/responses", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 404


def test_a_key_that_is_rotated_keeps_what_it_made(server: Gateway) -> None:
    with client(server, make_key(server, "carol")) as before:
        made = make(before)
    rotated = server.manage("keys", "rotate", "carol").stdout.strip()
    server.wait_until_known(rotated)
    with client(server, rotated) as after:
        assert after.get(f"/v1/responses/{made}").status_code == 200


def test_with_the_database_away_what_is_known_stays_known(simulator: Simulator, tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "postgres", give_cluster)
    (tmp_path / "data").mkdir()
    with closing_database(postgres), run_gateway(simulator.base_url, postgres.url, tmp_path / "data") as server:
        alice, bob = client(server, make_key(server, "dora")), client(server, make_key(server, "emil"))
        with alice, bob:
            postgres.stop()
            made = make(alice)
            assert alice.get(f"/v1/responses/{made}").status_code == 200
            assert bob.get(f"/v1/responses/{made}").status_code == 404
            unknown = bob.get("/v1/responses/resp_abc123")
            assert (unknown.status_code, unknown.json()["error"]["code"]) == (503, "database_unavailable")
            assert server.get("/openai2/resp_abc123").status_code == 200
            postgres.start()  # a stop without it waits until the ledger gives up


def test_an_id_that_is_no_file_name_stops_no_answer(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    owner_store.record_owner("resp_\0a", "somebody")

    assert not list(tmp_path.rglob("resp_*"))
