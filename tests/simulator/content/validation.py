"""Rules for single parameters: what a value may be, and OpenAI's own words when it is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulator.content import errors

type_names = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
}


def describe(value: object) -> str:
    """Returns the JSON type of a value as OpenAI's messages name it, with its article: "a string", for example."""
    return "null" if value is None else type_names.get(type(value), "an unknown type")


def wrong_type(name: str, expected: str, value: object) -> errors.ApiError:
    return errors.ApiError(
        400,
        f"Invalid type for '{name}': expected {expected}, but got {describe(value)} instead.",
        param=name,
        code="invalid_type",
    )


@dataclass(frozen=True)
class Rule:
    """A rule for the values of one parameter of a request: its JSON types (`kinds`), choices and bounds.

    `None` is always accepted, as OpenAI does for optional parameters.
    """

    kinds: tuple[type, ...] = ()
    expected: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def check(self, name: str, value: object) -> None:
        if value is None or not self.kinds:
            return
        if type(value) not in self.kinds:
            raise wrong_type(name, self.expected, value)
        if self.choices and isinstance(value, str) and value not in self.choices:
            raise errors.invalid_value(name, value, list(self.choices))
        if isinstance(value, int | float):
            self._check_range(name, value)

    def _check_range(self, name: str, value: float) -> None:
        noun = "integer" if self.expected == "an integer" else "decimal"
        if self.minimum is not None and value < self.minimum:
            errors.refuse(
                f"Invalid '{name}': {noun} below minimum value. Expected a value >= {self.minimum:g}, but got {value} "
                "instead.",
                name,
                f"{noun}_below_min_value",
            )
        if self.maximum is not None and value > self.maximum:
            errors.refuse(
                f"Invalid '{name}': {noun} above maximum value. Expected a value <= {self.maximum:g}, but got {value} "
                "instead.",
                name,
                f"{noun}_above_max_value",
            )


def kind_of(thing: object) -> str | None:
    """Returns the member `type` of a JSON object; None if `thing` is no object, or its `type` is no text."""
    kind = thing.get("type") if isinstance(thing, dict) else None
    return kind if isinstance(kind, str) else None


ANYTHING = Rule()
TEXT = Rule((str,), "a string")
FLAG = Rule((bool,), "a boolean")
LIST = Rule((list,), "an array of objects")
OBJECT = Rule((dict,), "an object")
TEXT_OR_OBJECT = Rule((str, dict), "one of a string or object")
TEXT_OR_LIST = Rule((str, list), "one of a string or array of strings")


def integer(minimum: float | None = None, maximum: float | None = None) -> Rule:
    return Rule((int,), "an integer", minimum=minimum, maximum=maximum)


def decimal(minimum: float | None = None, maximum: float | None = None) -> Rule:
    return Rule((int, float), "a decimal", minimum=minimum, maximum=maximum)


def one_of(*choices: str) -> Rule:
    return Rule((str,), f"one of {', '.join(repr(choice) for choice in choices)}", choices=choices)


SERVICE_TIERS = one_of("auto", "default", "flex", "scale", "priority", "fast")


def check_known(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Checks the parameters of a request against `rules`, in the way of newer endpoints; refuses unknown ones.

    Newer endpoints, such as the Responses API, have words of their own in the message of the refusal.
    """
    for name, value in body.items():
        if name not in rules:
            errors.refuse(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
        rules[name].check(name, value)


def check_recognized(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Checks the parameters of a request against `rules`, in the way of older endpoints; refuses unknown ones.

    Older endpoints, such as Chat Completions, have words of their own in the message of the refusal.
    """
    unknown = [name for name in body if name not in rules]
    if unknown:
        errors.refuse(f"Unrecognized request argument{'s' * (len(unknown) > 1)} supplied: {', '.join(unknown)}")
    for name, value in body.items():
        rules[name].check(name, value)


def check_metadata(metadata: object) -> None:
    """Checks the parameter `metadata`, and refuses it if it has too many or too long members.

    Allowed are 16 pairs of strings, keys of up to 64 and values of up to 512 characters (API reference).
    """
    if not isinstance(metadata, dict):
        return
    if len(metadata) > 16:
        errors.refuse(
            "Invalid 'metadata': too many properties. Expected an object with at most 16 properties, "
            f"but got an object with {len(metadata)} properties instead.",
            "metadata",
            "object_above_max_properties",
        )
    for key, value in metadata.items():
        if not isinstance(value, str):
            raise wrong_type(f"metadata.{key}", "a string", value)
        if len(key) > 64 or len(value) > 512:
            errors.refuse(f"Invalid 'metadata.{key[:64]}': string too long.", "metadata", "string_above_max_length")
