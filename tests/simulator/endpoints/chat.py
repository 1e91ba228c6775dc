"""`POST /chat/completions`, whole and streamed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.simulator.call import Call
from tests.simulator.content import prose
from tests.simulator.content.answers import DONE, Answer, Json, Stream, bare_event, json_answer
from tests.simulator.content.samples import instance, wanted_function
from tests.simulator.content.tokens import cached_tokens, count_tokens, estimate_chat_prompt_tokens, split_tokens
from tests.simulator.endpoints import models
from tests.simulator.endpoints.chat_request import Asked, check_chat
from tests.simulator.wire.chance import chance
from tests.simulator.world import StoredCompletion, new_id

_REASONING_TOKENS = 64
_FINGERPRINT = "fp_51e1070cf2"


@dataclass(frozen=True)
class Choice:
    """One choice in the answer of a chat completion: either a text, in pieces, or a function call."""

    draft: prose.Draft
    function: str | None = None
    call_id: str = ""

    @property
    def finish_reason(self) -> str:
        if self.function:
            return "tool_calls"
        return "stop" if self.draft.whole else "length"

    @property
    def tokens(self) -> int:
        return self.draft.tokens + (count_tokens(self.function) if self.function else 0)


def _choose(asked: Asked, call: Call, variant: int) -> Choice:
    names = [tool["name"] for tool in asked.tools]
    question = asked.question if asked.last_is_user else None
    function = wanted_function(names, asked.body.get("tool_choice"), question)
    if function:
        schema = next(tool for tool in asked.tools if tool["name"] == function).get("parameters") or {}
        arguments = instance({"type": "object", **schema}, asked.question)
        return Choice(prose.text_draft(arguments), function, new_id("call_")[:29])
    if asked.format["type"] == "json_schema":
        schema = asked.format["json_schema"].get("schema") or {}
        draft = prose.text_draft(instance(schema, asked.question))
    elif asked.format["type"] == "json_object":
        draft = prose.text_draft(orjson.dumps({"answer": f"You asked: “{asked.question}”"}).decode())
    else:
        earlier = sum(message["role"] in {"user", "assistant"} for message in asked.messages) - 1
        draft = prose.compose(asked.question, asked.images, earlier, call.fault, variant)
    return Choice(draft.limited(asked.token_limit))


def _usage(asked: Asked, choices: list[Choice]) -> Json:
    prompt = estimate_chat_prompt_tokens(asked.messages, asked.body.get("tools"))
    reasoning = _REASONING_TOKENS if models.reasons(asked.model) else 0
    completion = sum(choice.tokens for choice in choices) + reasoning
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached_tokens(prompt), "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _logprobs(asked: Asked, pieces: list[str]) -> Json | None:
    if not asked.body.get("logprobs"):
        return None
    content = []
    for piece in pieces:
        one = {"token": piece, "logprob": -0.125, "bytes": list(piece.encode())}
        content.append({**one, "top_logprobs": [one] * (asked.body.get("top_logprobs") or 0)})
    return {"content": content, "refusal": None}


def _tool_call(choice: Choice, arguments: str) -> Json:
    return {"id": choice.call_id, "type": "function", "function": {"name": choice.function, "arguments": arguments}}


def _message(choice: Choice) -> Json:
    message: Json = {"role": "assistant", "content": choice.draft.text, "refusal": None, "annotations": []}
    if choice.function:
        message |= {"content": None, "tool_calls": [_tool_call(choice, choice.draft.text)]}
    return message


def create_chat_completion(call: Call) -> Answer | Stream:
    asked = check_chat(call.json())
    choices = [_choose(asked, call, variant) for variant in range(asked.body.get("n") or 1)]
    tier = asked.body.get("service_tier")
    frame: Json = {
        "id": new_id("chatcmpl-")[:38],
        "object": "chat.completion",
        "created": chance.now(),
        "model": models.dated_name(asked.model),
        "service_tier": "default" if tier in {None, "auto"} else tier,
        "system_fingerprint": _FINGERPRINT,
    }
    usage = _usage(asked, choices)
    whole = {
        **frame,
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _logprobs(asked, choice.draft.pieces),
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage,
    }
    if asked.body.get("store"):
        stored = {**whole, "metadata": asked.body.get("metadata") or {}}
        call.world.completions.put(whole["id"], StoredCompletion(stored, asked.messages))
    if not asked.body.get("stream"):
        return json_answer(whole)
    return Stream(list(_events(asked, frame, choices, usage)), "chat")


def _events(asked: Asked, frame: Json, choices: list[Choice], usage: Json) -> Iterator[bytes]:
    """Yields the events of a streamed chat completion as bytes.

    They are the chunks of all choices one after the other, the usage if it was asked for, and `[DONE]`.
    """
    options = asked.body.get("stream_options") or {}
    last: Json = {"usage": None} if options.get("include_usage") else {}
    head = {**frame, "object": "chat.completion.chunk"}
    obfuscated = options.get("include_obfuscation") is not False

    def chunk(index: int, delta: Json, finish: str | None, logprobs: Json | None = None) -> bytes:
        body = {
            **head,
            "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}],
            **last,
        }
        if obfuscated:
            # OpenAI pads every chunk to hide the length of its text; here the padding is simply the same each time.
            body["obfuscation"] = "xK8sQ2vLp0"[: 1 + len(str(delta)) % 10]
        return bare_event(body)

    for index, choice in enumerate(choices):
        for delta, piece in _deltas(choice):
            yield chunk(index, delta, None, _logprobs(asked, [piece]) if piece else None)
        yield chunk(index, {}, choice.finish_reason)
    if options.get("include_usage"):
        yield bare_event({**head, "choices": [], "usage": usage, **({"obfuscation": "xK8sQ2v"} if obfuscated else {})})
    yield DONE


def _deltas(choice: Choice) -> Iterator[tuple[Json, str]]:
    """Yields the deltas in which a choice of a chat is streamed, each with the text that it carries."""
    if not choice.function:
        yield {"role": "assistant", "content": "", "refusal": None}, ""
        for piece in choice.draft.pieces:
            yield {"content": piece}, piece
        return
    opening: dict[str, Any] = {"index": 0, **_tool_call(choice, "")}
    yield {"role": "assistant", "content": None, "tool_calls": [opening], "refusal": None}, ""
    for piece in split_tokens(choice.draft.text):
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, piece
