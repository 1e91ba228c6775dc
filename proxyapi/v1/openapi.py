"""Describes `/v1` for `/openapi.json`: one line for each operation, since OpenAI's reference has the details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings

from proxyapi.openapi import ANY, BEARER, ERROR, EVENTS, FORM, FORMATS, JSON, TEXT, Schema
from proxyapi.routes import find_route

TAG = "/v1, as OpenAI has it"
REFERENCE = "https://platform.openai.com/docs/api-reference"
ERRORS = {
    400: "Malformed, or what upstream does not take",
    401: "Missing or invalid key",
    403: "The key may not use this model or route",
    404: "Unknown, or closed on this gateway",
    408: "The body did not arrive in time",
    413: "Body too large",
    415: "Neither JSON nor multipart/form-data, or an encoding that is not taken",
    426: "A WebSocket is asked for",
    429: "Too many requests, or the budget is used up",
    500: "A fault of the gateway's, or upstream's",
    502: "Upstream cannot be reached",
    503: "Not now; see Retry-After",
    504: "Upstream did not answer in time",
    508: "Upstream is the gateway itself",
}
FILE: Schema = {"type": "string", "format": "binary"}
MODEL: Schema = {"model": TEXT}
HELLO = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}


class Operation(NamedTuple):
    """The description of one operation of `/v1`, for the operation's entry in `/openapi.json`.

    * `body`: an example of the JSON body or, if `form` is true, the schemas of the form's fields.
    * `answers`: the media types that an answer may have.
    * `query`: the names of the query parameters.
    """

    method: str
    path: str
    summary: str
    body: Mapping[str, object] | None = None
    form: bool = False
    answers: tuple[str, ...] = (JSON,)
    query: tuple[str, ...] = ()


PAGE = ("after", "limit", "order")
STREAM = (JSON, EVENTS)
OPERATIONS = (
    Operation("post", "/chat/completions", "Create a chat completion", HELLO, answers=STREAM),
    Operation("get", "/chat/completions", "List stored chat completions", query=(*PAGE, "model")),
    Operation("get", "/chat/completions/{id}", "Retrieve a stored chat completion"),
    Operation("post", "/chat/completions/{id}", "Update a stored chat completion", {"metadata": {"topic": "greeting"}}),
    Operation("delete", "/chat/completions/{id}", "Delete a stored chat completion"),
    Operation("get", "/chat/completions/{id}/messages", "List a stored chat completion's messages", query=PAGE),
    Operation(
        "post", "/responses", "Create a response", {"model": "gpt-4o-mini", "input": "Say hello."}, answers=STREAM
    ),
    Operation("get", "/responses/{id}", "Retrieve a response", answers=STREAM, query=("stream", "starting_after")),
    Operation("delete", "/responses/{id}", "Delete a response"),
    Operation("post", "/responses/{id}/cancel", "Cancel a background response"),
    Operation("get", "/responses/{id}/input_items", "List a response's input items", query=PAGE),
    Operation("post", "/responses/compact", "Compact a conversation", {"model": "gpt-4o-mini", "input": "Say hello."}),
    Operation("post", "/responses/input_tokens", "Count input tokens", {"model": "gpt-4o-mini", "input": "Say hello."}),
    Operation("post", "/conversations", "Create a conversation", {"metadata": {"topic": "greeting"}}),
    Operation("get", "/conversations/{id}", "Retrieve a conversation"),
    Operation("post", "/conversations/{id}", "Update a conversation", {"metadata": {"topic": "parting"}}),
    Operation("delete", "/conversations/{id}", "Delete a conversation"),
    Operation(
        "post",
        "/conversations/{id}/items",
        "Add items to a conversation",
        {"items": [{"type": "message", "role": "user", "content": "Hello."}]},
    ),
    Operation("get", "/conversations/{id}/items", "List a conversation's items", query=PAGE),
    Operation("get", "/conversations/{id}/items/{item_id}", "Retrieve an item"),
    Operation("delete", "/conversations/{id}/items/{item_id}", "Delete an item"),
    Operation("post", "/embeddings", "Create embeddings", {"model": "text-embedding-3-small", "input": "Hello."}),
    Operation(
        "post",
        "/audio/speech",
        "Text to speech",
        {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello."},
        answers=("audio/mpeg", EVENTS),
    ),
    Operation(
        "post",
        "/audio/transcriptions",
        "Speech to text",
        {"file": FILE, **MODEL, "response_format": {"type": "string", "enum": FORMATS}, "stream": {"type": "boolean"}},
        form=True,
        answers=(JSON, "text/plain", EVENTS),
    ),
    Operation(
        "post",
        "/audio/translations",
        "Speech to English text",
        {"file": FILE, **MODEL},
        form=True,
        answers=(JSON, "text/plain"),
    ),
    Operation(
        "post",
        "/images/generations",
        "Create images",
        {"model": "gpt-image-1", "prompt": "A lighthouse."},
        answers=STREAM,
    ),
    Operation(
        "post", "/images/edits", "Edit images", {"image": FILE, **MODEL, "prompt": TEXT}, form=True, answers=STREAM
    ),
    Operation("post", "/moderations", "Moderate text and images", {"input": "Hello."}),
    Operation("get", "/models", "List the models that the key may use"),
    Operation("get", "/models/{model}", "Retrieve a model"),
)


def add_paths(result: dict[str, Any], **_: object) -> dict[str, Any]:
    """Adds the `OPERATIONS` of open routes, with their tag, to the OpenAPI document `result`, and returns the document.

    drf-spectacular calls this hook after it has generated the rest of the description.
    """
    for operation in OPERATIONS:
        route = find_route(operation.path.replace("{", "").replace("}", ""))
        if route is not None and route.family.name in settings.V1_ROUTES:
            result["paths"].setdefault(f"/v1{operation.path}", {})[operation.method] = describe(operation)
    result["tags"].append({"name": TAG, "externalDocs": {"url": REFERENCE}})
    return result


def describe(operation: Operation) -> dict[str, object]:
    """Converts the description of one operation of `/v1` to its entry in `/openapi.json`."""
    names = [part.strip("{}") for part in operation.path.split("/") if part.startswith("{")]
    parameters = [{"in": "path", "name": name, "required": True, "schema": TEXT} for name in names]
    parameters += [{"in": "query", "name": name, "required": False, "schema": TEXT} for name in operation.query]
    answers = {media_type: {"schema": ANY if media_type == JSON else TEXT} for media_type in operation.answers}
    words = operation.path.strip("/").replace("{", "").replace("}", "").replace("/", "_")
    described: dict[str, object] = {
        "operationId": f"v1_{words}_{operation.method}",
        "summary": operation.summary,
        "description": "Passes to upstream as it is; any parameter of OpenAI's is taken.",
        "tags": [TAG],
        "security": [{BEARER: []}],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Upstream's answer, unchanged", "content": answers},
            **{
                str(status): {"description": words, "content": {JSON: {"schema": ERROR}}}
                for status, words in ERRORS.items()
            },
        },
    }
    if operation.form:
        schema = {"type": "object", "properties": operation.body}
        described["requestBody"] = {"required": True, "content": {FORM: {"schema": schema}}}
    elif operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {JSON: {"schema": ANY, "example": operation.body}},
        }
    return described
