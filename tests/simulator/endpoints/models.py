"""The models: which there are, which dated name answers for which, and `GET /models`."""

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content.answers import Answer, Json, json_answer

_DATED = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-4.1": "gpt-4.1-2025-04-14",
    "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14",
    "gpt-4.1-nano": "gpt-4.1-nano-2025-04-14",
    "gpt-5": "gpt-5-2025-08-07",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
    "gpt-5-nano": "gpt-5-nano-2025-08-07",
    "gpt-3.5-turbo": "gpt-3.5-turbo-0125",
    "o1": "o1-2024-12-17",
    "o3": "o3-2025-04-16",
    "o3-mini": "o3-mini-2025-01-31",
    "o4-mini": "o4-mini-2025-04-16",
    "text-embedding-ada-002": "text-embedding-ada-002-v2",
    "omni-moderation-latest": "omni-moderation-2024-09-26",
}
_OTHERS = (
    "text-embedding-3-small",
    "text-embedding-3-large",
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-4o-mini-tts",
    "tts-1",
    "tts-1-hd",
    "gpt-image-1",
    "dall-e-3",
)
_NAMES = sorted({*_DATED, *_DATED.values(), *_OTHERS} - {"text-embedding-ada-002-v2"})
_CREATED = 1_721_172_741
_REASONING = ("o1", "o3", "o4", "gpt-5")
_NOT_FOR_CHAT = ("text-embedding", "whisper", "tts-", "gpt-image", "dall-e", "omni-moderation")


def dated_name(model: str) -> str:
    """Returns the full name with which a model answers: that of `gpt-4o-mini` is `gpt-4o-mini-2024-07-18`."""
    return _DATED.get(model, model)


def reasons(model: str) -> bool:
    return model.startswith(_REASONING)


def check_model(model: object) -> str:
    """Checks the model in a request, and returns its name; refuses a missing or unknown one.

    Every model exists, except those whose name begins with `gpt-nope`.
    """
    if not isinstance(model, str) or not model:
        errors.refuse("you must provide a model parameter")
    if model.startswith("gpt-nope"):
        raise errors.unknown_model(model)
    return model


def check_chat_model(model: object) -> str:
    name = check_model(model)
    if name.startswith(_NOT_FOR_CHAT):
        raise errors.ApiError(
            404,
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use "
            "v1/completions?",
            param="model",
        )
    return name


def _model(name: str) -> Json:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": "system"}


def list_models(call: Call) -> Answer:
    return json_answer({"object": "list", "data": [_model(name) for name in _NAMES]})


def retrieve_model(call: Call) -> Answer:
    name = call.parameters["model"]
    if name not in _NAMES:
        raise errors.ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
    return json_answer(_model(name))


def delete_model(call: Call) -> Answer:
    """Answers the request to delete a model.

    Only a fine-tuned model (`ft:…`) can be deleted; every model with such a name exists.
    """
    name = call.parameters["model"]
    if not name.startswith("ft:"):
        raise errors.method_not_allowed("DELETE", call.request.path)
    return json_answer({"id": name, "object": "model", "deleted": True})
