"""Owns the table of places where a request names an object that upstream keeps. It is data: no code decides here.

A name stands for a member of a JSON body at any depth, a field of a form, or a name in the query, in any letter case.
`tests/proxyapi/object_owners/test_object_places.py` walks the SDK's parameter types and fails for an id-like name that
is not in a table here.

* `REFERENCES`: upstream reads the object, or goes on from it. It must be the caller's own, or shared with its key.
* `REFERENCES_OF`: the same, in requests of one family only: elsewhere these names are labels of the caller's.
* Every other name that ends in `_id` or `_ids`, `id` itself, and `REFERENCES` below `MENTIONS`: an id that upstream
  need not look up, as in an answer that a client sends back. It is refused only if another key made the object.
* `NO_OBJECTS`: ids that the caller makes up, or that name nothing that a key can make.
* `OWN_CONTENT`: members below which all names are the caller's own choice, such as metadata.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Text(Enum):
    """What a plain string is in a place that also takes an object with an `id`."""

    REFERENCE = "an id that the caller must own"
    MENTION = "an id, or a name that everybody may use"
    WORDS = "no id: a prompt's text, for example"


@dataclass(frozen=True)
class Reference:
    """What a place names. `words` is the answer for an object that is not there, as OpenAI words it."""

    words: str
    code: str = "not_found"
    text: Text = Text.REFERENCE


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
WORKFLOW = Reference("Workflow with id '{}' not found.", text=Text.WORDS)  # as a prompt, made in the dashboard
OTHER = Reference("No object found with id '{}'.")
# A prompt is made in OpenAI's dashboard, so it is the account's: `default` may use it, and keys it is shared with.
PROMPT = Reference("Prompt with id '{}' not found.", text=Text.WORDS)
AUDIO = Reference("Audio with id '{}' not found.", text=Text.WORDS)
VOICE = Reference("Voice with id '{}' not found.", text=Text.MENTION)
OBJECT = Reference("No object found with id '{}'.", text=Text.WORDS)

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
    "audio": AUDIO,
    "voice": VOICE,
    "video": OBJECT,
    "characters": OBJECT,
    "image": OBJECT,
    "images": OBJECT,
    "mask": OBJECT,
    "input_reference": OBJECT,
}
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
# Below these, the names of `REFERENCES` stand in content of the caller's, such as the citations of an earlier answer.
MENTIONS = frozenset({"annotations", "results"})
# Items of a conversation's or a response's content. One that consists of its id alone is a reference.
ITEMS = frozenset({"input", "items", "instructions"})
# Members of an item of this type that repeat what an earlier answer said of it.
ITEM_MENTIONS = {"code_interpreter_call": frozenset({"container_id"})}

# What an item must have of its own, by its type, to be more than a reference; an empty value counts as none. Upstream
# loads reasoning by its id unless it is sent along encrypted, or as text (open models): a summary is not enough. Of a
# type that is not listed, any member beyond `ITEM_FRAME` counts.
ITEM_CONTENT = {
    "": frozenset({"content"}),  # no type: a message, or a reference
    "message": frozenset({"content"}),
    "item_reference": frozenset[str](),
    "reasoning": frozenset({"encrypted_content", "content"}),
    "compaction": frozenset({"encrypted_content"}),
    "image_generation_call": frozenset({"result"}),
}
ITEM_FRAME = frozenset({"id", "type", "status", "role", "object", "agent", "phase", "created_by"})

# The name, and why its value names no stored object.
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
# Objects whose `id` is that of a tool call or a safety check.
CALL_OBJECTS = frozenset({"tool_calls", "acknowledged_safety_checks", "pending_safety_checks", "caller"})
OWN_CONTENT = frozenset({
    "metadata", "attributes", "arguments", "parameters", "schema", "input_schema", "item_schema", "properties",
    "headers", "logit_bias", "env",
})  # fmt: skip
# Members whose names are the caller's own choice, but whose values may be parts of an input.
OWN_NAMES = frozenset({"variables"})

# In the query of a list: where its page begins.
CURSORS = frozenset({"after", "before"})

# What a path's object is called in its family's answer for one that is not there.
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
# POSTs that read or use the object of their path and leave it as it is; any other one changes it.
READING_POSTS = frozenset({"/v1/vector_stores/{id}/search", "/v1/videos/{id}/remix"})
