"""The events of a streamed response: every type, in the real order, numbered from 0.

    response.created, [response.queued,] response.in_progress
    for each output item: response.output_item.added, its own events, response.output_item.done
    response.completed | response.incomplete

The first events show the response without output and usage, the last one shows it whole.
"""

from collections.abc import Iterator
from typing import Any

from tests.simulator.content.answers import Json
from tests.simulator.content.tokens import split_tokens
from tests.simulator.responses.output import logprob


def response_events(final: Json, pieces: list[str], *, obfuscated: bool) -> list[Json]:
    """Makes all events of a streamed response, numbered and in their order.

    `final` is the finished response. `pieces` are the text deltas of its message, if it has one. With `obfuscated`,
    each delta is padded.
    """
    events = []
    for number, event in enumerate(_unnumbered(final, pieces)):
        event["sequence_number"] = number
        if obfuscated and event["type"].endswith(".delta"):
            # OpenAI pads every delta to hide the length of its text; here the padding is simply the same each time.
            event["obfuscation"] = "xK8sQ2vLp0Zt7R"[: 1 + number % 14]
        events.append(event)
    return events


def _unnumbered(final: Json, pieces: list[str]) -> Iterator[Json]:
    empty = {**final, "output": [], "usage": None, "completed_at": None, "incomplete_details": None}
    queued = {**empty, "status": "queued" if final["background"] else "in_progress"}
    running = {**empty, "status": "in_progress"}
    yield {"type": "response.created", "response": queued}
    if final["background"]:
        yield {"type": "response.queued", "response": queued}
    yield {"type": "response.in_progress", "response": running}
    for index, item in enumerate(final["output"]):
        yield {"type": "response.output_item.added", "output_index": index, "item": _unfinished(item)}
        for event in _item_events(item, pieces):
            yield {**event, "output_index": index, "item_id": item["id"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{final['status']}", "response": final}


def _unfinished(item: Json) -> Json:
    """Returns a copy of an output item without its content: as the event shows it that says that the item begins."""
    blank: dict[str, Json] = {
        "reasoning": {"summary": []},
        "message": {"status": "in_progress", "content": []},
        "function_call": {"status": "in_progress", "arguments": ""},
        "web_search_call": {"status": "in_progress", "action": {"type": "search", "query": ""}},
        "file_search_call": {"status": "in_progress", "queries": [], "results": None},
        "code_interpreter_call": {"status": "in_progress", "code": "", "outputs": None},
        "mcp_list_tools": {"tools": []},
        "mcp_call": {"status": "in_progress", "arguments": "", "output": None},
        "image_generation_call": {"status": "in_progress", "result": None},
    }
    return {**item, **blank[item["type"]]}


def _item_events(item: Json, pieces: list[str]) -> Iterator[Json]:
    kind: str = item["type"]
    if kind == "message":
        yield from _message_events(item["content"][0], pieces)
    elif kind == "reasoning":
        yield from _summary_events(item["summary"])
    elif kind == "function_call":
        yield from _written("response.function_call_arguments", "arguments", item["arguments"])
    elif kind == "code_interpreter_call":
        yield {"type": f"response.{kind}.in_progress"}
        yield from _written("response.code_interpreter_call_code", "code", item["code"])
        yield {"type": f"response.{kind}.interpreting"}
        yield {"type": f"response.{kind}.completed"}
    elif kind == "mcp_call":
        yield {"type": f"response.{kind}.in_progress"}
        yield from _written("response.mcp_call_arguments", "arguments", item["arguments"])
        yield {"type": f"response.{kind}.completed"}
    else:
        middle = {
            "web_search_call": "searching",
            "file_search_call": "searching",
            "image_generation_call": "generating",
        }
        yield {"type": f"response.{kind}.in_progress"}
        if kind in middle:
            yield {"type": f"response.{kind}.{middle[kind]}"}
        if kind == "image_generation_call":
            shown = {"partial_image_index": 0, "partial_image_b64": item["result"]}
            yield {"type": f"response.{kind}.partial_image", **shown}
        yield {"type": f"response.{kind}.completed"}


def _written(prefix: str, name: str, text: str) -> Iterator[Json]:
    """Yields the events in which a text is streamed: one for each piece of it, then one with the whole text."""
    for piece in split_tokens(text):
        yield {"type": f"{prefix}.delta", "delta": piece}
    yield {"type": f"{prefix}.done", name: text}


def _summary_events(summary: list[Json]) -> Iterator[Json]:
    for number, part in enumerate(summary):
        place: dict[str, Any] = {"summary_index": number}
        prefix = "response.reasoning_summary"
        yield {"type": f"{prefix}_part.added", **place, "part": {"type": "summary_text", "text": ""}}
        for event in _written(f"{prefix}_text", "text", part["text"]):
            yield {**event, **place}
        yield {"type": f"{prefix}_part.done", **place, "part": part}


def _message_events(part: Json, pieces: list[str]) -> Iterator[Json]:
    place: dict[str, Any] = {"content_index": 0}
    started = {**part, "text": "", "annotations": [], "logprobs": []}
    yield {"type": "response.content_part.added", **place, "part": started}
    for piece in pieces:
        probable = [logprob(piece, with_bytes=False)] if part["logprobs"] else []
        yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": probable}
    for number, annotation in enumerate(part["annotations"]):
        added = {"annotation_index": number, "annotation": annotation}
        yield {"type": "response.output_text.annotation.added", **place, **added}
    probable = [logprob(piece, with_bytes=False) for piece in pieces] if part["logprobs"] else []
    yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": probable}
    yield {"type": "response.content_part.done", **place, "part": part}
