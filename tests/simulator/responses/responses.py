"""`POST /responses`, `/responses/compact` and `/responses/input_tokens`: making responses and counting them."""

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, Stream, json_answer, typed_event
from tests.simulator.content.tokens import cached_tokens, estimate_input_tokens
from tests.simulator.endpoints import models
from tests.simulator.responses.conversations import find_conversation
from tests.simulator.responses.events import response_events
from tests.simulator.responses.output import Asked, Output, make_output
from tests.simulator.responses.request import PARAMETERS, check_response, check_tools, input_items
from tests.simulator.responses.stored import find_item, find_previous, shown
from tests.simulator.wire.chance import chance
from tests.simulator.world import StoredResponse, new_id

COMPACT_PARAMETERS = {
    "image": rules.OBJECT,
    **{
        name: PARAMETERS[name]
        for name in (
            "input",
            "instructions",
            "model",
            "previous_response_id",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "service_tier",
        )
    },
}
COUNT_PARAMETERS = {
    "personality": rules.ANYTHING,
    **{
        name: PARAMETERS[name]
        for name in (
            "conversation",
            "input",
            "instructions",
            "model",
            "parallel_tool_calls",
            "previous_response_id",
            "reasoning",
            "text",
            "tool_choice",
            "tools",
            "truncation",
        )
    },
}
_TOOL_DEFAULTS: dict[str, Json] = {
    "function": {"strict": True, "description": None, "parameters": {}},
    "web_search": {"search_context_size": "medium", "user_location": None},
    "web_search_preview": {"search_context_size": "medium", "user_location": None},
    "file_search": {"max_num_results": 20, "filters": None},
    "mcp": {"headers": None, "require_approval": "never"},
}


def _asked(call: Call, body: Json, model: str) -> Asked:
    """Completes a checked request with the items that it builds on: those of an earlier response or a conversation."""
    context: list[Json] = []
    if body.get("previous_response_id"):
        context = find_previous(call.world, body["previous_response_id"]).context
    elif body.get("conversation"):
        context = list(find_conversation(call.world, _conversation_id(body)).items)
    items = input_items(body.get("input"), lambda key: find_item(call.world, key))
    return Asked(body, model, context, items, call.fault)


def _conversation_id(body: Json) -> str:
    given = body["conversation"]
    return str(given if isinstance(given, str) else given.get("id"))


def _usage(asked: Asked, output: Output) -> Json:
    every = [*asked.context, *asked.items]
    used = estimate_input_tokens(every, asked.body.get("instructions"), asked.body.get("tools"))
    return {
        "input_tokens": used,
        "input_tokens_details": {"cached_tokens": cached_tokens(used), "cache_write_tokens": 0},
        "output_tokens": output.tokens,
        "output_tokens_details": {"reasoning_tokens": output.reasoning_tokens},
        "total_tokens": used + output.tokens,
    }


def _echoed_reasoning(asked: Asked) -> Json:
    usual = {"effort": "medium" if models.reasons(asked.model) else None, "summary": None}
    given = asked.body.get("reasoning") or {}
    summary = "detailed" if given.get("summary") == "auto" else given.get("summary")
    return {**usual, **given, "summary": summary}


def _final(asked: Asked, output: Output) -> Json:
    """Makes the finished response as JSON, with every field that OpenAI's responses have."""
    body, now = asked.body, chance.now()
    tier = body.get("service_tier")
    text = body.get("text") or {}
    return {
        "id": new_id("resp_"),
        "object": "response",
        "created_at": now,
        "status": "completed" if output.whole else "incomplete",
        "background": bool(body.get("background")),
        "completed_at": now if output.whole else None,
        "conversation": {"id": _conversation_id(body)} if body.get("conversation") else None,
        "error": None,
        "incomplete_details": None if output.whole else {"reason": "max_output_tokens"},
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "max_tool_calls": body.get("max_tool_calls"),
        "model": models.dated_name(asked.model),
        "output": output.items,
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "prompt_cache_retention": body.get("prompt_cache_retention"),
        "reasoning": _echoed_reasoning(asked),
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": "default" if tier in {None, "auto"} else tier,
        "store": body.get("store") is not False,
        "temperature": _or(body.get("temperature"), 1.0),
        "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": [{**_TOOL_DEFAULTS.get(tool["type"], {}), **tool} for tool in body.get("tools") or []],
        "top_logprobs": body.get("top_logprobs") or 0,
        "top_p": _or(body.get("top_p"), 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": _usage(asked, output),
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


def create_response(call: Call) -> Answer | Stream:
    body = call.json()
    asked = _asked(call, body, check_response(body))
    output = make_output(asked)
    final = _final(asked, output)
    streamed, background = bool(body.get("stream")), final["background"]
    events: list[bytes] = []
    if streamed:
        obfuscated = (body.get("stream_options") or {}).get("include_obfuscation") is not False
        events = [typed_event(event) for event in response_events(final, output.pieces, obfuscated=obfuscated)]
    phases = ["queued", "in_progress"] if background and not streamed else []
    stored = StoredResponse(final, asked.items, [*asked.context, *asked.items, *output.items], events, phases)
    if final["store"]:
        call.world.responses.put(final["id"], stored)
    if body.get("conversation"):
        find_conversation(call.world, _conversation_id(body)).items.extend([*asked.items, *output.items])
    return Stream(events, "typed") if streamed else json_answer(shown(stored))


def compact_response(call: Call) -> Answer:
    """Answers a request to compact a conversation: with all its user messages, followed by one compaction item.

    So says the SDK's docstring of `CompactedResponse.output`.
    """
    body = call.json()
    rules.check_known(body, COMPACT_PARAMETERS)
    if body.get("model") is None:
        raise errors.missing("model")
    asked = _asked(call, body, models.check_model(body["model"]))
    every = [*asked.context, *asked.items]
    users = [item for item in every if item.get("type") == "message" and item["role"] == "user"]
    compaction = {"id": new_id("cmp_"), "type": "compaction", "encrypted_content": "gAAAAABsimulated"}
    output = Output([*users, compaction], [], 20, 0, whole=True)
    return json_answer(
        {
            "id": new_id("resp_"),
            "object": "response.compaction",
            "created_at": chance.now(),
            "output": output.items,
            "usage": _usage(asked, output),
        }
    )


def count_input_tokens(call: Call) -> Answer:
    body = call.json()
    rules.check_known(body, COUNT_PARAMETERS)
    check_tools(body.get("tools") or [])
    asked = _asked(call, body, models.check_model(body.get("model") or "gpt-4o-mini"))
    used = estimate_input_tokens([*asked.context, *asked.items], body.get("instructions"), body.get("tools"))
    return json_answer({"object": "response.input_tokens", "input_tokens": used})
