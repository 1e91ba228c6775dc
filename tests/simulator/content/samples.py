"""Making values up: an instance of a JSON schema, and whether a question calls for one of the tools."""

import re
from typing import Any

import orjson

from tests.simulator.content import errors
from tests.simulator.content.answers import Json

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_NAME = re.compile(r"\b([A-Z][a-z]+) (?:is|was|has)\b")
_PLACE = re.compile(r"\b(?:in|of|for|at|to) ((?:[A-Z]\w+)(?: [A-Z]\w+)*)")
_DEEP = 6
_FORMATS = {
    "date": "2025-01-31",
    "date-time": "2025-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "email": "alice@example.com",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
}


def _text(schema: Json, name: str, question: str) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    found = (_NAME if "name" in name else _PLACE).search(question)
    text = found[1] if found else f"example {name}".strip()
    text = text.ljust(int(schema.get("minLength", 0)), "x")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _number(schema: Json, question: str, *, whole: bool) -> float:
    found = _NUMBER.search(question)
    value = float(found[0]) if found else 1.0
    low = schema.get("minimum", schema.get("exclusiveMinimum", value - 1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", value + 1) - 1)
    value = min(max(value, low), high)
    step = schema.get("multipleOf")
    if step:
        value = value // step * step
    return int(value) if whole else value


def sample(schema: Json, question: str, name: str = "", root: Json | None = None, depth: int = 0) -> Any:
    """Makes up a value that is valid against a simple JSON schema.

    Numbers and names are taken from the question, if they occur there.
    """
    root = root or schema
    if "$ref" in schema:
        target: Any = root
        for step in schema["$ref"].removeprefix("#").strip("/").split("/"):
            target = target[step] if step else target
        return sample(target, question, name, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf", "allOf"):
        if schema.get(union):
            options = sorted(schema[union], key=lambda option: "$ref" in option)
            return sample(options[0], question, name, root, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind == "object":
        properties: Json = schema.get("properties", {})
        return {key: sample(value, question, key, root, depth + 1) for key, value in properties.items()}
    if kind == "array":
        # Deep down lists are empty: a schema that refers to itself would never end.
        length = schema.get("minItems", 1 if depth < _DEEP else 0)
        return [sample(schema.get("items", {}), question, name, root, depth + 1) for _ in range(length)]
    if kind in {"integer", "number"}:
        return _number(schema, question, whole=kind == "integer")
    return {"boolean": True, "null": None}.get(kind, _text(schema, name, question))


def instance(schema: Any, question: str) -> str:
    """Makes up a value that is valid against a JSON schema, as JSON text; refuses a schema that is not valid."""
    try:
        return orjson.dumps(sample(schema, question)).decode()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        errors.refuse(f"Invalid schema: {schema} is not a valid JSON schema.", code="invalid_json_schema")


def wanted_function(names: list[str], choice: object, question: str | None) -> str | None:
    """Chooses the function that the simulated model calls, and returns its name; None if the model calls none.

    It is the function that `choice` names, the first one if `choice` requires a call, or else one that the user's
    question mentions. `question` is None if the last message is not the user's: then none is called unless one is
    required.
    """
    if not names or choice == "none":
        return None
    if isinstance(choice, dict):
        chosen = choice.get("name") or (choice.get("function") or {}).get("name")
        return chosen if chosen in names else None
    if choice == "required":
        return names[0]
    words = set(re.findall(r"[a-z]{3,}", (question or "").lower()))
    spoken_of = [name for name in names if len(words & set(re.findall(r"[a-z]{4,}", name.lower())))]
    if spoken_of:
        return spoken_of[0]
    return names[0] if words & {"call", "calling", "tool", "function"} else None
