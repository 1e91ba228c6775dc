"""Builds calls, and upstream's answers to them, in OpenAI's own shapes: the SDK's type for each answer checks it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from openai.types import ImageEditCompletedEvent as EditedPicture
from openai.types import ImageGenCompletedEvent as MadePicture
from openai.types import ImagesResponse
from openai.types.audio import Transcription
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseCompletedEvent, ResponseFailedEvent
from pydantic import BaseModel

JSON, EVENTS, SOUND = "application/json", "text/event-stream", "audio/mpeg"
CHAT, RESPONSES, IMAGES, SPEECH = "/v1/chat/completions", "/v1/responses", "/v1/images/generations", "/v1/audio/speech"


class BillCase(NamedTuple):
    """One call for a test of bills: the request, upstream's answer to it, and the cost that the ledger must have.

    `dollars` is None if the cost is not known yet.
    """

    name: str
    path: str
    asked: dict[str, Any]
    body: bytes
    dollars: str | None
    kind: str = "exact"
    status: int = 200
    content_type: str = JSON
    method: str = "POST"
    is_form: bool = False


def checked(kind: type[BaseModel], answer: dict[str, Any]) -> dict[str, Any]:
    """Checks that `answer` has the shape of the SDK's type `kind`, and returns it unchanged.

    Raises:
        ValidationError: the answer has another shape.
    """
    kind.model_validate(answer)
    return answer


def as_json(kind: type[BaseModel], answer: dict[str, Any]) -> bytes:
    return json.dumps(checked(kind, answer)).encode()


def as_events(*events: dict[str, Any], done: bool = False) -> bytes:
    names = [f"event: {event['type']}\n" if "type" in event else "" for event in events]
    lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(names, events, strict=True)]
    return "".join([*lines, "data: [DONE]\n\n" * done]).encode()


def error(message: str, code: str | None = None) -> bytes:
    return json.dumps(
        {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}
    ).encode()


# Chat completions


def chat_usage(into: int, out: int, into_details: Any = None, out_details: Any = None) -> dict[str, Any]:
    return {
        "prompt_tokens": into,
        "completion_tokens": out,
        "total_tokens": into + out,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0, **(into_details or {})},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, **(out_details or {})},
    }


def chat(model: str, usage: dict[str, Any], *, tier: str = "default", **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "hello", "refusal": None, "annotations": []}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": usage,
        "service_tier": tier,
        **more,
    }


def of_chat(name: str, dollars: str, model: str, usage: dict[str, Any], tier: str = "default") -> BillCase:
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return BillCase(name, CHAT, asked, as_json(ChatCompletion, chat(model, usage, tier=tier)), dollars)


def of_chat_stream(name: str, dollars: str, model: str, usage: dict[str, Any]) -> BillCase:
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    delta = {"index": 0, "delta": {"content": "hello"}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events = [
        checked(ChatCompletionChunk, {**chunk, "choices": [delta], "usage": None}),
        checked(ChatCompletionChunk, {**chunk, "choices": [last], "usage": None}),
        checked(ChatCompletionChunk, {**chunk, "choices": [], "usage": usage}),
    ]
    asked = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    asked["stream_options"] = {"include_usage": True}
    return BillCase(name, CHAT, asked, as_events(*events, done=True), dollars, content_type=EVENTS)


# Responses

MESSAGE = {
    "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}  # fmt: skip
WEB_SEARCH, PREVIEW = {"type": "web_search"}, {"type": "web_search_preview"}
FILE_SEARCH = {"type": "file_search", "vector_store_ids": ["vs_1"]}


def searched(number: int) -> dict[str, Any]:
    action = {"type": "search", "query": "x", "queries": ["x"]}
    return {"type": "web_search_call", "id": f"ws_{number}", "status": "completed", "action": action}


OPENED = {
    "type": "web_search_call", "id": "ws_9", "status": "completed",
    "action": {"type": "open_page", "url": "https://a.example"},
}  # fmt: skip


def file_searched(number: int, status: str = "completed") -> dict[str, Any]:
    return {"type": "file_search_call", "id": f"fs_{number}", "status": status, "queries": ["x"], "results": None}


def ran(number: int, container: str) -> dict[str, Any]:
    item = {"type": "code_interpreter_call", "id": f"ci_{number}", "status": "completed", "code": "1", "outputs": None}
    return {**item, "container_id": container}


def ran_in_shell(environment: dict[str, Any]) -> dict[str, Any]:
    action = {"commands": ["ls"], "max_output_length": None, "timeout_ms": None}
    item = {"type": "shell_call", "id": "sh_1", "call_id": "call_1", "status": "completed", "action": action}
    return {**item, "environment": environment}


def pictured(quality: str = "medium", size: str = "1024x1024") -> dict[str, Any]:
    item = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "aGVsbG8="}
    return {**item, "quality": quality, "size": size}


def interpreter(memory: str | None = None) -> dict[str, Any]:
    container: dict[str, Any] = {"type": "auto"} | ({"memory_limit": memory} if memory else {})
    return {"type": "code_interpreter", "container": container}


def image_tool(model: str | None = None) -> dict[str, Any]:
    return {"type": "image_generation"} | ({"model": model} if model else {})


def tokens(
    into: int, out: int, *, cached: int = 0, written: int = 0, long: int | None = None, reasoning: int = 0
) -> dict[str, Any]:
    details: dict[str, Any] = {"cached_tokens": cached, "cache_write_tokens": written}
    if long is not None:
        details["cache_write_tokens_details"] = {"ttl_12h_tokens": long, "ttl_30m_tokens": written - long}
    return {
        "input_tokens": into,
        "input_tokens_details": details,
        "output_tokens": out,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": into + out,
    }


def tool_usage(searches: int = 0, **pictures: Any) -> dict[str, Any]:
    none: dict[str, Any] = {
        "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    }  # fmt: skip
    return {"image_gen": none | pictures, "web_search": {"num_requests": searches}}


def made_pictures(text: int, image: int, out: int, **more: Any) -> dict[str, Any]:
    details = {"text_tokens": text, "image_tokens": image}
    total = text + image + out
    return {
        "input_tokens": text + image,
        "output_tokens": out,
        "total_tokens": total,
        "input_tokens_details": details,
        **more,
    }


def response(model: str, usage: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [MESSAGE],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "service_tier": "default",
        "usage": usage,
        **more,
    }


def of_response(
    name: str, dollars: str | None, model: str, usage: dict[str, Any] | None, kind: str = "exact",
    asked: dict[str, Any] | None = None, **more: Any,
) -> BillCase:  # fmt: skip
    question = {"model": model, "input": "hi", **(asked or {})}
    return BillCase(name, RESPONSES, question, as_json(Response, response(model, usage, **more)), dollars, kind)


def of_response_stream(
    name: str, dollars: str, model: str, usage: dict[str, Any] | None, event: str = "response.completed", **more: Any
) -> BillCase:
    made = response(model, usage, **more)
    begun = {**made, "status": "in_progress", "output": [], "usage": None, "error": None}
    kind = ResponseFailedEvent if event == "response.failed" else ResponseCompletedEvent
    text = {"content_index": 0, "output_index": 0, "item_id": "msg_1", "logprobs": []}
    events = [
        {"type": "response.created", "sequence_number": 0, "response": begun},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "hello", **text},
        checked(kind, {"type": event, "sequence_number": 2, "response": made})
        if kind is ResponseFailedEvent or event == "response.completed"
        else {"type": event, "sequence_number": 2, "response": made},
    ]
    asked = {"model": model, "input": "hi", "stream": True}
    return BillCase(name, RESPONSES, asked, as_events(*events), dollars, content_type=EVENTS)


def of_tools(
    name: str, dollars: str, model: str, usage: dict[str, Any] | None, tools: Sequence[Any], output: Sequence[Any],
    kind: str = "exact", **more: Any,
) -> BillCase:  # fmt: skip
    return of_response(
        name, dollars, model, usage, kind, {"tools": tools}, tools=tools, output=[*output, MESSAGE], **more
    )


# Pictures and sound


def images(usage: dict[str, Any], **more: Any) -> bytes:
    answer = {"created": 1, "data": [{"b64_json": "aGVsbG8="}], "output_format": "png", "quality": "medium"}
    return as_json(ImagesResponse, {**answer, "size": "1024x1024", "usage": usage, **more})


def picture_event(usage: dict[str, Any], kind: str = "image_generation.completed") -> dict[str, Any]:
    event = {
        "type": kind, "b64_json": "aGVsbG8=", "background": "opaque", "created_at": 1, "output_format": "png",
        "quality": "medium", "size": "1024x1024", "usage": usage,
    }  # fmt: skip
    return checked(EditedPicture if kind.startswith("image_edit") else MadePicture, event)


OLD_PICTURES = as_json(ImagesResponse, {"created": 1, "data": [{"url": "https://example.com/a.png"}]})


def of_pictures(name: str, dollars: str, model: str, body: bytes, path: str = IMAGES, **asked: Any) -> BillCase:
    content_type = EVENTS if asked.get("stream") else JSON
    asked = {"model": model, "prompt": "a cat", **asked}
    return BillCase(name, path, asked, body, dollars, content_type=content_type, is_form=path.endswith("edits"))


def of_transcript(name: str, dollars: str, model: str, **usage: Any) -> BillCase:
    body = as_json(Transcription, {"text": "hello", "usage": usage})
    return BillCase(name, "/v1/audio/transcriptions", {"model": model}, body, dollars, is_form=True)


def of_speech(name: str, dollars: str, model: str, text: str) -> BillCase:
    asked = {"model": model, "input": text, "voice": "alloy"}
    return BillCase(name, SPEECH, asked, b"\xff\xf3\x00\x00" * 10, dollars, content_type=SOUND)


def of_error(name: str, status: int, body: bytes, path: str = RESPONSES) -> BillCase:
    return BillCase(name, path, {"model": "gpt-5", "input": "hi", "messages": []}, body, "0", status=status)


def unbilled(name: str, method: str, path: str, answer: dict[str, Any]) -> BillCase:
    return BillCase(name, path, {}, json.dumps(answer).encode(), "0", method=method)


KNOWN = tokens(1000, 100)  # of gpt-5: 1,250 + 1,000 = 2,250 millionths; of gpt-6.1-sol 3,000
TRANSCRIPT_OF_90_SECONDS = {"type": "duration", "seconds": 90.0}
