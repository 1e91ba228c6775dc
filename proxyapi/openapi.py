"""The descriptions of the gateway's operations (requests and answers) for `/openapi.json` and `/docs`.

Each lower-case name, such as `embeddings`, is a decorator for the method of a view. Fields of OpenAI's API are
described only if the simple API checks them; other fields pass unchanged.

The descriptions are plain data. `proxyapi.pages.api_description` builds the document from them on demand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

JSON = "application/json"
EVENTS = "text/event-stream"
FORM = "multipart/form-data"
BEARER = "Bearer"  # the name of the one way to sign in that /openapi.json describes
Schema = Mapping[str, object]
Method = TypeVar("Method", bound=Callable[..., object])

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 1}
SWITCH: Schema = {"type": "boolean"}
ANY: Schema = {"type": "object", "additionalProperties": True}
LIST: Schema = {"type": "array", "items": {}}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


# Fields that every call of the simple API may have in its JSON, form or query. They are not sent upstream.
OURS: dict[str, Schema] = {
    "security_key": described(TEXT, "The key. Also as `Authorization: Bearer …` or `X-Security-Key`."),
    "openai_api_key": described(TEXT, "Another upstream key for this call."),
    "project": described(TEXT, "OpenAI project for this call."),
    "organization": described(TEXT, "OpenAI organization for this call."),
    "timeout": described(NUMBER, "Milliseconds for this call, at most the server's REQUEST_TIMEOUT."),
}
SAMPLING: dict[str, Schema] = {
    "temperature": {"type": "number", "minimum": 0, "maximum": 2},
    "top_p": {"type": "number", "minimum": 0, "maximum": 1},
    "max_tokens": COUNT,
    "max_completion_tokens": COUNT,
}
ERROR: Schema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": TEXT,
                "type": TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
                "request_id": TEXT,
            },
        }
    },
}


# The statuses of the gateway's own errors, by kind of operation. Errors of upstream pass with any status.
# `tests/proxyapi/pages/test_described_statuses.py` lists which operations can answer with each error of the gateway.
ALWAYS = (400, 500, 503)  # a malformed request, a fault of the gateway, or no capacity
PAGE_ERRORS = (*ALWAYS, 403, 429)
BODY_ERRORS = (408, 413, 415)
UPSTREAM_ERRORS = (401, 404, 502, 504, 508)
PAGE_CALL_ERRORS = (*PAGE_ERRORS, *UPSTREAM_ERRORS)
CALL_ERRORS = (*PAGE_CALL_ERRORS, *BODY_ERRORS)


def body(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": {**OURS, **properties}, "additionalProperties": True}


def form(required: list[str], **properties: Schema) -> Schema:
    """Builds the OpenAPI schema of a multipart form with these fields."""
    # The gateway's own fields, such as `security_key`, are left out: /docs would fill them in, and a wrong
    # `security_key` in the form wins over a right one in a header.
    return {"type": "object", "required": required, "properties": properties}


class OperationDescription(NamedTuple):
    """The description of one operation of the simple API, or of a page, for the operation's entry in `/openapi.json`.

    * `request` and `answers`: schemas by media type.
    * `query`: descriptions by the name of a parameter.
    * `errors`: statuses with which the gateway itself may answer.
    """

    summary: str
    request: dict[str, Schema] | None = None
    answers: dict[str, object] | None = None
    query: dict[str, str] | None = None
    example: dict[str, object] | None = None
    tags: tuple[str, ...] = ("simple API",)
    errors: tuple[int, ...] = CALL_ERRORS


# The methods of views that have been loaded, each with its description; None if `/openapi.json` must not list it.
METHODS: list[tuple[Callable[..., object], OperationDescription | None]] = []


def operation(
    summary: str,
    *,
    request: dict[str, Schema] | None = None,
    answers: dict[str, object] | None = None,
    query: dict[str, str] | None = None,
    example: dict[str, object] | None = None,
    tags: tuple[str, ...] = ("simple API",),
    errors: tuple[int, ...] = CALL_ERRORS,
) -> Callable[[Method], Method]:
    """Returns a decorator that describes a view's method for `/openapi.json`; see `OperationDescription`."""
    return _note(OperationDescription(summary, request, answers, query, example, tags, errors))


def _note(description: OperationDescription | None) -> Callable[[Method], Method]:
    """Returns a decorator that stores the description of a view's method for `/openapi.json`; None hides the method."""

    def decorator(method: Method) -> Method:
        METHODS.append((method, description))
        return method

    return decorator


IMAGE = described(
    {"type": "object", "properties": {"url": TEXT, "base64": TEXT}},
    "Joins the last user message. `base64` may be a data: URL.",
)
chat_completion = operation(
    "Chat completion",
    request={JSON: body(["model", "messages"], model=TEXT, messages=LIST, image=IMAGE, **SAMPLING)},
    example={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "What is TypeScript?"}]},
)
chatgpt = operation(
    "One prompt, one answer",
    request={JSON: body(["prompt"], prompt=TEXT, model=TEXT, systemMessage=TEXT, parentMessageId=TEXT, **SAMPLING)},
    answers={
        JSON: {
            "type": "object",
            "properties": {"role": TEXT, "id": TEXT, "parentMessageId": TEXT, "text": TEXT, "detail": ANY},
        }
    },
    example={"prompt": "Explain quantum computing in simple terms"},
)
embeddings = operation(
    "Embeddings",
    request={
        JSON: body(
            ["input"],
            input={"anyOf": [TEXT, LIST]},
            model=described(TEXT, "Default: text-embedding-3-large."),
            dimensions=COUNT,
            encoding_format={"type": "string", "enum": ["float", "base64"]},
        )
    },
    example={"input": "The quick brown fox", "model": "text-embedding-3-small"},
)
create_response = operation(
    "Create a response",
    request={
        JSON: body(
            [],
            model=TEXT,
            input={"anyOf": [TEXT, LIST]},
            instructions=TEXT,
            stream=SWITCH,
            tools=LIST,
            previous_response_id=TEXT,
            background=SWITCH,
        )
    },
    answers={JSON: ANY, EVENTS: TEXT},
    example={"model": "gpt-4o", "input": "Tell me a three sentence bedtime story about a unicorn."},
)
compact_response = operation("Compact a conversation", request={JSON: body(["model"], model=TEXT, input=LIST)})
count_input_tokens = operation(
    "Count input tokens", request={JSON: body([], model=TEXT, input={"anyOf": [TEXT, LIST]})}
)

QUERY = {name: str(schema["description"]) for name, schema in OURS.items()}
retrieve_response = operation(
    "Retrieve a response",
    answers={JSON: ANY, EVENTS: TEXT},
    query={
        **QUERY,
        "stream": "`true`: the response as a stream of events.",
        "starting_after": "With `stream`: only events after this sequence number.",
        "include[]": "Additional output data; may be repeated.",
        "include_obfuscation": "With `stream`: whether deltas are padded.",
    },
)
delete_response = operation("Delete a response", query=QUERY)
cancel_response = operation("Cancel a background response", request={JSON: body([])}, example={})
list_input_items = operation(
    "List a response's input items",
    query={
        **QUERY,
        "after": "Items after this id.",
        "limit": "1 to 100.",
        "order": "`asc` or `desc`.",
        "include[]": "Additional data; may be repeated.",
    },
)
FORMATS = ["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
transcribe = operation(
    "Transcribe audio",
    request={
        FORM: form(
            ["file"],
            file={"type": "string", "format": "binary"},
            model=described(TEXT, "Default: whisper-1."),
            language=TEXT,
            prompt=TEXT,
            temperature=NUMBER,
            response_format={"type": "string", "enum": FORMATS},
            stream=SWITCH,
            **{
                "timestamp_granularities[]": {"type": "array", "items": {"type": "string", "enum": ["word", "segment"]}}
            },
        )
    },
    answers={JSON: ANY, "text/plain": TEXT, EVENTS: TEXT},
)

PAGE_QUERY = {"access_token": "The access token. Also as `Authorization: Bearer …`."}
unlisted = _note(None)
index = operation("The index page", answers={"text/html": TEXT}, tags=("server",), errors=ALWAYS)
liveness = operation("Is the process up?", tags=("server",), errors=ALWAYS)
readiness = operation("May calls be sent here?", tags=("server",), errors=ALWAYS)
health = operation("One real call, through /chatgpt", query=PAGE_QUERY, tags=("server",), errors=PAGE_CALL_ERRORS)
health2 = operation("One real call, through /openai", query=PAGE_QUERY, tags=("server",), errors=PAGE_CALL_ERRORS)
log = operation("The newest calls", answers={"text/html": TEXT}, query=PAGE_QUERY, tags=("server",), errors=PAGE_ERRORS)
log_errors = operation(
    "The newest failed calls", answers={"text/html": TEXT}, query=PAGE_QUERY, tags=("server",), errors=PAGE_ERRORS
)
runtime = operation("Versions and limits", query=PAGE_QUERY, tags=("server",), errors=PAGE_ERRORS)

metrics = operation(
    "Counters for Prometheus",
    answers={"text/plain": TEXT},
    query=PAGE_QUERY,
    tags=("server",),
    errors=PAGE_ERRORS,
)
USAGE: Schema = {
    "type": "object",
    "properties": {
        "object": TEXT,
        "key": described({"type": ["string", "null"]}, "Whose usage it is; null: everybody's."),
        "start": TEXT,
        "end": TEXT,
        "total": described(
            ANY,
            "`calls`, `errors`, `unpriced_calls`, tokens by kind, `audio_seconds`, `cost` in dollars; "
            "of it, `cost_estimated` is estimated and `cost_provisional` is at an assumed price.",
        ),
        "group_by": LIST,
        "groups": described(LIST, "The same numbers for each group, with the group's `key`, `model`, `hour`, …"),
        "others": described(ANY, "The numbers of all further groups, if there are more than 10,000."),
        "incomplete": described(
            {"type": "boolean"},
            "True if the end user or tag that was asked for may have further calls, which are summed up with others.",
        ),
        "lacks_calls_since": described(TEXT, "From this day (UTC) on, calls are missing. See docs/api.md."),
    },
}
usage = operation(
    "Calls, tokens and dollars: a key's own, or with the access token everybody's",
    answers={JSON: USAGE, "text/csv": TEXT},
    query={
        "security_key": "The key whose usage is asked for. Also as `Authorization: Bearer …` or `X-Security-Key`.",
        "access_token": "Instead of a key: everybody's usage. Also as `Authorization: Bearer …`.",
        "range": (
            "`hour`, `day` (default), `week` or `month` (30 days), up to now; by the calendar (UTC): `today`, "
            "`yesterday`, `this_week`, `last_week`, `this_month`, `last_month`, a month `2026-11`, a day `2026-11-30`."
        ),
        "from": "Instead of `range`: ISO 8601, UTC unless it says otherwise. Rounded down to the hour.",
        "to": "With `from`; default: now. Rounded up to the hour.",
        "group_by": (
            "`key`, `model`, `route`, `outcome`, `hour`, `day`; `team`, `owner`, `end_user`, `tag:NAME`, which are of "
            "whole days; several with commas between."
        ),
        "format": "`json` (default) or `csv`.",
        "team": "Only this team.",
        "owner": "Only keys of this owner.",
        "end_user": "Only this end user.",
        "tag": "Only calls with this tag: `name` or `name=value`. May be given twice.",
        "key": "Only this key.",
        "model": "Only this model.",
        "route": "Only this route.",
        "outcome": "Only this outcome, such as `success` or `timeout`.",
    },
    tags=("server",),
    errors=PAGE_ERRORS,
)
