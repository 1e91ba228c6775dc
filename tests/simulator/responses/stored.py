"""`/responses/{id}` and below: retrieving (and resuming a stream), deleting, cancelling, listing the input.

A background response shows one phase per look: created `queued`, then `in_progress`, then done.
`resp_abc123`, the id in the examples of the seed's README, always exists and can always be cancelled.
"""

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content.answers import Answer, Json, Stream, json_answer, typed_event
from tests.simulator.content.tokens import split_tokens
from tests.simulator.endpoints.paging import page
from tests.simulator.responses.events import response_events
from tests.simulator.responses.request import INCLUDABLE
from tests.simulator.wire.faults import RESPONSE_PREFIX
from tests.simulator.world import StoredResponse, World

EXAMPLE_ID = "resp_abc123"
_CANCELLABLE = ("queued", "in_progress")


def _example() -> StoredResponse:
    """Makes the stored response of the README's examples, which the simulator always has."""
    asked = {
        "id": "msg_abc123",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": "Tell me a story."}],
    }
    text = "Once upon a time there was a simulated unicorn."
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
    message = {"id": "msg_abc124", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
    final: Json = {
        "id": EXAMPLE_ID,
        "object": "response",
        "created_at": 1_741_476_542,
        "status": "completed",
        "background": True,
        "completed_at": 1_741_476_543,
        "conversation": None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4o-2024-08-06",
        "output": [message],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": {
            "input_tokens": 36,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 87,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 123,
        },
        "user": None,
        "metadata": {},
    }
    events = [typed_event(event) for event in response_events(final, split_tokens(text), obfuscated=False)]
    return StoredResponse(final, [asked], [asked, message], events)


def _lookup(world: World, key: str) -> StoredResponse | None:
    if key.rstrip(".") == EXAMPLE_ID or key.startswith(RESPONSE_PREFIX):
        # Made anew when it was deleted or pushed out; the README also writes the id with three dots behind it.
        if EXAMPLE_ID not in world.responses:
            world.responses.put(EXAMPLE_ID, _example())
        return world.responses[EXAMPLE_ID]
    return world.responses.get(key)


def _stored(call: Call) -> StoredResponse:
    key = call.parameters["id"]
    stored = _lookup(call.world, key)
    if stored is None:
        raise errors.not_found(f"Response with id '{key}' not found.")
    return stored


def find_previous(world: World, key: str) -> StoredResponse:
    stored = _lookup(world, key)
    if stored is None:
        raise errors.ApiError(
            400,
            f"Previous response with id '{key}' not found.",
            param="previous_response_id",
            code="previous_response_not_found",
        )
    return stored


def find_item(world: World, key: str) -> Json | None:
    """Finds the stored item with the id `key`, to which an `item_reference` refers; returns None if there is none."""
    return next((item for stored in world.responses.values() for item in stored.context if item["id"] == key), None)


def shown(stored: StoredResponse) -> Json:
    """Returns a stored response as JSON for a client, with its present status, such as `queued` or `in_progress`."""
    if stored.cancelled:
        status = "cancelled"
    elif stored.phases:
        status = stored.phases[0]
    else:
        return stored.final
    return {
        **stored.final,
        "status": status,
        "output": [],
        "usage": None,
        "completed_at": None,
        "incomplete_details": None,
    }


def retrieve_response(call: Call) -> Answer | Stream:
    stored = _stored(call)
    for name in [*call.query.get("include[]", []), *call.query.get("include", [])]:
        if name not in INCLUDABLE:
            raise errors.invalid_value("include", name, INCLUDABLE)
    if call.flag("stream"):
        if not stored.events:
            errors.refuse(
                "This response cannot be streamed because it was not created with background=true and stream=true.",
                "stream",
            )
        after = call.query.get("starting_after", ["-1"])[0]
        if not after.lstrip("-").isdigit():
            errors.refuse(
                "Invalid type for 'starting_after': expected an integer, but got a string instead.",
                "starting_after",
                "invalid_type",
            )
        return Stream(stored.events[int(after) + 1 :], "typed")
    if stored.phases:
        stored.phases.pop(0)
    return json_answer(shown(stored))


def delete_response(call: Call) -> Answer:
    final = _stored(call).final
    del call.world.responses[final["id"]]
    return json_answer({"id": final["id"], "object": "response", "deleted": True})


def cancel_response(call: Call) -> Answer:
    """Answers a request to cancel a response: cancels it if it still goes on in the background.

    A synchronous response is refused; a background response that has ended stays as it is.
    """
    stored = _stored(call)
    if not stored.final["background"]:
        errors.refuse("Cannot cancel a synchronous response.")
    if stored.final["id"] == EXAMPLE_ID or shown(stored)["status"] in _CANCELLABLE:
        stored.cancelled = True
    return json_answer(shown(stored))


def list_input_items(call: Call) -> Answer:
    return json_answer(page(_stored(call).input_items, call.query))
