"""Finds the models that a request names, in JSON bodies, forms and queries.

A model may be named by any member, field or parameter whose name is in `MODEL_NAMES`, in any letter case and at any
depth: `model` itself, the image tool's (`tools[].model`, `tools[].svg.model`), `moderation.model`, `grader.model`,
`session.model`, and the members that only routers other than OpenAI read (`models`, `fallbacks`). The places in
OpenAI's requests are those in the request types of the official SDK. The caller's own text (`TEXT_MEMBERS`) is skipped,
since `model` means nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from proxyapi.bodies.form_reader import field_path, query_fields
from proxyapi.bodies.json_members import DECODER, JSONObject, pairs_of
from usage.money.tool_fees import DEFAULT_IMAGE_MODEL

# In lower case, without hyphens and underscores.
MODEL_NAMES = frozenset({
    "model", "models", "modelid", "modelids", "modelname", "modellist", "fallback", "fallbacks", "fallbackmodel",
    "fallbackmodels", "contextwindowfallbacks", "contentpolicyfallbacks", "defaultfallbacks",
})  # fmt: skip

# Members whose values are the caller's own: texts, JSON schemas, names and values of its choice.
TEXT_MEMBERS = frozenset({
    "messages", "content", "metadata", "variables", "attributes", "headers",
    "parameters", "schema", "json_schema", "input_schema", "output_schema",
})  # fmt: skip

IMAGE_TOOL = "image_generation"
# The member that names some of the request's tools again, by their types, without their models
# (`openai.types.responses.ToolChoiceAllowedParam`).
TOOL_CHOICE = "tool_choice"

# Objects whose names the caller chooses, also names of `TEXT_MEMBERS`, and whose values are no texts: the graders of a
# grader.
OWN_NAMES = frozenset({"graders"})

# Lists of the items of a conversation. In an item only `tools` can name a model that is to run.
ITEM_LISTS = frozenset({"input", "items"})

# POSTs that make no model run, or only the model that was checked when the object in the path was created.
WITHOUT_MODEL = frozenset({
    "/v1/chat/completions/{id}", "/v1/responses/{id}/cancel",
    "/v1/conversations", "/v1/conversations/{id}", "/v1/conversations/{id}/items",
    "/v1/audio/voices", "/v1/audio/voice_consents", "/v1/audio/voice_consents/{id}",
    "/v1/files", "/v1/uploads", "/v1/uploads/{id}/parts", "/v1/uploads/{id}/complete", "/v1/uploads/{id}/cancel",
    "/v1/vector_stores", "/v1/vector_stores/{id}", "/v1/vector_stores/{id}/search", "/v1/vector_stores/{id}/files",
    "/v1/vector_stores/{id}/files/{id}", "/v1/vector_stores/{id}/file_batches",
    "/v1/vector_stores/{id}/file_batches/{id}/cancel",
    "/v1/batches/{id}/cancel",
    "/v1/fine_tuning/jobs/{id}/cancel", "/v1/fine_tuning/jobs/{id}/pause", "/v1/fine_tuning/jobs/{id}/resume",
    "/v1/fine_tuning/checkpoints/{id}/permissions",
    "/v1/fine_tuning/alpha/graders/run", "/v1/fine_tuning/alpha/graders/validate",  # a grader has a model or none
    "/v1/assistants/{id}",
    "/v1/threads", "/v1/threads/{id}", "/v1/threads/{id}/messages", "/v1/threads/{id}/messages/{id}",
    "/v1/threads/{id}/runs/{id}", "/v1/threads/{id}/runs/{id}/cancel",
    "/v1/threads/{id}/runs/{id}/submit_tool_outputs",
    "/v1/containers", "/v1/containers/{id}/files",
    "/v1/videos/characters",
    "/v1/skills", "/v1/skills/{id}", "/v1/skills/{id}/versions",
    "/v1/evals", "/v1/evals/{id}", "/v1/evals/{id}/runs/{id}/cancel",
    "/v1/realtime/calls/{id}/hangup", "/v1/realtime/calls/{id}/refer", "/v1/realtime/calls/{id}/reject",
    "/v1/live/sessions/{id}/hangup", "/v1/live/sessions/{id}/refer", "/v1/live/sessions/{id}/reject",
    "/v1/agents/{id}", "/v1/agents/environments", "/v1/agents/environments/templates",
    "/v1/agents/environments/templates/{id}", "/v1/agents/environments/{id}/files",
    "/v1/agents/automations/{id}/pause",
    "/v1/vaults", "/v1/vaults/{id}", "/v1/vaults/{id}/credentials", "/v1/vaults/{id}/credentials/{id}",
    "/v1/chatkit/sessions/{id}/cancel",
    "/v1/content_provenance_checks",
    "/v1/webhook_endpoints", "/v1/webhook_endpoints/{id}", "/v1/webhook_endpoints/{id}/rotate_secret",
    "/v1/webhook_endpoints/{id}/test",
})  # fmt: skip

# POSTs that make models run which are not named in the request. They are named in a file, by an agent or a workflow, by
# an object that another key may have created, or later, by whoever uses the secret in the answer to talk to upstream.
UNSEEN_MODELS = frozenset({
    "/v1/batches",
    "/v1/evals/{id}/runs",
    "/v1/videos/{id}/remix",
    "/v1/realtime/calls", "/v1/realtime/calls/{id}/accept", "/v1/realtime/client_secrets", "/v1/realtime/sessions",
    "/v1/realtime/transcription_sessions", "/v1/realtime/translations/client_secrets",
    "/v1/live/sessions", "/v1/live/sessions/{id}/accept", "/v1/live/sessions/{id}/fork",
    "/v1/agents/sessions", "/v1/agents/sessions/{id}", "/v1/agents/sessions/{id}/events",
    "/v1/agents/automations", "/v1/agents/automations/{id}", "/v1/agents/automations/{id}/invocations",
    "/v1/agents/automations/{id}/resume",
    "/v1/chatkit/sessions",
})  # fmt: skip


@dataclass(frozen=True)
class NamedModels:
    """The models that one request names: `main` in its field `model`, `others` in other places such as tools.

    If the field `model` is given twice, both values are in `main`. A value that is not text, or cannot be parsed, is
    None.
    """

    main: tuple[str | None, ...] = ()
    others: tuple[str | None, ...] = ()

    def __add__(self, other: NamedModels) -> NamedModels:
        return NamedModels(self.main + other.main, self.others + other.others)


_MAY_NAME = re.compile(r"model|fallback|\\u")


def in_request(body: JSONObject, query: str) -> NamedModels:
    """Returns the models that a request names in its JSON body and in its query string."""
    return in_body(body) + in_query(query)


def in_body(body: JSONObject) -> NamedModels:
    """Returns the models that a JSON object names, in its member `model` or elsewhere at any depth.

    Other members that name models are `fallbacks` and the `model` of a tool, for example. The caller's own text
    (`TEXT_MEMBERS`) is not searched.
    """
    main: list[str | None] = []
    others: list[str | None] = []
    for name, value, *_ in pairs_of(body):
        if name.casefold() == "model":
            main.append(_as_text(value))
        elif is_model_name(name) or isinstance(value, list | dict):
            others += _search([(name, value)])
    return NamedModels(tuple(main), tuple(others))


def implied_by_tools(body: JSONObject) -> list[str]:
    """Returns the models that OpenAI runs for pictures although a JSON object does not name them.

    These are `DEFAULT_IMAGE_MODEL` for an image generation tool that names no model, and an empty text for an SVG
    picture whose author is not named (`svg.model`), since OpenAI does not say which model it chooses. They are found at
    any depth, but not in the caller's own text (`TEXT_MEMBERS`), nor in `tool_choice`, which only names tools again.
    """
    waiting = [(name, value) for name, value, *_ in pairs_of(body)]
    if _leaves_author_open(waiting):
        return [""]
    while waiting:
        name, value = waiting.pop()
        if name.casefold() in TEXT_MEMBERS or name.casefold() == TOOL_CHOICE:
            continue
        if isinstance(value, list):
            waiting += [(name, item) for item in value if isinstance(item, list | dict)]
        elif isinstance(value, dict):
            pairs = _pairs(value)
            if name.casefold() == "tools" and (_leaves_model_open(pairs) or _leaves_author_open(pairs)):
                return [DEFAULT_IMAGE_MODEL if _leaves_model_open(pairs) else ""]
            waiting += pairs
    return []


def implied_by_fields(fields: Iterable[tuple[str, str]]) -> list[str]:
    """Returns the models that OpenAI runs for a form although it does not name them, as `implied_by_tools` does.

    `fields` are pairs of a field's name and its text.
    """
    paths = [(field_path(name), value) for name, value in fields]
    makes_svg = any(path == ("output_format",) and value.strip().casefold() == "svg" for path, value in paths)
    names_author = any(path[0] == "svg" for path, _ in paths)  # without `model`, upstream refuses it
    return [""] if makes_svg and not names_author else []


def _leaves_model_open(tool: list[tuple[str, object]]) -> bool:
    """Returns whether the members of a tool are those of an image generation tool that names no model."""
    makes_pictures = any(name == "type" and str(value).startswith(IMAGE_TOOL) for name, value in tool)
    models = [value for name, value in tool if name == "model"]  # several, if it is given twice
    return makes_pictures and not (models and all(isinstance(model, str) for model in models))


def _leaves_author_open(members: list[tuple[str, object]]) -> bool:
    """Returns whether the members of a request or tool ask for an SVG picture without naming the model that writes it.

    With a member `svg`, upstream requires its `model`, which is checked like any other.
    """
    makes_svg = any(name == "output_format" and value == "svg" for name, value in members)
    authors = [value for name, value in members if name == "svg"]  # several, if it is given twice
    return makes_svg and not (authors and all(isinstance(author, dict) and author for author in authors))


def in_fields(fields: Iterable[tuple[str, str]]) -> NamedModels:
    """Returns the models that the text fields of a form name. `fields` are pairs of a field's name and its text.

    A field's name may have any spelling, such as `Model` or `tools[0][model]`. JSON in a field is searched, too, but
    not the caller's own text (`TEXT_MEMBERS`).
    """
    main: list[str | None] = []
    others: list[str | None] = []
    for name, value in fields:
        path = field_path(name)
        if path == ("model",):
            main.append(value)
        elif not TEXT_MEMBERS.isdisjoint(path[:-1]) or path[-1] in TEXT_MEMBERS:
            continue
        elif any(map(is_model_name, path)):
            others.append(value)
        elif value.lstrip().startswith(("{", "[")):
            others += _in_json(path[-1], value)
    return NamedModels(tuple(main), tuple(others))


def in_query(query: str) -> NamedModels:
    """Returns the models that the parameters of a query string name, as the `others` of a `NamedModels`.

    A parameter names a model if its name, or a part of it as in `tools[0][model]`, is one of `MODEL_NAMES`. Letter
    case, hyphens and underscores make no difference.
    """
    if not query:
        return NamedModels()
    named = [value for name, value in query_fields(query) if any(map(is_model_name, field_path(name)))]
    return NamedModels(others=tuple(named))


def is_model_name(name: str) -> bool:
    """Returns whether a field called `name` may name a model, such as `Model` or `fallbacks`.

    Since servers read names differently, letter case, hyphens and underscores make no difference.
    """
    return len(name) < 64 and _is_model_name(name)


@lru_cache(maxsize=4096)
def _is_model_name(name: str) -> bool:
    return name.casefold().replace("_", "").replace("-", "").strip() in MODEL_NAMES


def _in_json(name: str, text: str) -> list[str | None]:
    """Returns the models that a form's field with JSON names; None stands for a model that cannot be read.

    `name` is the last part of the field's name, and `text` is the field's text. If the text is not valid JSON, the
    result is `[None]` if it may name a model, otherwise an empty list.
    """
    try:
        return list(_search([(name, DECODER.decode(text))]))
    except (ValueError, RecursionError):
        return [None] if _MAY_NAME.search(text.lower()) else []


def _search(waiting: list[tuple[str, object]]) -> Iterator[str | None]:
    """Yields the models that JSON members name, at any depth; None for a model that is not given as text.

    The value of a member such as `models` may be a text, a list, an object with a member `model`, or an object whose
    values are models. A null names none.

    `waiting` has the members to search, as pairs of name and value; the search empties it. Skipped are the caller's own
    text (`TEXT_MEMBERS`) and, in the items of a conversation (`ITEM_LISTS`), all members but `tools`. Names that the
    caller chooses (`OWN_NAMES`) hide nothing.
    """
    while waiting:
        name, value = waiting.pop()
        if is_model_name(name):
            if isinstance(value, list):
                waiting += [(name, item) for item in value]
            elif isinstance(value, dict):
                pairs = _pairs(value)
                is_of_models = not any(is_model_name(inner) for inner, _ in pairs)  # under names of the caller's choice
                waiting += [(name, each) for _, each in pairs] if is_of_models else pairs
            elif value is not None:
                yield _as_text(value)
        elif name.casefold() in TEXT_MEMBERS:
            continue
        elif isinstance(value, dict):
            pairs = _pairs(value)
            waiting += pairs
            if name.casefold() in OWN_NAMES:
                waiting += [("", each) for own_name, each in pairs if own_name.casefold() in TEXT_MEMBERS | ITEM_LISTS]
        elif isinstance(value, list):
            objects = [item for item in value if isinstance(item, list | dict)]
            if name.casefold() in ITEM_LISTS:
                waiting += [
                    pair
                    for item in objects
                    if isinstance(item, dict)
                    for pair in _pairs(item)
                    if pair[0].casefold() == "tools"
                ]
            else:
                waiting += [("", item) for item in objects]


def _pairs(value: dict[str, object]) -> list[tuple[str, object]]:
    return [(name, each) for name, each in pairs_of(value)]


def _as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None
