"""Tables of the places in which a request can name an object stored upstream; `ownership_check` uses them.

A name in a table stands for a member of a JSON body at any depth, a field of a form, or a query parameter, in any
letter case. `tests/proxyapi/object_owners/test_object_places.py` reads the SDK's parameter types, and fails if a name
that looks like that of an id is in no table.

* `REFERENCES`: upstream reads the object, or continues it. It must belong to the caller's key, or be shared with it.
* `REFERENCES_OF`: like `REFERENCES`, but in requests of one family of routes only. Elsewhere callers choose these
  names freely.
* Every other name that ends in `_id` or `_ids`, `id` itself, and `REFERENCES` below `MENTIONS`: an id that upstream
  need not look up, as in an earlier answer that a client sends back. It is refused only if another key made the object.
* `NO_OBJECTS`: ids that the caller makes up, or that name nothing that a key can create.
* `OWN_CONTENT`: members below which all names are the caller's own choice, such as metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PlainString(Enum):
    """The meaning of a plain string where a request may have either a string or an object with an `id`."""

    REFERENCE = "an id that the caller must own"
    MENTION = "an id, or a name that everybody may use"
    WORDS = "no id: a prompt's text, for example"


@dataclass(frozen=True)
class Reference:
    """A kind of place in requests that names a stored object, such as the member `file_id`.

    * `words`, `code`: OpenAI's message and error code for an object that does not exist.
    * `text`: the meaning of a plain string in this place: the id of such an object, or something else.
    """

    words: str
    code: str = "not_found"
    text: PlainString = PlainString.REFERENCE


RESPONSE = Reference("Response with id '{}' not found.")
PREVIOUS_RESPONSE = Reference("Previous response with id '{}' not found.", code="previous_response_not_found")
CONVERSATION = Reference("Conversation with id '{}' not found.")
COMPLETION = Reference("No chat completion found with id '{}'.")
ITEM = Reference("Item with id '{}' not found.")
FILE = Reference("No such File object: {}")
VECTOR_STORE = Reference("Vector store with id '{}' not found.")
CONTAINER = Reference("Container with id '{}' not found.")
ASSISTANT = Reference("No assistant found with id '{}'.")
THREAD = Reference("No thread found with id '{}'.")
RUN = Reference("No run found with id '{}'.")
PART = Reference("No such Part object: {}")
CONSENT = Reference("Voice consent with id '{}' not found.")
SKILL = Reference("Skill with id '{}' not found.")
# Made in OpenAI's dashboard, as prompts are.
WORKFLOW = Reference("Workflow with id '{}' not found.", text=PlainString.WORDS)
# Made in OpenAI's dashboard, too; it leads into somebody's own network.
TUNNEL = Reference("Tunnel with id '{}' not found.")
OTHER = Reference("No object found with id '{}'.")
# A prompt is made in OpenAI's dashboard and belongs to the account: the built-in key may use it, and keys that it is
# shared with.
PROMPT = Reference("Prompt with id '{}' not found.", text=PlainString.WORDS)
AUDIO = Reference("Audio with id '{}' not found.", text=PlainString.WORDS)
VOICE = Reference("Voice with id '{}' not found.", text=PlainString.MENTION)
OBJECT = Reference("No object found with id '{}'.", text=PlainString.WORDS)
STORED = Reference(
    "Evaluations of '{0}' read the stored objects of all keys: only the built-in key may make them, and keys that '{0}'"
    " is shared with."
)

REFERENCES = {
    "previous_response_id": PREVIOUS_RESPONSE,
    "comparison_response_id": RESPONSE,
    "response_id": RESPONSE,
    "conversation": CONVERSATION,
    "conversation_id": CONVERSATION,
    "item_id": ITEM,
    "previous_item_id": ITEM,
    "file_id": FILE,
    "file_ids": FILE,
    "input_file_id": FILE,
    "training_file": FILE,
    "validation_file": FILE,
    "referenced_image_ids": FILE,
    "vector_store_id": VECTOR_STORE,
    "vector_store_ids": VECTOR_STORE,
    "container": CONTAINER,
    "container_id": CONTAINER,
    "assistant_id": ASSISTANT,
    "thread_id": THREAD,
    "run_id": RUN,
    "eval_id": OTHER,
    "part_ids": PART,
    "consent": CONSENT,
    "consent_id": CONSENT,
    "voice_id": OTHER,
    "video_id": OTHER,
    "character_id": OTHER,
    "skill_id": SKILL,
    "prompt_id": OTHER,
    "copy_from": OTHER,
    "prompt": PROMPT,
    "workflow": WORKFLOW,
    "tunnel_id": TUNNEL,
    "audio": AUDIO,
    "voice": VOICE,
    "video": OBJECT,
    "characters": OBJECT,
    "image": OBJECT,
    "images": OBJECT,
    "mask": OBJECT,
    "input_reference": OBJECT,
}
# The data of an evaluation's run: its member `source` has data, names a file by its `id`, or makes upstream choose from
# the objects of the whole account. The types of the first two kinds are `OWN_SOURCES`. Every other type, such as
# `responses`, is treated like the id of an object that no key has made.
DATA_SOURCE, SOURCE = "data_source", "source"
OWN_SOURCES = ("file_content", "file_id")
REFERENCES_OF = {
    "agents": {
        "agent_id": OTHER,
        "session_id": OTHER,
        "environment_id": OTHER,
        "environment_template_id": OTHER,
        "vault_id": OTHER,
        "vault_ids": OTHER,
        "credential_id": OTHER,
    },
}
# Below these members the names of `REFERENCES` are part of the content, such as the citations of an earlier answer.
MENTIONS = frozenset({"annotations", "results"})
# Members whose values are items of a conversation or a response. An item that consists of its id alone is a reference.
ITEMS = frozenset({"input", "items", "instructions"})
# By the type of an item: its members that repeat an earlier answer, so that ids in them are mentions only.
ITEM_MENTIONS = {"code_interpreter_call": frozenset({"container_id"})}

# The members that make an item more than a reference, by its type; an empty value does not count. Upstream loads
# reasoning by its id unless the item has it encrypted, or as text (open models): a summary is not enough. For a type
# that is not listed, any member that is not in `ITEM_FRAME` counts.
ITEM_CONTENT = {
    "": frozenset({"content"}),  # no type: a message, or a reference
    "message": frozenset({"content"}),
    "item_reference": frozenset[str](),
    "reasoning": frozenset({"encrypted_content", "content"}),
    "compaction": frozenset({"encrypted_content"}),
    "image_generation_call": frozenset({"result"}),
}
ITEM_FRAME = frozenset({"id", "type", "status", "role", "object", "agent", "phase", "created_by"})

# Names, and why their values name no stored object.
NO_OBJECTS = {
    "call_id": "of a tool call; the model or the caller makes it up",
    "tool_call_id": "of a tool call; the model or the caller makes it up",
    "caller_id": "of a tool call's caller, by its call id",
    "approval_request_id": "an item of the same input, which is looked at itself",
    "event_id": "of a client's event; the caller makes it up",
    "custom_id": "of a line of a batch; the caller makes it up",
    "continuation_id": "opaque, the caller's own; it adds nothing to the input (the SDK's words)",
    "stream_id": "of a stream within one connection; the caller makes it up",
    "request_id": "of a request within one session",
    "turn_id": "of a turn within one session, which is named beside it",
    "delegation_id": "of a delegation within one session",
    "field_id": "of a field of a form within one session",
    "connector_id": "one of OpenAI's connectors, the same for everybody",
    "client_id": "of an OAuth client elsewhere",
    "tenant_id": "of a tenant elsewhere",
    "subscription_id": "of a subscription elsewhere",
    "external_id": "of an account elsewhere",
    "group_id": "a label for traces; the caller makes it up",
    "user_id": "a label, or a user of the organization, which only its administration manages",
    "model_ids": "names of models",
    "project_id": "of the organization, which only its administration manages",
    "project_ids": "of the organization, which only its administration manages",
}
# Members whose `id` is the id of a tool call or a safety check.
CALL_OBJECTS = frozenset({"tool_calls", "acknowledged_safety_checks", "pending_safety_checks", "caller"})
OWN_CONTENT = frozenset({
    "metadata", "attributes", "arguments", "parameters", "schema", "input_schema", "item_schema", "properties",
    "headers", "logit_bias", "env",
})  # fmt: skip
# Objects with names that the caller chooses, and values that may be parts of an input.
OWN_NAMES = frozenset({"variables"})

# Fields of a form that are JSON and never a file. With a file name they would not be read here, and might be upstream.
JSON_FIELDS = frozenset({"session", "characters"})

# Parameters in the query of a list that say where its page begins.
CURSORS = frozenset({"after", "before"})

# By family: OpenAI's answer for an object in the path that does not exist.
IN_PATHS = {
    "responses": RESPONSE,
    "conversations": CONVERSATION,
    "chat/completions": COMPLETION,
    "files": FILE,
    "vector_stores": VECTOR_STORE,
    "containers": CONTAINER,
    "assistants": ASSISTANT,
    "threads": THREAD,
    "batches": Reference("No batch found with id '{}'."),
    "uploads": Reference("No such Upload object: {}"),
    "fine_tuning": Reference("Could not find fine tune: {}"),
    "skills": SKILL,
}
# POSTs that read or use the object in their path and do not change it; every other POST changes it.
READING_POSTS = frozenset({"/v1/vector_stores/{id}/search", "/v1/videos/{id}/remix"})
