"""The routes of the simulated API: which handler answers which method and path below `/v1`."""

import re
from collections.abc import Callable

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content.answers import Answer, Stream
from tests.simulator.endpoints import (
    audio,
    chat,
    embeddings,
    images,
    models,
    moderations,
    stored_completions,
    stored_objects,
)
from tests.simulator.responses import conversations, responses, stored

Handler = Callable[[Call], Answer | Stream]

_ROUTES: dict[str, dict[str, Handler]] = {
    "/chat/completions": {"POST": chat.create_chat_completion, "GET": stored_completions.list_completions},
    "/chat/completions/{id}": {
        "GET": stored_completions.retrieve_completion,
        "POST": stored_completions.update_completion,
        "DELETE": stored_completions.delete_completion,
    },
    "/chat/completions/{id}/messages": {"GET": stored_completions.list_messages},
    "/responses": {"POST": responses.create_response},
    "/responses/compact": {"POST": responses.compact_response},
    "/responses/input_tokens": {"POST": responses.count_input_tokens},
    "/responses/{id}": {"GET": stored.retrieve_response, "DELETE": stored.delete_response},
    "/responses/{id}/cancel": {"POST": stored.cancel_response},
    "/responses/{id}/input_items": {"GET": stored.list_input_items},
    "/conversations": {"POST": conversations.create_conversation},
    "/conversations/{id}": {
        "GET": conversations.retrieve_conversation,
        "POST": conversations.update_conversation,
        "DELETE": conversations.delete_conversation,
    },
    "/conversations/{id}/items": {"GET": conversations.list_items, "POST": conversations.create_items},
    "/conversations/{id}/items/{item}": {"GET": conversations.retrieve_item, "DELETE": conversations.delete_item},
    "/embeddings": {"POST": embeddings.create_embeddings},
    "/audio/transcriptions": {"POST": audio.create_transcription},
    "/audio/translations": {"POST": audio.create_translation},
    "/audio/speech": {"POST": audio.create_speech},
    "/images/generations": {"POST": images.generate_images},
    "/images/edits": {"POST": images.edit_images},
    "/images/variations": {"POST": images.vary_image},
    "/moderations": {"POST": moderations.create_moderation},
    "/models": {"GET": models.list_models},
    "/models/{model}": {"GET": models.retrieve_model, "DELETE": models.delete_model},
    **stored_objects.ROUTES,
}
_PATTERNS = [
    (re.compile("/v1" + re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)), handlers)
    for path, handlers in _ROUTES.items()
    if "{" in path
]


def find_route(method: str, path: str) -> tuple[Handler, dict[str, str]]:
    """Finds the handler for a method and a path; returns the handler and the parameters in the path.

    Raises:
        ApiError: there is no such path (404), or it does not allow the method (405), in OpenAI's words.
    """
    handlers, parameters = _ROUTES.get(path.removeprefix("/v1")), {}
    if handlers is None or not path.startswith("/v1"):
        found = ((pattern.fullmatch(path), candidates) for pattern, candidates in _PATTERNS)
        match, handlers = next(((one, candidates) for one, candidates in found if one), (None, {}))
        if match is None:
            raise errors.unknown_url(method, path)
        parameters = match.groupdict()
    if method not in handlers:
        raise errors.method_not_allowed(method, path)
    return handlers[method], parameters
