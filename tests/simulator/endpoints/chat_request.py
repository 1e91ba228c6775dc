"""What a chat completion may ask for: every parameter with its rule, and the checks across parameters."""

import re
from dataclasses import dataclass
from typing import Any

from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Json
from tests.simulator.endpoints import models

# The names are those of the SDK's `CompletionCreateParams`; a test compares them.
PARAMETERS: dict[str, rules.Rule] = {
    "messages": rules.LIST,
    "model": rules.TEXT,
    "audio": rules.OBJECT,
    "frequency_penalty": rules.decimal(-2, 2),
    "function_call": rules.TEXT_OR_OBJECT,
    "functions": rules.LIST,
    "logit_bias": rules.OBJECT,
    "logprobs": rules.FLAG,
    "max_completion_tokens": rules.integer(1),
    "max_tokens": rules.integer(1),
    "metadata": rules.OBJECT,
    "modalities": rules.LIST,
    "moderation": rules.ANYTHING,
    "n": rules.integer(1, 128),
    "parallel_tool_calls": rules.FLAG,
    "prediction": rules.OBJECT,
    "presence_penalty": rules.decimal(-2, 2),
    "prompt_cache_key": rules.TEXT,
    "prompt_cache_options": rules.OBJECT,
    "prompt_cache_retention": rules.one_of("in_memory", "24h"),
    "reasoning_effort": rules.one_of("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "response_format": rules.OBJECT,
    "safety_identifier": rules.TEXT,
    "seed": rules.integer(),
    "service_tier": rules.SERVICE_TIERS,
    "stop": rules.TEXT_OR_LIST,
    "store": rules.FLAG,
    "stream": rules.FLAG,
    "stream_options": rules.OBJECT,
    "temperature": rules.decimal(0, 2),
    "tool_choice": rules.TEXT_OR_OBJECT,
    "tools": rules.LIST,
    "top_logprobs": rules.integer(0, 20),
    "top_p": rules.decimal(0, 1),
    "user": rules.TEXT,
    "verbosity": rules.one_of("low", "medium", "high"),
    "web_search_options": rules.OBJECT,
}
_ROLES = ["system", "assistant", "user", "function", "tool", "developer"]
_PARTS = ["text", "image_url", "input_audio", "refusal", "audio", "file"]
_IMAGE_URL = re.compile(r"https?://\S+|data:image/[\w.+-]+;base64,\S+")


@dataclass(frozen=True)
class Asked:
    """A chat request after its check, with the parts of its body on which the simulated answer depends."""

    body: Json
    model: str
    messages: list[Json]
    question: str
    images: int
    last_is_user: bool

    @property
    def tools(self) -> list[Json]:
        return [tool["function"] for tool in self.body.get("tools") or [] if tool["type"] == "function"]

    @property
    def token_limit(self) -> int | None:
        return self.body.get("max_completion_tokens") or self.body.get("max_tokens")

    @property
    def format(self) -> Json:
        return self.body.get("response_format") or {"type": "text"}


def _check_part(name: str, part: Any) -> None:
    if not isinstance(part, dict):
        raise rules.wrong_type(name, "an object", part)
    kind = part.get("type")
    if kind is None:
        raise errors.missing(f"{name}.type")
    if kind not in _PARTS:
        raise errors.invalid_value(f"{name}.type", kind, _PARTS)
    if kind == "text" and not isinstance(part.get("text"), str):
        raise rules.wrong_type(f"{name}.text", "a string", part.get("text"))
    if kind == "image_url":
        image = part.get("image_url")
        if not isinstance(image, dict):
            raise rules.wrong_type(f"{name}.image_url", "an object", image)
        if not _IMAGE_URL.match(str(image.get("url"))):
            errors.refuse(
                f"Invalid '{name}.image_url.url'. Expected a valid URL, but got a value with an invalid format.",
                f"{name}.image_url.url",
                "invalid_image_url",
            )


def _check_message(name: str, message: Any) -> None:
    if not isinstance(message, dict):
        raise rules.wrong_type(name, "an object", message)
    if "role" not in message:
        raise errors.missing(f"{name}.role")
    role, content = message["role"], message.get("content")
    if role not in _ROLES:
        raise errors.invalid_value(f"{name}.role", role, _ROLES)
    if content is None and not (role == "assistant" and (message.get("tool_calls") or message.get("function_call"))):
        errors.refuse("Invalid value for 'content': expected a string, got null.", name + ".content")
    if isinstance(content, list):
        for number, part in enumerate(content):
            _check_part(f"{name}.content[{number}]", part)
    elif content is not None and not isinstance(content, str):
        raise rules.wrong_type(f"{name}.content", "one of a string or array of objects", content)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise errors.missing(f"{name}.tool_call_id")


def _check_tools(body: Json) -> None:
    for number, tool in enumerate(body.get("tools") or []):
        kind = rules.kind_of(tool)
        if kind not in {"function", "custom"}:
            raise errors.invalid_value(f"tools[{number}].type", kind, ["function", "custom"])
        if not isinstance((tool.get(kind) or {}).get("name"), str):
            raise errors.missing(f"tools[{number}].{kind}.name")
    if body.get("tool_choice") is not None and not body.get("tools"):
        errors.refuse(
            "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", "tool_choice"
        )
    choice = body.get("tool_choice")
    if isinstance(choice, str) and choice not in {"none", "auto", "required"}:
        raise errors.invalid_value("tool_choice", choice, ["none", "auto", "required"])


def _check_format(body: Json) -> None:
    form = body.get("response_format") or {"type": "text"}
    if rules.kind_of(form) not in {"text", "json_object", "json_schema"}:
        raise errors.invalid_value("response_format.type", form.get("type"), ["json_object", "json_schema", "text"])
    if form["type"] == "json_schema" and not isinstance(form.get("json_schema"), dict):
        raise errors.missing("response_format.json_schema")
    if form["type"] == "json_schema" and not form["json_schema"].get("name"):
        raise errors.missing("response_format.json_schema.name")
    if form["type"] == "json_object" and "json" not in str(body["messages"]).lower():
        errors.refuse(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
            "messages",
        )


def _check_reasoning_model(body: Json) -> None:
    if body.get("max_tokens") is not None:
        errors.refuse(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            "max_tokens",
            "unsupported_parameter",
        )
    if body.get("temperature") not in {None, 1}:
        errors.refuse(
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only the "
            "default (1) value is supported.",
            "temperature",
            "unsupported_value",
        )


def check_chat(body: Json) -> Asked:
    """Checks the body of a chat request, refuses it where OpenAI would, and returns the checked request.

    The order of the checks is OpenAI's: model, names and types, messages, then which parameters go together.
    """
    model = models.check_chat_model(body.get("model"))
    rules.check_recognized(body, PARAMETERS)
    messages = body.get("messages")
    if messages is None:
        raise errors.missing("messages")
    if not messages:
        errors.refuse(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    for number, message in enumerate(messages):
        _check_message(f"messages[{number}]", message)
    if body.get("stream_options") is not None and not body.get("stream"):
        errors.refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if body.get("top_logprobs") and not body.get("logprobs"):
        errors.refuse("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
    _check_tools(body)
    _check_format(body)
    rules.check_metadata(body.get("metadata"))
    if models.reasons(model):
        _check_reasoning_model(body)
    return _asked(body, model, messages)


def _asked(body: Json, model: str, messages: list[Json]) -> Asked:
    parts = [part for message in messages if isinstance(message.get("content"), list) for part in message["content"]]
    last_user = next((message for message in reversed(messages) if message["role"] == "user"), {"content": ""})
    content = last_user["content"]
    if isinstance(content, list):
        content = " ".join(part["text"] for part in content if part["type"] == "text")
    images = sum(part["type"] == "image_url" for part in parts)
    return Asked(body, model, messages, content, images, messages[-1]["role"] == "user")
