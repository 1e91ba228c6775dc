"""The output items of a response: reasoning, what the hosted tools did, and a function call or a message."""

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from tests.simulator.content import prose
from tests.simulator.content.answers import Json
from tests.simulator.content.samples import instance, wanted_function
from tests.simulator.endpoints import models
from tests.simulator.wire.faults import Fault
from tests.simulator.world import new_id

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_REASONING_TOKENS = 64
_SUMMARY = "**Thinking it over**\n\nThe question is read, weighed — and answered in one sentence."


@dataclass(frozen=True)
class Asked:
    """A request for a response after its check, with the items on which the simulated answer depends.

    `context` are the items of the conversation so far, and `items` those in the request's own input.
    """

    body: Json
    model: str
    context: list[Json]
    items: list[Json]
    fault: Fault

    @property
    def include(self) -> list[str]:
        return self.body.get("include") or []

    @property
    def _last_message(self) -> Json:
        messages = [item for item in self.items if item.get("type") == "message" and item["role"] == "user"]
        return messages[-1] if messages else {"content": []}

    @property
    def question(self) -> str:
        return " ".join(part["text"] for part in self._last_message["content"] if part["type"] == "input_text")

    @property
    def images(self) -> int:
        return sum(part["type"] == "input_image" for part in self._last_message["content"])

    @property
    def last_is_user(self) -> bool:
        return not self.items or self.items[-1].get("role") == "user"


@dataclass(frozen=True)
class Output:
    items: list[Json]
    pieces: list[str]
    tokens: int
    reasoning_tokens: int
    whole: bool


def _reasoning(asked: Asked) -> Json:
    summary = (asked.body.get("reasoning") or {}).get("summary")
    item: Json = {"id": new_id("rs_"), "type": "reasoning", "summary": []}
    if summary:
        item["summary"] = [{"type": "summary_text", "text": _SUMMARY}]
    if "reasoning.encrypted_content" in asked.include:
        item["encrypted_content"] = "gAAAAABsimulated"
    return item


def _web_search(asked: Asked) -> Json:
    action: Json = {"type": "search", "query": asked.question, "queries": [asked.question]}
    if "web_search_call.action.sources" in asked.include:
        action["sources"] = [{"type": "url", "url": "https://example.com/news"}]
    return {"id": new_id("ws_"), "type": "web_search_call", "status": "completed", "action": action}


def _file_search(asked: Asked) -> Json:
    result = {
        "file_id": "file-abc123",
        "filename": "authentication.md",
        "score": 0.91,
        "text": "Send the key in the Authorization header.",
        "attributes": {},
    }
    return {
        "id": new_id("fs_"),
        "type": "file_search_call",
        "status": "completed",
        "queries": [asked.question],
        "results": [result] if "file_search_call.results" in asked.include else None,
    }


def _code_interpreter(asked: Asked, tool: Json) -> Json:
    container = tool["container"]
    # An `auto` container is the one of the conversation, if that has any.
    used = [item["container_id"] for item in asked.context if item.get("type") == "code_interpreter_call"]
    logs = [{"type": "logs", "logs": "42\n"}]
    return {
        "id": new_id("ci_"),
        "type": "code_interpreter_call",
        "status": "completed",
        "code": "answer = 6 * 7\nprint(answer)",
        "container_id": container if isinstance(container, str) else (used or [new_id("cntr_")])[-1],
        "outputs": logs if "code_interpreter_call.outputs" in asked.include else None,
    }


def _mcp(asked: Asked, tool: Json) -> Iterator[Json]:
    allowed = tool.get("allowed_tools") or ["search"]
    names = allowed if isinstance(allowed, list) else allowed.get("tool_names") or ["search"]
    schema = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
    listed = [{"name": name, "description": name, "input_schema": schema, "annotations": None} for name in names]
    label = tool["server_label"]
    yield {"id": new_id("mcpl_"), "type": "mcp_list_tools", "server_label": label, "tools": listed, "error": None}
    yield {
        "id": new_id("mcp_"),
        "type": "mcp_call",
        "status": "completed",
        "approval_request_id": None,
        "arguments": orjson.dumps({"query": asked.question}).decode(),
        "error": None,
        "name": names[0],
        "output": "One document was found.",
        "server_label": label,
    }


def _hosted_tool_items(asked: Asked) -> Iterator[Json]:
    for tool in asked.body.get("tools") or []:
        kind = tool["type"]
        if kind.startswith("web_search"):
            yield _web_search(asked)
        elif kind == "file_search":
            yield _file_search(asked)
        elif kind == "code_interpreter":
            yield _code_interpreter(asked, tool)
        elif kind == "mcp":
            yield from _mcp(asked, tool)
        elif kind == "image_generation":
            yield {"id": new_id("ig_"), "type": "image_generation_call", "status": "completed", "result": _PNG}


def _function_call(asked: Asked) -> Json | None:
    functions = {tool["name"]: tool for tool in asked.body.get("tools") or [] if tool["type"] == "function"}
    question = asked.question if asked.last_is_user else None
    name = wanted_function(list(functions), asked.body.get("tool_choice"), question)
    if name is None:
        return None
    schema = {"type": "object", **(functions[name].get("parameters") or {})}
    return {
        "id": new_id("fc_"),
        "type": "function_call",
        "status": "completed",
        "arguments": instance(schema, asked.question),
        "call_id": new_id("call_")[:29],
        "name": name,
    }


def _draft(asked: Asked) -> prose.Draft:
    form = (asked.body.get("text") or {}).get("format") or {"type": "text"}
    if form["type"] == "json_schema":
        return prose.text_draft(instance(form["schema"], asked.question))
    if form["type"] == "json_object":
        return prose.text_draft(orjson.dumps({"answer": f"You asked: “{asked.question}”"}).decode())
    earlier = sum(item.get("type") == "message" for item in asked.context + asked.items) - 1
    return prose.compose(asked.question, asked.images, max(earlier, 0), asked.fault)


def logprob(piece: str, *, with_bytes: bool) -> Json:
    packed = {"bytes": list(piece.encode())} if with_bytes else {}
    return {"token": piece, "logprob": -0.125, **packed, "top_logprobs": []}


def _message(asked: Asked, draft: prose.Draft) -> Json:
    logprobs = []
    if "message.output_text.logprobs" in asked.include:
        logprobs = [logprob(piece, with_bytes=True) for piece in draft.pieces]
    annotations: list[Json] = []
    searches = any(tool["type"].startswith("web_search") for tool in asked.body.get("tools") or [])
    if searches and asked.body.get("tool_choice") != "none" and draft.text:
        cited = {"type": "url_citation", "url": "https://example.com/news", "title": "Simulated news"}
        annotations = [{**cited, "start_index": 0, "end_index": len(draft.text)}]
    part = {"type": "output_text", "annotations": annotations, "logprobs": logprobs, "text": draft.text}
    status = "completed" if draft.whole else "incomplete"
    return {"id": new_id("msg_"), "type": "message", "status": status, "content": [part], "role": "assistant"}


def make_output(asked: Asked) -> Output:
    """Makes the simulated output of a response: its items in order, and the pieces in which its text is streamed."""
    reasoning_tokens = _REASONING_TOKENS if models.reasons(asked.model) else 0
    items: list[Json] = [_reasoning(asked)] if reasoning_tokens else []
    if asked.body.get("tool_choice") != "none":
        items.extend(_hosted_tool_items(asked))
    function_call = _function_call(asked)
    if function_call:
        tokens = prose.text_draft(function_call["name"] + function_call["arguments"]).tokens
        return Output([*items, function_call], [], tokens + reasoning_tokens, reasoning_tokens, whole=True)
    limit = asked.body.get("max_output_tokens")
    draft = _draft(asked).limited(None if limit is None else max(limit - reasoning_tokens, 0))
    items.append(_message(asked, draft))
    return Output(items, draft.pieces, draft.tokens + reasoning_tokens, reasoning_tokens, draft.whole)
