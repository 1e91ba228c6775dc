"""What a response may ask for: every parameter with its rule, and the input brought into its stored form."""

from collections.abc import Callable
from typing import Any

from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Json
from tests.simulator.endpoints import models
from tests.simulator.world import new_id

# The names are those of the SDK's `ResponseCreateParams`; a test compares them.
PARAMETERS: dict[str, rules.Rule] = {
    "access_programs": rules.OBJECT,
    "background": rules.FLAG,
    "background_options": rules.OBJECT,
    "context_management": rules.LIST,
    "conversation": rules.TEXT_OR_OBJECT,
    "image": rules.OBJECT,
    "include": rules.LIST,
    "input": rules.Rule((str, list), "one of a string or array of input items"),
    "instructions": rules.TEXT,
    "max_output_tokens": rules.integer(16),
    "max_tool_calls": rules.integer(1),
    "metadata": rules.OBJECT,
    "model": rules.TEXT,
    "moderation": rules.OBJECT,
    "parallel_tool_calls": rules.FLAG,
    "previous_response_id": rules.TEXT,
    "prompt": rules.OBJECT,
    "prompt_cache_key": rules.TEXT,
    "prompt_cache_options": rules.OBJECT,
    "prompt_cache_retention": rules.one_of("in_memory", "24h"),
    "reasoning": rules.OBJECT,
    "safety_identifier": rules.TEXT,
    "service_tier": rules.SERVICE_TIERS,
    "store": rules.FLAG,
    "stream": rules.FLAG,
    "stream_options": rules.OBJECT,
    "temperature": rules.decimal(0, 2),
    "text": rules.OBJECT,
    "tool_choice": rules.TEXT_OR_OBJECT,
    "tools": rules.LIST,
    "top_logprobs": rules.integer(0, 20),
    "top_p": rules.decimal(0, 1),
    "truncation": rules.one_of("auto", "disabled"),
    "user": rules.TEXT,
}
INCLUDABLE = [
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]
_ROLES = ["assistant", "system", "developer", "user"]
_PARTS = ["input_text", "input_image", "output_text", "refusal", "input_file", "computer_screenshot", "summary_text"]
_BARE_PARTS = ("input_text", "input_image", "input_file")
_ITEM_PREFIXES = {
    "message": "msg_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "reasoning": "rs_",
    "compaction": "cmp_",
    "web_search_call": "ws_",
    "file_search_call": "fs_",
    "code_interpreter_call": "ci_",
    "computer_call": "cu_",
    "computer_call_output": "cuo_",
    "image_generation_call": "ig_",
    "mcp_list_tools": "mcpl_",
    "mcp_call": "mcp_",
    "mcp_approval_request": "mcpr_",
    "mcp_approval_response": "mcpa_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
    "local_shell_call": "lsh_",
    "local_shell_call_output": "lsho_",
    "item_reference": "",
}
_NEEDED_BY_TOOLS = {
    "function": ("name",),
    "custom": ("name",),
    "file_search": ("vector_store_ids",),
    "mcp": ("server_label",),
    "code_interpreter": ("container",),
}
_TOOL_RULES = {
    "name": rules.TEXT,
    "parameters": rules.OBJECT,
    "vector_store_ids": rules.LIST,
    "server_label": rules.TEXT,
    "allowed_tools": rules.Rule((list, dict), "one of an array of strings or object"),
    "container": rules.TEXT_OR_OBJECT,
}
_TOOLS = [
    "function",
    "file_search",
    "computer",
    "computer_use_preview",
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "mcp",
    "code_interpreter",
    "image_generation",
    "local_shell",
    "shell",
    "custom",
    "apply_patch",
]


def check_response(body: Json) -> str:
    """Checks the body of a request for a response, refuses it where OpenAI would, and returns the model's name."""
    rules.check_known(body, PARAMETERS)
    if body.get("model") is None:
        raise errors.missing("model")
    model = models.check_model(body["model"])
    if not any(body.get(name) for name in ("input", "previous_response_id", "prompt", "conversation")):
        errors.refuse(
            "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' must be provided.",
            "input",
            "missing_required_parameter",
        )
    if body.get("conversation") and body.get("previous_response_id"):
        errors.refuse(
            "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only providing "
            "one of: 'previous_response_id' or 'conversation'.",
            code="mutually_exclusive_parameters",
        )
    if body.get("background") and body.get("store") is False:
        errors.refuse("Background mode requires 'store' to be true.", "background", "invalid_value")
    if body.get("stream_options") is not None and not body.get("stream"):
        errors.refuse("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    for number, name in enumerate(body.get("include") or []):
        if name not in INCLUDABLE:
            raise errors.invalid_value(f"include[{number}]", name, INCLUDABLE)
    rules.check_metadata(body.get("metadata"))
    check_tools(body.get("tools") or [])
    _check_format((body.get("text") or {}).get("format"))
    return model


def check_tools(tools: list[Any]) -> None:
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise rules.wrong_type(f"tools[{number}]", "an object", tool)
        kind = tool.get("type")
        if kind is None:
            raise errors.missing(f"tools[{number}].type")
        if kind not in _TOOLS:
            raise errors.invalid_value(f"tools[{number}].type", kind, _TOOLS)
        for name in _NEEDED_BY_TOOLS.get(kind, ()):
            if not tool.get(name):
                raise errors.missing(f"tools[{number}].{name}")
        for name, rule in _TOOL_RULES.items():
            rule.check(f"tools[{number}].{name}", tool.get(name))


def _check_format(form: Any) -> None:
    if form is None:
        return
    kind = rules.kind_of(form)
    if kind not in {"text", "json_object", "json_schema"}:
        raise errors.invalid_value("text.format.type", kind, ["json_object", "json_schema", "text"])
    for name in ("name", "schema") if kind == "json_schema" else ():
        if not form.get(name):
            raise errors.missing(f"text.format.{name}")


def _content(name: str, role: str, content: Any) -> list[Json]:
    """Converts a message's content to a list of parts, and adds the members that OpenAI fills in."""
    text_kind = "output_text" if role == "assistant" else "input_text"
    if isinstance(content, str):
        content = [{"type": text_kind, "text": content}]
    if not isinstance(content, list):
        raise rules.wrong_type(name, "one of an array of objects or string", content)
    parts = []
    for number, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _PARTS:
            raise errors.invalid_value(f"{name}[{number}].type", kind, _PARTS)
        if kind in {"input_text", "output_text"} and not isinstance(part.get("text"), str):
            raise errors.missing(f"{name}[{number}].text")
        defaults: Json = {"output_text": {"annotations": [], "logprobs": []}, "input_image": {"detail": "auto"}}
        parts.append({**defaults.get(kind, {}), **part})
    return parts


def _message(name: str, item: Json) -> Json:
    role = item.get("role")
    if role is None:
        raise errors.missing(f"{name}.role")
    if role not in _ROLES:
        raise errors.invalid_value(f"{name}.role", role, _ROLES)
    content = _content(f"{name}.content", role, item.get("content"))
    kept = {"phase": item["phase"]} if "phase" in item else {}
    return {
        "id": item.get("id") or new_id("msg_"),
        "type": "message",
        "status": "completed",
        "content": content,
        "role": role,
        **kept,
    }


def input_items(given: Any, known: Callable[[str], Json | None], name: str = "input") -> list[Json]:
    """Converts the input of a response to items in their stored form, each with an id.

    OpenAI's reference puts parts inside a message; the seed's README sends them bare, so both are taken. Bare parts are
    gathered into one user message. `known` returns the stored item with a given id, to which an `item_reference`
    refers.
    """
    if given is None:
        return []
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    items: list[Json] = []
    bare: list[Json] | None = None
    for number, item in enumerate(given):
        here = f"{name}[{number}]"
        if not isinstance(item, dict):
            raise rules.wrong_type(here, "an object", item)
        kind = rules.kind_of(item) if "type" in item else "message" if "role" in item else "item_reference"
        if kind in _BARE_PARTS:
            if bare is None:
                items.append(_message(here, {"role": "user", "content": []}))
                bare = items[-1]["content"]
            bare.extend(_content(here, "user", [item]))
            continue
        bare = None
        if kind is None or kind not in _ITEM_PREFIXES:
            raise errors.invalid_value(f"{here}.type", item["type"], sorted(_ITEM_PREFIXES))
        items.append(_item(here, kind, item, known))
    return items


def _item(name: str, kind: str, item: Json, known: Callable[[str], Json | None]) -> Json:
    if kind == "message":
        return _message(name, item)
    if kind == "item_reference":
        found = known(str(item.get("id")))
        if found is None:
            raise errors.not_found(f"Item with id '{item.get('id')}' not found.")
        return found
    if kind in {"function_call", "function_call_output"} and not item.get("call_id"):
        raise errors.missing(f"{name}.call_id")
    if kind == "function_call_output" and "output" not in item:
        raise errors.missing(f"{name}.output")
    stated = {} if kind in {"compaction", "reasoning"} else {"status": "completed"}
    return {**stated, **item, "id": item.get("id") or new_id(_ITEM_PREFIXES[kind])}
