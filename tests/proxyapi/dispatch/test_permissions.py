"""What a key may do: its routes and its models, also the models that we fill in; refused calls have a row."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import openai
import pytest

from proxyapi.dispatch.permissions import check_model, check_route
from proxyapi.exceptions import ModelNotAllowed, RouteNotAllowed
from proxyapi.keys.callers import Caller, TeamCeilings
from tests.simulator.server import Simulator
from tests.support.servers.gateway import Gateway

CHAT = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
SOUND = {"file": ("audio.mp3", b"\xff\xfb\x90\x00" * 100, "audio/mpeg")}


@pytest.mark.parametrize(
    ("model", "globs", "allowed"),
    [
        ("gpt-4o", (), True),
        ("", (), True),
        ("gpt-4o", ("gpt-4o",), True),
        ("gpt-4o-mini", ("gpt-4o",), False),
        ("gpt-4o-mini", ("gpt-4o*",), True),
        ("GPT-4o", ("gpt-4o",), False),
        ("gpt-4o", ("GPT-4O",), False),
        ("gpt-4o", ("o1", "gpt-[45]o"), True),
        ("gpt-4o\n", ("gpt-4o",), False),
        ("", ("gpt-4o",), False),
        ("", ("*",), True),
        ("gpt-4o", ("gpt-4?",), True),
        ("a.c", ("a?c",), True),
        ("abc", ("a.c",), False),
    ],
)
def test_models_are_matched_by_glob(model: str, globs: tuple[str, ...], allowed: bool) -> None:
    caller = Caller("a", allowed_models=globs)
    if allowed:
        check_model(caller, model)
    else:
        with pytest.raises(ModelNotAllowed) as refused:
            check_model(caller, model)
        assert refused.value.words.endswith(f" This key allows: {', '.join(globs)}.")


def test_a_refusal_names_the_first_allowed_models() -> None:
    with pytest.raises(ModelNotAllowed) as refused:
        check_model(Caller("a", allowed_models=tuple(f"model-{number}" for number in range(11))), "o1")
    assert refused.value.words.endswith(", model-9 and others.")


@pytest.mark.parametrize("model", ["o1", "gpt-4.1"])
def test_a_refusal_names_the_models_of_key_and_team(model: str) -> None:
    team = TeamCeilings("b", allowed_models=("gpt-4o*",))
    with pytest.raises(ModelNotAllowed) as refused:
        check_model(Caller("a", allowed_models=("gpt-*",), team_ceilings=team), model)
    assert refused.value.words.endswith(" This key allows: gpt-*. The team of this key allows: gpt-4o*.")


@pytest.mark.parametrize(
    ("route", "globs", "allowed"),
    [
        ("/openai", (), True),
        ("/openai", ("/openai",), True),
        ("/openai2", ("/openai",), False),
        ("/v1/responses/{id}", ("/v1/responses*",), True),
        ("/v1/files", ("/openai", "/v1/responses*"), False),
    ],
)
def test_routes_are_matched_by_glob(route: str, globs: tuple[str, ...], allowed: bool) -> None:
    caller = Caller("a", allowed_routes=globs)
    if allowed:
        check_route(caller, route)
    else:
        with pytest.raises(RouteNotAllowed):
            check_route(caller, route)


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    """Two models, neither of them a default; and three routes."""
    models = ("--model", "gpt-4.1*", "--model", "gpt-4o")
    routes = ("--route", "/openai*", "--route", "/chatgpt", "--route", "/embeddings")
    return gateway.make_key(f"permitted little {uuid4()}", *models, *routes)


def test_it_works(gateway: Gateway, simulator: Simulator, key: str) -> None:
    answer = gateway.post("/openai", {**CHAT, "security_key": key, "model": "gpt-4.1-mini"})

    assert answer.status_code == 200
    assert gateway.row(answer)["key_name"].startswith("permitted little ")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai", CHAT),
        ("/openai", {**CHAT, "model": "GPT-4o"}),
        ("/openai2", {"model": "gpt-4o-mini", "input": "hi"}),
        ("/openai2", {"prompt": {"id": "pmpt_1"}}),
        ("/openai2/compact", {"model": "o1", "input": "hi"}),
        ("/openai2/compact", {"model": ["gpt-4o"], "input": "hi"}),
        ("/openai2/input_tokens", {"input": "hi"}),
        ("/chatgpt", {"prompt": "hi"}),
        ("/chatgpt", {"prompt": "hi", "model": "o1"}),
        ("/embeddings", {"input": "hi"}),
        ("/embeddings", {"input": "hi", "model": "text-embedding-3-small"}),
    ],
)
def test_another_model_is_refused_also_a_default(
    gateway: Gateway, simulator: Simulator, key: str, path: str, body: dict[str, Any]
) -> None:
    answer = gateway.post(path, {**body, "security_key": key})

    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("permission_error", "model_not_allowed", "model")
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 403, "model_not_allowed")
    assert row["key_name"].startswith("permitted little ")
    assert simulator.requests == []


@pytest.mark.parametrize("fields", [{}, {"model": "gpt-4o-transcribe"}])
def test_a_transcription_needs_an_allowed_model(
    gateway: Gateway, simulator: Simulator, key: str, fields: dict[str, str]
) -> None:
    data = {"security_key": key, **fields}
    answer = gateway.http.post("/openai/audio/transcriptions", data=data, files=SOUND)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "model_not_allowed"
    assert simulator.requests == []


def test_another_route_is_refused(gateway: Gateway, simulator: Simulator) -> None:
    key = gateway.make_key("one route", "--route", "/openai")
    answer = gateway.post("/embeddings", {"input": "hi", "security_key": key})

    assert answer.status_code == 403
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("permission_error", "route_not_allowed", None)
    assert "/embeddings" in error["message"]
    assert gateway.row(answer)["error_code"] == "route_not_allowed"
    assert simulator.requests == []
    assert gateway.post("/openai", {**CHAT, "security_key": key}).status_code == 200


def test_the_sdk_sees_its_own_error(gateway: Gateway, simulator: Simulator, key: str) -> None:
    with gateway.sdk().with_options(api_key=key) as client, pytest.raises(openai.PermissionDeniedError) as refused:
        client.embeddings.create(model="text-embedding-3-small", input="hi")

    assert refused.value.code == "model_not_allowed"
    assert refused.value.param == "model"


def test_the_built_in_key_may_do_everything(gateway: Gateway, simulator: Simulator) -> None:
    assert gateway.post("/embeddings", {"input": "hi"}).status_code == 200


def test_on_v1_a_key_limited_to_models_uses_and_sees_only_these(gateway: Gateway, simulator: Simulator) -> None:
    key = gateway.make_key("models on v1", "--model", "gpt-4o*")
    with gateway.sdk("/v1").with_options(api_key=key) as client:
        seen = [model.id for model in client.models.list().data]
        assert seen
        assert all(model.startswith("gpt-4o") for model in seen)
        assert client.models.retrieve("gpt-4o").id == "gpt-4o"
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt-4.1")
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.embeddings.create(model="text-embedding-3-small", input="hi")
        assert refused.value.code == "model_not_allowed"
        with pytest.raises(openai.PermissionDeniedError):
            client.audio.transcriptions.create(model="whisper-1", file=SOUND["file"])
    assert [request.path for request in simulator.requests if request.outcome == "completed"] == [
        "/v1/models",
        "/v1/models/gpt-4o",
    ]
