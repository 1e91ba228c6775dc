"""Reads from a request what upstream bills by, and does not repeat in its answer.

A background response costs less if its request gives upstream hours for it (`completion_window`). Speech of the older
models is billed by the characters of the request's text. And only a request says how many pictures a stream will have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from proxyapi.routes import Route
from usage.call_record import OtherUsage
from usage.money.tool_fees import WINDOW_FACTORS, is_billed_by_characters

MAX_PICTURES = 100  # more than any call may ask for (OpenAI's reference, `n`: 10)
Fields = Mapping[str, Sequence[object]]  # all values that are given under each name; the last counts


def read_asked_usage(route: Route | None, fields: Fields, model: str) -> OtherUsage | None:
    """Returns what the members of a request's body say about its bill; None if that is nothing."""
    name = "" if route is None else route.name
    if name == "/v1/responses":
        options = _last(fields, "background_options")
        window = options.get("completion_window") if isinstance(options, dict) else None
        if isinstance(window, str) and window in WINDOW_FACTORS:
            return {"completion_window": window}
    elif name == "/v1/audio/speech":
        text = _last(fields, "input")
        if isinstance(text, str) and is_billed_by_characters(model):
            return {"characters": len(text)}
    return None


def count_pictures(route: Route | None, fields: Fields) -> int:
    """Returns how many pictures a request asks the Images API for; 1 for any other request."""
    if route is None or not route.name.startswith("/v1/images/"):
        return 1
    wanted = _last(fields, "n")
    number = int(wanted) if isinstance(wanted, str) and wanted.isdecimal() and len(wanted) < 4 else wanted
    return number if isinstance(number, int) and 1 < number <= MAX_PICTURES else 1


def _last(fields: Fields, name: str) -> object:
    """Returns the last value that is given under a name; None if there is none."""
    values = fields.get(name)
    return values[-1] if values else None
