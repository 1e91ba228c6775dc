"""A key that is limited to some models reaches no other, wherever a request can name one; its texts are its own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import openai
import pytest

from proxyapi.bodies.large_bodies import LARGE_BYTES
from proxyapi.bodies.model_places import implied_by_fields, implied_by_tools, in_fields, is_model_name
from tests.simulator.server import Simulator
from tests.support.callers.wire import WireAnswer, connect, head
from tests.support.inputs.ambiguous_forms import END, FILE, TYPE, named
from tests.support.inputs.named_models import ALLOWED, DOUBLED, FORBIDDEN, HONEST, PLACES
from tests.support.servers.gateway import SECURITY_KEY, Gateway, run_gateway

SIMPLE = {name: place for name, place in PLACES.items() if place.simple_path}


@pytest.fixture(scope="module")
def open_gateway(
    _simulator: Simulator, gateway_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Every family open."""
    folder = tmp_path_factory.mktemp("models")
    with run_gateway(_simulator.base_url, gateway_database, folder, V1_ROUTES="all") as gateway:
        yield gateway


@pytest.fixture(scope="module")
def key(open_gateway: Gateway) -> str:
    return open_gateway.make_key(f"small models {uuid4()}", "--model", "gpt-4o-*", "--shared-object", "pmpt_1")


def post(gateway: Gateway, path: str, key: str, body: bytes, content_type: str = "application/json") -> WireAnswer:
    with connect(gateway) as wire:
        wire.send(head("POST", path, f"Content-Type: {content_type}", length=len(body), key=key) + body)
        return wire.read_answer()


def assert_refused(answer: WireAnswer, simulator: Simulator) -> None:
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed"), answer.body
    assert answer.error["param"] == "model"
    assert simulator.requests == []


@pytest.mark.parametrize("name", PLACES)
def test_a_model_is_found_on_v1(open_gateway: Gateway, simulator: Simulator, key: str, name: str) -> None:
    assert_refused(post(open_gateway, PLACES[name].path, key, PLACES[name].body.encode()), simulator)


@pytest.mark.parametrize("name", DOUBLED)
def test_a_model_is_found_in_what_is_given_twice(
    open_gateway: Gateway, simulator: Simulator, key: str, name: str
) -> None:
    assert_refused(post(open_gateway, DOUBLED[name].path, key, DOUBLED[name].body.encode()), simulator)


@pytest.mark.parametrize("path", ["/v1/responses", "/openai2"])
@pytest.mark.parametrize("name", ["image tool", "an object on the way", "tools among items"])
def test_a_model_is_found_in_a_large_body(
    open_gateway: Gateway, simulator: Simulator, key: str, path: str, name: str
) -> None:
    """Large values go upstream as they came, on the simple API, too; they are searched beside the event loop."""
    padding = f'{{"instructions":"{"x" * 2 * LARGE_BYTES}",'

    assert_refused(post(open_gateway, path, key, DOUBLED[name].body.replace("{", padding, 1).encode()), simulator)


@pytest.mark.parametrize("name", [name for name in SIMPLE if name != "an object in the place of a name"])
def test_a_model_is_found_on_the_simple_api(open_gateway: Gateway, simulator: Simulator, key: str, name: str) -> None:
    answer = post(open_gateway, SIMPLE[name].simple_path, key, SIMPLE[name].body.encode())

    if name != "a template" and f'"model":"{ALLOWED}"' not in SIMPLE[name].body:
        assert answer.status in {400, 403}  # `model` itself may be missing, to the simple API
        assert simulator.requests == []
    else:
        assert_refused(answer, simulator)


def passes(answer: WireAnswer, simulator: Simulator) -> bool:
    return len(simulator.requests) == 1 and not (answer.status == 403 and answer.error["code"] == "model_not_allowed")


@pytest.mark.parametrize("name", HONEST)
def test_the_callers_own_text_may_have_the_word(
    open_gateway: Gateway, simulator: Simulator, key: str, name: str
) -> None:
    place = HONEST[name]

    assert json.loads(place.body)
    assert passes(post(open_gateway, place.path, key, place.body.encode()), simulator)
    assert simulator.last.body == place.body.encode()


@pytest.mark.parametrize("name", [name for name, place in HONEST.items() if place.simple_path])
def test_it_may_on_the_simple_api(open_gateway: Gateway, simulator: Simulator, key: str, name: str) -> None:
    assert passes(post(open_gateway, HONEST[name].simple_path, key, HONEST[name].body.encode()), simulator)


@pytest.mark.parametrize("name", PLACES)
def test_a_key_without_limits_may_name_all(open_gateway: Gateway, simulator: Simulator, name: str) -> None:
    post(open_gateway, PLACES[name].path, SECURITY_KEY, PLACES[name].body.encode())

    assert simulator.last.body == PLACES[name].body.encode()


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/openai/audio/transcriptions"])
@pytest.mark.parametrize(
    "field", ["Model", "model[]", "model[0]", "models", "models[]", "fallbacks", "svg[model]", "svg.model", "MODEL_ID"]
)
def test_a_model_is_found_in_a_form(
    open_gateway: Gateway, simulator: Simulator, key: str, path: str, field: str
) -> None:
    spelled_otherwise = field.lower().partition("[")[0] == "model"
    allowed = b"" if spelled_otherwise else named(b"model", ALLOWED.encode())
    body = FILE + allowed + named(field.encode(), FORBIDDEN.encode()) + END

    answer = post(open_gateway, path, key, body, TYPE.decode())
    assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
    assert [request for request in simulator.requests if request.outcome == "completed"] == []


def test_a_model_is_found_in_a_field_that_is_json(open_gateway: Gateway, simulator: Simulator, key: str) -> None:
    session = json.dumps({"type": "realtime", "model": FORBIDDEN}).encode()
    body = FILE + named(b"model", ALLOWED.encode()) + named(b"session", session) + END

    assert post(open_gateway, "/v1/audio/unheard-of", key, body, TYPE.decode()).status == 403


@pytest.mark.parametrize(
    ("fields", "main", "others"),
    [
        ([("model", "a")], ("a",), ()),
        ([("prompt", "the model"), ("metadata[model]", "x"), ("include[]", "model")], (), ()),
        ([("Model", "a"), ("models[0]", "b"), ("svg[model]", "c")], ("a",), ("b", "c")),
        ([("session", '{"model": "a", "x": {"model": "b"}}')], (), ("b", "a")),
        ([("session", '{"model": "a", "model": "b"}')], (), ("b", "a")),
        ([("session", '{"model": ')], (), (None,)),
        ([("prompt", "{not JSON}"), ("known_speaker_names[]", "[x]")], (), ()),
    ],
)
def test_the_models_of_a_form(
    fields: list[tuple[str, str]], main: tuple[str, ...], others: tuple[str | None, ...]
) -> None:
    found = in_fields(fields)

    assert (found.main, found.others) == (main, others)


@pytest.mark.parametrize(
    ("fields", "implied"),
    [
        ([("model", "a"), ("output_format", "svg")], [""]),
        ([("model", "a"), ("Output_Format", " SVG")], [""]),
        ([("output_format", "svg"), ("svg[model]", "b")], []),
        ([("output_format", "svg"), ("svg", '{"model":"b"}')], []),
        ([("output_format", "png"), ("prompt", "svg")], []),
    ],
)
def test_the_model_that_a_form_leaves_to_upstream(fields: list[tuple[str, str]], implied: list[str]) -> None:
    assert implied_by_fields(fields) == implied


def test_tools_that_are_named_again_leave_no_model_to_upstream() -> None:
    tool = {"type": "image_generation", "model": "gpt-image-1-mini"}
    again = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "image_generation"}]}
    assert implied_by_tools({"tools": [tool], "tool_choice": again}) == []
    assert implied_by_tools({"tools": [{"type": "image_generation"}], "tool_choice": again}) != []


def test_a_batch_is_closed_to_a_limited_key(open_gateway: Gateway, simulator: Simulator, key: str) -> None:
    """Its models are in its file."""
    body = b'{"input_file_id":"file-1","endpoint":"/v1/responses","completion_window":"24h"}'
    answer = post(open_gateway, "/v1/batches", key, body)

    assert (answer.status, answer.error["code"]) == (403, "route_not_allowed")
    assert "batch" in answer.error["message"]
    assert simulator.requests == []


@pytest.mark.parametrize("model", [FORBIDDEN, f"other/{ALLOWED}", "other%2F" + ALLOWED])
def test_a_model_in_the_path_is_checked(open_gateway: Gateway, simulator: Simulator, key: str, model: str) -> None:
    with connect(open_gateway) as wire:
        wire.send(head("GET", f"/v1/models/{model}", key=key))
        answer = wire.read_answer()

    assert (answer.status, answer.error["code"]) == (404, "model_not_found")
    assert simulator.requests == []


@pytest.mark.parametrize(
    "path", ["/v1/audio/speech;x=1", "/v1/models/gpt-4o;x", "/v1/models/gpt-4o%3Bx", "/v1/;/models"]
)
def test_parameters_of_a_path_are_refused(open_gateway: Gateway, simulator: Simulator, path: str) -> None:
    """Java's servers take them away before they look for a route."""
    answer = post(open_gateway, path, SECURITY_KEY, b"{}")

    assert (answer.status, answer.error["code"]) == (404, "not_found")
    assert simulator.requests == []


def names_in_requests() -> set[str]:
    """The members of all request types of the official SDK whose names have `model` or `fallback` in them."""
    member = re.compile(r"^    (\w*(?:model|fallback)\w*):", re.MULTILINE)
    files = Path(openai.types.__path__[0]).rglob("*param*.py")
    return {name for file in files for name in member.findall(file.read_text())}


def test_a_name_that_the_sdk_learns_is_looked_at() -> None:
    """Those beside `MODEL_NAMES` say something about models, and choose none."""
    assert {name for name in names_in_requests() if not is_model_name(name)} == {
        "model_sample",
    }
