"""`POST /moderations`: violent words are flagged, all else is not."""

import re
from typing import Any

from tests.simulator.call import Call
from tests.simulator.content import errors
from tests.simulator.content import validation as rules
from tests.simulator.content.answers import Answer, Json, json_answer
from tests.simulator.endpoints import models
from tests.simulator.world import new_id

_PARAMETERS = {"input": rules.TEXT_OR_LIST, "model": rules.TEXT}
_TEXT_ONLY = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "sexual/minors",
)
_TEXT_AND_IMAGE = ("self-harm", "self-harm/instructions", "self-harm/intent", "sexual", "violence", "violence/graphic")
_VIOLENT = re.compile(r"\b(?:kill|murder|stab)", re.IGNORECASE)


def _result(text: str) -> Json:
    violent = bool(_VIOLENT.search(text))
    every = sorted(_TEXT_ONLY + _TEXT_AND_IMAGE)
    return {
        "flagged": violent,
        "categories": {name: violent and name == "violence" for name in every},
        "category_scores": {name: 0.93 if violent and name == "violence" else 0.0001 for name in every},
        "category_applied_input_types": {name: ["text"] if text else [] for name in every},
    }


def _texts(given: Any) -> list[str]:
    """Returns the texts that a moderation request wants judged; a list of content parts counts as one text."""
    if isinstance(given, str):
        return [given]
    if not given:
        errors.refuse(
            "Invalid 'input': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "input",
            "empty_array",
        )
    if all(isinstance(one, str) for one in given):
        return list(given)
    for number, part in enumerate(given):
        kind = rules.kind_of(part)
        if kind not in {"text", "image_url"}:
            raise errors.invalid_value(f"input[{number}].type", kind, ["text", "image_url"])
    return [" ".join(part.get("text", "") for part in given)]


def create_moderation(call: Call) -> Answer:
    body = call.json("omni-moderation-latest")
    rules.check_recognized(body, _PARAMETERS)
    if body.get("input") is None:
        raise errors.missing("input")
    model = models.check_model(body.get("model") or "omni-moderation-latest")
    results = [_result(text) for text in _texts(body["input"])]
    return json_answer({"id": new_id("modr-")[:37], "model": models.dated_name(model), "results": results})
