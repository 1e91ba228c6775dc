"""`POST /embeddings`: vectors for a text or for many."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest
from openai.types import CreateEmbeddingResponse

from tests.simulator.server import Simulator
from tests.support.servers.gateway import UPSTREAM_KEY, Gateway

LARGE = "text-embedding-3-large"
SMALL = "text-embedding-3-small"


def test_it_works(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/embeddings", {"input": "The quick brown fox"})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["object"] == "list"
    assert len(answer.json()["data"][0]["embedding"]) == 3072
    assert simulator.last.method == "POST"
    assert simulator.last.path == "/v1/embeddings"
    assert simulator.last.json == {"model": LARGE, "input": "The quick brown fox"}
    assert simulator.last.header("authorization") == f"Bearer {UPSTREAM_KEY}"
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["route"]) == ("success", 200, "/embeddings")
    assert (row["request_model"], row["response_model"]) == (LARGE, LARGE)
    assert row["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert row["output_tokens"] is None
    assert row["response_bytes"] == len(answer.content)


def test_the_sdk_gets_its_vectors(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client:
        result = client.embeddings.create(model=SMALL, input=["one", "two"], dimensions=512)

    assert [len(one.embedding) for one in result.data] == [512, 512]
    assert result.model == SMALL
    # The SDK asks for base64 by itself and unpacks it.
    body = {"model": SMALL, "input": ["one", "two"], "dimensions": 512, "encoding_format": "base64"}
    assert simulator.last.json == body


def test_the_readmes_example_reaches_upstream(gateway: Gateway, simulator: Simulator) -> None:
    body = {"input": "The quick brown fox jumps over the lazy dog", "model": SMALL, "dimensions": 512}
    answer = gateway.post("/embeddings", body)

    assert answer.status_code == 200
    assert len(answer.json()["data"][0]["embedding"]) == 512
    assert simulator.last.json == body


def test_float_and_base64_are_the_same_vector(gateway: Gateway, simulator: Simulator) -> None:
    body = {"input": "fox", "model": SMALL, "dimensions": 8}
    plain = gateway.post("/embeddings", {**body, "encoding_format": "float"})
    assert simulator.last.json == {**body, "encoding_format": "float"}
    packed = gateway.post("/embeddings", {**body, "encoding_format": "base64"})
    assert simulator.last.json == {**body, "encoding_format": "base64"}

    vector = struct.unpack("<8f", base64.b64decode(packed.json()["data"][0]["embedding"]))
    assert plain.json()["data"][0]["embedding"] == list(vector)


@pytest.mark.parametrize(
    ("given", "count"),
    [("one", 1), (["one"], 1), (["one", "two", "three"], 3), ([1, 2, 3], 1), ([[1, 2], [3]], 2), (["é ✓ 🦄"], 1)],
    ids=str,
)
def test_every_form_of_input_goes_up(gateway: Gateway, simulator: Simulator, given: Any, count: int) -> None:
    answer = gateway.post("/embeddings", {"input": given, "model": SMALL})

    assert len(CreateEmbeddingResponse.model_validate(answer.json()).data) == count
    assert simulator.last.json == {"input": given, "model": SMALL}


@pytest.mark.parametrize(("name", "value"), [("user", "someone"), ("dimensions", 8)])
def test_a_parameter_passes_with_the_default_model(
    gateway: Gateway, simulator: Simulator, name: str, value: Any
) -> None:
    assert gateway.post("/embeddings", {"input": "fox", name: value}).status_code == 200
    assert simulator.last.json == {"model": LARGE, "input": "fox", name: value}


def test_an_unknown_parameter_is_upstreams_to_judge(gateway: Gateway, simulator: Simulator) -> None:
    answer = gateway.post("/embeddings", {"input": "fox", "brand_new": [1]})

    assert simulator.last.json == {"model": LARGE, "input": "fox", "brand_new": [1]}
    assert answer.status_code == 400
    assert "brand_new" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", "missing_required_parameter"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_type"),
        ({"input": []}, "input", "invalid_type"),
        ({"input": 5}, "input", "invalid_type"),
        ({"input": {"text": "fox"}}, "input", "invalid_type"),
        ({"input": True}, "input", "invalid_type"),
        ({"input": "fox", "model": 5}, "model", "invalid_type"),
        ({"input": "fox", "model": ""}, "model", "invalid_type"),
    ],
)
def test_a_wrong_field_is_named(
    gateway: Gateway, simulator: Simulator, body: dict[str, Any], param: str, code: str
) -> None:
    answer = gateway.post("/embeddings", body)

    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert simulator.requests == []
    row = gateway.row(answer)
    assert (row["outcome"], row["status"], row["error_code"]) == ("rejected", 400, code)


def test_upstreams_refusal_is_a_typed_error_of_the_sdk(gateway: Gateway, simulator: Simulator) -> None:
    with gateway.sdk() as client, pytest.raises(openai.NotFoundError) as refused:
        client.embeddings.create(model="gpt-nope", input="fox")
    assert refused.value.code == "model_not_found"
    assert len(simulator.requests) == 1
