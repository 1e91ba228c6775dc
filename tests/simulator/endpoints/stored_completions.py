"""Chat completions kept with `store: true`: list, retrieve, update, delete, and their messages."""

from tests.simulator.call import Call
from tests.simulator.content import errors, validation
from tests.simulator.content.answers import Answer, Json, json_answer
from tests.simulator.endpoints.paging import page
from tests.simulator.world import StoredCompletion


def _stored(call: Call) -> StoredCompletion:
    key = call.parameters["id"]
    if key not in call.world.completions:
        raise errors.not_found(f"No chat completion found with id '{key}'.")
    return call.world.completions[key]


def list_completions(call: Call) -> Answer:
    wanted = {name[9:-1]: values[0] for name, values in call.query.items() if name.startswith("metadata[")}
    model = call.query.get("model", [None])[0]
    kept = [stored.completion for stored in call.world.completions.values()]
    found = [
        one
        for one in kept
        if (model is None or one["model"].startswith(model)) and wanted.items() <= one["metadata"].items()
    ]
    return json_answer(page(found, call.query, default_order="asc"))


def retrieve_completion(call: Call) -> Answer:
    return json_answer(_stored(call).completion)


def update_completion(call: Call) -> Answer:
    stored, body = _stored(call), call.json()
    if "metadata" not in body:
        raise errors.missing("metadata")
    validation.check_known(body, {"metadata": validation.OBJECT})
    validation.check_metadata(body["metadata"])
    stored.completion["metadata"] = body["metadata"] or {}
    return json_answer(stored.completion)


def delete_completion(call: Call) -> Answer:
    _stored(call)
    key = call.parameters["id"]
    del call.world.completions[key]
    return json_answer({"object": "chat.completion.deleted", "id": key, "deleted": True})


def list_messages(call: Call) -> Answer:
    """Answers a request for the messages of a stored chat completion: those of the call that created it.

    OpenAI's reference shows the messages with their own roles, though the SDK's type says `assistant`.
    """
    key = call.parameters["id"]
    messages: list[Json] = []
    for number, message in enumerate(_stored(call).messages):
        content = message.get("content")
        parts = content if isinstance(content, list) else None
        text = None if parts else content
        messages.append({"id": f"{key}-{number}", **message, "content": text, "content_parts": parts})
    return json_answer(page(messages, call.query, default_order="asc"))
