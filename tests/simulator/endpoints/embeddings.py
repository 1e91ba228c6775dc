"""`POST /embeddings`: unit vectors that depend on the input and nothing else."""

import base64
import hashlib
import math
import struct
from typing import Any

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, json_answer
from tests.simulator.content.tokens import count_tokens
from tests.simulator.endpoints import models

PARAMETERS: dict[str, rules.Rule] = {
    "input": rules.ANYTHING,
    "model": rules.TEXT,
    "dimensions": rules.integer(1),
    "encoding_format": rules.one_of("float", "base64"),
    "user": rules.TEXT,
}
_DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
_MOST_INPUTS = 2048
_MOST_TOKENS = 8192


def _packed_vector(text: bytes, dimensions: int) -> bytes:
    """Makes an embedding of a text: a unit vector from the text's hash, as little-endian float32 numbers."""
    integers = struct.unpack(f"<{dimensions}i", hashlib.shake_256(text).digest(4 * dimensions))
    length = math.sqrt(sum(value * value for value in integers))
    return struct.pack(f"<{dimensions}f", *(value / length for value in integers))


def _invalid_input() -> errors.ApiError:
    return errors.ApiError(
        400, "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
    )


def _inputs(given: Any) -> list[str | list[int]]:
    if given is None:
        raise errors.missing("input")
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not given:
        raise _invalid_input()
    if all(type(one) is int for one in given):
        given = [given]
    if len(given) > _MOST_INPUTS:
        errors.refuse(
            f"Invalid 'input': array too long. Expected an array with maximum length {_MOST_INPUTS}, but got an array "
            f"with length {len(given)} instead.",
            "input",
            "array_above_max_length",
        )
    for one in given:
        tokens = isinstance(one, list) and bool(one) and all(type(token) is int for token in one)
        if not tokens and not (isinstance(one, str) and one):
            raise _invalid_input()
        if _tokens(one) > _MOST_TOKENS:
            errors.refuse(
                f"This model's maximum context length is {_MOST_TOKENS} tokens, however you requested {_tokens(one)} "
                f"tokens ({_tokens(one)} in your prompt; 0 for the completion). Please reduce your prompt; or "
                "completion length."
            )
    return list(given)


def _tokens(one: str | list[int]) -> int:
    return count_tokens(one) if isinstance(one, str) else len(one)


def _dimensions(body: Json, model: str) -> int:
    most = _DIMENSIONS.get(model, 1536)
    asked = body.get("dimensions")
    if asked is None:
        return most
    if model == "text-embedding-ada-002":
        errors.refuse("This model does not support specifying dimensions.")
    if asked > most:
        errors.refuse(f"Invalid value for 'dimensions' = {asked}. Must be less than or equal to {most}.")
    return int(asked)


def create_embeddings(call: Call) -> Answer:
    body = call.json("text-embedding-3-small")
    model = models.check_model(body.get("model"))
    rules.check_recognized(body, PARAMETERS)
    if not model.startswith("text-embedding"):
        raise errors.ApiError(403, f"You are not allowed to generate embeddings from this model: {model}")
    inputs, dimensions = _inputs(body.get("input")), _dimensions(body, model)
    data = []
    for index, one in enumerate(inputs):
        packed = _packed_vector(str(one).encode(), dimensions)
        vector: object = list(struct.unpack(f"<{dimensions}f", packed))
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(packed).decode()
        data.append({"object": "embedding", "index": index, "embedding": vector})
    used = sum(_tokens(one) for one in inputs)
    usage = {"prompt_tokens": used, "total_tokens": used}
    return json_answer({"object": "list", "data": data, "model": models.dated_name(model), "usage": usage})
