"""`/conversations` and their items."""

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, json_answer
from tests.simulator.endpoints.paging import page
from tests.simulator.responses.request import input_items
from tests.simulator.wire.chance import chance
from tests.simulator.world import StoredConversation, World, new_id

_PARAMETERS = {"items": rules.LIST, "metadata": rules.OBJECT}
_MOST_ITEMS = 20


def find_conversation(world: World, key: str) -> StoredConversation:
    if key not in world.conversations:
        raise errors.not_found(f"Conversation with id '{key}' not found.")
    return world.conversations[key]


def _stored(call: Call) -> StoredConversation:
    return find_conversation(call.world, call.parameters["id"])


def _new_items(call: Call, body: Json) -> list[Json]:
    given = body.get("items") or []
    if len(given) > _MOST_ITEMS:
        errors.refuse(
            f"Invalid 'items': array too long. Expected an array with maximum length {_MOST_ITEMS}, but got an array "
            f"with length {len(given)} instead.",
            "items",
            "array_above_max_length",
        )
    kept = [item for conversation in call.world.conversations.values() for item in conversation.items]
    return input_items(given, lambda key: next((item for item in kept if item["id"] == key), None), "items")


def create_conversation(call: Call) -> Answer:
    body = call.json() if call.request.body else {}
    rules.check_known(body, _PARAMETERS)
    rules.check_metadata(body.get("metadata"))
    resource = {
        "id": new_id("conv_"),
        "object": "conversation",
        "created_at": chance.now(),
        "metadata": body.get("metadata") or {},
    }
    call.world.conversations.put(str(resource["id"]), StoredConversation(resource, _new_items(call, body)))
    return json_answer(resource)


def retrieve_conversation(call: Call) -> Answer:
    return json_answer(_stored(call).resource)


def update_conversation(call: Call) -> Answer:
    stored, body = _stored(call), call.json()
    if "metadata" not in body:
        raise errors.missing("metadata")
    rules.check_known(body, {"metadata": rules.OBJECT})
    rules.check_metadata(body["metadata"])
    stored.resource["metadata"] = body["metadata"] or {}
    return json_answer(stored.resource)


def delete_conversation(call: Call) -> Answer:
    resource = _stored(call).resource
    del call.world.conversations[resource["id"]]
    return json_answer({"id": resource["id"], "object": "conversation.deleted", "deleted": True})


def list_items(call: Call) -> Answer:
    return json_answer(page(_stored(call).items, call.query))


def create_items(call: Call) -> Answer:
    stored, body = _stored(call), call.json()
    if not body.get("items"):
        raise errors.missing("items")
    rules.check_known(body, {"items": rules.LIST})
    added = _new_items(call, body)
    stored.items.extend(added)
    return json_answer(page(added, {"limit": [str(_MOST_ITEMS)]}, default_order="asc"))


def _item(call: Call, stored: StoredConversation) -> Json:
    key = call.parameters["item"]
    found = next((item for item in stored.items if item["id"] == key), None)
    if found is None:
        raise errors.not_found(f"Item with id '{key}' not found in conversation with id '{stored.resource['id']}'.")
    return found


def retrieve_item(call: Call) -> Answer:
    return json_answer(_item(call, _stored(call)))


def delete_item(call: Call) -> Answer:
    """Answers a request to delete an item of a conversation: deletes the item, and returns the conversation."""
    stored = _stored(call)
    stored.items.remove(_item(call, stored))
    return json_answer(stored.resource)
